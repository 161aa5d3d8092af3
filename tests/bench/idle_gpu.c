/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A CUDA driver that is the one in software, but does a launch at once and where it is called: what then remains of a
 * launch through the device is the way to the driver. It is linked with libsoft_gpu.so, which has all other functions.
 */
#include <stdint.h>
#include <stddef.h>

#define PARAMETERS_POINTER ((void *)1) /* CU_LAUNCH_PARAM_BUFFER_POINTER */

/* Of the benchmark's two kernels, the one that counts has a parameter, the counter's address in this process. */
static uint32_t *counter_of(void **parameters, void **extra)
{
	if (parameters != NULL)
		return *(uint32_t **)parameters[0];
	for (; extra != NULL && extra[0] != NULL; extra += 2)
		if (extra[0] == PARAMETERS_POINTER && extra[1] != NULL)
			return *(uint32_t **)extra[1];
	return NULL;
}

int cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
		   unsigned block_z, unsigned shared_bytes, void *stream, void **parameters, void **extra)
{
	uint32_t *counter = counter_of(parameters, extra);

	(void)function, (void)grid_x, (void)grid_y, (void)grid_z, (void)block_x, (void)block_y, (void)block_z;
	(void)shared_bytes, (void)stream;
	if (counter != NULL)
		__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
	return 0;
}
