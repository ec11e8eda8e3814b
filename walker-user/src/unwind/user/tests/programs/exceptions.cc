// Samples from landing pads: a destructor that runs while an exception passes, and a handler.
#include "dump.h"

volatile int zero;

struct Cleanup {
	int number;
	FUNCTION ~Cleanup()
	{
		dump_here();
		KEEP();
	}
};

static FUNCTION int throws(int number)
{
	if (number != zero)
		throw number;
	return 1;
}

static FUNCTION int passes(int number)
{
	Cleanup cleanup = { number };
	int result = throws(number);
	KEEP();
	return result + cleanup.number;
}

static FUNCTION int catches(int number)
{
	try {
		return passes(number) + 1;
	} catch (int caught) {
		dump_here();
		KEEP();
		return caught;
	}
}

int main()
{
	print_process();
	int result = catches(7);
	KEEP();
	return result == 7 ? 0 : 1;
}
