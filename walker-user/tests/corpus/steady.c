/* Runs until it is killed, for two minutes at most. OUTER and INNER are the names of its functions,
 * so that there can be two programs that differ in nothing else.
 */
#include "corpus.h"
#include <unistd.h>

NOINLINE void INNER(void) { spin(5000); }

NOINLINE void OUTER(void) {
    INNER();
    sink++;
}

int main(void) {
    alarm(120);
    while (!time_is_over()) {
        OUTER();
    }
    return 0;
}
