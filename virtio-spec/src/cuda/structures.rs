//! CUDA's structures, laid out as in cuda.h on a 64-bit machine.

use core::ffi::c_void;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{CUarray, CUdeviceptr, CUexecAffinityType, CUlaunchAttributeID, CUmemorytype, CUstream};
use crate::assert_layout;

/// 16 bytes that identify a device or a private table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CUuuid {
    /// The bytes, in memory order.
    pub bytes: [u8; 16],
}
assert_layout!(CUuuid, 16, bytes: 0);

/// Legacy device properties (`cuDeviceGetProperties`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUdevprop {
    pub maxThreadsPerBlock: i32,
    pub maxThreadsDim: [i32; 3],
    pub maxGridSize: [i32; 3],
    pub sharedMemPerBlock: i32,
    pub totalConstantMemory: i32,
    pub SIMDWidth: i32,
    pub memPitch: i32,
    pub regsPerBlock: i32,
    pub clockRate: i32,
    pub textureAlign: i32,
}
assert_layout!(CUdevprop, 56, textureAlign: 52);

macro_rules! copy_structure {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        #[allow(missing_docs, reason = "named as in CUDA's documentation")]
        pub struct $name { $(pub $field: $type,)* }
    };
}

copy_structure! {
    /// A 2D copy; sizes, offsets and pitches in bytes.
    CUDA_MEMCPY2D {
        srcXInBytes: usize, srcY: usize, srcMemoryType: CUmemorytype, srcHost: *const c_void,
        srcDevice: CUdeviceptr, srcArray: CUarray, srcPitch: usize,
        dstXInBytes: usize, dstY: usize, dstMemoryType: CUmemorytype, dstHost: *mut c_void,
        dstDevice: CUdeviceptr, dstArray: CUarray, dstPitch: usize,
        WidthInBytes: usize, Height: usize,
    }
}
assert_layout!(CUDA_MEMCPY2D, 128, srcHost: 24, srcPitch: 48, dstXInBytes: 56, dstPitch: 104, Height: 120);

copy_structure! {
    /// A 3D copy; sizes, offsets and pitches in bytes.
    CUDA_MEMCPY3D {
        srcXInBytes: usize, srcY: usize, srcZ: usize, srcLOD: usize, srcMemoryType: CUmemorytype,
        srcHost: *const c_void, srcDevice: CUdeviceptr, srcArray: CUarray, reserved0: *mut c_void,
        srcPitch: usize, srcHeight: usize,
        dstXInBytes: usize, dstY: usize, dstZ: usize, dstLOD: usize, dstMemoryType: CUmemorytype,
        dstHost: *mut c_void, dstDevice: CUdeviceptr, dstArray: CUarray, reserved1: *mut c_void,
        dstPitch: usize, dstHeight: usize,
        WidthInBytes: usize, Height: usize, Depth: usize,
    }
}
assert_layout!(CUDA_MEMCPY3D, 200, srcHost: 40, srcPitch: 72, dstXInBytes: 88, dstPitch: 160, Depth: 192);

copy_structure! {
    /// A 3D copy between contexts; sizes, offsets and pitches in bytes.
    CUDA_MEMCPY3D_PEER {
        srcXInBytes: usize, srcY: usize, srcZ: usize, srcLOD: usize, srcMemoryType: CUmemorytype,
        srcHost: *const c_void, srcDevice: CUdeviceptr, srcArray: CUarray, srcContext: super::CUcontext,
        srcPitch: usize, srcHeight: usize,
        dstXInBytes: usize, dstY: usize, dstZ: usize, dstLOD: usize, dstMemoryType: CUmemorytype,
        dstHost: *mut c_void, dstDevice: CUdeviceptr, dstArray: CUarray, dstContext: super::CUcontext,
        dstPitch: usize, dstHeight: usize,
        WidthInBytes: usize, Height: usize, Depth: usize,
    }
}
assert_layout!(CUDA_MEMCPY3D_PEER, 200, srcContext: 64, dstContext: 152, Depth: 192);

impl Default for CUDA_MEMCPY3D {
    fn default() -> Self {
        Self {
            srcXInBytes: 0,
            srcY: 0,
            srcZ: 0,
            srcLOD: 0,
            srcMemoryType: CUmemorytype::default(),
            srcHost: core::ptr::null(),
            srcDevice: CUdeviceptr::default(),
            srcArray: CUarray::default(),
            reserved0: core::ptr::null_mut(),
            srcPitch: 0,
            srcHeight: 0,
            dstXInBytes: 0,
            dstY: 0,
            dstZ: 0,
            dstLOD: 0,
            dstMemoryType: CUmemorytype::default(),
            dstHost: core::ptr::null_mut(),
            dstDevice: CUdeviceptr::default(),
            dstArray: CUarray::default(),
            reserved1: core::ptr::null_mut(),
            dstPitch: 0,
            dstHeight: 0,
            WidthInBytes: 0,
            Height: 0,
            Depth: 0,
        }
    }
}

/// One attribute of a launch: its identifier and a 64-byte union.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CUlaunchAttribute {
    /// Which attribute.
    pub id: CUlaunchAttributeID,
    /// Padding.
    pub pad: [u8; 4],
    /// `CUlaunchAttributeValue`.
    pub value: [u64; 8],
}
assert_layout!(CUlaunchAttribute, 72, id: 0, value: 8);

/// What `cuLaunchKernelEx` launches with.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUlaunchConfig {
    pub gridDimX: u32,
    pub gridDimY: u32,
    pub gridDimZ: u32,
    pub blockDimX: u32,
    pub blockDimY: u32,
    pub blockDimZ: u32,
    pub sharedMemBytes: u32,
    pub hStream: CUstream,
    pub attrs: *mut CUlaunchAttribute,
    pub numAttrs: u32,
}
assert_layout!(CUlaunchConfig, 56, sharedMemBytes: 24, hStream: 32, attrs: 40, numAttrs: 48);

/// Execution affinity of a context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CUexecAffinityParam {
    /// Which kind.
    pub kind: CUexecAffinityType,
    /// Number of multiprocessors.
    pub sm_count: u32,
}
assert_layout!(CUexecAffinityParam, 8, sm_count: 4);

/// What `cuCtxCreate_v4` is given besides flags.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUctxCreateParams {
    pub execAffinityParams: *mut CUexecAffinityParam,
    pub numExecAffinityParams: i32,
    pub cigParams: *mut c_void,
}
assert_layout!(CUctxCreateParams, 24, numExecAffinityParams: 8, cigParams: 16);

/// Ports and kind of an edge of a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUgraphEdgeData {
    pub from_port: u8,
    pub to_port: u8,
    pub kind: u8,
    pub reserved: [u8; 5],
}
assert_layout!(CUgraphEdgeData, 8, kind: 2);

/// Where memory lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CUmemLocation {
    /// `CUmemLocationType`: 1 a device, 2 the host, 3 a NUMA node of the host, 4 the thread's NUMA node.
    pub kind: u32,
    /// Ordinal of the device, or number of the node.
    pub id: i32,
}
assert_layout!(CUmemLocation, 8, id: 4);

/// One operation of `cuStreamBatchMemOp`: its number, then what that operation takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CUstreamBatchMemOpParams {
    /// `CUstreamBatchMemOpType`: 1 and 4 wait for a value, 2 and 5 write one, 3 flushes, 6 is a barrier.
    pub operation: u32,
    /// Flags of a flush or a barrier.
    pub flags: u32,
    /// Address of the value.
    pub address: u64,
    /// The value, of 32 or 64 bits.
    pub value: u64,
    /// `CUstreamWaitValue_flags` or `CUstreamWriteValue_flags`.
    pub value_flags: u32,
    /// Unused.
    pub padding: u32,
    /// For the driver's own use.
    pub alias: u64,
    /// Unused.
    pub rest: u64,
}
assert_layout!(CUstreamBatchMemOpParams, 48, flags: 4, address: 8, value: 16, value_flags: 24, alias: 32);

/// Callback that gives the dynamic shared memory of a block size (`cuOccupancyMaxPotentialBlockSize`).
pub type CUoccupancyB2DSize = Option<unsafe extern "C" fn(block_size: i32) -> usize>;
