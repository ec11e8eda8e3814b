/* What the programs of the corpus share. Each says in its head, after "chain:", which calls lead
 * from main to the functions it spends its time in; the test reads it there. */
#pragma once
#include <stdlib.h>
#include <time.h>

#define NOINLINE __attribute__((noinline, noclone))

static volatile unsigned long sink;

/* A loop that calls nothing. Always inlined: it belongs to its caller. */
__attribute__((always_inline)) static inline void spin(unsigned long times) {
    for (unsigned long i = 0; i < times; i++) {
        sink += i;
    }
}

/* Whether the program has run for as long as CORPUS_MS says. */
static inline int time_is_over(void) {
    static struct timespec begin;
    static long limit;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (limit == 0) {
        const char *text = getenv("CORPUS_MS");
        limit = text ? atol(text) : 1000;
        begin = now;
    }
    return (now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 >= limit;
}
