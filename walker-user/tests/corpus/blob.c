/* Code that was made at run time: two functions with frame pointers in anonymous memory, named in
 * /tmp/perf-PID.map. With MEMFD the memory is a file that has no name on any disk.
 * chain: main run_blob jit_outer jit_inner
 */
#define _GNU_SOURCE
#include "corpus.h"
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* push %rbp; mov %rsp,%rbp; mov $200000,%ecx; 1: dec %ecx; jnz 1b; pop %rbp; ret */
static const unsigned char inner[] = {0x55, 0x48, 0x89, 0xe5, 0xb9, 0x40, 0x0d, 0x03,
                                      0x00, 0xff, 0xc9, 0x75, 0xfc, 0x5d, 0xc3};
/* push %rbp; mov %rsp,%rbp; call *%rdi; pop %rbp; ret */
static const unsigned char outer[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};

typedef void function(void *);

NOINLINE void run_blob(char *memory) {
    function *jit_outer = (function *)memory;
    jit_outer(memory + 64);
    sink++;
}

int main(void) {
#ifdef MEMFD
    int file = memfd_create("code", 0);
    if (ftruncate(file, 4096) != 0) {
        return 1;
    }
    char *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
#else
    char *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#endif
    char name[64];
    snprintf(name, sizeof name, "/tmp/perf-%d.map", (int)getpid());
    FILE *map = fopen(name, "w");
    if (memory == MAP_FAILED || map == NULL) {
        return 1;
    }
    memcpy(memory, outer, sizeof outer);
    memcpy(memory + 64, inner, sizeof inner);
    fprintf(map, "%lx %zx jit_outer\n", (unsigned long)memory, sizeof outer);
    fprintf(map, "%lx %zx jit_inner\n", (unsigned long)memory + 64, sizeof inner);
    fclose(map);
    if (mprotect(memory, 4096, PROT_READ | PROT_EXEC) != 0) {
        return 1;
    }
    while (!time_is_over()) {
        run_blob(memory);
    }
    return unlink(name);
}
