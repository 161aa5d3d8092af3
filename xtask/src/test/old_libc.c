/*
 * A CUDA program as it was linked before glibc 2.34: it needs libcuda.so.1 and libc.so.6 and nothing else, so on an old C
 * library the process has neither libdl nor libpthread. It starts by itself, because today's start files need 2.34.
 */
#include <unistd.h>

#include "cuda_calls.h"

static const char KERNEL[] = ".version 7.0\n"
			     ".target sm_70\n"
			     ".address_size 64\n"
			     ".visible .entry add_seven(.param .u64 place)\n"
			     "{\n"
			     "	.reg .b64 %rd<4>;\n"
			     "	.reg .b32 %r<4>;\n"
			     "	ld.param.u64 %rd1, [place];\n"
			     "	mov.u32 %r1, %tid.x;\n"
			     "	mul.wide.u32 %rd2, %r1, 4;\n"
			     "	add.u64 %rd3, %rd1, %rd2;\n"
			     "	ld.global.u32 %r2, [%rd3];\n"
			     "	add.u32 %r3, %r2, 7;\n"
			     "	st.global.u32 [%rd3], %r3;\n"
			     "	ret;\n"
			     "}\n";

enum { COUNT = 32 };

static void run(void)
{
	uint32_t numbers[COUNT];
	CUcontext context;
	CUmodule module;
	CUfunction function;
	CUdeviceptr place;
	void *parameters[] = {&place};
	int wrong = 0;

	for (int i = 0; i < COUNT; i++)
		numbers[i] = (uint32_t)i * i;
	CHECK(cuInit(0));
	CHECK(cuDevicePrimaryCtxRetain(&context, 0));
	CHECK(cuCtxSetCurrent(context));
	CHECK(cuModuleLoadData(&module, KERNEL));
	CHECK(cuModuleGetFunction(&function, module, "add_seven"));
	CHECK(cuMemAlloc_v2(&place, sizeof(numbers)));
	CHECK(cuMemcpyHtoD_v2(place, numbers, sizeof(numbers)));
	CHECK(cuLaunchKernel(function, 1, 1, 1, COUNT, 1, 1, 0, NULL, parameters, NULL));
	CHECK(cuMemcpyDtoH_v2(numbers, place, sizeof(numbers)));
	for (int i = 0; i < COUNT; i++)
		wrong += numbers[i] != (uint32_t)i * i + 7;
	printf("%d passed, %d failed, 0 skipped\n", COUNT - wrong, wrong);
	fflush(NULL);
	_exit(wrong != 0);
}

void begin(void)
{
	run();
}

__asm__(".globl _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	and $-16, %rsp\n"
	"	call begin\n");
