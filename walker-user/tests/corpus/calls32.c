/* System calls of a 32-bit program: by the interrupt, and by the vDSO's fast way.
 * chain: main calls by_interrupt
 * chain: main calls by_vdso
 */
#include "corpus.h"
#include <sys/auxv.h>
#include <sys/syscall.h>

#define AT_SYSINFO_32 32

static unsigned long fast_way;

/* The kernel has more to do than the program: it looks for a file in a long path. */
static const char path[] = "/proc/self/../self/../self/../self/../self/../self/nothing";

NOINLINE void by_interrupt(void) {
    for (int i = 0; i < 200; i++) {
        int result;
        __asm__ volatile("int $0x80"
                         : "=a"(result)
                         : "a"(SYS_access), "b"(path), "c"(0)
                         : "memory");
        sink += (unsigned long)result;
    }
}

NOINLINE void by_vdso(void) {
    for (int i = 0; i < 200; i++) {
        int result;
        __asm__ volatile("call *%[way]"
                         : "=a"(result)
                         : "a"(SYS_access), "b"(path), "c"(0), [way] "m"(fast_way)
                         : "memory");
        sink += (unsigned long)result;
    }
}

NOINLINE void calls(void) {
    by_interrupt();
    by_vdso();
    sink++;
}

int main(void) {
    fast_way = getauxval(AT_SYSINFO_32);
    while (!time_is_over()) {
        calls();
    }
    return 0;
}
