/* Deep recursion, whose stack is larger than what is copied of an unknown process's.
 * chain: main down +500 ground
 */
#include "corpus.h"

NOINLINE void ground(void) { spin(200000); }

NOINLINE void down(int depth) {
    if (depth > 1) {
        down(depth - 1);
    } else {
        ground();
    }
    sink++;
}

int main(void) {
    while (!time_is_over()) {
        down(500);
    }
    return 0;
}
