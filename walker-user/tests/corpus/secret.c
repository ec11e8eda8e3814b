/* Keeps a text on its stack, and spins below it. The text is made at run time, so that it is
 * nowhere else.
 * chain: main keeper spinner
 */
#include "corpus.h"

NOINLINE void spinner(volatile char *text) {
    spin(20000);
    sink += text[0];
}

NOINLINE void keeper(void) {
    volatile char text[32];
    for (int i = 0; i < 26; i++) {
        text[i] = "zyxwvutsrqponmlkjihgfedcba"[25 - i] ^ 0x20;
    }
    spinner(text);
    sink += text[1];
}

int main(void) {
    while (!time_is_over()) {
        keeper();
    }
    return 0;
}
