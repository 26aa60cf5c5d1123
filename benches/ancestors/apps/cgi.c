/* A CGI program: started for each request, one answer, gone. */
#include <stdio.h>

int main(void) {
  fputs("Content-Type: text/plain\r\nContent-Length: 20\r\n\r\nHello from Hostler!\n", stdout);
  return 0;
}
