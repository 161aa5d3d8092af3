//! CUDA's structures with enumerations in them, as plain numbers: cases also pass values that no enumerator has.

use std::ffi::c_void;

/// `CUmemLocation`: its kind (1 is a device) and which one.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLocation {
    /// `type`.
    pub kind: u32,
    /// `id`.
    pub id: i32,
}

/// `CUmemAccessDesc`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MemoryAccess {
    /// `location`.
    pub location: MemoryLocation,
    /// `flags`: 0, 1 (read) or 3 (read and write).
    pub flags: u32,
}

/// `CUmemAllocationProp`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MemoryProperties {
    /// `type`: 1 is pinned.
    pub kind: u32,
    /// `requestedHandleTypes`.
    pub handle_types: u32,
    /// `location`.
    pub location: MemoryLocation,
    /// `win32HandleMetaData`.
    pub win32: *mut c_void,
    /// `allocFlags`.
    pub flags: [u8; 8],
}

/// `CUmemPoolProps`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PoolProperties {
    /// `allocType`: 1 is pinned.
    pub kind: u32,
    /// `handleTypes`.
    pub handle_types: u32,
    /// `location`.
    pub location: MemoryLocation,
    /// `win32SecurityAttributes`.
    pub win32: *mut c_void,
    /// `maxSize`.
    pub most: usize,
    /// `usage` and what is reserved.
    pub rest: [u8; 56],
}

/// `CUipcMemHandle` and `CUipcEventHandle`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpcHandle(pub [u8; 64]);

/// `CUmemcpyAttributes`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CopyAttributes {
    /// `srcAccessOrder`: 1 is the stream's, 2 during the call, 3 any.
    pub order: u32,
    /// `srcLocHint`.
    pub source: [u32; 2],
    /// `dstLocHint`.
    pub destination: [u32; 2],
    /// `flags`.
    pub flags: u32,
}

/// `CUmemcpy3DOperand`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct BoxSide {
    /// `type`: 1 is memory, 2 an array.
    pub kind: u32,
    /// Padding.
    pub pad: u32,
    /// The union: address, row and layer; or array and offsets.
    pub words: [u64; 4],
}

/// `CUDA_MEMCPY3D_BATCH_OP`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct BoxCopy {
    /// `src`.
    pub source: BoxSide,
    /// `dst`.
    pub destination: BoxSide,
    /// `extent`.
    pub extent: [u64; 3],
    /// `srcAccessOrder`.
    pub order: u32,
    /// `flags`.
    pub flags: u32,
}
