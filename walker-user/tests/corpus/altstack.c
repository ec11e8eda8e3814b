/* A signal handler on a stack of its own. Where the processor has AVX-512, its registers are in use
 * when the signal comes, and so in the frame of the signal.
 * chain: main outer raise_it * handler in_handler
 */
#include "corpus.h"
#include <signal.h>

NOINLINE void in_handler(void) { spin(20000); }

NOINLINE void handler(int number) {
    (void)number;
    in_handler();
    sink++;
}

NOINLINE void raise_it(void) {
    if (__builtin_cpu_supports("avx512f")) {
        __asm__ volatile("vpternlogd $0xff, %%zmm31, %%zmm31, %%zmm31" ::: "memory");
    }
    raise(SIGUSR1);
    sink++;
}

NOINLINE void outer(void) {
    raise_it();
    sink++;
}

int main(void) {
    static char memory[1 << 16];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    if (sigaltstack(&stack, NULL) != 0 || sigaction(SIGUSR1, &action, NULL) != 0) {
        return 1;
    }
    while (!time_is_over()) {
        outer();
    }
    return 0;
}
