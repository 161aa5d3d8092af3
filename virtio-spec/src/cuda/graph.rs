//! Graphs: kinds of nodes, their parameters, and what instantiating and updating say.

use core::ffi::c_void;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{
    CUDA_MEMCPY3D, CUcontext, CUdeviceptr, CUfunction, CUgraph, CUgraphNode, CUkernel, CUmemAccessDesc,
    CUmemPoolProps, CUresult, CUstream, CUstreamBatchMemOpParams, cuda_enum,
};
use crate::assert_layout;

cuda_enum! {
    /// What a node does (`CUgraphNodeType` of cuda.h).
    CUgraphNodeType {
        KERNEL = 0 as "CU_GRAPH_NODE_TYPE_KERNEL",
        MEMCPY = 1 as "CU_GRAPH_NODE_TYPE_MEMCPY",
        MEMSET = 2 as "CU_GRAPH_NODE_TYPE_MEMSET",
        HOST = 3 as "CU_GRAPH_NODE_TYPE_HOST",
        GRAPH = 4 as "CU_GRAPH_NODE_TYPE_GRAPH",
        EMPTY = 5 as "CU_GRAPH_NODE_TYPE_EMPTY",
        WAIT_EVENT = 6 as "CU_GRAPH_NODE_TYPE_WAIT_EVENT",
        EVENT_RECORD = 7 as "CU_GRAPH_NODE_TYPE_EVENT_RECORD",
        EXT_SEMAS_SIGNAL = 8 as "CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL",
        EXT_SEMAS_WAIT = 9 as "CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT",
        MEM_ALLOC = 10 as "CU_GRAPH_NODE_TYPE_MEM_ALLOC",
        MEM_FREE = 11 as "CU_GRAPH_NODE_TYPE_MEM_FREE",
        BATCH_MEM_OP = 12 as "CU_GRAPH_NODE_TYPE_BATCH_MEM_OP",
        CONDITIONAL = 13 as "CU_GRAPH_NODE_TYPE_CONDITIONAL",
    }
}

cuda_enum! {
    /// How instantiating a graph went (`CUgraphInstantiateResult` of cuda.h).
    CUgraphInstantiateResult {
        SUCCESS = 0 as "CUDA_GRAPH_INSTANTIATE_SUCCESS",
        ERROR = 1 as "CUDA_GRAPH_INSTANTIATE_ERROR",
        INVALID_STRUCTURE = 2 as "CUDA_GRAPH_INSTANTIATE_INVALID_STRUCTURE",
        NODE_OPERATION_NOT_SUPPORTED = 3 as "CUDA_GRAPH_INSTANTIATE_NODE_OPERATION_NOT_SUPPORTED",
        MULTIPLE_CTXS_NOT_SUPPORTED = 4 as "CUDA_GRAPH_INSTANTIATE_MULTIPLE_CTXS_NOT_SUPPORTED",
        CONDITIONAL_HANDLE_UNUSED = 5 as "CUDA_GRAPH_INSTANTIATE_CONDITIONAL_HANDLE_UNUSED",
    }
}

cuda_enum! {
    /// How updating an executable graph went (`CUgraphExecUpdateResult` of cuda.h).
    CUgraphExecUpdateResult {
        SUCCESS = 0 as "CU_GRAPH_EXEC_UPDATE_SUCCESS",
        ERROR = 1 as "CU_GRAPH_EXEC_UPDATE_ERROR",
        ERROR_TOPOLOGY_CHANGED = 2 as "CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED",
        ERROR_NODE_TYPE_CHANGED = 3 as "CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED",
        ERROR_FUNCTION_CHANGED = 4 as "CU_GRAPH_EXEC_UPDATE_ERROR_FUNCTION_CHANGED",
        ERROR_PARAMETERS_CHANGED = 5 as "CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED",
        ERROR_NOT_SUPPORTED = 6 as "CU_GRAPH_EXEC_UPDATE_ERROR_NOT_SUPPORTED",
        ERROR_UNSUPPORTED_FUNCTION_CHANGE = 7 as "CU_GRAPH_EXEC_UPDATE_ERROR_UNSUPPORTED_FUNCTION_CHANGE",
        ERROR_ATTRIBUTES_CHANGED = 8 as "CU_GRAPH_EXEC_UPDATE_ERROR_ATTRIBUTES_CHANGED",
    }
}

cuda_enum! {
    /// What a device is asked about the memory of graphs (`CUgraphMem_attribute` of cuda.h); all are 64-bit numbers.
    CUgraphMem_attribute {
        USED_MEM_CURRENT = 0 as "CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT",
        USED_MEM_HIGH = 1 as "CU_GRAPH_MEM_ATTR_USED_MEM_HIGH",
        RESERVED_MEM_CURRENT = 2 as "CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT",
        RESERVED_MEM_HIGH = 3 as "CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH",
    }
}

/// A function of the program that a stream or a graph runs, or that ends a user object.
pub type CUhostFn = Option<unsafe extern "C" fn(data: *mut c_void)>;
/// A function of the program that a stream runs, with the stream and what came of its work.
pub type CUstreamCallback =
    Option<unsafe extern "C" fn(stream: CUstream, status: CUresult, data: *mut c_void)>;

super::cuda_number! {
    /// An object of the program whose life graphs share.
    CUuserObject(u64);
}

macro_rules! structure {
    ($(#[$meta:meta])* $name:ident, $size:literal { $($field:ident: $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        #[allow(missing_docs, reason = "named as in CUDA's documentation")]
        pub struct $name { $(pub $field: $kind,)* }
        assert_layout!($name, $size);
    };
}

structure! {
    /// A kernel node, as calls of CUDA 11 know it.
    CUDA_KERNEL_NODE_PARAMS_v1, 56 {
        func: CUfunction,
        gridDimX: u32, gridDimY: u32, gridDimZ: u32,
        blockDimX: u32, blockDimY: u32, blockDimZ: u32,
        sharedMemBytes: u32,
        kernelParams: *mut *mut c_void, extra: *mut *mut c_void,
    }
}

structure! {
    /// A kernel node.
    CUDA_KERNEL_NODE_PARAMS, 72 {
        func: CUfunction,
        gridDimX: u32, gridDimY: u32, gridDimZ: u32,
        blockDimX: u32, blockDimY: u32, blockDimZ: u32,
        sharedMemBytes: u32,
        kernelParams: *mut *mut c_void, extra: *mut *mut c_void,
        kern: CUkernel, ctx: CUcontext,
    }
}

/// A memset node; element size and width as in CUDA's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUDA_MEMSET_NODE_PARAMS {
    pub dst: CUdeviceptr,
    pub pitch: u64,
    pub value: u32,
    pub elementSize: u32,
    pub width: u64,
    pub height: u64,
}
assert_layout!(CUDA_MEMSET_NODE_PARAMS, 40, value: 16, width: 24);

structure! {
    /// A host node.
    CUDA_HOST_NODE_PARAMS, 16 { fn_: CUhostFn, userData: *mut c_void, }
}

structure! {
    /// A copy node, as the calls for any kind of node know it.
    CUDA_MEMCPY_NODE_PARAMS, 216 { flags: i32, reserved: i32, copyCtx: CUcontext, copyParams: CUDA_MEMCPY3D, }
}

structure! {
    /// An allocation node: which memory it gets, who may use it, and the address, which the driver chooses.
    CUDA_MEM_ALLOC_NODE_PARAMS, 120 {
        poolProps: CUmemPoolProps,
        accessDescs: *const CUmemAccessDesc, accessDescCount: usize,
        bytesize: usize, dptr: CUdeviceptr,
    }
}
const _: () = assert!(
    core::mem::offset_of!(CUDA_MEM_ALLOC_NODE_PARAMS, accessDescs) == 88
        && core::mem::offset_of!(CUDA_MEM_ALLOC_NODE_PARAMS, bytesize) == 104
        && core::mem::offset_of!(CUDA_MEM_ALLOC_NODE_PARAMS, dptr) == 112
);

structure! {
    /// A free node, as the calls for any kind of node know it.
    CUDA_MEM_FREE_NODE_PARAMS, 8 { dptr: CUdeviceptr, }
}

structure! {
    /// A node of memory operations.
    CUDA_BATCH_MEM_OP_NODE_PARAMS, 32 {
        ctx: CUcontext, count: u32, paramArray: *mut CUstreamBatchMemOpParams, flags: u32,
    }
}
const _: () = assert!(core::mem::offset_of!(CUDA_BATCH_MEM_OP_NODE_PARAMS, paramArray) == 16);

cuda_enum! {
    /// When the bodies of a conditional node run (`CUgraphConditionalNodeType` of cuda.h).
    CUgraphConditionalNodeType {
        IF = 0 as "CU_GRAPH_COND_TYPE_IF",
        WHILE = 1 as "CU_GRAPH_COND_TYPE_WHILE",
        SWITCH = 2 as "CU_GRAPH_COND_TYPE_SWITCH",
    }
}

structure! {
    /// A conditional node: the condition, a value that kernels know, and its bodies, which the driver makes.
    CUDA_CONDITIONAL_NODE_PARAMS, 32 {
        handle: u64, kind: CUgraphConditionalNodeType, size: u32, phGraph_out: *mut CUgraph, ctx: CUcontext,
    }
}
const _: () = assert!(core::mem::offset_of!(CUDA_CONDITIONAL_NODE_PARAMS, phGraph_out) == 16);

structure! {
    /// What `cuGraphInstantiateWithParams` is told and tells.
    CUDA_GRAPH_INSTANTIATE_PARAMS, 32 {
        flags: u64, hUploadStream: CUstream, hErrNode_out: CUgraphNode, result_out: CUgraphInstantiateResult,
    }
}

structure! {
    /// What `cuGraphExecUpdate` tells.
    CUgraphExecUpdateResultInfo, 24 {
        result: CUgraphExecUpdateResult, errorNode: CUgraphNode, errorFromNode: CUgraphNode,
    }
}

/// A node of any kind: the kind, and a union whose arms are the structures above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUgraphNodeParams {
    pub kind: CUgraphNodeType,
    pub reserved0: [u32; 3],
    pub union: [u64; 29],
    pub reserved2: u64,
}
assert_layout!(CUgraphNodeParams, 256, union: 16, reserved2: 248);
