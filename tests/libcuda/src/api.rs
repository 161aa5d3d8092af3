//! The functions that the suite calls, with the signatures of CUDA's documentation.
//!
//! This file has unsafe code: it calls the library.

use std::ffi::{c_char, c_void};
use std::path::Path;

use anyhow::{Context, Result};
use cudarc::driver::sys;
use libloading::Library;

use super::code::{Code, SYMBOL_MISSING};
use super::graph::{AllocationNode, AnyNode, HostNode, KernelNode, MemsetNode, OperationsNode, UpdateInfo};
use super::structures::{
    BoxCopy, CopyAttributes, IpcHandle, MemoryAccess, MemoryLocation, MemoryProperties, PoolProperties,
};

/// Any of CUDA's opaque handles.
pub type Handle = usize;
/// A device's ordinal handle.
pub type Device = i32;
/// A device address.
pub type Ptr = u64;
/// A function that the driver calls for a stream.
pub type HostFunction = unsafe extern "C" fn(*mut c_void);
/// A callback that the driver calls for a stream, with the stream and its status.
pub type StreamCallback = unsafe extern "C" fn(Handle, i32, *mut c_void);
/// Dynamic shared memory for a block size.
pub type OccupancySize = unsafe extern "C" fn(i32) -> usize;

/// `CUctxCreateParams`, which is younger than the type crate's CUDA version on some drivers.
#[repr(C)]
#[derive(Debug)]
pub struct CtxCreateParams {
    /// `execAffinityParams`.
    pub affinity: *mut c_void,
    /// `numExecAffinityParams`.
    pub affinity_count: i32,
    /// `cigParams`.
    pub cig: *mut c_void,
}

/// The name under which programs ask the loader for the library.
pub(crate) const LIBRARY_NAME: &str = "libcuda.so.1";

macro_rules! api {
    ($($symbol:ident($($argument:ident: $kind:ty),* $(,)?);)*) => {
        /// The functions of the library under test; one that is absent answers "symbol missing".
        #[allow(non_snake_case, reason = "CUDA's own names")]
        #[derive(Debug)]
        pub struct Driver {
            library: Library,
            $($symbol: Option<unsafe extern "C" fn($($kind),*) -> i32>,)*
        }

        #[allow(non_snake_case, clippy::too_many_arguments, dead_code, reason = "CUDA's own names and shapes")]
        impl Driver {
            /// Opens the library and looks up every function.
            ///
            /// # Errors
            /// When the dynamic loader cannot load it.
            pub fn open(path: &Path) -> Result<Self> {
                // SAFETY: what the library's constructors do is part of what is tested.
                let library = unsafe { Library::new(path) }
                    .with_context(|| format!("the CUDA driver library {}", path.display()))?;
                $(
                    // SAFETY: the signature is the documented one of this symbol.
                    let $symbol = unsafe { library.get(concat!(stringify!($symbol), "\0").as_bytes()) }
                        .ok()
                        .map(|symbol: libloading::Symbol<'_, unsafe extern "C" fn($($kind),*) -> i32>| *symbol);
                )*
                Ok(Self { library, $($symbol,)* })
            }

            /// The library itself.
            pub fn library(&self) -> &Library {
                &self.library
            }

            $(
                /// The driver function of this name.
                pub fn $symbol(&self, $($argument: $kind),*) -> Code {
                    match self.$symbol {
                        // SAFETY: the signature is the documented one. What the driver does with the
                        // values is what the case, in a process of its own, wants to know.
                        Some(function) => Code(unsafe { function($($argument),*) }),
                        None => SYMBOL_MISSING,
                    }
                }
            )*
        }
    };
}

api! {
    // Initialization, versions, errors
    cuInit(flags: u32);
    cuDriverGetVersion(version: *mut i32);
    cuGetErrorName(code: i32, text: *mut *const c_char);
    cuGetErrorString(code: i32, text: *mut *const c_char);
    cuGetProcAddress(symbol: *const c_char, function: *mut usize, version: i32, flags: u64);
    cuGetProcAddress_v2(symbol: *const c_char, function: *mut usize, version: i32, flags: u64, status: *mut u32);
    cuGetExportTable(table: *mut *const c_void, id: *const sys::CUuuid);
    // Devices
    cuDeviceGet(device: *mut Device, ordinal: i32);
    cuDeviceGetCount(count: *mut i32);
    cuDeviceGetName(name: *mut c_char, length: i32, device: Device);
    cuDeviceGetUuid(uuid: *mut sys::CUuuid, device: Device);
    cuDeviceGetUuid_v2(uuid: *mut sys::CUuuid, device: Device);
    cuDeviceTotalMem_v2(bytes: *mut usize, device: Device);
    cuDeviceGetAttribute(value: *mut i32, attribute: i32, device: Device);
    cuDeviceComputeCapability(major: *mut i32, minor: *mut i32, device: Device);
    cuDeviceGetProperties(properties: *mut sys::CUdevprop, device: Device);
    cuDeviceGetPCIBusId(text: *mut c_char, length: i32, device: Device);
    cuDeviceGetByPCIBusId(device: *mut Device, text: *const c_char);
    cuDeviceCanAccessPeer(can: *mut i32, device: Device, peer: Device);
    cuCtxEnablePeerAccess(context: Handle, flags: u32);
    cuCtxDisablePeerAccess(context: Handle);
    // Contexts
    cuDevicePrimaryCtxRetain(context: *mut Handle, device: Device);
    cuDevicePrimaryCtxRelease_v2(device: Device);
    cuDevicePrimaryCtxReset_v2(device: Device);
    cuDevicePrimaryCtxSetFlags_v2(device: Device, flags: u32);
    cuDevicePrimaryCtxGetState(device: Device, flags: *mut u32, active: *mut i32);
    cuCtxCreate_v2(context: *mut Handle, flags: u32, device: Device);
    cuCtxCreate_v3(context: *mut Handle, affinity: *mut c_void, count: i32, flags: u32, device: Device);
    cuCtxCreate_v4(context: *mut Handle, parameters: *mut CtxCreateParams, flags: u32, device: Device);
    cuCtxDestroy_v2(context: Handle);
    cuCtxPushCurrent_v2(context: Handle);
    cuCtxPopCurrent_v2(context: *mut Handle);
    cuCtxSetCurrent(context: Handle);
    cuCtxGetCurrent(context: *mut Handle);
    cuCtxGetDevice(device: *mut Device);
    cuCtxGetDevice_v2(device: *mut Device, context: Handle);
    cuCtxGetFlags(flags: *mut u32);
    cuCtxSetFlags(flags: u32);
    cuCtxGetId(context: Handle, id: *mut u64);
    cuCtxSynchronize();
    cuCtxSynchronize_v2(context: Handle);
    cuCtxSetLimit(limit: i32, value: usize);
    cuCtxGetLimit(value: *mut usize, limit: i32);
    cuCtxGetCacheConfig(config: *mut i32);
    cuCtxSetCacheConfig(config: i32);
    cuCtxGetApiVersion(context: Handle, version: *mut u32);
    cuCtxGetStreamPriorityRange(least: *mut i32, greatest: *mut i32);
    cuCtxRecordEvent(context: Handle, event: Handle);
    cuCtxWaitEvent(context: Handle, event: Handle);
    // Memory
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
    cuMemAlloc_v2(pointer: *mut Ptr, bytes: usize);
    cuMemAllocPitch_v2(pointer: *mut Ptr, pitch: *mut usize, width: usize, height: usize, element: u32);
    cuMemFree_v2(pointer: Ptr);
    cuMemGetAddressRange_v2(base: *mut Ptr, bytes: *mut usize, pointer: Ptr);
    cuMemAllocHost_v2(pointer: *mut *mut c_void, bytes: usize);
    cuMemHostAlloc(pointer: *mut *mut c_void, bytes: usize, flags: u32);
    cuMemFreeHost(pointer: *mut c_void);
    cuMemAllocManaged(pointer: *mut Ptr, bytes: usize, flags: u32);
    cuMemAdvise(pointer: Ptr, bytes: usize, advice: u32, device: Device);
    cuMemPrefetchAsync(pointer: Ptr, bytes: usize, device: Device, stream: Handle);
    cuMemRangeGetAttribute(data: *mut c_void, size: usize, attribute: i32, pointer: Ptr, bytes: usize);
    cuStreamAttachMemAsync(stream: Handle, pointer: Ptr, bytes: usize, flags: u32);
    cuMemAllocAsync(pointer: *mut Ptr, bytes: usize, stream: Handle);
    cuMemFreeAsync(pointer: Ptr, stream: Handle);
    cuMemHostGetDevicePointer_v2(pointer: *mut Ptr, host: *mut c_void, flags: u32);
    cuMemHostGetFlags(flags: *mut u32, host: *mut c_void);
    cuMemHostRegister_v2(pointer: *mut c_void, bytes: usize, flags: u32);
    cuMemHostUnregister(pointer: *mut c_void);
    cuPointerGetAttribute(data: *mut c_void, attribute: i32, pointer: Ptr);
    cuPointerGetAttributes(count: u32, attributes: *mut i32, data: *mut *mut c_void, pointer: Ptr);
    cuPointerSetAttribute(data: *const c_void, attribute: i32, pointer: Ptr);
    // Pools
    cuDeviceGetDefaultMemPool(pool: *mut Handle, device: Device);
    cuDeviceGetMemPool(pool: *mut Handle, device: Device);
    cuDeviceSetMemPool(device: Device, pool: Handle);
    cuMemGetDefaultMemPool(pool: *mut Handle, location: *mut MemoryLocation, kind: u32);
    cuMemGetMemPool(pool: *mut Handle, location: *mut MemoryLocation, kind: u32);
    cuMemSetMemPool(location: *mut MemoryLocation, kind: u32, pool: Handle);
    cuMemPoolCreate(pool: *mut Handle, properties: *const PoolProperties);
    cuMemPoolDestroy(pool: Handle);
    cuMemPoolTrimTo(pool: Handle, bytes: usize);
    cuMemPoolGetAttribute(pool: Handle, attribute: u32, value: *mut c_void);
    cuMemPoolSetAttribute(pool: Handle, attribute: u32, value: *mut c_void);
    cuMemPoolSetAccess(pool: Handle, access: *const MemoryAccess, count: usize);
    cuMemPoolGetAccess(flags: *mut u32, pool: Handle, location: *const MemoryLocation);
    cuMemAllocFromPoolAsync(pointer: *mut Ptr, bytes: usize, pool: Handle, stream: Handle);
    // Tensor maps
    cuTensorMapEncodeTiled(
        map: *mut c_void, data_type: u32, rank: u32, address: *mut c_void, dimensions: *const u64,
        strides: *const u64, sizes: *const u32, steps: *const u32, interleave: u32, swizzle: u32, promotion: u32,
        fill: u32,
    );
    cuTensorMapEncodeIm2col(
        map: *mut c_void, data_type: u32, rank: u32, address: *mut c_void, dimensions: *const u64,
        strides: *const u64, lower: *const i32, upper: *const i32, channels: u32, pixels: u32, steps: *const u32,
        interleave: u32, swizzle: u32, promotion: u32, fill: u32,
    );
    cuTensorMapReplaceAddress(map: *mut c_void, address: *mut c_void);
    // Sharing between processes
    cuIpcGetMemHandle(handle: *mut IpcHandle, pointer: Ptr);
    cuIpcOpenMemHandle_v2(pointer: *mut Ptr, handle: IpcHandle, flags: u32);
    cuIpcCloseMemHandle(pointer: Ptr);
    cuIpcGetEventHandle(handle: *mut IpcHandle, event: Handle);
    cuIpcOpenEventHandle(event: *mut Handle, handle: IpcHandle);
    cuMemExportToShareableHandle(place: *mut c_void, handle: u64, kind: u32, flags: u64);
    cuMemImportFromShareableHandle(handle: *mut u64, os_handle: *mut c_void, kind: u32);
    cuMemPoolExportToShareableHandle(place: *mut c_void, pool: Handle, kind: u32, flags: u64);
    cuMemPoolImportFromShareableHandle(pool: *mut Handle, os_handle: *mut c_void, kind: u32, flags: u64);
    cuMemPoolExportPointer(data: *mut IpcHandle, pointer: Ptr);
    cuMemPoolImportPointer(pointer: *mut Ptr, pool: Handle, data: *mut IpcHandle);
    // Virtual memory management
    cuMemAddressReserve(pointer: *mut Ptr, bytes: usize, alignment: usize, hint: Ptr, flags: u64);
    cuMemAddressFree(pointer: Ptr, bytes: usize);
    cuMemCreate(handle: *mut u64, bytes: usize, properties: *const MemoryProperties, flags: u64);
    cuMemRelease(handle: u64);
    cuMemMap(pointer: Ptr, bytes: usize, offset: usize, handle: u64, flags: u64);
    cuMemUnmap(pointer: Ptr, bytes: usize);
    cuMemSetAccess(pointer: Ptr, bytes: usize, access: *const MemoryAccess, count: usize);
    cuMemGetAccess(flags: *mut u64, location: *const MemoryLocation, pointer: Ptr);
    cuMemGetAllocationGranularity(bytes: *mut usize, properties: *const MemoryProperties, option: u32);
    cuMemGetAllocationPropertiesFromHandle(properties: *mut MemoryProperties, handle: u64);
    cuMemRetainAllocationHandle(handle: *mut u64, address: *mut c_void);
    // Copies
    cuMemcpy(target: Ptr, source: Ptr, bytes: usize);
    cuMemcpyAsync(target: Ptr, source: Ptr, bytes: usize, stream: Handle);
    cuMemcpyHtoD_v2(target: Ptr, source: *const c_void, bytes: usize);
    cuMemcpyDtoH_v2(target: *mut c_void, source: Ptr, bytes: usize);
    cuMemcpyDtoD_v2(target: Ptr, source: Ptr, bytes: usize);
    cuMemcpyHtoDAsync_v2(target: Ptr, source: *const c_void, bytes: usize, stream: Handle);
    cuMemcpyDtoHAsync_v2(target: *mut c_void, source: Ptr, bytes: usize, stream: Handle);
    cuMemcpyDtoDAsync_v2(target: Ptr, source: Ptr, bytes: usize, stream: Handle);
    cuMemcpy2D_v2(copy: *const sys::CUDA_MEMCPY2D_st);
    cuMemcpy2DUnaligned_v2(copy: *const sys::CUDA_MEMCPY2D_st);
    cuMemcpy2DAsync_v2(copy: *const sys::CUDA_MEMCPY2D_st, stream: Handle);
    cuMemcpy3D_v2(copy: *const sys::CUDA_MEMCPY3D_st);
    cuMemcpy3DAsync_v2(copy: *const sys::CUDA_MEMCPY3D_st, stream: Handle);
    cuMemcpyBatchAsync_v2(
        to: *const Ptr, from: *const Ptr, sizes: *const usize, count: usize, attributes: *const CopyAttributes,
        indexes: *const usize, number: usize, stream: Handle,
    );
    cuMemcpy3DBatchAsync_v2(count: usize, copies: *const BoxCopy, flags: u64, stream: Handle);
    // Arrays, textures, surfaces
    cuArrayCreate_v2(array: *mut Handle, descriptor: *const c_void);
    cuArrayGetDescriptor_v2(descriptor: *mut c_void, array: Handle);
    cuArray3DCreate_v2(array: *mut Handle, descriptor: *const c_void);
    cuArray3DGetDescriptor_v2(descriptor: *mut c_void, array: Handle);
    cuArrayDestroy(array: Handle);
    cuMipmappedArrayCreate(array: *mut Handle, descriptor: *const c_void, levels: u32);
    cuMipmappedArrayGetLevel(level: *mut Handle, array: Handle, number: u32);
    cuMipmappedArrayDestroy(array: Handle);
    cuMemcpyAtoA_v2(to: Handle, to_offset: usize, from: Handle, from_offset: usize, bytes: usize);
    cuMemcpyAtoD_v2(to: Ptr, from: Handle, offset: usize, bytes: usize);
    cuMemcpyDtoA_v2(to: Handle, offset: usize, from: Ptr, bytes: usize);
    cuMemcpyAtoH_v2(to: *mut c_void, from: Handle, offset: usize, bytes: usize);
    cuMemcpyHtoA_v2(to: Handle, offset: usize, from: *const c_void, bytes: usize);
    cuMemcpyAtoHAsync_v2(to: *mut c_void, from: Handle, offset: usize, bytes: usize, stream: Handle);
    cuMemcpyHtoAAsync_v2(to: Handle, offset: usize, from: *const c_void, bytes: usize, stream: Handle);
    cuTexObjectCreate(texture: *mut u64, resource: *const c_void, sampling: *const c_void, view: *const c_void);
    cuTexObjectDestroy(texture: u64);
    cuTexObjectGetResourceDesc(resource: *mut c_void, texture: u64);
    cuTexObjectGetTextureDesc(sampling: *mut c_void, texture: u64);
    cuSurfObjectCreate(surface: *mut u64, resource: *const c_void);
    cuSurfObjectDestroy(surface: u64);
    cuSurfObjectGetResourceDesc(resource: *mut c_void, surface: u64);
    cuDeviceGetTexture1DLinearMaxWidth(width: *mut usize, format: u32, channels: u32, device: Device);
    cuMemcpyPeer(target: Ptr, target_context: Handle, source: Ptr, source_context: Handle, bytes: usize);
    cuMemsetD8_v2(target: Ptr, value: u8, count: usize);
    cuMemsetD16_v2(target: Ptr, value: u16, count: usize);
    cuMemsetD32_v2(target: Ptr, value: u32, count: usize);
    cuMemsetD8Async(target: Ptr, value: u8, count: usize, stream: Handle);
    cuMemsetD16Async(target: Ptr, value: u16, count: usize, stream: Handle);
    cuMemsetD32Async(target: Ptr, value: u32, count: usize, stream: Handle);
    cuMemsetD2D8_v2(target: Ptr, pitch: usize, value: u8, width: usize, height: usize);
    cuMemsetD2D16_v2(target: Ptr, pitch: usize, value: u16, width: usize, height: usize);
    cuMemsetD2D32_v2(target: Ptr, pitch: usize, value: u32, width: usize, height: usize);
    cuMemsetD2D32Async(target: Ptr, pitch: usize, value: u32, width: usize, height: usize, stream: Handle);
    // Per-thread default stream forms
    cuMemcpyHtoD_v2_ptds(target: Ptr, source: *const c_void, bytes: usize);
    cuMemcpyDtoH_v2_ptds(target: *mut c_void, source: Ptr, bytes: usize);
    cuMemcpyHtoDAsync_v2_ptsz(target: Ptr, source: *const c_void, bytes: usize, stream: Handle);
    cuMemsetD32Async_ptsz(target: Ptr, value: u32, count: usize, stream: Handle);
    cuStreamSynchronize_ptsz(stream: Handle);
    cuStreamQuery_ptsz(stream: Handle);
    cuStreamGetFlags_ptsz(stream: Handle, flags: *mut u32);
    cuStreamGetId_ptsz(stream: Handle, id: *mut u64);
    cuEventRecord_ptsz(event: Handle, stream: Handle);
    cuLaunchKernel_ptsz(
        function: Handle, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared: u32, stream: Handle,
        parameters: *mut *mut c_void, extra: *mut *mut c_void,
    );
    // Modules, libraries, linking
    cuModuleLoad(module: *mut Handle, path: *const c_char);
    cuModuleLoadData(module: *mut Handle, image: *const c_void);
    cuModuleLoadDataEx(
        module: *mut Handle, image: *const c_void, count: u32, options: *mut i32, values: *mut *mut c_void,
    );
    cuModuleLoadFatBinary(module: *mut Handle, image: *const c_void);
    cuModuleUnload(module: Handle);
    cuModuleGetLoadingMode(mode: *mut i32);
    cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char);
    cuModuleGetFunctionCount(count: *mut u32, module: Handle);
    cuModuleEnumerateFunctions(functions: *mut Handle, count: u32, module: Handle);
    cuModuleGetGlobal_v2(pointer: *mut Ptr, bytes: *mut usize, module: Handle, name: *const c_char);
    cuLinkCreate_v2(count: u32, options: *mut i32, values: *mut *mut c_void, state: *mut Handle);
    cuLinkAddData_v2(
        state: Handle, kind: i32, data: *mut c_void, bytes: usize, name: *const c_char, count: u32,
        options: *mut i32, values: *mut *mut c_void,
    );
    cuLinkAddFile_v2(
        state: Handle, kind: i32, path: *const c_char, count: u32, options: *mut i32, values: *mut *mut c_void,
    );
    cuLinkComplete(state: Handle, image: *mut *mut c_void, bytes: *mut usize);
    cuLinkDestroy(state: Handle);
    cuLibraryLoadData(
        library: *mut Handle, image: *const c_void, jit_options: *mut i32, jit_values: *mut *mut c_void,
        jit_count: u32, options: *mut i32, values: *mut *mut c_void, count: u32,
    );
    cuLibraryLoadFromFile(
        library: *mut Handle, path: *const c_char, jit_options: *mut i32, jit_values: *mut *mut c_void,
        jit_count: u32, options: *mut i32, values: *mut *mut c_void, count: u32,
    );
    cuLibraryUnload(library: Handle);
    cuLibraryGetKernel(kernel: *mut Handle, library: Handle, name: *const c_char);
    cuLibraryGetKernelCount(count: *mut u32, library: Handle);
    cuLibraryEnumerateKernels(kernels: *mut Handle, count: u32, library: Handle);
    cuLibraryGetModule(module: *mut Handle, library: Handle);
    cuLibraryGetGlobal(pointer: *mut Ptr, bytes: *mut usize, library: Handle, name: *const c_char);
    cuLibraryGetManaged(pointer: *mut Ptr, bytes: *mut usize, library: Handle, name: *const c_char);
    cuKernelGetFunction(function: *mut Handle, kernel: Handle);
    cuKernelGetLibrary(library: *mut Handle, kernel: Handle);
    cuKernelGetName(name: *mut *const c_char, kernel: Handle);
    cuKernelGetAttribute(value: *mut i32, attribute: i32, kernel: Handle, device: Device);
    cuKernelSetAttribute(attribute: i32, value: i32, kernel: Handle, device: Device);
    cuKernelGetParamInfo(kernel: Handle, index: usize, offset: *mut usize, bytes: *mut usize);
    // Functions and launches
    cuFuncGetAttribute(value: *mut i32, attribute: i32, function: Handle);
    cuFuncSetAttribute(function: Handle, attribute: i32, value: i32);
    cuFuncSetCacheConfig(function: Handle, config: i32);
    cuFuncGetModule(module: *mut Handle, function: Handle);
    cuFuncGetName(name: *mut *const c_char, function: Handle);
    cuFuncGetParamInfo(function: Handle, index: usize, offset: *mut usize, bytes: *mut usize);
    cuFuncIsLoaded(state: *mut i32, function: Handle);
    cuFuncLoad(function: Handle);
    cuLaunchKernel(
        function: Handle, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared: u32, stream: Handle,
        parameters: *mut *mut c_void, extra: *mut *mut c_void,
    );
    cuLaunchKernelEx(
        config: *const sys::CUlaunchConfig_st, function: Handle, parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    );
    cuLaunchCooperativeKernel(
        function: Handle, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared: u32, stream: Handle,
        parameters: *mut *mut c_void,
    );
    cuLaunchHostFunc(stream: Handle, function: HostFunction, data: *mut c_void);
    // Streams
    cuStreamCreate(stream: *mut Handle, flags: u32);
    cuStreamCreateWithPriority(stream: *mut Handle, flags: u32, priority: i32);
    cuStreamDestroy_v2(stream: Handle);
    cuStreamGetPriority(stream: Handle, priority: *mut i32);
    cuStreamGetFlags(stream: Handle, flags: *mut u32);
    cuStreamGetId(stream: Handle, id: *mut u64);
    cuStreamGetCtx(stream: Handle, context: *mut Handle);
    cuStreamGetDevice(stream: Handle, device: *mut Device);
    cuStreamWaitEvent(stream: Handle, event: Handle, flags: u32);
    cuStreamAddCallback(stream: Handle, callback: StreamCallback, data: *mut c_void, flags: u32);
    cuStreamQuery(stream: Handle);
    cuStreamSynchronize(stream: Handle);
    // Graphs and capture
    cuStreamBeginCapture_v2(stream: Handle, mode: i32);
    cuStreamBeginCaptureToGraph(
        stream: Handle, graph: Handle, after: *const Handle, edges: *const u64, count: usize, mode: i32,
    );
    cuStreamEndCapture(stream: Handle, graph: *mut Handle);
    cuStreamGetCaptureInfo_v2(
        stream: Handle, status: *mut i32, id: *mut u64, graph: *mut Handle, nodes: *mut *const Handle,
        count: *mut usize,
    );
    cuThreadExchangeStreamCaptureMode(mode: *mut i32);
    cuGraphCreate(graph: *mut Handle, flags: u32);
    cuGraphDestroy(graph: Handle);
    cuGraphClone(clone: *mut Handle, graph: Handle);
    cuGraphNodeFindInClone(node: *mut Handle, original: Handle, clone: Handle);
    cuGraphDestroyNode(node: Handle);
    cuGraphNodeGetType(node: Handle, kind: *mut i32);
    cuGraphGetNodes(graph: Handle, nodes: *mut Handle, count: *mut usize);
    cuGraphGetRootNodes(graph: Handle, nodes: *mut Handle, count: *mut usize);
    cuGraphGetEdges_v2(
        graph: Handle, from: *mut Handle, to: *mut Handle, edges: *mut u64, count: *mut usize,
    );
    cuGraphNodeGetDependencies_v2(node: Handle, nodes: *mut Handle, edges: *mut u64, count: *mut usize);
    cuGraphNodeGetDependentNodes_v2(node: Handle, nodes: *mut Handle, edges: *mut u64, count: *mut usize);
    cuGraphAddDependencies_v2(
        graph: Handle, from: *const Handle, to: *const Handle, edges: *const u64, count: usize,
    );
    cuGraphRemoveDependencies_v2(
        graph: Handle, from: *const Handle, to: *const Handle, edges: *const u64, count: usize,
    );
    cuGraphAddKernelNode_v2(
        node: *mut Handle, graph: Handle, after: *const Handle, count: usize, params: *const KernelNode,
    );
    cuGraphAddMemsetNode(
        node: *mut Handle, graph: Handle, after: *const Handle, count: usize, params: *const MemsetNode,
        context: Handle,
    );
    cuGraphAddMemcpyNode(
        node: *mut Handle, graph: Handle, after: *const Handle, count: usize,
        params: *const sys::CUDA_MEMCPY3D_st, context: Handle,
    );
    cuGraphMemcpyNodeGetParams(node: Handle, params: *mut sys::CUDA_MEMCPY3D_st);
    cuGraphMemcpyNodeSetParams(node: Handle, params: *const sys::CUDA_MEMCPY3D_st);
    cuGraphExecMemcpyNodeSetParams(
        exec: Handle, node: Handle, params: *const sys::CUDA_MEMCPY3D_st, context: Handle,
    );
    cuGraphAddHostNode(
        node: *mut Handle, graph: Handle, after: *const Handle, count: usize, params: *const HostNode,
    );
    cuGraphAddEmptyNode(node: *mut Handle, graph: Handle, after: *const Handle, count: usize);
    cuGraphAddChildGraphNode(node: *mut Handle, graph: Handle, after: *const Handle, count: usize, child: Handle);
    cuGraphAddEventRecordNode(
        node: *mut Handle, graph: Handle, after: *const Handle, count: usize, event: Handle,
    );
    cuGraphAddEventWaitNode(
        node: *mut Handle, graph: Handle, after: *const Handle, count: usize, event: Handle,
    );
    cuGraphAddMemAllocNode(
        node: *mut Handle, graph: Handle, after: *const Handle, count: usize, params: *mut AllocationNode,
    );
    cuGraphAddMemFreeNode(
        node: *mut Handle, graph: Handle, after: *const Handle, count: usize, pointer: Ptr,
    );
    cuGraphAddNode_v2(
        node: *mut Handle, graph: Handle, after: *const Handle, edges: *const u64, count: usize,
        params: *mut AnyNode,
    );
    cuGraphNodeSetParams(node: Handle, params: *mut AnyNode);
    cuGraphExecNodeSetParams(exec: Handle, node: Handle, params: *mut AnyNode);
    cuGraphMemAllocNodeGetParams(node: Handle, params: *mut AllocationNode);
    cuGraphMemFreeNodeGetParams(node: Handle, pointer: *mut Ptr);
    cuDeviceGetGraphMemAttribute(device: Device, attribute: u32, value: *mut c_void);
    cuDeviceSetGraphMemAttribute(device: Device, attribute: u32, value: *mut c_void);
    cuDeviceGraphMemTrim(device: Device);
    cuGraphChildGraphNodeGetGraph(node: Handle, graph: *mut Handle);
    cuGraphEventRecordNodeGetEvent(node: Handle, event: *mut Handle);
    cuGraphKernelNodeGetParams_v2(node: Handle, params: *mut KernelNode);
    cuGraphKernelNodeSetParams_v2(node: Handle, params: *const KernelNode);
    cuGraphExecKernelNodeSetParams_v2(exec: Handle, node: Handle, params: *const KernelNode);
    cuGraphMemsetNodeGetParams(node: Handle, params: *mut MemsetNode);
    cuGraphMemsetNodeSetParams(node: Handle, params: *const MemsetNode);
    cuGraphHostNodeSetParams(node: Handle, params: *const HostNode);
    cuGraphExecHostNodeSetParams(exec: Handle, node: Handle, params: *const HostNode);
    cuGraphHostNodeGetParams(node: Handle, params: *mut HostNode);
    cuGraphNodeSetEnabled(exec: Handle, node: Handle, enabled: u32);
    cuGraphNodeGetEnabled(exec: Handle, node: Handle, enabled: *mut u32);
    cuGraphInstantiateWithFlags(exec: *mut Handle, graph: Handle, flags: u64);
    cuGraphExecUpdate_v2(exec: Handle, graph: Handle, info: *mut UpdateInfo);
    cuGraphExecDestroy(exec: Handle);
    cuGraphLaunch(exec: Handle, stream: Handle);
    cuGraphUpload(exec: Handle, stream: Handle);
    cuGraphDebugDotPrint(graph: Handle, path: *const c_char, flags: u32);
    cuUserObjectCreate(object: *mut Handle, data: *mut c_void, destroy: HostFunction, count: u32, flags: u32);
    cuGraphRetainUserObject(graph: Handle, object: Handle, count: u32, flags: u32);
    cuStreamIsCapturing(stream: Handle, status: *mut i32);
    cuStreamWaitValue32_v2(stream: Handle, pointer: Ptr, value: u32, flags: u32);
    cuStreamWaitValue64_v2(stream: Handle, pointer: Ptr, value: u64, flags: u32);
    cuStreamWriteValue32_v2(stream: Handle, pointer: Ptr, value: u32, flags: u32);
    cuStreamWriteValue64_v2(stream: Handle, pointer: Ptr, value: u64, flags: u32);
    cuStreamBatchMemOp_v2(stream: Handle, count: u32, operations: *const c_void, flags: u32);
    cuStreamGetAttribute(stream: Handle, attribute: u32, value: *mut [u64; 8]);
    cuStreamSetAttribute(stream: Handle, attribute: u32, value: *const [u64; 8]);
    cuStreamCopyAttributes(to: Handle, from: Handle);
    cuStreamGetCtx_v2(stream: Handle, context: *mut Handle, green: *mut Handle);
    cuGraphAddBatchMemOpNode(
        node: *mut Handle, graph: Handle, after: *const Handle, count: usize, params: *const OperationsNode,
    );
    cuGraphBatchMemOpNodeGetParams(node: Handle, params: *mut OperationsNode);
    cuGraphBatchMemOpNodeSetParams(node: Handle, params: *const OperationsNode);
    cuGraphExecBatchMemOpNodeSetParams(exec: Handle, node: Handle, params: *const OperationsNode);
    cuGraphConditionalHandleCreate(handle: *mut u64, graph: Handle, context: Handle, value: u32, flags: u32);
    // Events
    cuEventCreate(event: *mut Handle, flags: u32);
    cuEventDestroy_v2(event: Handle);
    cuEventRecord(event: Handle, stream: Handle);
    cuEventRecordWithFlags(event: Handle, stream: Handle, flags: u32);
    cuEventQuery(event: Handle);
    cuEventSynchronize(event: Handle);
    cuEventElapsedTime(milliseconds: *mut f32, start: Handle, end: Handle);
    cuEventElapsedTime_v2(milliseconds: *mut f32, start: Handle, end: Handle);
    // Occupancy
    cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks: *mut i32, function: Handle, size: i32, shared: usize);
    cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: *mut i32, function: Handle, size: i32, shared: usize, flags: u32,
    );
    cuOccupancyMaxPotentialBlockSize(
        grid: *mut i32, block: *mut i32, function: Handle, dynamic: Option<OccupancySize>, shared: usize, limit: i32,
    );
    cuOccupancyAvailableDynamicSMemPerBlock(bytes: *mut usize, function: Handle, blocks: i32, size: i32);
}
