/* A signal handler that is interrupted by another signal, both on the same stack.
 * chain: main outer raise_first * first_handler inner raise_second * second_handler in_second
 */
#include "corpus.h"
#include <signal.h>

NOINLINE void in_second(void) { spin(20000); }

NOINLINE void second_handler(int number) {
    (void)number;
    in_second();
    sink++;
}

NOINLINE void raise_second(void) {
    raise(SIGUSR2);
    sink++;
}

NOINLINE void inner(void) {
    raise_second();
    sink++;
}

NOINLINE void first_handler(int number) {
    (void)number;
    inner();
    sink++;
}

NOINLINE void raise_first(void) {
    raise(SIGUSR1);
    sink++;
}

NOINLINE void outer(void) {
    raise_first();
    sink++;
}

int main(void) {
    signal(SIGUSR1, first_handler);
    signal(SIGUSR2, second_handler);
    while (!time_is_over()) {
        outer();
    }
    return 0;
}
