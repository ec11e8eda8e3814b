/* Interrupted in the vDSO. */
#include "dump.h"
#include <link.h>
#include <sys/time.h>
#include <time.h>

static uintptr_t vdso, vdso_end;
volatile int done;

static void on_alarm(int number, siginfo_t *info, void *context)
{
	uintptr_t ip = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	(void)number, (void)info;
	if (done || ip < vdso || ip >= vdso_end)
		return;
	print_interrupted(context);
	done = 1;
}

static FUNCTION void spin(void)
{
	struct timespec now;
	while (!done)
		clock_gettime(CLOCK_MONOTONIC, &now);
	KEEP();
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct itimerval often = { { 0, 500 }, { 0, 500 } };

	vdso = getauxval(AT_SYSINFO_EHDR);
	vdso_end = stack_end(vdso);
	print_process();
	void *chain[1];
	backtrace(chain, 1);
	sigaction(SIGALRM, &action, 0);
	setitimer(ITIMER_REAL, &often, 0);
	spin();
	KEEP();
	return 0;
}
