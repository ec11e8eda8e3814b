/* Unusual frames: of variable size, realigned, and realigned with variable size on top.
 * chain: main variable realigned both bottom
 */
#include "corpus.h"
#include <alloca.h>
#include <string.h>

NOINLINE void bottom(char *a, char *b) {
    spin(20000);
    sink += a[0] + b[0];
}

NOINLINE void both(unsigned size, char *a) {
    char aligned[256] __attribute__((aligned(64)));
    char *moving = alloca(size);
    memset(aligned, 1, sizeof aligned);
    memset(moving, 1, size);
    bottom(aligned, moving);
    sink += aligned[3] + a[0];
}

NOINLINE void realigned(char *a) {
    char aligned[128] __attribute__((aligned(128)));
    memset(aligned, 1, sizeof aligned);
    both(100 + (unsigned)(sink & 63), aligned);
    sink += aligned[5] + a[0];
}

NOINLINE void variable(unsigned size) {
    char *moving = alloca(size);
    memset(moving, 1, size);
    realigned(moving);
    sink += moving[0];
}

int main(void) {
    while (!time_is_over()) {
        variable(64 + (unsigned)(sink & 255));
    }
    return 0;
}
