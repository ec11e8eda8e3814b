/* A handler that is interrupted itself, the outer one on an alternate stack if asked for. */
#include "dump.h"

volatile int zero;
static int within;
static char alternate[64 * 1024];

/* Under a C library without unwind information the signal must not arrive in its code. */
#ifdef NO_BACKTRACE
static inline __attribute__((always_inline)) void send(int number)
{
	long result, thread;
	__asm__ volatile("syscall" : "=a"(thread) : "a"(186) : "rcx", "r11", "memory");
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(200), "D"(thread), "S"((long)number)
			 : "rcx", "r11", "memory");
}
#else
#define send raise
#endif

static FUNCTION void inner_work(void)
{
	dump_here();
	KEEP();
}

static void on_user2(int number, siginfo_t *info, void *context)
{
	(void)number, (void)info, (void)context;
	inner_work();
	KEEP();
}

static FUNCTION void outer_work(void)
{
	send(SIGUSR2);
	KEEP();
}

static void on_user1(int number, siginfo_t *info, void *context)
{
	(void)number, (void)info;
	/* So that the copy has the interrupted stack where that is further down. */
	if (within)
		lowest = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RSP] - 128;
	outer_work();
	KEEP();
}

static FUNCTION int interrupted(int depth)
{
	char buffer[200] __attribute__((aligned(64)));
	memset(buffer, depth, sizeof(buffer));
	send(SIGUSR1);
	KEEP();
	return buffer[depth & 15] + zero;
}

int main(int argc, char **argv)
{
	char local[64 * 1024] __attribute__((aligned(64)));
	struct sigaction action = { .sa_sigaction = on_user2, .sa_flags = SA_SIGINFO };
	stack_t stack = { .ss_size = sizeof(alternate) };

	(void)argv;
	print_process();
	sigaction(SIGUSR2, &action, 0);
	action.sa_sigaction = on_user1;
	/* One argument: elsewhere. Two: within a frame of the interrupted stack. */
	if (argc > 1) {
		action.sa_flags |= SA_ONSTACK;
		within = argc > 2;
		stack.ss_sp = within ? local : alternate;
		sigaltstack(&stack, 0);
	}
	sigaction(SIGUSR1, &action, 0);
	int result = interrupted(3);
	KEEP();
	return result == 3 ? 0 : 1;
}
