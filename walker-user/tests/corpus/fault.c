/* A signal that comes at any instruction: a timer's, whose handler spins.
 * chain: main busy spinner * tick_handler in_tick
 * chain: main busy * tick_handler in_tick
 * chain: main * tick_handler in_tick
 * chain: main busy spinner
 */
#include "corpus.h"
#include <signal.h>
#include <sys/time.h>

NOINLINE void in_tick(void) { spin(500000); }

NOINLINE void tick_handler(int number) {
    (void)number;
    in_tick();
    sink++;
}

NOINLINE void spinner(void) { spin(1000000); }

NOINLINE void busy(void) {
    spinner();
    sink++;
}

int main(void) {
    struct itimerval every = {{0, 5000}, {0, 5000}};
    signal(SIGALRM, tick_handler);
    setitimer(ITIMER_REAL, &every, NULL);
    while (!time_is_over()) {
        busy();
    }
    return 0;
}
