"""What pynvml says, compared with what CUDA says. Run by guest-nvml/tests/clients.rs."""
import ctypes
import os
import time
import uuid

import pynvml as nvml

cuda = ctypes.CDLL("libcuda.so.1")


def check(result):
    assert result == 0, f"CUDA error {result}"


check(cuda.cuInit(0))
device, context = ctypes.c_int(), ctypes.c_void_p()
check(cuda.cuDeviceGet(ctypes.byref(device), 0))
name = ctypes.create_string_buffer(256)
check(cuda.cuDeviceGetName(name, 256, device))
identity = (ctypes.c_ubyte * 16)()
check(cuda.cuDeviceGetUuid(identity, device))
total = ctypes.c_size_t()
check(cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device))
place = ctypes.create_string_buffer(32)
check(cuda.cuDeviceGetPCIBusId(place, 32, device))
version = ctypes.c_int()
check(cuda.cuDriverGetVersion(ctypes.byref(version)))

try:
    nvml.nvmlDeviceGetCount()
    raise AssertionError("answered before it was initialised")
except nvml.NVMLError_Uninitialized:
    pass

nvml.nvmlInit()
handle = nvml.nvmlDeviceGetHandleByIndex(0)
assert nvml.nvmlDeviceGetName(handle) == name.value.decode()
assert nvml.nvmlDeviceGetUUID(handle) == f"GPU-{uuid.UUID(bytes=bytes(identity))}"
assert nvml.nvmlDeviceGetMemoryInfo(handle).total == total.value
assert nvml.nvmlDeviceGetPciInfo(handle).busId.lower() == "0000" + place.value.decode().lower()
assert nvml.nvmlSystemGetCudaDriverVersion() == version.value
assert int(nvml.nvmlSystemGetDriverVersion().split(".")[0]) >= 500
for found in (
    nvml.nvmlDeviceGetHandleByUUID(nvml.nvmlDeviceGetUUID(handle)),
    nvml.nvmlDeviceGetHandleByPciBusId(place.value.decode()),
):
    assert nvml.nvmlDeviceGetIndex(found) == 0

assert nvml.nvmlDeviceGetComputeRunningProcesses(handle) == [], "reading makes no session"
check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
# The list is that of a moment ago at most; it comes to hold this process.
limit = time.monotonic() + 20
while os.getpid() not in [p.pid for p in nvml.nvmlDeviceGetComputeRunningProcesses(handle)]:
    assert time.monotonic() < limit, "the process is not listed"
memory = nvml.nvmlDeviceGetMemoryInfo(handle)
assert 0 < memory.free <= memory.total and memory.free + memory.used == memory.total
assert 0 <= nvml.nvmlDeviceGetUtilizationRates(handle).gpu <= 100
try:
    nvml.nvmlDeviceGetSerial(handle)
    raise AssertionError("a guest has no serial number")
except nvml.NVMLError_NotSupported:
    pass
nvml.nvmlShutdown()
print("pynvml agrees with CUDA")
