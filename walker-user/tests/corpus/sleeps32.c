/* Waits of a 32-bit program: by the interrupt, and by the vDSO's fast way, through the C library.
 * chain: main sleeps by_interrupt
 * chain: main sleeps by_vdso
 */
#include "corpus.h"
#include <sys/syscall.h>
#include <unistd.h>

NOINLINE void by_interrupt(void) {
    /* The kernel's own layout of the time. */
    long time[2] = {0, 5000000};
    int result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(SYS_nanosleep), "b"(time), "c"(0)
                     : "memory");
    sink += (unsigned long)result;
}

NOINLINE void by_vdso(void) {
    usleep(5000);
    sink++;
}

NOINLINE void sleeps(void) {
    by_interrupt();
    by_vdso();
    sink++;
}

int main(void) {
    while (!time_is_over()) {
        sleeps();
    }
    return 0;
}
