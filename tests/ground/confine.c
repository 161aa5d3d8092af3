// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * Which confinement a process that uses the GPU can live in, applied before it touches CUDA, one measure at a time and
 * then together. When the driver refuses, the process runs once more under ptrace, and the system calls that failed in
 * it are listed: they name what is missing.
 */
#define _GNU_SOURCE
#include "ground.h"
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

enum measures { USER = 1, NO_NEW_PRIVILEGES = 2, DUMPABLE = 4, FRESH_PROC = 8, CLOSE_FILES = 16 };

struct variant {
	const char *name;
	int namespaces;
	int measures;
};

static const struct variant variants[] = {
	{ "nothing", 0, 0 },
	{ "all other files closed", 0, CLOSE_FILES },
	{ "no_new_privs", 0, NO_NEW_PRIVILEGES },
	{ "user 65534", 0, USER },
	{ "user 65534, dumpable", 0, USER | DUMPABLE },
	{ "user 65534, no_new_privs", 0, USER | NO_NEW_PRIVILEGES },
	{ "ipc namespace", CLONE_NEWIPC, 0 },
	{ "net namespace", CLONE_NEWNET, 0 },
	{ "mount namespace", CLONE_NEWNS, 0 },
	{ "pid namespace, the parent's /proc", CLONE_NEWPID, 0 },
	{ "pid and mount namespaces, /proc of its own", CLONE_NEWPID | CLONE_NEWNS, FRESH_PROC },
	{ "user namespace", CLONE_NEWUSER, 0 },
	{ "all but the pid and user namespaces, user 65534, no_new_privs", CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS,
	  USER | NO_NEW_PRIVILEGES | CLOSE_FILES },
	{ "the same and dumpable", CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS,
	  USER | NO_NEW_PRIVILEGES | CLOSE_FILES | DUMPABLE },
	{ "the same, pid namespace, /proc of its own", CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID,
	  USER | NO_NEW_PRIVILEGES | CLOSE_FILES | DUMPABLE | FRESH_PROC },
};

static const struct variant *current;
static int traced;

/* Access to the device nodes as this process sees them. */
static void print_nodes(void)
{
	static const char *const nodes[] = { "/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-uvm", "/proc/self",
					     "/proc/self/ns/pid", "/proc/driver/nvidia/params" };
	unsigned int i;

	for (i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
		int file = open(nodes[i], i < 3 ? O_RDWR : O_RDONLY);

		if (file < 0)
			printf(" %s: %s;", nodes[i], strerror(errno));
		else
			close(file);
	}
}

static void use_gpu(void)
{
	double begin = now(), initialised;
	device_pointer memory;
	int result, value = 0;

	load_library();
	result = cuInit(0);
	initialised = now();
	if (result) {
		if (!traced) {
			printf("| %s | cuInit = %s;", current->name, code(result));
			print_nodes();
			printf(" |\n");
			fflush(stdout);
		}
		_exit(3);
	}
	if (traced)
		_exit(0);
	start();
	CHECK(cuMemAlloc_v2(&memory, 4096));
	CHECK(launch(store_kernel, NULL, memory));
	CHECK(cuMemcpyDtoH_v2(&value, memory, 4));
	printf("| %s | works (a kernel's result is %s); cuInit %.0f ms, all %.0f ms |\n", current->name,
	       value == 42 ? "right" : "wrong", (initialised - begin) * 1e3, (now() - begin) * 1e3);
	fflush(stdout);
	_exit(0);
}

static void fail(const char *step)
{
	printf("| %s | cannot be tried: %s: %s |\n", current->name, step, strerror(errno));
	fflush(stdout);
	_exit(1);
}

static void confine(void)
{
	const int measures = current->measures;

	if ((current->namespaces & CLONE_NEWNS) && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		fail("making mounts private");
	if ((measures & FRESH_PROC) && mount("proc", "/proc", "proc", 0, NULL))
		fail("mounting /proc");
	if ((measures & CLOSE_FILES) && syscall(SYS_close_range, 3, ~0U, 0))
		fail("close_range");
	if (measures & USER) {
		if (setgroups(0, NULL) || setgid(65534) || setuid(65534))
			fail("changing user");
		/* Another user's process has lost it. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	}
	if ((measures & DUMPABLE) && prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
		fail("PR_SET_DUMPABLE");
	if ((measures & NO_NEW_PRIVILEGES) && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		fail("PR_SET_NO_NEW_PRIVS");
	use_gpu();
}

/* The process to be confined: entered by fork, and once more where a pid namespace asks for a child. */
static void enter(void)
{
	int status;

	if (current->namespaces && unshare(current->namespaces))
		fail("unshare");
	if (current->namespaces & CLONE_NEWPID) {
		pid_t child = fork();

		if (child < 0)
			fail("fork");
		if (child) {
			waitpid(child, &status, 0);
			_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 4);
		}
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	}
	confine();
}

/* A text of the traced process; empty when it cannot be read. */
static void read_text(pid_t process, uint64_t address, char *text, size_t size)
{
	struct iovec here = { text, size - 1 };
	struct iovec there = { (void *)(uintptr_t)address, size - 1 };
	ssize_t length;

	/* A text near the end of its page is read up to there. */
	if ((address & 4095) + size > 4096)
		there.iov_len = 4096 - (address & 4095);
	length = process_vm_readv(process, &here, 1, &there, 1, 0);
	text[length < 0 ? 0 : length] = 0;
}

static void print_failure(pid_t process, uint64_t number, const uint64_t *arguments, int64_t result)
{
	char text[100] = "";

	switch (number) {
	case SYS_openat:
	case SYS_newfstatat:
	case SYS_readlinkat:
	case SYS_mknodat:
	case SYS_faccessat:
		read_text(process, arguments[1], text, sizeof(text));
		break;
	case SYS_open:
	case SYS_stat:
	case SYS_access:
	case SYS_readlink:
	case SYS_mkdir:
	case SYS_mknod:
	case SYS_execve:
		read_text(process, arguments[0], text, sizeof(text));
		break;
	case SYS_ioctl:
		snprintf(text, sizeof(text), "request %#lx", arguments[1]);
		break;
	}
	printf(" %lu(%s) = %s;", number, text, strerror((int)-result));
}

static void trace(void)
{
	/* What each thread entered last; a table by number suffices for the few threads there are. */
	static struct { uint64_t number, arguments[6]; } entered[64];
	struct __ptrace_syscall_info info;
	int status, started = 0, listed = 0;
	pid_t process, child = fork();

	if (child == 0) {
		traced = 1;
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		enter();
	}
	printf("| %s: system calls that failed (number, argument, error) |", current->name);
	while ((process = waitpid(-1, &status, __WALL)) > 0) {
		long pass = 0;

		if (!WIFSTOPPED(status))
			continue;
		if (!started) {
			ptrace(PTRACE_SETOPTIONS, process, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK |
			       PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL);
			started = 1;
		} else if (WSTOPSIG(status) == (SIGTRAP | 0x80) &&
			   ptrace(PTRACE_GET_SYSCALL_INFO, process, sizeof(info), &info) > 0) {
			if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
				entered[process % 64].number = info.entry.nr;
				memcpy(entered[process % 64].arguments, info.entry.args, sizeof(info.entry.args));
			} else if (info.op == PTRACE_SYSCALL_INFO_EXIT && info.exit.is_error && listed++ < 60) {
				print_failure(process, entered[process % 64].number,
					      entered[process % 64].arguments, info.exit.rval);
			}
		} else if (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP) {
			pass = WSTOPSIG(status);
		}
		ptrace(PTRACE_SYSCALL, process, 0, pass);
	}
	printf(" |\n");
}

static void variant(void)
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		enter();
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return;
	if (WIFSIGNALED(status))
		printf("| %s | ended by %s |\n", current->name, strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) == 3)
		trace();
}

int main(void)
{
	unsigned int i;

	table("Confinement of a process that uses the GPU");
	for (i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
		current = &variants[i];
		measure(current->name, variant, 12);
	}
	return 0;
}
