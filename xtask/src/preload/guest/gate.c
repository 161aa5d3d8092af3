/* A CUDA driver with a gate before cuInit: what the file GATE says happens to it. Everything else is the driver that
 * this library is linked with; whoever looks a function up here finds that driver's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

int cuInit(unsigned int flags);

int cuInit(unsigned int flags)
{
    int (*real)(unsigned int) = (int (*)(unsigned int))dlsym(RTLD_NEXT, "cuInit");
    const int file = open(GATE, O_RDONLY | O_CLOEXEC);
    char word = 0;

    if (file >= 0) {
        if (read(file, &word, 1) != 1)
            word = 0;
        close(file);
    }
    if (word == 'g') /* "gone": CUDA_ERROR_NO_DEVICE */
        return 100;
    while (word == 'h') /* "hang" */
        pause();
    return real ? real(flags) : 999;
}
