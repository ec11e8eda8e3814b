/* A sample at every instruction of some work: prologues, epilogues, calls through the PLT with the
 * resolution of the symbol, and code of the C library. */
#define MOST_STACK 8192
#include "dump.h"
#include <ctype.h>

#define FLAG_TRAP 0x100

volatile int zero;
static const char *volatile text = "text";
static int steps;

static void on_trap(int number, siginfo_t *info, void *context)
{
	(void)number, (void)info;
	if (steps++ < STEPS)
		print_interrupted(context);
	else
		((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~FLAG_TRAP;
}

static FUNCTION int many(int a, int b, int c, int d, int e, int f, int g)
{
	int result = a + labs(b - g) * c;
	KEEP();
	return result + d * e + f * toupper(a) + strlen(text);
}

static FUNCTION int realigned(int depth)
{
	char buffer[72] __attribute__((aligned(64)));
	for (int i = 0; i < 4; i++)
		buffer[i] = depth;
	KEEP();
	return many(depth, buffer[zero], 3, 4, 5, 6, buffer[1]) + buffer[2];
}

static FUNCTION int sized(int size)
{
	volatile char buffer[size];
	buffer[0] = 1;
	return realigned(buffer[0]) + buffer[zero];
}

static FUNCTION int work(int a)
{
	int first = sized(100 + a), second = many(1, 2, 3, 4, 5, 6, first);
	KEEP();
	return first + second;
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };

	print_process();
	sigaction(SIGTRAP, &action, 0);
#ifndef NO_BACKTRACE
	void *chain[1];
	/* Loads what it needs before the first trap. */
	backtrace(chain, 1);
#endif
	__asm__ volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
	int result = work(zero);
	__asm__ volatile("pushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
	return result == 0;
}
