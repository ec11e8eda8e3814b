/* Functions that the C library calls back.
 * chain: main finds * compare work
 */
#include "corpus.h"
#include <search.h>

NOINLINE int work(int a, int b) {
    spin(2000);
    sink++;
    return (a > b) - (a < b);
}

NOINLINE int compare(const void *a, const void *b) {
    int order = work(*(const int *)a, *(const int *)b);
    sink++;
    return order;
}

NOINLINE void finds(void) {
    int numbers[64] = {0};
    size_t count = 64;
    int wanted = 1;
    sink += lfind(&wanted, numbers, &count, sizeof numbers[0], compare) != NULL;
}

int main(void) {
    while (!time_is_over()) {
        finds();
    }
    return 0;
}
