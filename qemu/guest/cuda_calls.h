/* What <cuda.h> declares of the calls used here, so that no CUDA toolkit is needed to build the programs. */
#ifndef CUDA_CALLS_H
#define CUDA_CALLS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
extern CUresult cuInit(unsigned int flags);
extern CUresult cuDriverGetVersion(int *version);
extern CUresult cuDeviceGetCount(int *count);
extern CUresult cuDeviceGet(CUdevice *device, int ordinal);
extern CUresult cuDeviceGetName(char *name, int length, CUdevice device);
extern CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device);
extern CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device);
extern CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device);
extern CUresult cuCtxSetCurrent(CUcontext context);
extern CUresult cuCtxSynchronize(void);
extern CUresult cuModuleLoadData(CUmodule *module, const void *image);
extern CUresult cuModuleUnload(CUmodule module);
extern CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name);
extern CUresult cuModuleGetGlobal_v2(CUdeviceptr *address, size_t *bytes, CUmodule module, const char *name);
extern CUresult cuMemGetInfo_v2(size_t *free, size_t *total);
extern CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes);
extern CUresult cuMemFree_v2(CUdeviceptr pointer);
extern CUresult cuMemcpyHtoD_v2(CUdeviceptr destination, const void *source, size_t bytes);
extern CUresult cuMemcpyDtoH_v2(void *destination, CUdeviceptr source, size_t bytes);
extern CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                               unsigned int block_x, unsigned int block_y, unsigned int block_z,
                               unsigned int shared_bytes, CUstream stream, void **parameters, void **extra);
extern CUresult cuStreamCreate(CUstream *stream, unsigned int flags);
extern CUresult cuStreamQuery(CUstream stream);
extern CUresult cuStreamSynchronize(CUstream stream);
extern CUresult cuMemcpyDtoHAsync_v2(void *destination, CUdeviceptr source, size_t bytes, CUstream stream);
extern CUresult cuMemHostAlloc(void **pointer, size_t bytes, unsigned int flags);
extern CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *pointer, void *host, unsigned int flags);
extern CUresult cuGetErrorName(CUresult error, const char **name);

/* Ends the program when a call fails. */
#define CHECK(call)                                                                                                    \
    do {                                                                                                               \
        CUresult result = (call);                                                                                      \
        if (result != 0) {                                                                                             \
            const char *name = NULL;                                                                                   \
            cuGetErrorName(result, &name);                                                                             \
            fprintf(stderr, "%s: error %d (%s)\n", #call, result, name ? name : "unknown");                            \
            exit(EXIT_FAILURE);                                                                                        \
        }                                                                                                              \
    } while (0)

#endif
