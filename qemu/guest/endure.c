/* Makes every request that the device node knows, of a device that may answer anything or nothing, and prints what each
 * was answered. An error is an answer; only one that does not come in time is a failure.
 *
 *   endure LIMIT_MS        no request may take longer */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/vcompute.h>
#include <linux/virtio_compute.h>

enum { PAGE = 4096, SESSION_BYTES = 2 << 20, READY_MS = 1500 };
static double longest;

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static const char *name(long error)
{
    return error ? strerrorname_np((int)error) : "0";
}

/* One request: prints its name and its errno. */
static long ask(const char *what, int file, unsigned long command, void *argument)
{
    double begin = now();
    long error = ioctl(file, command, argument) ? errno : 0;
    double took = now() - begin;

    if (took > longest)
        longest = took;
    printf(" %s=%s", what, name(error));
    return error;
}

static int open_device(void)
{
    int file = open(VCOMPUTE_DEVICE_PATH, O_RDWR | O_CLOEXEC);

    if (file < 0) {
        printf("open=%s\n", name(errno));
        exit(EXIT_SUCCESS);
    }
    return file;
}

static void await_ready(int file)
{
    struct vcompute_info info = { 0 };
    double begin = now();
    void *page;

    do {
        if (ioctl(file, VCOMPUTE_IOCTL_INFO, &info) != 0)
            break;
    } while (info.state == VIRTIO_COMPUTE_STATE_STARTING && now() - begin < READY_MS && usleep(10000) == 0);
    printf("state=%u", info.state);
    page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, VCOMPUTE_MMAP_INFO);
    printf(" info=%s", page == MAP_FAILED ? name(errno) : "0");
}

static void status(int file)
{
    char *room = malloc(1 << 16);
    struct vcompute_status status = { .address = (uintptr_t)room, .length = 1 << 16 };

    ask("status", file, VCOMPUTE_IOCTL_STATUS, &status);
    free(room);
}

static long create(const char *what, int file)
{
    struct vcompute_session_create create = { .length = SESSION_BYTES };

    return ask(what, file, VCOMPUTE_IOCTL_SESSION_CREATE, &create);
}

/* Everything that one session can be asked for. */
static void use(int file)
{
    void *place = mmap(NULL, 16 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    void *pages = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct vcompute_map map = { .address = (uintptr_t)place, .length = 16 * PAGE };
    struct vcompute_register reg = { .address = (uintptr_t)pages, .length = 16 * PAGE };
    struct vcompute_wait wait = { .offset = PAGE, .expected = 0, .timeout_ns = 50000000 };
    struct vcompute_kick kick = { 0 };
    struct vcompute_unmap unmap = { 0 };
    uint64_t *memory = mmap(NULL, SESSION_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, VCOMPUTE_MMAP_REGION);

    memset(pages, 1, 16 * PAGE);
    ask("kick", file, VCOMPUTE_IOCTL_KICK, &kick);
    ask("kick", file, VCOMPUTE_IOCTL_KICK, &kick);
    ask("wait", file, VCOMPUTE_IOCTL_WAIT, &wait);
    if (ask("map", file, VCOMPUTE_IOCTL_MAP, &map) == 0) {
        unmap.region = map.region;
        ask("unmap", file, VCOMPUTE_IOCTL_UNMAP, &unmap);
    }
    if (ask("register", file, VCOMPUTE_IOCTL_REGISTER, &reg) == 0) {
        unmap.region = reg.region;
        ask("unmap", file, VCOMPUTE_IOCTL_UNMAP, &unmap);
    }
    if (memory != MAP_FAILED)
        munmap(memory, SESSION_BYTES);
}

int main(int argc, char **argv)
{
    double limit = argc > 1 ? atof(argv[1]) : 5000;
    int file = open_device(), other = open_device();
    double begin;

    await_ready(file);
    status(other);
    if (create("create", file) == 0)
        use(file);
    create("another", other);
    begin = now();
    close(file);
    close(other);
    printf(" close=%.0fms longest=%.0fms\n", now() - begin, longest);
    return longest <= limit && now() - begin <= limit ? EXIT_SUCCESS : EXIT_FAILURE;
}
