/* A CGI/1.1 program in C: the request comes in the environment and on standard input, the
   response goes to standard output. */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Stays 1: each request finds the program as it was when it was loaded. */
static int requests = 0;

static const char *variable(const char *name) {
  const char *value = getenv(name);
  return value ? value : "";
}

/* Reads standard input to its end; how many bytes that were, or -1. */
static long long read_body(void) {
  static char buffer[65536];
  long long total = 0;
  ssize_t got;
  while ((got = read(STDIN_FILENO, buffer, sizeof buffer)) > 0)
    total += got;
  return got < 0 ? -1 : total;
}

int main(void) {
  long long length = read_body();
  if (length < 0) {
    fputs("could not read the request's body\n", stderr);
    return 1;
  }
  requests += 1;
  printf("Content-Type: text/plain\n\n");
  printf("Hello from C!\n");
  printf("request=%d\n", requests);
  printf("method=%s\n", variable("REQUEST_METHOD"));
  printf("path=%s\n", variable("PATH_INFO"));
  printf("query=%s\n", variable("QUERY_STRING"));
  printf("body=%lld bytes\n", length);
  return 0;
}
