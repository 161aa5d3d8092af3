# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# compat: about = the driver by ctypes: device, memory, a kernel in PTX
import ctypes
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p

KERNEL = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry square(.param .u64 values, .param .u32 count)
{
    .reg .pred %p;
    .reg .u32 %i, %n, %b, %v;
    .reg .u64 %a, %o;
    ld.param.u64 %a, [values];
    ld.param.u32 %n, [count];
    mov.u32 %i, %ctaid.x;
    mov.u32 %b, %ntid.x;
    mov.u32 %v, %tid.x;
    mad.lo.u32 %i, %i, %b, %v;
    setp.ge.u32 %p, %i, %n;
    @%p ret;
    cvta.to.global.u64 %a, %a;
    mul.wide.u32 %o, %i, 4;
    add.u64 %a, %a, %o;
    ld.global.u32 %v, [%a];
    mul.lo.u32 %v, %v, %v;
    st.global.u32 [%a], %v;
    ret;
}
"""
COUNT = 100_000
cuda = ctypes.CDLL("libcuda.so.1")


def call(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code != 0:
        text = c_char_p()
        cuda.cuGetErrorName(code, byref(text))
        raise SystemExit(f"{name}: {text.value.decode()}")


device, context, module, function, pointer = c_int(), c_void_p(), c_void_p(), c_void_p(), c_uint64()
count = c_int(COUNT)
name, total = ctypes.create_string_buffer(100), c_size_t()
call("cuInit", 0)
call("cuDeviceGet", byref(device), 0)
call("cuDeviceGetName", name, 100, device)
call("cuDeviceTotalMem_v2", byref(total), device)
print("device", name.value.decode(), total.value >> 20, "MiB")
call("cuDevicePrimaryCtxRetain", byref(context), device)
call("cuCtxSetCurrent", context)
call("cuModuleLoadData", byref(module), KERNEL)
call("cuModuleGetFunction", byref(function), module, b"square")
values = (c_int * COUNT)(*range(COUNT))
call("cuMemAlloc_v2", byref(pointer), c_size_t(4 * COUNT))
call("cuMemcpyHtoD_v2", pointer, values, c_size_t(4 * COUNT))
parameters = (c_void_p * 2)(ctypes.addressof(pointer), ctypes.addressof(count))
call("cuLaunchKernel", function, (COUNT + 255) // 256, 1, 1, 256, 1, 1, 0, None, parameters, None)
call("cuMemcpyDtoH_v2", values, pointer, c_size_t(4 * COUNT))
print("right", all(value == ctypes.c_int(index * index).value for index, value in enumerate(values)))
call("cuMemFree_v2", pointer)
call("cuDevicePrimaryCtxRelease_v2", device)
