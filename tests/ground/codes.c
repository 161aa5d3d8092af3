// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/* What the driver answers to wrong calls and after a kernel's fault; an emulator must answer the same. */
#define _GNU_SOURCE
#include "ground.h"

static const device_pointer bogus = 0x123456789000;

static void memory(void)
{
	device_pointer pointer = 0;
	int value = 0;

	start_context();
	ANSWER("cuMemFree(0)", cuMemFree_v2(0));
	ANSWER("cuMemFree(bogus)", cuMemFree_v2(bogus));
	CHECK(cuMemAlloc_v2(&pointer, 4096));
	ANSWER("cuMemFree(inside an allocation)", cuMemFree_v2(pointer + 512));
	CHECK(cuMemFree_v2(pointer));
	ANSWER("cuMemFree twice", cuMemFree_v2(pointer));
	ANSWER("cuMemAlloc(0)", cuMemAlloc_v2(&pointer, 0));
	ANSWER("cuMemAlloc(NULL, 16)", cuMemAlloc_v2(NULL, 16));
	ANSWER("cuMemAlloc(2^50)", cuMemAlloc_v2(&pointer, (size_t)1 << 50));
	ANSWER("cuMemcpyHtoD to bogus", cuMemcpyHtoD_v2(bogus, &value, 4));
	ANSWER("cuMemcpyHtoD to 0", cuMemcpyHtoD_v2(0, &value, 4));
	ANSWER("cuMemcpyHtoD of 0 bytes to 0", cuMemcpyHtoD_v2(0, &value, 0));
	ANSWER("cuMemcpyDtoH from bogus", cuMemcpyDtoH_v2(&value, bogus, 4));
	ANSWER("cuMemsetD32 of bogus", cuMemsetD32_v2(bogus, 0, 1));
	CHECK(cuMemAlloc_v2(&pointer, 4096));
	ANSWER("cuMemcpyDtoH of 1 GiB out of 4 KiB", cuMemcpyDtoH_v2(&value, pointer, (size_t)1 << 30));
	ANSWER("cuMemsetD32 of 1 GiB in 4 KiB", cuMemsetD32_v2(pointer, 0, (size_t)1 << 28));
	ANSWER("cuMemsetD32, not aligned", cuMemsetD32_v2(pointer + 1, 0, 1));
	ANSWER("cuCtxSynchronize afterwards", cuCtxSynchronize());
}

static void objects(void)
{
	void *events[3], *function;
	float elapsed;

	start();
	ANSWER("cuStreamDestroy(0)", cuStreamDestroy_v2(NULL));
	ANSWER("cuEventDestroy(0)", cuEventDestroy_v2(NULL));
	ANSWER("cuEventQuery(0)", cuEventQuery(NULL));
	ANSWER("cuStreamQuery(0)", cuStreamQuery(NULL));
	ANSWER("cuModuleUnload(0)", cuModuleUnload(NULL));
	CHECK(cuEventCreate(&events[0], 0));
	CHECK(cuEventCreate(&events[1], 0));
	CHECK(cuEventCreate(&events[2], 2));
	ANSWER("cuEventQuery, never recorded", cuEventQuery(events[0]));
	ANSWER("cuEventElapsedTime, none recorded", cuEventElapsedTime(&elapsed, events[0], events[1]));
	CHECK(cuEventRecord(events[0], NULL));
	CHECK(cuEventRecord(events[2], NULL));
	CHECK(cuCtxSynchronize());
	ANSWER("cuEventElapsedTime, one recorded", cuEventElapsedTime(&elapsed, events[0], events[1]));
	ANSWER("cuEventElapsedTime, one without timing", cuEventElapsedTime(&elapsed, events[0], events[2]));
	CHECK(launch(spin_kernel, NULL, 50000000));
	CHECK(cuEventRecord(events[1], NULL));
	ANSWER("cuEventElapsedTime, one not over", cuEventElapsedTime(&elapsed, events[0], events[1]));
	ANSWER("cuStreamQuery of a busy stream", cuStreamQuery(NULL));
	ANSWER("cuModuleGetFunction, no such name", cuModuleGetFunction(&function, module, "absent"));
	ANSWER("cuModuleGetGlobal, no such name", cuModuleGetGlobal_v2(NULL, NULL, module, "absent"));
	ANSWER("cuEventCreate with flags 0x100", cuEventCreate(&events[0], 0x100));
	ANSWER("cuStreamCreate with flags 0x100", cuStreamCreate(&events[0], 0x100));
}

static void no_context(void)
{
	device_pointer pointer;
	void *object;

	load_library();
	ANSWER("before cuInit: cuDeviceGet", cuDeviceGet((int *)&pointer, 0));
	ANSWER("before cuInit: cuCtxGetCurrent", cuCtxGetCurrent(&object));
	ANSWER("before cuInit: cuMemAlloc", cuMemAlloc_v2(&pointer, 16));
	ANSWER("cuInit(1)", cuInit(1));
	CHECK(cuInit(0));
	ANSWER("no context: cuCtxSynchronize", cuCtxSynchronize());
	ANSWER("no context: cuMemAlloc", cuMemAlloc_v2(&pointer, 16));
	ANSWER("no context: cuMemFree(0)", cuMemFree_v2(0));
	ANSWER("no context: cuStreamCreate", cuStreamCreate(&object, 0));
	ANSWER("no context: cuStreamSynchronize(0)", cuStreamSynchronize(NULL));
	ANSWER("no context: cuModuleLoadData", cuModuleLoadData(&object, ground_ptx));
	ANSWER("cuDeviceGet(99)", cuDeviceGet((int *)&pointer, 99));
	ANSWER("cuCtxDestroy(0)", cuCtxDestroy_v2(NULL));
}

static void image(const char *what, const void *bytes)
{
	enum { ERROR_LOG = 5, ERROR_LOG_SIZE = 6, INFO_LOG = 3, INFO_LOG_SIZE = 4 };
	int options[] = { ERROR_LOG, ERROR_LOG_SIZE, INFO_LOG, INFO_LOG_SIZE };
	char error_log[1024] = "", info_log[1024] = "", *at;
	void *values[] = { error_log, (void *)sizeof(error_log), info_log, (void *)sizeof(info_log) };
	void *loaded;
	int result = cuModuleLoadDataEx(&loaded, bytes, 4, options, values);

	for (at = error_log; *at; at++)
		if (*at == '\n' || *at == '|')
			*at = ';';
	/* The driver writes four bytes of each size back into the option's value. */
	printf("| cuModuleLoadDataEx of %s | %s; error log of %u bytes (strlen %zu), info log of %u: `%s` |\n", what,
	       code(result), (unsigned int)(uintptr_t)values[1], strlen(error_log),
	       (unsigned int)(uintptr_t)values[3], error_log);
}

static void images(void)
{
	static unsigned char elf[4096] = { 0x7f, 'E', 'L', 'F', 2, 1, 1, 0x41, 8 };
	static unsigned char binary[4096] = { 0xde, 0xad, 0xbe, 0xef };
	static unsigned char fat[4096] = { 0x50, 0xed, 0x55, 0xba, 1, 0, 16, 0 };
	char truncated[sizeof(ground_ptx)];

	start_context();
	memcpy(truncated, ground_ptx, sizeof(ground_ptx));
	truncated[sizeof(ground_ptx) / 2] = 0;
	image("good PTX", ground_ptx);
	image("text that is no PTX", "this is no program\n");
	image("an empty text", "");
	image("PTX cut in the middle", truncated);
	image("PTX with an unknown instruction",
	      ".version 7.0\n.target sm_52\n.address_size 64\n.visible .entry k()\n{\n frobnicate;\n ret;\n}\n");
	image("PTX of an unknown version", ".version 99.0\n.target sm_52\n.address_size 64\n");
	image("PTX for an unknown target", ".version 7.0\n.target sm_999\n.address_size 64\n");
	image("PTX with an unresolved function",
	      ".version 7.0\n.target sm_52\n.address_size 64\n.extern .func absent();\n"
	      ".visible .entry k()\n{\n call absent;\n ret;\n}\n");
	image("bytes of no format", binary);
	image("an ELF header followed by zeroes", elf);
	image("a fat binary header without entries", fat);
	image("NULL", NULL);
}

static void pointer_attributes(void)
{
	/* Each attribute may write as much as the largest of them, two 64-bit words. */
	uint64_t words[32][4];
	int attributes[32], kind, attribute;
	void *places[32], *heap = malloc(4096);
	device_pointer memory, pointer;
	static const char *const kinds[] = { "malloc", "cuMemAlloc", "0", "bogus" };

	start_context();
	CHECK(cuMemAlloc_v2(&memory, 4096));
	for (kind = 0; kind < 4; kind++) {
		pointer = kind == 0 ? (uintptr_t)heap : kind == 1 ? memory : kind == 2 ? 0 : bogus;
		printf("| cuPointerGetAttribute 1..21 of %s (attribute=result:value) |", kinds[kind]);
		for (attribute = 1; attribute <= 21; attribute++) {
			uint64_t word[4] = { 0xeeee, 0, 0, 0 };
			int result = attribute == 6 ? -1 : cuPointerGetAttribute(word, attribute, pointer);

			if (attribute != 6)
				printf(" %d=%d:%#lx", attribute, result, word[0]);
		}
		printf(" |\n| the same at once |");
		for (attribute = 0; attribute < 14; attribute++) {
			/* 5 (tokens) and 6 (an attribute to set) are not for asking in plural. */
			attributes[attribute] = attribute < 4 ? attribute + 1 : attribute + 3;
			memset(words[attribute], 0xee, sizeof(words[0]));
			places[attribute] = words[attribute];
		}
		printf(" %d:", cuPointerGetAttributes(14, attributes, places, pointer));
		for (attribute = 0; attribute < 14; attribute++)
			printf(" %d=%#lx", attributes[attribute], words[attribute][0]);
		printf(" |\n");
	}
	ANSWER("cuMemHostGetDevicePointer of malloc memory", cuMemHostGetDevicePointer_v2(&pointer, heap, 0));
	ANSWER("cuMemGetAddressRange of malloc memory", cuMemGetAddressRange_v2(&pointer, NULL, (uintptr_t)heap));
}

static void fault(void)
{
	void *stream, *event, *object;
	device_pointer memory;
	int value, device = 0;

	start();
	CHECK(cuStreamCreate(&stream, 1));
	CHECK(cuEventCreate(&event, 2));
	CHECK(cuMemAlloc_v2(&memory, 4096));
	ANSWER("the launch of a kernel that stores to a bogus address", launch(store_kernel, stream, bogus));
	ANSWER("cuEventRecord at once behind it", cuEventRecord(event, stream));
	ANSWER("after the fault: cuStreamSynchronize", cuStreamSynchronize(stream));
	ANSWER("after the fault: cuStreamSynchronize again", cuStreamSynchronize(stream));
	ANSWER("after the fault: cuLaunchKernel", launch(empty_kernel, stream, 0));
	ANSWER("after the fault: cuMemcpyDtoH", cuMemcpyDtoH_v2(&value, memory, 4));
	ANSWER("after the fault: cuStreamQuery", cuStreamQuery(stream));
	ANSWER("after the fault: cuEventQuery", cuEventQuery(event));
	ANSWER("after the fault: cuEventRecord", cuEventRecord(event, stream));
	ANSWER("after the fault: cuCtxGetCurrent", cuCtxGetCurrent(&object));
	ANSWER("after the fault: cuCtxSynchronize", cuCtxSynchronize());
	ANSWER("after the fault: cuMemAlloc", cuMemAlloc_v2(&memory, 4096));
	ANSWER("after the fault: cuMemGetInfo", cuMemGetInfo_v2((size_t *)&object, (size_t *)&object));
	ANSWER("after the fault: cuModuleGetFunction", cuModuleGetFunction(&object, module, "empty"));
	ANSWER("after the fault: cuFuncGetAttribute", cuFuncGetAttribute(&value, 0, empty_kernel));
	ANSWER("after the fault: cuDeviceGetAttribute", cuDeviceGetAttribute(&value, 1, 0));
	ANSWER("after the fault: cuPointerGetAttribute", cuPointerGetAttribute(&value, 2, memory));
	ANSWER("after the fault: cuMemFree", cuMemFree_v2(memory));
	ANSWER("after the fault: cuStreamDestroy", cuStreamDestroy_v2(stream));
	ANSWER("after the fault: cuEventDestroy", cuEventDestroy_v2(event));
	ANSWER("after the fault: cuModuleUnload", cuModuleUnload(module));
	ANSWER("after the fault: cuCtxDestroy", cuCtxDestroy_v2(context));
	ANSWER("after the fault: cuCtxCreate", cuCtxCreate_v2(&context, 0, device));
	ANSWER("in that context: cuMemAlloc", cuMemAlloc_v2(&memory, 4096));
}

static void primary_fault(void)
{
	device_pointer memory;

	start_driver();
	CHECK(cuDevicePrimaryCtxRetain(&context, 0));
	CHECK(cuCtxSetCurrent(context));
	load_kernels();
	CHECK(launch(store_kernel, NULL, bogus));
	ANSWER("primary context: cuCtxSynchronize after a fault", cuCtxSynchronize());
	ANSWER("primary context: cuDevicePrimaryCtxReset", cuDevicePrimaryCtxReset_v2(0));
	ANSWER("then cuMemAlloc in the context that is still current", cuMemAlloc_v2(&memory, 4096));
	ANSWER("then cuDevicePrimaryCtxRetain", cuDevicePrimaryCtxRetain(&context, 0));
	ANSWER("then cuCtxSetCurrent", cuCtxSetCurrent(context));
	ANSWER("then cuMemAlloc", cuMemAlloc_v2(&memory, 4096));
}

int main(void)
{
	table("Answers to wrong calls");
	measure("memory", memory, 10);
	measure("objects", objects, 10);
	measure("no context", no_context, 10);
	measure("images", images, 15);
	measure("pointer attributes", pointer_attributes, 10);
	measure("fault", fault, 10);
	measure("fault in the primary context", primary_fault, 10);
	return 0;
}
