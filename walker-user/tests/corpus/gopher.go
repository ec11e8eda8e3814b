// Go: a goroutine's stack, which is no stack the kernel or a C library knows.
// chain: main.main main.outer main.work
package main

import (
	"os"
	"strconv"
	"time"
)

var sink uint64

//go:noinline
func work() {
	for i := uint64(0); i < 20000; i++ {
		sink += i ^ (sink >> 3)
	}
}

//go:noinline
func outer() {
	work()
	sink++
}

func main() {
	limit, err := strconv.Atoi(os.Getenv("CORPUS_MS"))
	if err != nil {
		limit = 1000
	}
	begin := time.Now()
	for time.Since(begin) < time.Duration(limit)*time.Millisecond {
		outer()
	}
}
