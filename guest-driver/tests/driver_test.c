// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of /dev/vcompute0 that run in a guest, against any device.
 *
 *   cc -O2 -static -Iinclude/uapi -o driver_test tests/driver_test.c -lpthread
 *   ./driver_test [seconds of random work]
 *
 * As root it also compares the module's own counts before and after: whatever
 * processes did, and however they died, nothing is left.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/vcompute.h>
#include <linux/virtio_compute.h>

#define DEBUG		"/sys/kernel/debug/vcompute/"
#define COUNTS		DEBUG "counts"
#define STATE		DEBUG "vcompute0/state"
#define HOLD		DEBUG "vcompute0/hold"
#define SHIM		"/sys/module/vcompute/parameters/shim"
#define PAGE		4096ul
#define SESSION_BYTES	(2ul << 20)

/* For so long a lock is held; longer on a slow machine. */
/* How long a lock is held; the kernel counts that in its own way, a little shorter on an emulated processor. */
#define HELD_MS		1000
#define HELD_MS_LEAST	(HELD_MS * 9 / 10)

static int passed, failed, skipped;

static void report(bool ok, const char *what)
{
	if (ok)
		passed++;
	else
		failed++;
	printf("%s %s\n", ok ? "ok    " : "FAILED", what);
	fflush(stdout);
}

static bool expect(const char *what, long got, long want)
{
	char line[200];

	snprintf(line, sizeof(line), "%s%s%s", what, got == want ? "" : ": got ",
		 got == want ? "" : (got < 0 ? strerror(-got) : "no error"));
	report(got == want, line);
	return got == want;
}

static void skip(const char *what, const char *why)
{
	skipped++;
	printf("skip   %s: %s\n", what, why);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

/* 0 or a negative error, as the driver returned it. */
static long call(int file, unsigned long command, void *argument)
{
	return ioctl(file, command, argument) ? -errno : 0;
}

static int open_device(void)
{
	int file = open(VCOMPUTE_DEVICE_PATH, O_RDWR | O_CLOEXEC);

	if (file < 0) {
		perror(VCOMPUTE_DEVICE_PATH);
		exit(2);
	}
	return file;
}

static long create(int file, uint64_t length)
{
	struct vcompute_session_create create = { .length = length, .options.process = getpid() };

	return call(file, VCOMPUTE_IOCTL_SESSION_CREATE, &create);
}

static long map(int file, uint64_t address, uint64_t length, uint32_t *region)
{
	struct vcompute_map map = { .address = address, .length = length };
	long error = call(file, VCOMPUTE_IOCTL_MAP, &map);

	*region = map.region;
	return error;
}

static long reg(int file, void *address, uint64_t length, uint32_t flags, uint32_t *region)
{
	struct vcompute_register reg = { .address = (uintptr_t)address, .length = length, .flags = flags };
	long error = call(file, VCOMPUTE_IOCTL_REGISTER, &reg);

	*region = reg.region;
	return error;
}

static long unmap(int file, uint32_t region)
{
	struct vcompute_unmap unmap = { .region = region };

	return call(file, VCOMPUTE_IOCTL_UNMAP, &unmap);
}

static long kick(int file)
{
	struct vcompute_kick kick = {};

	return call(file, VCOMPUTE_IOCTL_KICK, &kick);
}

static long wait_word(int file, uint64_t offset, uint32_t expected, uint64_t timeout_ns)
{
	struct vcompute_wait wait = { .offset = offset, .expected = expected, .timeout_ns = timeout_ns };

	return call(file, VCOMPUTE_IOCTL_WAIT, &wait);
}

static void *map_region_at(int file, uint32_t region, void *address, size_t length, int extra)
{
	return mmap(address, length, PROT_READ | PROT_WRITE, MAP_SHARED | extra, file,
		    VCOMPUTE_MMAP_REGION + ((uint64_t)region << VCOMPUTE_MMAP_REGION_SHIFT));
}

/* A free, page-aligned address for a region. */
static void *reserve(size_t length)
{
	return mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static void wait_until_ready(int file)
{
	double end = now() + 60;
	struct vcompute_info info = {};

	while (now() < end) {
		if (!call(file, VCOMPUTE_IOCTL_INFO, &info) && info.state == VIRTIO_COMPUTE_STATE_READY)
			break;
		poll(NULL, 0, 10);
	}
	expect("the device becomes ready", info.state, VIRTIO_COMPUTE_STATE_READY);
	report(info.version == VIRTIO_COMPUTE_PROTOCOL_VERSION && info.info_bytes >= PAGE, "INFO is filled in");
}

static void test_information(int file)
{
	struct vcompute_info info = {};
	const struct virtio_compute_info_header *header;
	char *page;

	call(file, VCOMPUTE_IOCTL_INFO, &info);
	page = mmap(NULL, info.info_bytes, PROT_READ, MAP_SHARED, file, VCOMPUTE_MMAP_INFO);
	header = (const void *)page;
	report(page != MAP_FAILED && header->magic == VIRTIO_COMPUTE_INFO_MAGIC &&
	       header->generation == info.generation, "the device information can be mapped");
	report(mprotect(page, PAGE, PROT_READ | PROT_WRITE) && errno == EACCES,
	       "the mapped information cannot be made writable");
	report(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) == MAP_FAILED && errno == EACCES,
	       "the information cannot be mapped for writing");
	report(mmap(NULL, 1 << 20, PROT_READ, MAP_SHARED, file, 0) == MAP_FAILED && errno == EINVAL,
	       "no more than the information can be mapped");
	munmap(page, info.info_bytes);
}

/* Whether a read of size bytes gives the first of those that a whole read gives, and touches no more. */
static bool is_prefix(int file, const char *whole, size_t bytes, size_t size)
{
	size_t want = size < bytes ? size : bytes;
	char *buffer = malloc(size + 1);
	bool same;

	buffer[want] = 0x5a;
	same = read(file, buffer, size) == (ssize_t)want && !memcmp(buffer, whole, want) && buffer[want] == 0x5a;
	free(buffer);
	return same;
}

static void test_read(void)
{
	int file = open(VCOMPUTE_DEVICE_PATH, O_RDONLY | O_CLOEXEC);
	const size_t head = sizeof(struct vcompute_info);
	size_t sizes[] = { 0, 1, head - 1, head, head + 1, head + PAGE, head + PAGE + 1, 1 << 20 };
	struct vcompute_info info = {};
	char *page, *whole, *edge;
	size_t bytes, i;
	bool same = true;

	call(file, VCOMPUTE_IOCTL_INFO, &info);
	bytes = head + info.info_bytes;
	whole = malloc(bytes);
	expect("read of everything", read(file, whole, bytes), (long)bytes);
	report(!memcmp(whole, &info, head), "it begins with what INFO says");
	report(!info.reserved && !(info.flags & ~VCOMPUTE_INFO_SHIM_OFF), "INFO has no unknown flags");
	page = mmap(NULL, info.info_bytes, PROT_READ, MAP_SHARED, file, VCOMPUTE_MMAP_INFO);
	report(page != MAP_FAILED && !memcmp(whole + head, page, info.info_bytes),
	       "it goes on with the device information, as mmap shows it");
	munmap(page, info.info_bytes);

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		same = same && is_prefix(file, whole, bytes, sizes[i]);
	report(same, "read fills small and large buffers from the beginning, again and again");
	report(pread(file, whole, head, 8) == -1 && errno == ESPIPE, "there is no offset");
	edge = reserve(PAGE);
	report(read(file, edge, head) == -1 && errno == EFAULT, "read to a bad address");
	munmap(edge, PAGE);
	edge = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(edge + 2 * PAGE, PAGE);
	report(read(file, edge + PAGE, bytes) == (ssize_t)PAGE && !memcmp(edge + PAGE, whole, PAGE),
	       "read ends where the buffer does");
	munmap(edge, 2 * PAGE);
	free(whole);
	close(file);
}

static long status(int file, void *to, uint32_t room, uint32_t *bytes)
{
	struct vcompute_status status = { .address = (uintptr_t)to, .length = room };
	long error = call(file, VCOMPUTE_IOCTL_STATUS, &status);

	*bytes = status.length;
	return error;
}

/* The device may have to learn first. */
static long status_when_known(int file, void *to, uint32_t room, uint32_t *bytes)
{
	double end = now() + 20;
	long error;

	while ((error = status(file, to, room, bytes)) == -EAGAIN && now() < end)
		poll(NULL, 0, 10);
	return error;
}

static void test_status(void)
{
	int file = open(VCOMPUTE_DEVICE_PATH, O_RDONLY | O_CLOEXEC);
	struct virtio_compute_status_reply head = {};
	struct vcompute_status odd = { .reserved = 1 };
	struct vcompute_info info = {};
	uint32_t bytes = 0, again = 0;
	char *room = calloc(1, 1 << 16), *edge;
	pid_t children[8];
	bool all = true;
	size_t i;

	call(file, VCOMPUTE_IOCTL_INFO, &info);
	expect("STATUS without a session", status_when_known(file, room, 1 << 16, &bytes), 0);
	memcpy(&head, room, sizeof(head));
	report(bytes >= sizeof(head) && bytes < 1 << 16 && head.generation == info.generation && !head.reserved,
	       "it begins with the reply's structure");
	memset(room, 0x5a, 1 << 16);
	expect("STATUS with little room", status_when_known(file, room, 8, &again), 0);
	report(again >= sizeof(head) && room[8] == 0x5a, "it says how much there is, and writes no more than fits");
	expect("STATUS with no room", status_when_known(file, NULL, 0, &again), 0);
	edge = reserve(PAGE);
	expect("STATUS to a bad address", status_when_known(file, edge, PAGE, &again), -EFAULT);
	expect("STATUS to an address of the kernel", status_when_known(file, (void *)(-1ul << 47), 64, &again), -EFAULT);
	munmap(edge, PAGE);
	expect("STATUS with a reserved field", call(file, VCOMPUTE_IOCTL_STATUS, &odd), -EINVAL);
	fflush(stdout);
	for (i = 0; i < 8; i++) {
		children[i] = fork();
		if (!children[i]) {
			for (i = 0; i < 50; i++) {
				if (status_when_known(file, room, 1 << 16, &bytes) || bytes < sizeof(head))
					_exit(1);
			}
			_exit(0);
		}
	}
	for (i = 0; i < 8; i++) {
		int ended;

		all = waitpid(children[i], &ended, 0) == children[i] && !ended && all;
	}
	report(all, "many processes ask for STATUS at once");
	free(room);
	close(file);
}

static bool write_text(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);
	bool written = file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text);

	if (file >= 0)
		close(file);
	return written;
}

static bool shim_is_off(int file)
{
	struct vcompute_info info = {}, read_info = {};

	call(file, VCOMPUTE_IOCTL_INFO, &info);
	return read(file, &read_info, sizeof(read_info)) == sizeof(read_info) &&
	       read_info.flags & info.flags & VCOMPUTE_INFO_SHIM_OFF;
}

static void test_shim_parameter(void)
{
	int file = open_device(), parameter = open(SHIM, O_RDONLY | O_CLOEXEC);
	char before[8] = "";

	if (parameter < 0 || read(parameter, before, sizeof(before) - 1) <= 0 || !write_text(SHIM, "off")) {
		skip("the parameter shim", SHIM " needs root");
	} else {
		report(shim_is_off(file), "shim=off is told to processes");
		report(!write_text(SHIM, "perhaps") && shim_is_off(file), "nonsense leaves the parameter as it is");
		report(write_text(SHIM, "on") && !shim_is_off(file), "shim=on is told to processes");
		report(write_text(SHIM, before), "the parameter can be set to what it says");
	}
	if (parameter >= 0)
		close(parameter);
	close(file);
}

static void pin_to(int processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		_exit(2);
}

/* What a process does at its start. */
static void start_like_a_process(void)
{
	int file = open(VCOMPUTE_DEVICE_PATH, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct vcompute_info info = {};
	char buffer[2 * PAGE];
	void *page;

	if (file < 0 || read(file, buffer, sizeof(buffer)) != sizeof(buffer) ||
	    call(file, VCOMPUTE_IOCTL_INFO, &info))
		_exit(2);
	page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, VCOMPUTE_MMAP_INFO);
	if (page == MAP_FAILED || munmap(page, PAGE) || close(file))
		_exit(2);
}

static void read_state(void)
{
	char buffer[PAGE];
	int file = open(STATE, O_RDONLY | O_CLOEXEC);

	if (file < 0 || read(file, buffer, sizeof(buffer)) < 0 || close(file))
		_exit(2);
}

/* In milliseconds: how long a lock was held, and how long work took at the longest meanwhile; -1 if that is not known. */
struct held {
	int total;
	int longest;
};

/* Who waits for the lock, waits for most of that time, on a slow machine too. */
static bool waited(struct held held)
{
	return held.longest >= held.total / 2;
}

/*
 * Does work again and again while a lock is held.
 *
 * Whoever holds a lock stops its processor, so both sides have one of their own,
 * and processes of their own that have never run elsewhere: else they would wait
 * for each other's memory management.
 */
static struct held while_held(const char *lock, void (*work)(void))
{
	struct held held = { -1, -1 };
	pid_t measurer;
	int answer[2];

	fflush(stdout);
	if (pipe(answer))
		exit(2);
	measurer = fork();
	if (!measurer) {
		double slowest = 0, start, begun;
		int status = -1;
		pid_t holder;

		work();
		holder = fork();
		if (!holder) {
			char text[40];

			pin_to(1);
			snprintf(text, sizeof(text), "%s %d", lock, HELD_MS);
			_exit(!write_text(HOLD, text));
		}
		start = now();
		while (!waitpid(holder, &status, WNOHANG)) {
			double took;

			begun = now();
			work();
			took = now() - begun;
			slowest = took > slowest ? took : slowest;
		}
		held.total = 1000 * (now() - start);
		held.longest = 1000 * slowest;
		_exit(status || write(answer[1], &held, sizeof(held)) != sizeof(held));
	}
	close(answer[1]);
	waitpid(measurer, NULL, 0);
	if (read(answer[0], &held, sizeof(held)) != sizeof(held))
		held = (struct held){ -1, -1 };
	close(answer[0]);
	return held;
}

static void test_no_lock_is_waited_for(void)
{
	static const char *const locks[] = { "control", "event", "sessions", "info" };
	char line[120];
	struct held held;
	cpu_set_t before;
	size_t i;

	if (access(HOLD, W_OK) || sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		skip("nothing waits for a lock", HOLD " needs root, and a second processor");
		return;
	}
	sched_getaffinity(0, sizeof(before), &before);
	pin_to(0);
	for (i = 0; i < sizeof(locks) / sizeof(locks[0]); i++) {
		held = while_held(locks[i], start_like_a_process);
		snprintf(line, sizeof(line), "open, read, INFO, mmap and close do not wait for %s (%d ms of %d)",
			 locks[i], held.longest, held.total);
		report(held.total >= HELD_MS_LEAST && !waited(held), line);
	}
	/* Else the four above would show nothing. */
	held = while_held("sessions", read_state);
	snprintf(line, sizeof(line), "what takes a lock that is held waits (%d ms of %d)", held.longest, held.total);
	report(held.total >= HELD_MS_LEAST && waited(held), line);
	sched_setaffinity(0, sizeof(before), &before);
}

static void test_refusals(void)
{
	int file = open_device();
	struct vcompute_session_create create_bad = { .length = SESSION_BYTES, .reserved = 1 };
	struct pollfd poller = { .fd = file, .events = POLLIN };
	uint32_t region;

	expect("an unknown ioctl", call(file, _IO(VCOMPUTE_IOCTL_TYPE, 99), NULL), -ENOTTY);
	expect("INFO to a bad address", call(file, VCOMPUTE_IOCTL_INFO, (void *)8), -EFAULT);
	expect("KICK without a session", kick(file), -ENOTCONN);
	expect("WAIT without a session", wait_word(file, 0, 0, 0), -ENOTCONN);
	expect("MAP without a session", map(file, 0x10000, PAGE, &region), -ENOTCONN);
	report(map_region_at(file, 0, NULL, PAGE, 0) == MAP_FAILED && errno == ENOTCONN, "mmap without a session");
	report(poll(&poller, 1, 0) == 1 && poller.revents & POLLERR, "poll without a session reports an error");
	expect("a session of length 0", create(file, 0), -EINVAL);
	expect("a session of odd length", create(file, 4097), -EINVAL);
	expect("a session that is too long", create(file, VIRTIO_COMPUTE_MAX_SESSION_BYTES + PAGE), -EINVAL);
	expect("a reserved field", call(file, VCOMPUTE_IOCTL_SESSION_CREATE, &create_bad), -EINVAL);
	create_bad.reserved = 0;
	create_bad.options.flags = 1u << 31;
	expect("an unknown option", call(file, VCOMPUTE_IOCTL_SESSION_CREATE, &create_bad), -EINVAL);
	close(file);
}

static void on_signal(int number)
{
	(void)number;
}

static void test_session(void)
{
	int file = open_device();
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct pollfd poller = { .fd = file, .events = POLLIN };
	volatile uint32_t *memory;
	double begun;
	bool zero = true;
	size_t i;

	expect("SESSION_CREATE", create(file, SESSION_BYTES), 0);
	expect("a second session", create(file, SESSION_BYTES), -EEXIST);
	memory = map_region_at(file, 0, NULL, SESSION_BYTES, 0);
	report(memory != MAP_FAILED, "session memory can be mapped");
	for (i = 0; i < SESSION_BYTES / 4; i++)
		zero = zero && !memory[i];
	report(zero, "session memory is zeroed");
	report(map_region_at(file, 0, NULL, SESSION_BYTES + PAGE, 0) == MAP_FAILED && errno == EINVAL,
	       "no more than session memory can be mapped");
	report(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, VCOMPUTE_MMAP_REGION) == MAP_FAILED &&
	       errno == EINVAL, "session memory cannot be mapped privately");
	report(map_region_at(file, 77, NULL, PAGE, 0) == MAP_FAILED && errno == ENOENT, "an unknown region");
	report(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 4096) == MAP_FAILED && errno == EINVAL,
	       "an unknown offset");

	memory[2048] = 7;
	expect("WAIT for a word that differs", wait_word(file, 8192, 6, 1000000000), 0);
	begun = now();
	expect("WAIT for a word that stays", wait_word(file, 8192, 7, 20000000), -ETIMEDOUT);
	report(now() - begun >= 0.019, "WAIT waits as long as it was told");
	begun = now();
	expect("WAIT for ever", wait_word(file, 8192, 7, ~0ull), -ETIMEDOUT);
	report(now() - begun > 0.9 && now() - begun < 5, "WAIT is capped at one second");
	expect("WAIT at an odd offset", wait_word(file, 8193, 7, 0), -EINVAL);
	expect("WAIT beyond session memory", wait_word(file, SESSION_BYTES, 7, 0), -EINVAL);
	expect("WAIT far beyond session memory", wait_word(file, ~3ull, 7, 0), -EINVAL);
	sigaction(SIGALRM, &action, NULL);
	ualarm(20000, 0);
	expect("WAIT and a signal", wait_word(file, 8192, 7, 900000000), -EINTR);

	report(poll(&poller, 1, 0) == 0, "poll reports nothing at first");
	memory[18] = 1; /* pending_events */
	report(poll(&poller, 1, 0) == 1 && poller.revents == POLLIN, "poll reports a pending event");

	report(!madvise((void *)memory, SESSION_BYTES, MADV_DONTNEED) && memory[2048] == 7,
	       "MADV_DONTNEED loses nothing");
	if (!fork()) {
		/* Not inherited: the child must not be able to touch the parent's lanes. */
		signal(SIGSEGV, SIG_DFL);
		memory[2048] = 8;
		_exit(0);
	} else {
		int status;

		wait(&status);
		report(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "session memory is not inherited");
	}
	close(file);
	report(memory[2048] == 7, "a mapping outlives its file");
	munmap((void *)memory, SESSION_BYTES);
}

static void test_regions(void)
{
	int file = open_device(), target;
	size_t length = 8ul << 20;
	volatile uint64_t *memory;
	uint32_t region, other;
	void *address;
	int status;

	expect("SESSION_CREATE", create(file, SESSION_BYTES), 0);
	address = reserve(length);
	expect("MAP at an odd address", map(file, (uintptr_t)address + 1, length, &region), -EINVAL);
	expect("MAP of nothing", map(file, (uintptr_t)address, 0, &region), -EINVAL);
	expect("MAP beyond the address space", map(file, 1ul << 63, length, &region), -EINVAL);
	expect("MAP of more than there may be", map(file, (uintptr_t)address, 1ull << 36, &region), -EDQUOT);
	expect("MAP", map(file, (uintptr_t)address, length, &region), 0);
	memory = map_region_at(file, region, address, length, MAP_FIXED);
	report(memory == address, "a region can be mapped at its address");
	memory[12345] = 1;
	fflush(stdout);
	if (!fork()) {
		memory[12345]++;
		_exit(0);
	}
	wait(&status);
	report(memory[12345] == 2, "a child inherits the region, as shared memory");

	target = open("/tmp/direct", O_RDWR | O_CREAT, 0600);
	report(pwrite(target, (void *)memory, 1 << 20, 0) == 1 << 20 &&
	       pread(target, (void *)memory, 1 << 20, 0) == 1 << 20, "other system calls can use the region");
	close(target);
	unlink("/tmp/direct");

	expect("UNMAP", unmap(file, region), 0);
	expect("UNMAP again", unmap(file, region), -ENOENT);
	expect("UNMAP of session memory", unmap(file, 0), -EINVAL);
	report(memory[12345] == 2, "the mapping outlives the region");
	report(map_region_at(file, region, NULL, PAGE, 0) == MAP_FAILED && errno == ENOENT, "the region is gone");
	munmap(address, length);

	address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	expect("REGISTER of untouched memory", reg(file, address, length, 0, &region), 0);
	report(map_region_at(file, region, NULL, PAGE, 0) == MAP_FAILED && errno == ENOENT,
	       "registered memory cannot be mapped again");
	expect("REGISTER with an unknown flag", reg(file, address, length, 8, &other), -EINVAL);
	expect("REGISTER of a part of a page", reg(file, address, 100, 0, &other), -EINVAL);
	expect("UNMAP of registered memory", unmap(file, region), 0);
	mprotect(address, length, PROT_READ);
	expect("REGISTER of memory that cannot be written", reg(file, address, length, 0, &region), 0);
	expect("UNMAP of it", unmap(file, region), 0);
	munmap(address, length);
	address = mmap(NULL, length, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	expect("REGISTER of untouched memory that cannot be written", reg(file, address, length, 0, &region), 0);
	expect("UNMAP of it", unmap(file, region), 0);
	munmap(address, length);
	expect("REGISTER of nothing", reg(file, address, length, 0, &region), -EFAULT);

	target = memfd_create("shared", 0);
	if (ftruncate(target, length))
		perror("ftruncate");
	address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, target, 0);
	close(target);
	expect("REGISTER of shared memory", reg(file, address, length, 0, &region), 0);
	munmap(address, length);
	/* The rest is left to close(). */
	close(file);
}

static void *wait_long(void *argument)
{
	return (void *)wait_word(*(int *)argument, 8192, 0, 1000000000);
}

static void test_dead_session_wakes(void)
{
	int file = open_device(), status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		pthread_t threads[4];
		int i;

		create(file, SESSION_BYTES);
		for (i = 0; i < 4; i++)
			pthread_create(&threads[i], NULL, wait_long, &file);
		poll(NULL, 0, 50);
		raise(SIGKILL);
	}
	waitpid(child, &status, 0);
	report(WIFSIGNALED(status), "a process with sleeping threads can be killed");
	close(file);
}

/* A child that outlives its parent, with the file and a mapping: the session must not outlive the parent. */
static void test_children_do_not_keep_the_session(void)
{
	int file = -1, ready[2], go[2], status;
	struct pollfd poller = { .events = POLLIN };
	char byte = 0;
	pid_t parent;

	if (pipe(ready) || pipe(go))
		exit(2);
	fflush(stdout);
	parent = fork();
	if (!parent) {
		void *address = reserve(PAGE);
		uint32_t region;

		file = open_device();
		if (create(file, SESSION_BYTES) || map(file, (uintptr_t)address, PAGE, &region))
			_exit(1);
		map_region_at(file, region, address, PAGE, MAP_FIXED);
		if (!fork()) {
			poller.fd = file;
			byte = read(go[0], &byte, 1) == 1 && poll(&poller, 1, 5000) == 1 &&
			       poller.revents & POLLHUP;
			_exit(write(ready[1], &byte, 1) != 1);
		}
		raise(SIGKILL);
	}
	waitpid(parent, &status, 0);
	report(WIFSIGNALED(status) && write(go[1], "g", 1) == 1 && read(ready[0], &byte, 1) == 1 && byte,
	       "a killed process's session ends though its child has the file");
	close(ready[0]);
	close(ready[1]);
	close(go[0]);
	close(go[1]);
}

/* What a killed process may have been doing. Never returns. */
static void work_at_random(unsigned int seed)
{
	struct { uint32_t number; void *address; size_t length; } regions[16];
	int file, count;

	srandom(seed);
	for (;;) {
		count = 0;
		file = open_device();
		if (create(file, PAGE << (random() % 12))) {
			close(file);
			continue;
		}
		for (int step = random() % 60; step; step--) {
			size_t length = PAGE * (1 + random() % (random() % 4 ? 64 : 4096));
			void *address;

			switch (random() % 8) {
			case 0:
			case 1:
				if (count == 16)
					break;
				address = reserve(length);
				if (!map(file, (uintptr_t)address, length, &regions[count].number)) {
					if (map_region_at(file, regions[count].number, address, length, MAP_FIXED) !=
					    MAP_FAILED)
						memset(address, 1, length);
					regions[count].address = address;
					regions[count++].length = length;
				} else {
					munmap(address, length);
				}
				break;
			case 2:
			case 3:
				if (count == 16)
					break;
				address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
				if (random() % 2)
					for (size_t at = 0; at < length; at += PAGE * (1 + random() % 3))
						((char *)address)[at] = 1;
				if (!reg(file, address, length, random() % 2, &regions[count].number)) {
					regions[count].address = address;
					regions[count++].length = length;
				} else {
					munmap(address, length);
				}
				break;
			case 4:
				if (!count)
					break;
				count--;
				if (random() % 2)
					munmap(regions[count].address, regions[count].length);
				unmap(file, regions[count].number);
				munmap(regions[count].address, regions[count].length);
				break;
			case 5:
				kick(file);
				break;
			case 6:
				wait_word(file, 64, 0, 1000 * (random() % 3000));
				break;
			case 7:
				if (random() % 8 == 0 && !fork()) {
					if (random() % 2)
						poll(NULL, 0, random() % 20);
					_exit(0);
				}
				while (waitpid(-1, NULL, WNOHANG) > 0)
					;
				break;
			}
		}
		while (count) {
			count--;
			munmap(regions[count].address, regions[count].length);
		}
		close(file);
	}
}

static void test_random_deaths(int seconds)
{
	enum { WORKERS = 6 };
	pid_t workers[WORKERS] = {};
	double end = now() + seconds;
	unsigned int seed = 1, deaths = 0;
	char line[80];

	fflush(stdout);
	while (now() < end) {
		int i = random() % WORKERS;

		if (workers[i]) {
			kill(workers[i], SIGKILL);
			waitpid(workers[i], NULL, 0);
			deaths++;
		}
		workers[i] = fork();
		if (!workers[i]) {
			/* What it has forked dies with it. */
			setpgid(0, 0);
			work_at_random(seed);
		}
		seed++;
		poll(NULL, 0, random() % 60);
	}
	for (int i = 0; i < WORKERS; i++) {
		if (workers[i]) {
			kill(-workers[i], SIGKILL);
			kill(workers[i], SIGKILL);
			waitpid(workers[i], NULL, 0);
			deaths++;
		}
	}
	snprintf(line, sizeof(line), "%u processes were killed at random moments", deaths);
	report(deaths > 0, line);
}

static bool read_counts(char *text, size_t size)
{
	int file = open(COUNTS, O_RDONLY);
	ssize_t length = file < 0 ? -1 : read(file, text, size - 1);

	if (file >= 0)
		close(file);
	if (length < 0)
		return false;
	text[length] = 0;
	return true;
}

/* Sessions of killed processes end when the device has answered: that may take a moment. */
static void test_nothing_is_left(const char *before)
{
	char after[512] = "";
	double end = now() + 20;

	while (now() < end) {
		read_counts(after, sizeof(after));
		if (!strcmp(before, after))
			break;
		poll(NULL, 0, 10);
	}
	report(!strcmp(before, after), "the module holds what it held before");
	if (strcmp(before, after))
		printf("before:\n%safter:\n%s", before, after);
}

int main(int argc, char **argv)
{
	int seconds = argc > 1 ? atoi(argv[1]) : 5;
	char before[512];
	bool counted;
	int file;

	file = open_device();
	wait_until_ready(file);
	counted = read_counts(before, sizeof(before));
	test_information(file);
	test_read();
	test_status();
	test_shim_parameter();
	test_no_lock_is_waited_for();
	test_refusals();
	test_session();
	test_regions();
	test_dead_session_wakes();
	test_children_do_not_keep_the_session();
	test_random_deaths(seconds);
	if (counted)
		test_nothing_is_left(before);
	else
		skip("the module holds what it held before", COUNTS " needs root and debugfs");
	printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed ? 1 : 0;
}
