/* Prints what a profiler would capture, and what libgcc makes of the same stack. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <ucontext.h>
#include <unistd.h>
#ifndef NO_BACKTRACE
#include <execinfo.h>
#endif

#define FUNCTION __attribute__((noinline, noclone))
/* Keeps a call from being made a jump. */
#define KEEP() __asm__ volatile("" ::: "memory")
#ifndef MOST_STACK
#define MOST_STACK (512 * 1024)
#endif

/* If set and below the stack pointer, the copy of the stack begins here. */
static uintptr_t lowest;

static uintptr_t stack_end(uintptr_t address)
{
	char line[512];
	uintptr_t result = 0;
	FILE *maps = fopen("/proc/self/maps", "r");
	if (!maps)
		abort();
	while (fgets(line, sizeof(line), maps)) {
		unsigned long begin, end;
		if (sscanf(line, "%lx-%lx", &begin, &end) == 2 && begin <= address && address < end)
			result = end;
	}
	fclose(maps);
	return result;
}

static void print_hex(const char *name, uintptr_t begin, uintptr_t end)
{
	printf("%s %lx ", name, (unsigned long)begin);
	const unsigned char *bytes = (const unsigned char *)begin;
	for (uintptr_t i = 0; i < end - begin; i++) {
		putchar("0123456789abcdef"[bytes[i] >> 4]);
		putchar("0123456789abcdef"[bytes[i] & 15]);
	}
	putchar('\n');
}

static void print_process(void)
{
	char line[512];
	uintptr_t vdso = getauxval(AT_SYSINFO_EHDR);
	FILE *maps = fopen("/proc/self/maps", "r");
	if (!maps)
		abort();
	while (fgets(line, sizeof(line), maps))
		printf("map %s", line);
	fclose(maps);
	if (vdso)
		print_hex("vdso", vdso, stack_end(vdso));
}

/* One sample: the registers in DWARF's order, the stack, and the chain if there is one. */
static void print_sample(const ucontext_t *context, void **chain, int count)
{
	static const int order[] = { REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
				     REG_RBP, REG_RSP, REG_R8, REG_R9, REG_R10, REG_R11,
				     REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP };
	uintptr_t sp = context->uc_mcontext.gregs[REG_RSP];
	uintptr_t end = stack_end(sp);

	if (end - sp > MOST_STACK)
		end = sp + MOST_STACK;
	printf("registers");
	for (unsigned i = 0; i < sizeof(order) / sizeof(*order); i++)
		printf(" %llx", (unsigned long long)context->uc_mcontext.gregs[order[i]]);
	printf("\n");
	print_hex("stack", lowest && lowest < sp ? lowest : sp - 128, end);
	printf("chain");
	for (int i = 0; i < count; i++)
		printf(" %lx", (unsigned long)chain[i]);
	printf("\nend\n");
}

/* A sample of the interrupted code, from its signal handler. */
static void __attribute__((unused)) print_interrupted(const ucontext_t *context)
{
	void *chain[512];
	int count = 0, first = 0;
#ifndef NO_BACKTRACE
	count = backtrace(chain, 512);
	while (first < count && (greg_t)(uintptr_t)chain[first] != context->uc_mcontext.gregs[REG_RIP])
		first++;
#endif
	print_sample(context, chain + first, count - first);
}

/* The registers here; of those a caller may change only what the sample needs. */
static inline __attribute__((always_inline)) void capture(ucontext_t *context)
{
	greg_t *registers = context->uc_mcontext.gregs;
	memset(context, 0, sizeof(*context));
	__asm__ volatile("movq %%rbx, %0" : "=m"(registers[REG_RBX]));
	__asm__ volatile("movq %%rbp, %0" : "=m"(registers[REG_RBP]));
	__asm__ volatile("movq %%rsp, %0" : "=m"(registers[REG_RSP]));
	__asm__ volatile("movq %%r12, %0" : "=m"(registers[REG_R12]));
	__asm__ volatile("movq %%r13, %0" : "=m"(registers[REG_R13]));
	__asm__ volatile("movq %%r14, %0" : "=m"(registers[REG_R14]));
	__asm__ volatile("movq %%r15, %0" : "=m"(registers[REG_R15]));
	__asm__ volatile("leaq 0(%%rip), %%rax; movq %%rax, %0" : "=m"(registers[REG_RIP]) : : "rax");
}

/* A sample of the caller itself. */
static FUNCTION __attribute__((unused)) void dump_here(void)
{
	void *chain[512];
	int count = 0;
	ucontext_t context;

#ifndef NO_BACKTRACE
	count = backtrace(chain, 512);
#endif
	capture(&context);
	print_sample(&context, chain, count);
	KEEP();
}
