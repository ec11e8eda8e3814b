/* A command that lives for a few milliseconds, or for as long as CORPUS_MS says.
 * chain: main brief_outer brief_inner
 */
#include "corpus.h"

NOINLINE void brief_inner(void) { spin(5000); }

NOINLINE void brief_outer(void) {
    brief_inner();
    sink++;
}

int main(void) {
    while (!time_is_over()) {
        brief_outer();
    }
    return 0;
}
