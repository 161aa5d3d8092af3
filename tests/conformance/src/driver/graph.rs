//! Structures of graph calls, as CUDA's documentation describes them.

use std::ffi::c_void;

use super::api::{Handle, HostFunction};
use super::structures::{MemoryAccess, PoolProperties};

/// `CUDA_KERNEL_NODE_PARAMS_v2`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct KernelNode {
    pub(crate) function: Handle,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared: u32,
    pub(crate) parameters: *mut *mut c_void,
    pub(crate) extra: *mut *mut c_void,
    pub(crate) kernel: Handle,
    pub(crate) context: Handle,
}

impl KernelNode {
    /// Room for a node's parameters.
    pub(crate) const fn empty() -> Self {
        Self {
            function: 0,
            grid: [0; 3],
            block: [0; 3],
            shared: 0,
            parameters: std::ptr::null_mut(),
            extra: std::ptr::null_mut(),
            kernel: 0,
            context: 0,
        }
    }
}

/// `CUDA_MEMSET_NODE_PARAMS_v1`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemsetNode {
    pub(crate) target: u64,
    pub(crate) pitch: usize,
    pub(crate) value: u32,
    pub(crate) element: u32,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// `CUDA_HOST_NODE_PARAMS_v1`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostNode {
    pub(crate) function: Option<HostFunction>,
    pub(crate) data: *mut c_void,
}

/// `CUDA_MEM_ALLOC_NODE_PARAMS`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct AllocationNode {
    pub(crate) properties: PoolProperties,
    pub(crate) access: *const MemoryAccess,
    pub(crate) access_count: usize,
    pub(crate) bytes: usize,
    pub(crate) pointer: u64,
}

/// `CUgraphNodeParams`, with the union as words.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnyNode {
    pub(crate) kind: i32,
    pub(crate) reserved: [i32; 3],
    pub(crate) arm: [u64; 29],
    pub(crate) end: u64,
}

/// `CUgraphExecUpdateResultInfo`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct UpdateInfo {
    pub(crate) result: i32,
    pub(crate) node: Handle,
    pub(crate) from: Handle,
}

impl UpdateInfo {
    /// Room for a result.
    pub(crate) const fn empty() -> Self {
        Self { result: -1, node: 0, from: 0 }
    }
}
