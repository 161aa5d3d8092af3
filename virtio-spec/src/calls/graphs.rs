//! Graphs and stream capture.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Graphs and stream capture.
#[calls(group = 0x13)]
pub trait Graphs {
    #[call(op = 0x01, since = 10000, custom, ptsz)]
    fn cuStreamIsCapturing(stream: CUstream, capture_status: *mut CUstreamCaptureStatus);
    #[call(op = 0x02, since = 10010, custom, ptsz)]
    fn cuStreamGetCaptureInfo(
        stream: CUstream,
        capture_status_out: *mut CUstreamCaptureStatus,
        id_out: *mut u64,
    );
    #[call(op = 0x03, since = 11030, custom, ptsz)]
    fn cuStreamGetCaptureInfo_v2(
        stream: CUstream,
        capture_status_out: *mut CUstreamCaptureStatus,
        id_out: *mut u64,
        graph_out: *mut CUgraph,
        dependencies_out: *mut *const CUgraphNode,
        num_dependencies_out: *mut usize,
    );
    #[call(op = 0x04, since = 12030, custom, ptsz)]
    fn cuStreamGetCaptureInfo_v3(
        stream: CUstream,
        capture_status_out: *mut CUstreamCaptureStatus,
        id_out: *mut u64,
        graph_out: *mut CUgraph,
        dependencies_out: *mut *const CUgraphNode,
        edge_data_out: *mut *const CUgraphEdgeData,
        num_dependencies_out: *mut usize,
    );
    #[call(op = 0x05, since = 10010, guest, no_context)]
    fn cuThreadExchangeStreamCaptureMode(mode: *mut CUstreamCaptureMode);
    #[call(op = 0x06, since = 11040, custom, no_context)]
    fn cuDeviceGetGraphMemAttribute(
        device: CUdevice,
        attr: CUgraphMem_attribute,
        value: *mut core::ffi::c_void,
    );
    #[call(op = 0x07, since = 11040, wire, custom, no_context, blocks_driver)]
    fn cuDeviceGraphMemTrim(device: CUdevice);
    #[call(op = 0x08, since = 11040, custom, no_context)]
    fn cuDeviceSetGraphMemAttribute(
        device: CUdevice,
        attr: CUgraphMem_attribute,
        value: *mut core::ffi::c_void,
    );
    #[call(op = 0x09, since = 11070, custom)]
    fn cuGraphAddBatchMemOpNode(
        node: *mut CUgraphNode,
        graph: CUgraph,
        dependencies: *const CUgraphNode,
        dependency_count: usize,
        params: *const CUDA_BATCH_MEM_OP_NODE_PARAMS,
    );
    #[call(op = 0x0a, since = 10000, custom)]
    fn cuGraphAddChildGraphNode(
        node: *mut CUgraphNode,
        graph: CUgraph,
        dependencies: *const CUgraphNode,
        dependency_count: usize,
        child: CUgraph,
    );
    #[call(op = 0x0b, since = 10000, custom, no_context)]
    fn cuGraphAddDependencies(graph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, count: usize);
    #[call(op = 0x0c, since = 12030, custom, no_context)]
    fn cuGraphAddDependencies_v2(
        graph: CUgraph,
        from: *const CUgraphNode,
        to: *const CUgraphNode,
        edge_data: *const CUgraphEdgeData,
        count: usize,
    );
    #[call(op = 0x0d, since = 10000, custom)]
    fn cuGraphAddEmptyNode(
        node: *mut CUgraphNode,
        graph: CUgraph,
        dependencies: *const CUgraphNode,
        dependency_count: usize,
    );
    #[call(op = 0x0e, since = 11010, custom)]
    fn cuGraphAddEventRecordNode(
        node: *mut CUgraphNode,
        graph: CUgraph,
        dependencies: *const CUgraphNode,
        dependency_count: usize,
        event: CUevent,
    );
    #[call(op = 0x0f, since = 11010, custom)]
    fn cuGraphAddEventWaitNode(
        node: *mut CUgraphNode,
        graph: CUgraph,
        dependencies: *const CUgraphNode,
        dependency_count: usize,
        event: CUevent,
    );
    #[call(op = 0x10, since = 11020, unsupported)]
    fn cuGraphAddExternalSemaphoresSignalNode();
    #[call(op = 0x11, since = 11020, unsupported)]
    fn cuGraphAddExternalSemaphoresWaitNode();
    #[call(op = 0x12, since = 10000, custom)]
    fn cuGraphAddHostNode(
        node: *mut CUgraphNode,
        graph: CUgraph,
        dependencies: *const CUgraphNode,
        dependency_count: usize,
        params: *const CUDA_HOST_NODE_PARAMS,
    );
    #[call(op = 0x13, since = 10000, custom)]
    fn cuGraphAddKernelNode(
        node: *mut CUgraphNode,
        graph: CUgraph,
        dependencies: *const CUgraphNode,
        dependency_count: usize,
        params: *const CUDA_KERNEL_NODE_PARAMS_v1,
    );
    #[call(op = 0x14, since = 12000, custom)]
    fn cuGraphAddKernelNode_v2(
        node: *mut CUgraphNode,
        graph: CUgraph,
        dependencies: *const CUgraphNode,
        dependency_count: usize,
        params: *const CUDA_KERNEL_NODE_PARAMS,
    );
    #[call(op = 0x15, since = 11040, custom)]
    fn cuGraphAddMemAllocNode(
        node: *mut CUgraphNode,
        graph: CUgraph,
        dependencies: *const CUgraphNode,
        dependency_count: usize,
        params: *mut CUDA_MEM_ALLOC_NODE_PARAMS,
    );
    #[call(op = 0x16, since = 11040, custom)]
    fn cuGraphAddMemFreeNode(
        node: *mut CUgraphNode,
        graph: CUgraph,
        dependencies: *const CUgraphNode,
        dependency_count: usize,
        address: CUdeviceptr,
    );
    #[call(op = 0x17, since = 10000, custom)]
    fn cuGraphAddMemcpyNode(
        node: *mut CUgraphNode,
        graph: CUgraph,
        dependencies: *const CUgraphNode,
        dependency_count: usize,
        params: *const CUDA_MEMCPY3D,
        context: CUcontext,
    );
    #[call(op = 0x18, since = 10000, custom)]
    fn cuGraphAddMemsetNode(
        node: *mut CUgraphNode,
        graph: CUgraph,
        dependencies: *const CUgraphNode,
        dependency_count: usize,
        params: *const CUDA_MEMSET_NODE_PARAMS,
        context: CUcontext,
    );
    #[call(op = 0x19, since = 12020, custom)]
    fn cuGraphAddNode(
        node: *mut CUgraphNode,
        graph: CUgraph,
        dependencies: *const CUgraphNode,
        dependency_count: usize,
        params: *mut CUgraphNodeParams,
    );
    #[call(op = 0x1a, since = 12030, custom)]
    fn cuGraphAddNode_v2(
        node: *mut CUgraphNode,
        graph: CUgraph,
        dependencies: *const CUgraphNode,
        edge_data: *const CUgraphEdgeData,
        dependency_count: usize,
        params: *mut CUgraphNodeParams,
    );
    #[call(op = 0x1b, since = 11070, custom, no_context)]
    fn cuGraphBatchMemOpNodeGetParams(node: CUgraphNode, params: *mut CUDA_BATCH_MEM_OP_NODE_PARAMS);
    #[call(op = 0x1c, since = 11070, custom)]
    fn cuGraphBatchMemOpNodeSetParams(node: CUgraphNode, params: *const CUDA_BATCH_MEM_OP_NODE_PARAMS);
    #[call(op = 0x1d, since = 10000, custom, no_context)]
    fn cuGraphChildGraphNodeGetGraph(node: CUgraphNode, graph: *mut CUgraph);
    #[call(op = 0x1e, since = 10000, custom, no_context)]
    fn cuGraphClone(clone: *mut CUgraph, original: CUgraph);
    #[call(op = 0x1f, since = 12030, custom, no_context)]
    fn cuGraphConditionalHandleCreate(
        handle: *mut u64,
        graph: CUgraph,
        context: CUcontext,
        default_launch_value: u32,
        flags: u32,
    );
    #[call(op = 0x20, since = 10000, custom, no_context)]
    fn cuGraphCreate(graph: *mut CUgraph, flags: u32);
    #[call(op = 0x21, since = 11030, custom, no_context)]
    fn cuGraphDebugDotPrint(graph: CUgraph, path: *const core::ffi::c_char, flags: u32);
    #[call(op = 0x22, since = 10000, custom, no_context)]
    fn cuGraphDestroy(graph: CUgraph);
    #[call(op = 0x23, since = 10000, custom, no_context)]
    fn cuGraphDestroyNode(node: CUgraphNode);
    #[call(op = 0x24, since = 11010, custom, no_context)]
    fn cuGraphEventRecordNodeGetEvent(node: CUgraphNode, event: *mut CUevent);
    #[call(op = 0x25, since = 11010, custom, no_context)]
    fn cuGraphEventRecordNodeSetEvent(node: CUgraphNode, event: CUevent);
    #[call(op = 0x26, since = 11010, custom, no_context)]
    fn cuGraphEventWaitNodeGetEvent(node: CUgraphNode, event: *mut CUevent);
    #[call(op = 0x27, since = 11010, custom, no_context)]
    fn cuGraphEventWaitNodeSetEvent(node: CUgraphNode, event: CUevent);
    #[call(op = 0x28, since = 11070, custom)]
    fn cuGraphExecBatchMemOpNodeSetParams(
        exec: CUgraphExec,
        node: CUgraphNode,
        params: *const CUDA_BATCH_MEM_OP_NODE_PARAMS,
    );
    #[call(op = 0x29, since = 11010, custom, no_context)]
    fn cuGraphExecChildGraphNodeSetParams(exec: CUgraphExec, node: CUgraphNode, child: CUgraph);
    #[call(op = 0x2a, since = 10000, wire, custom, no_context)]
    fn cuGraphExecDestroy(#[destroy] exec: CUgraphExec);
    #[call(op = 0x2b, since = 11010, custom, no_context)]
    fn cuGraphExecEventRecordNodeSetEvent(exec: CUgraphExec, node: CUgraphNode, event: CUevent);
    #[call(op = 0x2c, since = 11010, custom, no_context)]
    fn cuGraphExecEventWaitNodeSetEvent(exec: CUgraphExec, node: CUgraphNode, event: CUevent);
    #[call(op = 0x2d, since = 11020, unsupported)]
    fn cuGraphExecExternalSemaphoresSignalNodeSetParams();
    #[call(op = 0x2e, since = 11020, unsupported)]
    fn cuGraphExecExternalSemaphoresWaitNodeSetParams();
    #[call(op = 0x2f, since = 12000, wire, no_context)]
    fn cuGraphExecGetFlags(exec: CUgraphExec, #[out] flags: *mut u64);
    #[call(op = 0x30, since = 10020, custom, no_context)]
    fn cuGraphExecHostNodeSetParams(
        exec: CUgraphExec,
        node: CUgraphNode,
        params: *const CUDA_HOST_NODE_PARAMS,
    );
    #[call(op = 0x31, since = 10010, custom)]
    fn cuGraphExecKernelNodeSetParams(
        exec: CUgraphExec,
        node: CUgraphNode,
        params: *const CUDA_KERNEL_NODE_PARAMS_v1,
    );
    #[call(op = 0x32, since = 12000, custom)]
    fn cuGraphExecKernelNodeSetParams_v2(
        exec: CUgraphExec,
        node: CUgraphNode,
        params: *const CUDA_KERNEL_NODE_PARAMS,
    );
    #[call(op = 0x33, since = 10020, custom)]
    fn cuGraphExecMemcpyNodeSetParams(
        exec: CUgraphExec,
        node: CUgraphNode,
        params: *const CUDA_MEMCPY3D,
        context: CUcontext,
    );
    #[call(op = 0x34, since = 10020, custom)]
    fn cuGraphExecMemsetNodeSetParams(
        exec: CUgraphExec,
        node: CUgraphNode,
        params: *const CUDA_MEMSET_NODE_PARAMS,
        context: CUcontext,
    );
    #[call(op = 0x35, since = 12020, custom)]
    fn cuGraphExecNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: *mut CUgraphNodeParams);
    #[call(op = 0x36, since = 10020, custom)]
    fn cuGraphExecUpdate(
        exec: CUgraphExec,
        graph: CUgraph,
        error_node: *mut CUgraphNode,
        result: *mut CUgraphExecUpdateResult,
    );
    #[call(op = 0x37, since = 12000, custom)]
    fn cuGraphExecUpdate_v2(exec: CUgraphExec, graph: CUgraph, result: *mut CUgraphExecUpdateResultInfo);
    #[call(op = 0x38, since = 11020, unsupported)]
    fn cuGraphExternalSemaphoresSignalNodeGetParams();
    #[call(op = 0x39, since = 11020, unsupported)]
    fn cuGraphExternalSemaphoresSignalNodeSetParams();
    #[call(op = 0x3a, since = 11020, unsupported)]
    fn cuGraphExternalSemaphoresWaitNodeGetParams();
    #[call(op = 0x3b, since = 11020, unsupported)]
    fn cuGraphExternalSemaphoresWaitNodeSetParams();
    #[call(op = 0x3c, since = 10000, custom, no_context)]
    fn cuGraphGetEdges(graph: CUgraph, from: *mut CUgraphNode, to: *mut CUgraphNode, count: *mut usize);
    #[call(op = 0x3d, since = 12030, custom, no_context)]
    fn cuGraphGetEdges_v2(
        graph: CUgraph,
        from: *mut CUgraphNode,
        to: *mut CUgraphNode,
        edge_data: *mut CUgraphEdgeData,
        count: *mut usize,
    );
    #[call(op = 0x3e, since = 10000, custom, no_context)]
    fn cuGraphGetNodes(graph: CUgraph, nodes: *mut CUgraphNode, count: *mut usize);
    #[call(op = 0x3f, since = 10000, custom, no_context)]
    fn cuGraphGetRootNodes(graph: CUgraph, nodes: *mut CUgraphNode, count: *mut usize);
    #[call(op = 0x40, since = 10000, custom, no_context)]
    fn cuGraphHostNodeGetParams(node: CUgraphNode, params: *mut CUDA_HOST_NODE_PARAMS);
    #[call(op = 0x41, since = 10000, custom, no_context)]
    fn cuGraphHostNodeSetParams(node: CUgraphNode, params: *const CUDA_HOST_NODE_PARAMS);
    #[call(op = 0x42, since = 10000, custom)]
    fn cuGraphInstantiate(
        exec: *mut CUgraphExec,
        graph: CUgraph,
        error_node: *mut CUgraphNode,
        log: *mut core::ffi::c_char,
        log_bytes: usize,
    );
    #[call(op = 0x43, since = 11000, custom)]
    fn cuGraphInstantiate_v2(
        exec: *mut CUgraphExec,
        graph: CUgraph,
        error_node: *mut CUgraphNode,
        log: *mut core::ffi::c_char,
        log_bytes: usize,
    );
    #[call(op = 0x44, since = 11040, custom)]
    fn cuGraphInstantiateWithFlags(exec: *mut CUgraphExec, graph: CUgraph, flags: u64);
    #[call(op = 0x45, since = 12000, custom, ptsz)]
    fn cuGraphInstantiateWithParams(
        exec: *mut CUgraphExec,
        graph: CUgraph,
        params: *mut CUDA_GRAPH_INSTANTIATE_PARAMS,
    );
    #[call(op = 0x46, since = 11000, custom, no_context)]
    fn cuGraphKernelNodeCopyAttributes(to: CUgraphNode, from: CUgraphNode);
    #[call(op = 0x47, since = 11000, wire, no_context)]
    fn cuGraphKernelNodeGetAttribute(
        node: CUgraphNode,
        attribute: CUkernelNodeAttrID,
        #[out] value: *mut [u64; 8],
    );
    #[call(op = 0x48, since = 10000, custom, no_context)]
    fn cuGraphKernelNodeGetParams(node: CUgraphNode, params: *mut CUDA_KERNEL_NODE_PARAMS_v1);
    #[call(op = 0x49, since = 12000, custom, no_context)]
    fn cuGraphKernelNodeGetParams_v2(node: CUgraphNode, params: *mut CUDA_KERNEL_NODE_PARAMS);
    #[call(op = 0x4a, since = 11000, wire, no_context)]
    fn cuGraphKernelNodeSetAttribute(
        node: CUgraphNode,
        attribute: CUkernelNodeAttrID,
        #[input] value: *const [u64; 8],
    );
    #[call(op = 0x4b, since = 10000, custom)]
    fn cuGraphKernelNodeSetParams(node: CUgraphNode, params: *const CUDA_KERNEL_NODE_PARAMS_v1);
    #[call(op = 0x4c, since = 12000, custom)]
    fn cuGraphKernelNodeSetParams_v2(node: CUgraphNode, params: *const CUDA_KERNEL_NODE_PARAMS);
    #[call(op = 0x4d, since = 10000, wire, custom, posted, ptsz)]
    fn cuGraphLaunch(exec: CUgraphExec, stream: CUstream);
    #[call(op = 0x4e, since = 11040, custom, no_context)]
    fn cuGraphMemAllocNodeGetParams(node: CUgraphNode, params: *mut CUDA_MEM_ALLOC_NODE_PARAMS);
    #[call(op = 0x4f, since = 11040, custom, no_context)]
    fn cuGraphMemFreeNodeGetParams(node: CUgraphNode, address: *mut CUdeviceptr);
    #[call(op = 0x50, since = 10000, custom, no_context)]
    fn cuGraphMemcpyNodeGetParams(node: CUgraphNode, params: *mut CUDA_MEMCPY3D);
    #[call(op = 0x51, since = 10000, custom)]
    fn cuGraphMemcpyNodeSetParams(node: CUgraphNode, params: *const CUDA_MEMCPY3D);
    #[call(op = 0x52, since = 10000, custom, no_context)]
    fn cuGraphMemsetNodeGetParams(node: CUgraphNode, params: *mut CUDA_MEMSET_NODE_PARAMS);
    #[call(op = 0x53, since = 10000, custom)]
    fn cuGraphMemsetNodeSetParams(node: CUgraphNode, params: *const CUDA_MEMSET_NODE_PARAMS);
    #[call(op = 0x54, since = 10000, custom, no_context)]
    fn cuGraphNodeFindInClone(node: *mut CUgraphNode, original: CUgraphNode, clone: CUgraph);
    #[call(op = 0x55, since = 10000, custom, no_context)]
    fn cuGraphNodeGetDependencies(node: CUgraphNode, dependencies: *mut CUgraphNode, count: *mut usize);
    #[call(op = 0x56, since = 12030, custom, no_context)]
    fn cuGraphNodeGetDependencies_v2(
        node: CUgraphNode,
        dependencies: *mut CUgraphNode,
        edge_data: *mut CUgraphEdgeData,
        count: *mut usize,
    );
    #[call(op = 0x57, since = 10000, custom, no_context)]
    fn cuGraphNodeGetDependentNodes(node: CUgraphNode, dependents: *mut CUgraphNode, count: *mut usize);
    #[call(op = 0x58, since = 12030, custom, no_context)]
    fn cuGraphNodeGetDependentNodes_v2(
        node: CUgraphNode,
        dependents: *mut CUgraphNode,
        edge_data: *mut CUgraphEdgeData,
        count: *mut usize,
    );
    #[call(op = 0x59, since = 11060, wire, no_context)]
    fn cuGraphNodeGetEnabled(exec: CUgraphExec, node: CUgraphNode, #[out] enabled: *mut u32);
    #[call(op = 0x5a, since = 10000, wire, no_context)]
    fn cuGraphNodeGetType(node: CUgraphNode, #[out] kind: *mut CUgraphNodeType);
    #[call(op = 0x5b, since = 11060, wire, no_context)]
    fn cuGraphNodeSetEnabled(exec: CUgraphExec, node: CUgraphNode, enabled: u32);
    #[call(op = 0x5c, since = 12020, custom)]
    fn cuGraphNodeSetParams(node: CUgraphNode, params: *mut CUgraphNodeParams);
    #[call(op = 0x5d, since = 11030, custom, no_context)]
    fn cuGraphReleaseUserObject(graph: CUgraph, object: CUuserObject, count: u32);
    #[call(op = 0x5e, since = 10000, custom, no_context)]
    fn cuGraphRemoveDependencies(
        graph: CUgraph,
        from: *const CUgraphNode,
        to: *const CUgraphNode,
        count: usize,
    );
    #[call(op = 0x5f, since = 12030, custom, no_context)]
    fn cuGraphRemoveDependencies_v2(
        graph: CUgraph,
        from: *const CUgraphNode,
        to: *const CUgraphNode,
        edge_data: *const CUgraphEdgeData,
        count: usize,
    );
    #[call(op = 0x60, since = 11030, custom, no_context)]
    fn cuGraphRetainUserObject(graph: CUgraph, object: CUuserObject, count: u32, flags: u32);
    #[call(op = 0x61, since = 11010, wire, custom, posted, ptsz)]
    fn cuGraphUpload(exec: CUgraphExec, stream: CUstream);
    #[call(op = 0x62, since = 10000, custom, ptsz)]
    fn cuStreamBeginCapture(stream: CUstream);
    #[call(op = 0x63, since = 10010, custom, ptsz)]
    fn cuStreamBeginCapture_v2(stream: CUstream, mode: CUstreamCaptureMode);
    #[call(op = 0x64, since = 12030, custom, ptsz)]
    fn cuStreamBeginCaptureToGraph(
        stream: CUstream,
        graph: CUgraph,
        dependencies: *const CUgraphNode,
        edge_data: *const CUgraphEdgeData,
        count: usize,
        mode: CUstreamCaptureMode,
    );
    #[call(op = 0x65, since = 10000, custom, ptsz)]
    fn cuStreamEndCapture(stream: CUstream, graph: *mut CUgraph);
    #[call(op = 0x66, since = 11030, custom, ptsz)]
    fn cuStreamUpdateCaptureDependencies(
        stream: CUstream,
        dependencies: *mut CUgraphNode,
        count: usize,
        flags: u32,
    );
    #[call(op = 0x67, since = 12030, custom, ptsz)]
    fn cuStreamUpdateCaptureDependencies_v2(
        stream: CUstream,
        dependencies: *mut CUgraphNode,
        edge_data: *const CUgraphEdgeData,
        count: usize,
        flags: u32,
    );
    #[call(op = 0x68, since = 11030, custom, no_context)]
    fn cuUserObjectCreate(
        object: *mut CUuserObject,
        data: *mut core::ffi::c_void,
        destroy: CUhostFn,
        count: u32,
        flags: u32,
    );
    #[call(op = 0x69, since = 11030, custom, no_context)]
    fn cuUserObjectRelease(object: CUuserObject, count: u32);
    #[call(op = 0x6a, since = 11030, custom, no_context)]
    fn cuUserObjectRetain(object: CUuserObject, count: u32);
}
