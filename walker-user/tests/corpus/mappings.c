/* Maps the page with one of its functions ten thousand times, and runs it everywhere.
 * chain: main run_copy copied
 */
#define _GNU_SOURCE
#include "corpus.h"
#include <fcntl.h>
#include <sys/mman.h>

enum { COPIES = 10000, PAGE = 4096 };

extern const char __executable_start[];

/* Nothing in it depends on where it is. */
__attribute__((section(".text.copied"), aligned(PAGE))) NOINLINE void copied(void) {
    for (volatile int i = 0; i < 20000; i++) {
    }
}

NOINLINE void run_copy(void (*function)(void)) {
    function();
    sink++;
}

int main(void) {
    static void (*copies[COPIES])(void);
    int file = open("/proc/self/exe", O_RDONLY);
    off_t offset = (const char *)copied - __executable_start;
    for (int i = 0; i < COPIES; i++) {
        void *page = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, offset);
        if (page == MAP_FAILED) {
            return 1;
        }
        copies[i] = (void (*)(void))page;
    }
    for (int i = 0; !time_is_over(); i = (i + 7) % COPIES) {
        run_copy(copies[i]);
    }
    return 0;
}
