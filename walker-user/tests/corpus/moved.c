/* Moves its own code to memory without a file at the same addresses, as programs do that want it in
 * huge pages: in one piece that takes its place, or by mapping over it.
 * chain: main moved_outer moved_inner
 */
#define _GNU_SOURCE
#include "corpus.h"
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

NOINLINE void moved_inner(void) { spin(5000); }

NOINLINE void moved_outer(void) {
    moved_inner();
    sink++;
}

/* The mapping that holds the code of this program. */
static int find(unsigned long *start, unsigned long *end) {
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long code = (unsigned long)&moved_inner;
        if (sscanf(line, "%lx-%lx", start, end) == 2 && *start <= code && code < *end) {
            return fclose(maps);
        }
    }
    return -1;
}

int main(void) {
    unsigned long start, end;
    alarm(120);
    if (find(&start, &end) != 0) {
        return 1;
    }
    size_t size = end - start;
    void *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(copy, (void *)start, size);
    mprotect(copy, size, PROT_READ | PROT_EXEC);
    if (mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)start) != (void *)start) {
        return 2;
    }
#ifdef AGAIN
    /* A change of protection is told to profilers like a mapping. */
    mprotect((void *)start, size, PROT_READ | PROT_WRITE | PROT_EXEC);
    mprotect((void *)start, size, PROT_READ | PROT_EXEC);
#endif
    while (!time_is_over()) {
        moved_outer();
    }
    return 0;
}
