/* C++: virtual calls, and exceptions that are thrown through several frames and caught.
 * chain: main run(int) Middle::step(int) Thrower::step(int)
 */
#include "corpus.h"
#include <stdexcept>

struct Step {
    virtual ~Step() {}
    virtual void step(int depth) = 0;
};

struct Thrower : Step {
    NOINLINE void step(int depth) override;
};

struct Middle : Step {
    Step *next;
    explicit Middle(Step *step) : next(step) {}
    NOINLINE void step(int depth) override;
};

NOINLINE void Thrower::step(int depth) {
    spin(2000);
    throw std::runtime_error(depth > 1 ? "deep" : "shallow");
}

NOINLINE void Middle::step(int depth) {
    struct Guard {
        ~Guard() { sink++; }
    } guard;
    next->step(depth + 1);
    sink++;
}

NOINLINE void run(int depth) {
    Thrower thrower;
    Middle middle(&thrower);
    Step *volatile first = &middle;
    try {
        first->step(depth);
    } catch (const std::exception &error) {
        sink += error.what()[0];
    }
}

int main() {
    while (!time_is_over()) {
        run(1);
    }
    return 0;
}
