// A greeting in JavaScript: answers each request with its method and path.

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

function answer(request) {
  const { pathname } = new URL(request.url);
  return new Response(`Hello from JavaScript!\n${request.method} ${pathname}\n`, {
    headers: { "content-type": "text/plain" },
  });
}
