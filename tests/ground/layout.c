// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * Where the driver's addresses lie under ADDR_COMPAT_LAYOUT: each kind of allocation, ranges opened from another
 * process, and the process's mappings as a whole. Build it with and without -no-pie.
 */
#define _GNU_SOURCE
#include "ground.h"
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/un.h>

static const size_t size = (size_t)2 << 20;
static int channel[2];

static void send_file(int socket, const void *bytes, size_t length, int file)
{
	struct iovec data = { (void *)(uintptr_t)bytes, length };
	union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr header; } control = { 0 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };

	if (file >= 0) {
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control.bytes);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &file, sizeof(int));
	}
	if (sendmsg(socket, &message, 0) < 0)
		printf("| sendmsg | %s |\n", strerror(errno));
}

static int receive_file(int socket, void *bytes, size_t length)
{
	struct iovec data = { bytes, length };
	union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr header; } control = { 0 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes,
				  .msg_controllen = sizeof(control.bytes) };
	int file = -1;

	if (recvmsg(socket, &message, 0) != (ssize_t)length)
		return -2;
	if (message.msg_controllen >= CMSG_LEN(sizeof(int)) && control.header.cmsg_type == SCM_RIGHTS)
		memcpy(&file, CMSG_DATA(&control.header), sizeof(int));
	return file;
}

/* The other process: exports an allocation of each kind and waits until it is no longer needed. */
static void export_memory(void)
{
	const struct allocation properties = { .type = 1, .handle_types = 1, .location = { 1, 0 } };
	struct ipc_handle handle;
	device_pointer memory;
	uint64_t physical;
	int file = -1;
	char end;

	alarm(15);
	close(channel[0]);
	start_context();
	CHECK(cuMemAlloc_v2(&memory, size));
	CHECK(cuIpcGetMemHandle(&handle, memory));
	if (!cuMemCreate || cuMemCreate(&physical, size, &properties, 0) ||
	    cuMemExportToShareableHandle(&file, physical, 1, 0))
		file = -1;
	send_file(channel[1], &handle, sizeof(handle), file);
	if (read(channel[1], &end, 1) < 0)
		printf("| waiting | %s |\n", strerror(errno));
	_exit(0);
}

static void print_address(const char *what, int result, uint64_t address)
{
	if (result)
		printf("| %s | %s |\n", what, code(result));
	else
		printf("| %s | %#lx |\n", what, address);
}

static void map_imported(int file)
{
	static const struct { const char *what; device_pointer hint; } places[] = {
		{ "imported VMM memory, no hint", 0 },
		{ "imported VMM memory, hint 0x2900_0000_0000", 0x290000000000 },
		{ "imported VMM memory, hint in use (a library's address)", 1 },
	};
	const struct access_right right = { { 1, 0 }, 3 };
	device_pointer address;
	uint64_t physical;
	unsigned int i;
	int result;

	if (file < 0) {
		printf("| imported VMM memory | not exported |\n");
		return;
	}
	CHECK(cuMemImportFromShareableHandle(&physical, (void *)(intptr_t)file, 1));
	for (i = 0; i < 3; i++) {
		device_pointer hint = places[i].hint == 1 ? (uintptr_t)cuInit & ~(uintptr_t)(size - 1) : places[i].hint;

		result = cuMemAddressReserve(&address, size, 0, hint, 0);
		if (!result && i < 2)
			result = cuMemMap(address, size, 0, physical, 0);
		if (!result && i < 2)
			result = cuMemSetAccess(address, size, &right, 1);
		if (!result && i < 2)
			result = cuMemsetD32_v2(address, 1, 16);
		print_address(places[i].what, result, address);
	}
}

/* Mappings merged where they are less than 1 GiB apart, with what they are made of. */
static void print_maps(void)
{
	uint64_t from = 0, to = 0, begin, end, mapped = 0, window_low = ~0UL, window_high = 0;
	unsigned int count = 0, files = 0;
	char line[600], *path;
	FILE *maps = fopen("/proc/self/maps", "r");
	int more;

	if (!maps)
		return;
	do {
		more = fgets(line, sizeof(line), maps) && sscanf(line, "%lx-%lx", &begin, &end) == 2;
		if (count && (!more || begin - to > (1UL << 30))) {
			printf("| mappings %#lx-%#lx | %u mappings, %u of files, %lu MiB mapped |\n", from, to, count, files,
			       mapped >> 20);
			count = files = 0;
			mapped = 0;
		}
		if (!more)
			break;
		if (!count)
			from = begin;
		to = end;
		count++;
		mapped += end - begin;
		path = strchr(line, '/');
		files += path != NULL;
		if (begin >= 0x100000000000 && begin < 0x500000000000) {
			window_low = begin < window_low ? begin : window_low;
			window_high = end > window_high ? end : window_high;
		}
	} while (more);
	fclose(maps);
	printf("| lowest and highest mapping between 0x1000_0000_0000 and 0x5000_0000_0000 | %#lx, %#lx |\n", window_low,
	       window_high);
}

static void addresses(void)
{
	struct ipc_handle handle;
	device_pointer address = 0;
	void *pinned = NULL;
	int file, result;
	pid_t exporter;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, channel))
		return;
	exporter = fork();
	if (exporter == 0)
		export_memory();
	close(channel[1]);
	start_context();
	printf("| program, stack, libcuda, heap | %p, %p, %p, %p |\n", (void *)addresses, (void *)&address, (void *)cuInit,
	       malloc(16));
	result = cuMemAlloc_v2(&address, size);
	print_address("cuMemAlloc of 2 MiB", result, address);
	result = cuMemAlloc_v2(&address, (size_t)8 << 30);
	print_address("cuMemAlloc of 8 GiB", result, address);
	result = cuMemAllocAsync(&address, size, NULL);
	print_address("cuMemAllocAsync", result, address);
	result = cuMemAllocManaged(&address, size, 1);
	print_address("cuMemAllocManaged", result, address);
	result = cuMemHostAlloc(&pinned, size, 3);
	print_address("cuMemHostAlloc", result, (uintptr_t)pinned);
	file = receive_file(channel[0], &handle, sizeof(handle));
	if (file == -2) {
		printf("| the exporting process | sent nothing |\n");
	} else {
		result = cuIpcOpenMemHandle_v2(&address, handle, 1);
		print_address("**opened from another process by IPC**", result, address);
		result = result ? result : cuMemsetD32_v2(address, 7, 16);
		ANSWER("writing to it", result);
		map_imported(file);
	}
	print_maps();
	close(channel[0]);
	waitpid(exporter, NULL, 0);
}

int main(int argc, char **argv)
{
	/* An address in the first 4 GiB belongs to a program that is linked to a fixed place. */
	int fixed = (uintptr_t)main >> 32 == 0;

	if (argc < 2) {
		pid_t child = fork();

		if (child == 0) {
			personality(ADDR_COMPAT_LAYOUT);
			execl("/proc/self/exe", argv[0], "laid-out", NULL);
			_exit(1);
		}
		waitpid(child, NULL, 0);
		return 0;
	}
	table(fixed ? "Addresses under ADDR_COMPAT_LAYOUT, program at a fixed place" :
		      "Addresses under ADDR_COMPAT_LAYOUT, position-independent program");
	measure("addresses", addresses, 15);
	return 0;
}
