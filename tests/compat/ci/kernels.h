// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
// What kernels and host compute alike.
#pragma once

#define BLOCK 128

#ifdef __CUDA_ARCH__
#define BOTH static inline __attribute__((device, always_inline))
#elif defined(__CUDA__)
#define BOTH static inline __attribute__((host, device))
#else
#define BOTH static inline
#endif

struct settings {
    int factor;
    double half;
    char letters[13];
    short small;
};

BOTH int digit_of(int value)
{
    return (value < 0 ? -value : value) % 10;
}

BOTH long long mixed(struct settings settings, unsigned index)
{
    unsigned local[16];
    for (unsigned i = 0; i < 16; i++)
        local[i] = i * settings.factor + index;
    for (unsigned i = 0; i < 16; i++)
        local[(i * 7 + index) & 15] ^= local[i] << (i & 3);
    long long sum = settings.small;
    for (unsigned i = 0; i < 16; i++)
        sum = sum * 31 + local[i];
    switch (index & 7) {
    case 0: sum /= 3; break;
    case 1: sum %= 1009; break;
    case 2: sum >>= 5; break;
    case 3: sum = ~sum; break;
    case 4: sum *= settings.letters[index % 13]; break;
    case 5: sum += (long long)(settings.half * index); break;
    case 6: sum ^= (long long)((unsigned __int128)(unsigned long long)sum * 0x9E3779B97F4A7C15ull >> 64); break;
    default: sum = -sum; break;
    }
    return sum;
}
