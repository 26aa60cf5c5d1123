// node hello.js PORT
const { createServer } = require('node:http');

createServer((_request, response) => {
  response.writeHead(200, { 'content-type': 'text/plain', 'content-length': 20 });
  response.end('Hello from Hostler!\n');
}).listen(Number(process.argv[2]), '127.0.0.1');
