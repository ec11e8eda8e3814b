/* A thread that works while the main one waits.
 * chain: thread_main step work
 */
#include "corpus.h"
#include <pthread.h>

NOINLINE void work(void) { spin(20000); }

NOINLINE void step(void) {
    work();
    sink++;
}

static void *thread_main(void *nothing) {
    while (!time_is_over()) {
        step();
    }
    return nothing;
}

int main(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, thread_main, NULL);
    pthread_join(thread, NULL);
    return 0;
}
