/* Frames of every shape that compilers make. */
#include "dump.h"
#include <alloca.h>

volatile int zero;

static FUNCTION int leaf(int depth)
{
	dump_here();
	return depth + zero;
}

static FUNCTION int realigned(int depth)
{
	char buffer[200] __attribute__((aligned(64)));
	memset(buffer, depth, sizeof(buffer));
	int result = leaf(depth) + buffer[zero];
	KEEP();
	return result + buffer[depth & 15];
}

static FUNCTION int allocates(int size, int depth)
{
	char *buffer = alloca(size);
	memset(buffer, depth, size);
	int result = realigned(depth) + buffer[zero];
	KEEP();
	return result + buffer[size / 2];
}

/* Both at once: the CFA is found through a pointer that is itself saved on the stack. */
static FUNCTION int realigned_allocates(int size, int depth)
{
	char fixed[64] __attribute__((aligned(32)));
	char *buffer = alloca(size);
	memset(fixed, depth, sizeof(fixed));
	memset(buffer, depth, size);
	int result = allocates(size, depth) + fixed[zero] + buffer[zero];
	KEEP();
	return result + fixed[depth & 31];
}

/* Needs every register that is to be kept for the caller. */
static FUNCTION int busy(int a, int b, int c, int d, int e, int f)
{
	int result = realigned_allocates(a + 100, b);
	KEEP();
	return result + a * b + c * d + e * f + zero;
}

static FUNCTION int recurse(int depth)
{
	int result = depth ? recurse(depth - 1 + zero) : busy(1, 2, 3, 4, 5, 6);
	KEEP();
	return result + depth;
}

static FUNCTION int compare(const void *left, const void *right)
{
	static int once;
	if (!once++)
		recurse(DEPTH);
	return *(const int *)left - *(const int *)right;
}

int main(void)
{
	int numbers[] = { 3, 1, 2 };
	print_process();
	qsort(numbers, 3, sizeof(int), compare);
	KEEP();
	return numbers[0] == 1 ? 0 : 1;
}
