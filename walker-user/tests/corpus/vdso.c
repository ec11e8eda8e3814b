/* Time spent in the kernel's vDSO and in the C library's stubs that lead there.
 * chain: main ask_often ask
 */
#include "corpus.h"

NOINLINE void ask(void) {
    struct timespec now;
    for (int i = 0; i < 1000; i++) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        sink += (unsigned long)now.tv_nsec;
    }
}

NOINLINE void ask_often(void) {
    ask();
    sink++;
}

int main(void) {
    while (!time_is_over()) {
        ask_often();
    }
    return 0;
}
