/* Leaves a mark in every kind of state that a C program has, and says what marks it found: a clean
   instance always gives the same answer. It is a CGI/1.1 program.

   The first byte of the request's body says how it ends; the rest stays unread. "t" traps, "s" spins,
   "w" waits for an hour, "m" takes memory until it is refused some, and answers. "T", "S" and "W" do
   so in the midst of their answer. Anything else, and no body, answers. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wasi/api.h>

#define PAGE 65536
#define MARKS 512

static int zeroed = 0;
static int initialised = 41;
static volatile uint64_t seed = 0x0123456789ABCDEF;

/* Computed each time, so that it is nowhere in memory but where it is left. */
static uint64_t pattern(void) { return seed * 0x9E3779B97F4A7C15; }

/* How often the pattern is found in the whole of the memory. */
static size_t find_traces(void) {
  size_t count = 0, words = __builtin_wasm_memory_size(0) * (PAGE / sizeof(uint64_t));
  for (size_t word = 1; word < words; word++)
    count += *(volatile uint64_t *)(word * sizeof(uint64_t)) == pattern();
  return count;
}

static void leave_traces(void) {
  uint64_t *heap = malloc(MARKS * sizeof *heap);
  volatile uint64_t stack[MARKS];
  for (size_t mark = 0; mark < MARKS; mark++) {
    if (heap)
      heap[mark] = pattern();
    stack[mark] = pattern();
  }
  /* Keeps both from being optimised away. */
  __asm__ volatile("" : : "r"(heap), "r"(stack) : "memory");
}

/* Adds a page to the memory, says whether it is empty, and writes to it. */
static const char *grow_and_mark(void) {
  size_t page = __builtin_wasm_memory_grow(0, 1);
  if (page == SIZE_MAX)
    return "refused";
  unsigned char *bytes = (unsigned char *)(page * PAGE), any = 0;
  for (size_t at = 0; at < PAGE; at++)
    any |= bytes[at];
  memset(bytes, 0xA5, PAGE);
  return any ? "dirty" : "zero";
}

/* Closes standard error, which can be done once. */
static const char *close_stderr(void) { return close(STDERR_FILENO) == 0 ? "open" : "closed"; }

/* Not by nanosleep, which needs clang's own library. */
static void wait_an_hour(void) {
  __wasi_subscription_t timer = {0};
  __wasi_event_t event;
  __wasi_size_t events;
  timer.u.tag = __WASI_EVENTTYPE_CLOCK;
  timer.u.u.clock.id = __WASI_CLOCKID_MONOTONIC;
  timer.u.u.clock.timeout = 3600000000000;
  (void)!__wasi_poll_oneoff(&timer, &event, 1, &events);
}

static void end(char order, char trap, char spin, char wait) {
  if (order == trap)
    __builtin_trap();
  while (order == spin)
    __asm__ volatile("");
  if (order == wait)
    wait_an_hour();
}

int main(void) {
  char order = 0;
  if (read(STDIN_FILENO, &order, 1) < 0)
    return 1;
  uint64_t random;
  struct timespec now;
  if (getentropy(&random, sizeof random) != 0 || clock_gettime(CLOCK_REALTIME, &now) != 0)
    return 1;
  const char *variable = getenv("CANARY_MARK");
  printf("Content-Type: text/plain\n\n");
  printf("zeroed=%d initialised=%d traces=%zu ", zeroed, initialised, find_traces());
  printf("pages=%zu grown=%s ", (size_t)__builtin_wasm_memory_size(0), grow_and_mark());
  printf("env=%s rand=%d stderr=%s ", variable ? variable : "unset", rand(), close_stderr());
  printf("random=%016llx ", (unsigned long long)random);
  printf("clock=%016llx\n", (unsigned long long)now.tv_sec * 1000000000 + (unsigned long long)now.tv_nsec);
  zeroed += 1;
  initialised += 1;
  setenv("CANARY_MARK", "set", 1);
  leave_traces();
  end(order, 't', 's', 'w');
  if (order == 'm')
    while (__builtin_wasm_memory_grow(0, 1) != SIZE_MAX)
      ;
  fflush(stdout);
  end(order, 'T', 'S', 'W');
  return 0;
}
