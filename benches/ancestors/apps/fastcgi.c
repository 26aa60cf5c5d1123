/* A FastCGI program: started once, one request after the other. */
#include <fcgi_stdio.h>

int main(void) {
  while (FCGI_Accept() >= 0)
    fputs("Content-Type: text/plain\r\nContent-Length: 20\r\n\r\nHello from Hostler!\n", stdout);
  return 0;
}
