/* Code that was made at run time, which only a jitdump file names: two functions with frame pointers.
 * chain: main run_dumped dumped_outer dumped_inner
 */
#define _GNU_SOURCE
#include "corpus.h"
#include <fcntl.h>
#include <stdint.h>
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

NOINLINE void run_dumped(char *memory) {
    function *dumped_outer = (function *)memory;
    dumped_outer(memory + 64);
    sink++;
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* A record that says which function this is (JIT_CODE_LOAD). */
static void load(FILE *dump, const char *name, const char *at, const void *code, size_t size) {
    static uint64_t index;
    uint32_t head[] = {0, (uint32_t)(16 + 40 + strlen(name) + 1 + size)};
    uint32_t ids[] = {(uint32_t)getpid(), (uint32_t)getpid()};
    uint64_t when = now();
    uint64_t body[] = {(uintptr_t)at, (uintptr_t)at, size, index++};
    fwrite(head, sizeof head, 1, dump);
    fwrite(&when, sizeof when, 1, dump);
    fwrite(ids, sizeof ids, 1, dump);
    fwrite(body, sizeof body, 1, dump);
    fwrite(name, strlen(name) + 1, 1, dump);
    fwrite(code, size, 1, dump);
}

int main(void) {
    char *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char name[64];
    snprintf(name, sizeof name, "jit-%d.dump", (int)getpid());
    FILE *dump = fopen(name, "w+");
    if (memory == MAP_FAILED || dump == NULL) {
        return 1;
    }
    /* The magic number, the version, bytes of the header, EM_X86_64, nothing, and the process. */
    uint32_t header[] = {0x4a695444, 1, 40, 62, 0, (uint32_t)getpid()};
    uint64_t rest[] = {now(), 0};
    fwrite(header, sizeof header, 1, dump);
    fwrite(rest, sizeof rest, 1, dump);
    fflush(dump);
    /* By this a profiler finds the file. */
    if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(dump), 0) == MAP_FAILED) {
        return 1;
    }
    memcpy(memory, outer, sizeof outer);
    memcpy(memory + 64, inner, sizeof inner);
    load(dump, "dumped_outer", memory, outer, sizeof outer);
    load(dump, "dumped_inner", memory + 64, inner, sizeof inner);
    fflush(dump);
    if (mprotect(memory, 4096, PROT_READ | PROT_EXEC) != 0) {
        return 1;
    }
    while (!time_is_over()) {
        run_dumped(memory);
    }
    return unlink(name);
}
