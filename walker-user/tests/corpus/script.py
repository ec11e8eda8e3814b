"""CPython 3.12 or later with -X perf, which names Python functions in a perf map.

chain: py::<module> * py::outer * py::inner * py::work
"""
import os
import time


def work():
    total = 0
    for i in range(20000):
        total += i ^ (total >> 3)
    return total


def inner():
    return work()


def outer():
    return inner()


limit = int(os.environ.get("CORPUS_MS", "1000")) / 1000
begin = time.monotonic()
while time.monotonic() - begin < limit:
    outer()
