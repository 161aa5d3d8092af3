//! Structures of graph calls, as CUDA's documentation describes them.

use std::ffi::c_void;

use super::api::{Handle, HostFunction};
use super::structures::{MemoryAccess, PoolProperties};

/// `CUDA_KERNEL_NODE_PARAMS_v2`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct KernelNode {
    /// `func`.
    pub function: Handle,
    /// `gridDimX` and so on.
    pub grid: [u32; 3],
    /// `blockDimX` and so on.
    pub block: [u32; 3],
    /// `sharedMemBytes`.
    pub shared: u32,
    /// `kernelParams`.
    pub parameters: *mut *mut c_void,
    /// `extra`.
    pub extra: *mut *mut c_void,
    /// `kern`.
    pub kernel: Handle,
    /// `ctx`.
    pub context: Handle,
}

impl KernelNode {
    /// Room for a node's parameters.
    pub const fn empty() -> Self {
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
pub struct MemsetNode {
    /// `dst`.
    pub target: u64,
    /// `pitch`.
    pub pitch: usize,
    /// `value`.
    pub value: u32,
    /// `elementSize`.
    pub element: u32,
    /// `width`, in elements.
    pub width: usize,
    /// `height`, in rows.
    pub height: usize,
}

/// `CUDA_HOST_NODE_PARAMS_v1`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct HostNode {
    /// `fn`.
    pub function: Option<HostFunction>,
    /// `userData`.
    pub data: *mut c_void,
}

/// `CUDA_MEM_ALLOC_NODE_PARAMS`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct AllocationNode {
    /// `poolProps`.
    pub properties: PoolProperties,
    /// `accessDescs`.
    pub access: *const MemoryAccess,
    /// `accessDescCount`.
    pub access_count: usize,
    /// `bytesize`.
    pub bytes: usize,
    /// `dptr`, written by the driver.
    pub pointer: u64,
}

/// `CUgraphNodeParams`, with the union as words.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct AnyNode {
    /// `type`.
    pub kind: i32,
    /// Zeros.
    pub reserved: [i32; 3],
    /// What the kind says.
    pub arm: [u64; 29],
    /// Zero.
    pub end: u64,
}

/// `CUgraphExecUpdateResultInfo`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct UpdateInfo {
    /// `result`.
    pub result: i32,
    /// `errorNode`.
    pub node: Handle,
    /// `errorFromNode`.
    pub from: Handle,
}

impl UpdateInfo {
    /// Room for a result.
    pub const fn empty() -> Self {
        Self { result: -1, node: 0, from: 0 }
    }
}

/// `CUDA_BATCH_MEM_OP_NODE_PARAMS`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OperationsNode {
    /// `ctx`.
    pub context: Handle,
    /// `count`.
    pub count: u32,
    /// `paramArray`: six words for each operation.
    pub list: *mut [u64; 6],
    /// `flags`.
    pub flags: u32,
}
