/* Does as many requests as it is told, and says so. A share of them, in thousandths, asks for a file as
 * well: the slowdown that the gate has to name. */
#define _GNU_SOURCE
#include "corpus.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static char buffer[16384];

NOINLINE unsigned parse(const char *text, unsigned long length) {
    unsigned sum = 0;
    for (unsigned long i = 0; i < length; i++) {
        sum = sum * 31 + (unsigned char)text[i];
    }
    return sum;
}

NOINLINE unsigned request(int file) {
    if (pread(file, buffer, sizeof buffer, 0) < 0) {
        exit(1);
    }
    return parse(buffer, 4096);
}

int main(int count, char **arguments) {
    if (count < 3) {
        return 2;
    }
    long requests = atol(arguments[1]);
    int extra = atoi(arguments[2]);
    int file = open("/dev/zero", O_RDONLY);
    int due = 0;
    struct stat status;
    for (long i = 0; i < requests; i++) {
        sink += request(file);
        for (due += extra; due >= 1000; due -= 1000) {
            fstatat(AT_FDCWD, "/proc/self/../self/../self/status", &status, 0);
        }
    }
    printf("requests: %ld\n", requests);
    return 0;
}
