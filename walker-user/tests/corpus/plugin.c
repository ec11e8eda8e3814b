/* The library of loader.c. */
#include "corpus.h"

NOINLINE void plugin_work(void) { spin(20000); }

void plugin_entry(void) {
    plugin_work();
    sink++;
}
