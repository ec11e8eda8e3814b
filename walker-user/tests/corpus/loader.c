/* A library that is loaded between two samples. argv[1] is its path.
 * chain: main call_plugin plugin_entry plugin_work
 */
#include "corpus.h"
#include <dlfcn.h>

NOINLINE void call_plugin(void (*entry)(void)) {
    entry();
    sink++;
}

int main(int argc, char **argv) {
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    void (*entry)(void) = library ? (void (*)(void))dlsym(library, "plugin_entry") : NULL;
    if (!entry) {
        return 1;
    }
    while (!time_is_over()) {
        call_plugin(entry);
    }
    return 0;
}
