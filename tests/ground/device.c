// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/* What the driver says of device 0, of a kernel and of its errors: everything that an emulator must be able to answer. */
#define _GNU_SOURCE
#include "ground.h"

static void attributes(void)
{
	int attribute, value;

	start_driver();
	printf("| cuDeviceGetAttribute 1..160 |");
	for (attribute = 1; attribute <= 160; attribute++) {
		int result;

		value = -1;
		result = cuDeviceGetAttribute(&value, attribute, 0);
		if (result)
			printf(" %d:error %d", attribute, result);
		else
			printf(" %d=%d", attribute, value);
	}
	printf(" |\n");
}

static void identity(void)
{
	char name[256] = "", bus[64] = "";
	unsigned char uuid[16] = { 0 };
	size_t total = 0;
	int version = 0, i;

	start_driver();
	CHECK(cuDriverGetVersion(&version));
	CHECK(cuDeviceGetName(name, sizeof(name), 0));
	CHECK(cuDeviceGetUuid_v2(uuid, 0));
	CHECK(cuDeviceTotalMem_v2(&total, 0));
	CHECK(cuDeviceGetPCIBusId(bus, sizeof(bus), 0));
	printf("| identity | driver API %d; `%s`; %zu bytes; PCI `%s`; UUID ", version, name, total, bus);
	for (i = 0; i < 16; i++)
		printf("%02x", uuid[i]);
	printf(" |\n");
	ANSWER("cuDeviceGetName into 4 bytes", cuDeviceGetName(name, 4, 0));
	ANSWER("cuDeviceGetPCIBusId into 4 bytes", cuDeviceGetPCIBusId(bus, 4, 0));
	name[3] = 0;
	printf("| the name in 4 bytes | `%s` |\n", name);
	ANSWER("cuDeviceGetAttribute of device 99", cuDeviceGetAttribute(&i, 1, 99));
	ANSWER("cuDeviceGetAttribute(NULL)", cuDeviceGetAttribute(NULL, 1, 0));
}

static void context_properties(void)
{
	int least, greatest, attribute, value;
	size_t limit;

	start();
	CHECK(cuCtxGetStreamPriorityRange(&least, &greatest));
	printf("| stream priorities, least and greatest | %d, %d |\n| cuCtxGetLimit 0..10 |", least, greatest);
	for (attribute = 0; attribute <= 10; attribute++) {
		int result;

		limit = 0;
		result = cuCtxGetLimit(&limit, attribute);
		if (result)
			printf(" %d:error %d", attribute, result);
		else
			printf(" %d=%zu", attribute, limit);
	}
	printf(" |\n| cuFuncGetAttribute 0..20 of the store kernel |");
	for (attribute = 0; attribute <= 20; attribute++) {
		int result;

		value = -1;
		result = cuFuncGetAttribute(&value, attribute, store_kernel);
		if (result)
			printf(" %d:error %d", attribute, result);
		else
			printf(" %d=%d", attribute, value);
	}
	printf(" |\n");
}

static void errors(void)
{
	const char *name, *text;
	int number;

	load_library();
	for (number = 0; number <= 1000; number++) {
		name = text = NULL;
		if (!cuGetErrorName(number, &name) && !cuGetErrorString(number, &text))
			printf("| error %d | `%s` %s |\n", number, name, text);
	}
	name = text = "untouched";
	printf("| cuGetErrorName(12345) | %d, %s |\n", cuGetErrorName(12345, &name), name ? name : "NULL");
}

int main(void)
{
	table("Device, context, kernel and errors");
	measure("attributes", attributes, 10);
	measure("identity", identity, 10);
	measure("context properties", context_properties, 10);
	measure("errors", errors, 10);
	return 0;
}
