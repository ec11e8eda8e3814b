/* Calls through a null pointer. */
#include "dump.h"

void (*volatile nowhere)(void);

static void on_fault(int number, siginfo_t *info, void *context)
{
	(void)number, (void)info;
	print_interrupted(context);
	fflush(stdout);
	_exit(0);
}

static FUNCTION int calls(int a)
{
	nowhere();
	KEEP();
	return a;
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	print_process();
	sigaction(SIGSEGV, &action, 0);
	int result = calls(1);
	KEEP();
	return result;
}
