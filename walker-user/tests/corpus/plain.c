/* The plain case: half in user space, half in system calls, and no frame pointers.
 * chain: main top_ mid leaf
 * chain: main top_ mid sysleaf
 */
#include "corpus.h"
#include <stdio.h>

NOINLINE void leaf(void) { spin(20000); }

NOINLINE void sysleaf(void) {
    char text[512];
    for (int i = 0; i < 10; i++) {
        FILE *file = fopen("/proc/self/stat", "r");
        if (file) {
            sink += fread(text, 1, sizeof text, file);
            fclose(file);
        }
    }
}

NOINLINE void mid(void) {
    leaf();
    sysleaf();
    sink++;
}

NOINLINE void top_(void) {
    mid();
    sink++;
}

int main(void) {
    while (!time_is_over()) {
        top_();
    }
    return 0;
}
