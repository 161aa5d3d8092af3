// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
// compat: about = runtime API: arrays, textures and surfaces
#include "check.h"

__global__ void read_texture(cudaTextureObject_t texture, float *out)
{
    int x = threadIdx.x, y = threadIdx.y;
    out[y * blockDim.x + x] = tex2D<float>(texture, x + 0.75f, y + 0.25f);
}

__global__ void write_surface(cudaSurfaceObject_t surface)
{
    surf2Dwrite<float>(threadIdx.x * 10.0f + threadIdx.y, surface, threadIdx.x * sizeof(float), threadIdx.y);
}

int main()
{
    const int width = 16, height = 8;
    float given[height][width], got[height][width], *device;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            given[y][x] = x + 100.0f * y;
    cudaArray_t array;
    cudaChannelFormatDesc format = cudaCreateChannelDesc<float>();
    CHECK(cudaMallocArray(&array, &format, width, height, cudaArraySurfaceLoadStore));
    CHECK(cudaMemcpy2DToArray(array, 0, 0, given, sizeof(given[0]), sizeof(given[0]), height, cudaMemcpyHostToDevice));
    cudaResourceDesc resource = {};
    resource.resType = cudaResourceTypeArray;
    resource.res.array.array = array;
    cudaTextureDesc sampling = {};
    sampling.addressMode[0] = sampling.addressMode[1] = cudaAddressModeClamp;
    sampling.filterMode = cudaFilterModeLinear;
    sampling.readMode = cudaReadModeElementType;
    cudaTextureObject_t texture;
    CHECK(cudaCreateTextureObject(&texture, &resource, &sampling, nullptr));
    CHECK(cudaMalloc(&device, sizeof(got)));
    read_texture<<<1, dim3(width, height)>>>(texture, device);
    CHECK(cudaMemcpy(got, device, sizeof(got), cudaMemcpyDeviceToHost));
    double total = 0;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            total += got[y][x] * (x + 1);
    printf("texture: %.3f\n", total);
    cudaSurfaceObject_t surface;
    CHECK(cudaCreateSurfaceObject(&surface, &resource));
    write_surface<<<1, dim3(width, height)>>>(surface);
    CHECK(cudaMemcpy2DFromArray(got, sizeof(got[0]), array, 0, 0, sizeof(got[0]), height, cudaMemcpyDeviceToHost));
    total = 0;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            total += got[y][x] * (y + 1);
    printf("surface: %.3f\n", total);
    CHECK(cudaDestroySurfaceObject(surface));
    CHECK(cudaDestroyTextureObject(texture));
    CHECK(cudaFreeArray(array));
    return 0;
}
