/* A process whose first thread ends at once while another goes on.
 * chain: go_on leader_outer leader_inner
 */
#include "corpus.h"
#include <pthread.h>
#include <unistd.h>

NOINLINE void leader_inner(void) { spin(5000); }

NOINLINE void leader_outer(void) {
    leader_inner();
    sink++;
}

NOINLINE void *go_on(void *nothing) {
    while (!time_is_over()) {
        leader_outer();
    }
    _exit(0);
    return nothing;
}

int main(void) {
    pthread_t thread;
    alarm(120);
    if (pthread_create(&thread, NULL, go_on, NULL) != 0) {
        return 1;
    }
    pthread_exit(NULL);
}
