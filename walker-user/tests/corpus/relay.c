/* Half of a program that turns into its other half and back: it runs for a while and then executes
 * the program in its second argument, as often as its first says in all. OUTER and INNER are the names of
 * the functions, which are at the same addresses in both halves.
 */
#include "corpus.h"
#include <stdio.h>
#include <unistd.h>

NOINLINE void INNER(void) { spin(5000); }

NOINLINE void OUTER(void) {
    INNER();
    sink++;
}

int main(int argc, char **argv) {
    while (!time_is_over()) {
        OUTER();
    }
    long left = argc > 2 ? atol(argv[1]) : 0;
    if (left == 0) {
        return 0;
    }
    char rest[32];
    snprintf(rest, sizeof rest, "%ld", left - 1);
    char *next[] = {argv[2], rest, argv[0], NULL};
    execv(next[0], next);
    return 1;
}
