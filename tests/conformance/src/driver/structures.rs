//! CUDA's structures with enumerations in them, as plain numbers: cases also pass values that no enumerator has.

use std::ffi::c_void;

/// `CUmemLocation`: its kind (1 is a device) and which one.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryLocation {
    /// `type`.
    pub(crate) kind: u32,
    /// `id`.
    pub(crate) id: i32,
}

/// `CUmemAccessDesc`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryAccess {
    /// `location`.
    pub(crate) location: MemoryLocation,
    /// `flags`: 0, 1 (read) or 3 (read and write).
    pub(crate) flags: u32,
}

/// `CUmemAllocationProp`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryProperties {
    /// `type`: 1 is pinned.
    pub(crate) kind: u32,
    /// `requestedHandleTypes`.
    pub(crate) handle_types: u32,
    /// `location`.
    pub(crate) location: MemoryLocation,
    /// `win32HandleMetaData`.
    pub(crate) win32: *mut c_void,
    /// `allocFlags`.
    pub(crate) flags: [u8; 8],
}

/// `CUmemPoolProps`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolProperties {
    /// `allocType`: 1 is pinned.
    pub(crate) kind: u32,
    /// `handleTypes`.
    pub(crate) handle_types: u32,
    /// `location`.
    pub(crate) location: MemoryLocation,
    /// `win32SecurityAttributes`.
    pub(crate) win32: *mut c_void,
    /// `maxSize`.
    pub(crate) most: usize,
    /// `usage` and what is reserved.
    pub(crate) rest: [u8; 56],
}

/// `CUipcMemHandle` and `CUipcEventHandle`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IpcHandle(pub(crate) [u8; 64]);
