//! Graphs and stream capture.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Graphs and stream capture.
#[calls(group = 0x13)]
pub trait Graphs {
    #[call(op = 0x01, since = 10000, guest, ptsz)]
    fn cuStreamIsCapturing(stream: CUstream, capture_status: *mut CUstreamCaptureStatus);
    #[call(op = 0x02, since = 10010, guest, ptsz)]
    fn cuStreamGetCaptureInfo(
        stream: CUstream,
        capture_status_out: *mut CUstreamCaptureStatus,
        id_out: *mut u64,
    );
    #[call(op = 0x03, since = 11030, guest, ptsz)]
    fn cuStreamGetCaptureInfo_v2(
        stream: CUstream,
        capture_status_out: *mut CUstreamCaptureStatus,
        id_out: *mut u64,
        graph_out: *mut CUgraph,
        dependencies_out: *mut *const CUgraphNode,
        num_dependencies_out: *mut usize,
    );
    #[call(op = 0x04, since = 12030, guest, ptsz)]
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
    #[call(op = 0x06, since = 11040, unsupported)]
    fn cuDeviceGetGraphMemAttribute();
    #[call(op = 0x07, since = 11040, unsupported)]
    fn cuDeviceGraphMemTrim();
    #[call(op = 0x08, since = 11040, unsupported)]
    fn cuDeviceSetGraphMemAttribute();
    #[call(op = 0x09, since = 11070, unsupported)]
    fn cuGraphAddBatchMemOpNode();
    #[call(op = 0x0a, since = 10000, unsupported)]
    fn cuGraphAddChildGraphNode();
    #[call(op = 0x0b, since = 10000, unsupported)]
    fn cuGraphAddDependencies();
    #[call(op = 0x0c, since = 12030, unsupported)]
    fn cuGraphAddDependencies_v2();
    #[call(op = 0x0d, since = 10000, unsupported)]
    fn cuGraphAddEmptyNode();
    #[call(op = 0x0e, since = 11010, unsupported)]
    fn cuGraphAddEventRecordNode();
    #[call(op = 0x0f, since = 11010, unsupported)]
    fn cuGraphAddEventWaitNode();
    #[call(op = 0x10, since = 11020, unsupported)]
    fn cuGraphAddExternalSemaphoresSignalNode();
    #[call(op = 0x11, since = 11020, unsupported)]
    fn cuGraphAddExternalSemaphoresWaitNode();
    #[call(op = 0x12, since = 10000, unsupported)]
    fn cuGraphAddHostNode();
    #[call(op = 0x13, since = 10000, unsupported)]
    fn cuGraphAddKernelNode();
    #[call(op = 0x14, since = 12000, unsupported)]
    fn cuGraphAddKernelNode_v2();
    #[call(op = 0x15, since = 11040, unsupported)]
    fn cuGraphAddMemAllocNode();
    #[call(op = 0x16, since = 11040, unsupported)]
    fn cuGraphAddMemFreeNode();
    #[call(op = 0x17, since = 10000, unsupported)]
    fn cuGraphAddMemcpyNode();
    #[call(op = 0x18, since = 10000, unsupported)]
    fn cuGraphAddMemsetNode();
    #[call(op = 0x19, since = 12020, unsupported)]
    fn cuGraphAddNode();
    #[call(op = 0x1a, since = 12030, unsupported)]
    fn cuGraphAddNode_v2();
    #[call(op = 0x1b, since = 11070, unsupported)]
    fn cuGraphBatchMemOpNodeGetParams();
    #[call(op = 0x1c, since = 11070, unsupported)]
    fn cuGraphBatchMemOpNodeSetParams();
    #[call(op = 0x1d, since = 10000, unsupported)]
    fn cuGraphChildGraphNodeGetGraph();
    #[call(op = 0x1e, since = 10000, unsupported)]
    fn cuGraphClone();
    #[call(op = 0x1f, since = 12030, unsupported)]
    fn cuGraphConditionalHandleCreate();
    #[call(op = 0x20, since = 10000, unsupported)]
    fn cuGraphCreate();
    #[call(op = 0x21, since = 11030, unsupported)]
    fn cuGraphDebugDotPrint();
    #[call(op = 0x22, since = 10000, unsupported)]
    fn cuGraphDestroy();
    #[call(op = 0x23, since = 10000, unsupported)]
    fn cuGraphDestroyNode();
    #[call(op = 0x24, since = 11010, unsupported)]
    fn cuGraphEventRecordNodeGetEvent();
    #[call(op = 0x25, since = 11010, unsupported)]
    fn cuGraphEventRecordNodeSetEvent();
    #[call(op = 0x26, since = 11010, unsupported)]
    fn cuGraphEventWaitNodeGetEvent();
    #[call(op = 0x27, since = 11010, unsupported)]
    fn cuGraphEventWaitNodeSetEvent();
    #[call(op = 0x28, since = 11070, unsupported)]
    fn cuGraphExecBatchMemOpNodeSetParams();
    #[call(op = 0x29, since = 11010, unsupported)]
    fn cuGraphExecChildGraphNodeSetParams();
    #[call(op = 0x2a, since = 10000, unsupported)]
    fn cuGraphExecDestroy();
    #[call(op = 0x2b, since = 11010, unsupported)]
    fn cuGraphExecEventRecordNodeSetEvent();
    #[call(op = 0x2c, since = 11010, unsupported)]
    fn cuGraphExecEventWaitNodeSetEvent();
    #[call(op = 0x2d, since = 11020, unsupported)]
    fn cuGraphExecExternalSemaphoresSignalNodeSetParams();
    #[call(op = 0x2e, since = 11020, unsupported)]
    fn cuGraphExecExternalSemaphoresWaitNodeSetParams();
    #[call(op = 0x2f, since = 12000, unsupported)]
    fn cuGraphExecGetFlags();
    #[call(op = 0x30, since = 10020, unsupported)]
    fn cuGraphExecHostNodeSetParams();
    #[call(op = 0x31, since = 10010, unsupported)]
    fn cuGraphExecKernelNodeSetParams();
    #[call(op = 0x32, since = 12000, unsupported)]
    fn cuGraphExecKernelNodeSetParams_v2();
    #[call(op = 0x33, since = 10020, unsupported)]
    fn cuGraphExecMemcpyNodeSetParams();
    #[call(op = 0x34, since = 10020, unsupported)]
    fn cuGraphExecMemsetNodeSetParams();
    #[call(op = 0x35, since = 12020, unsupported)]
    fn cuGraphExecNodeSetParams();
    #[call(op = 0x36, since = 10020, unsupported)]
    fn cuGraphExecUpdate();
    #[call(op = 0x37, since = 12000, unsupported)]
    fn cuGraphExecUpdate_v2();
    #[call(op = 0x38, since = 11020, unsupported)]
    fn cuGraphExternalSemaphoresSignalNodeGetParams();
    #[call(op = 0x39, since = 11020, unsupported)]
    fn cuGraphExternalSemaphoresSignalNodeSetParams();
    #[call(op = 0x3a, since = 11020, unsupported)]
    fn cuGraphExternalSemaphoresWaitNodeGetParams();
    #[call(op = 0x3b, since = 11020, unsupported)]
    fn cuGraphExternalSemaphoresWaitNodeSetParams();
    #[call(op = 0x3c, since = 10000, unsupported)]
    fn cuGraphGetEdges();
    #[call(op = 0x3d, since = 12030, unsupported)]
    fn cuGraphGetEdges_v2();
    #[call(op = 0x3e, since = 10000, unsupported)]
    fn cuGraphGetNodes();
    #[call(op = 0x3f, since = 10000, unsupported)]
    fn cuGraphGetRootNodes();
    #[call(op = 0x40, since = 10000, unsupported)]
    fn cuGraphHostNodeGetParams();
    #[call(op = 0x41, since = 10000, unsupported)]
    fn cuGraphHostNodeSetParams();
    #[call(op = 0x42, since = 10000, unsupported)]
    fn cuGraphInstantiate();
    #[call(op = 0x43, since = 11000, unsupported)]
    fn cuGraphInstantiate_v2();
    #[call(op = 0x44, since = 11040, unsupported)]
    fn cuGraphInstantiateWithFlags();
    #[call(op = 0x45, since = 12000, unsupported, ptsz)]
    fn cuGraphInstantiateWithParams();
    #[call(op = 0x46, since = 11000, unsupported)]
    fn cuGraphKernelNodeCopyAttributes();
    #[call(op = 0x47, since = 11000, unsupported)]
    fn cuGraphKernelNodeGetAttribute();
    #[call(op = 0x48, since = 10000, unsupported)]
    fn cuGraphKernelNodeGetParams();
    #[call(op = 0x49, since = 12000, unsupported)]
    fn cuGraphKernelNodeGetParams_v2();
    #[call(op = 0x4a, since = 11000, unsupported)]
    fn cuGraphKernelNodeSetAttribute();
    #[call(op = 0x4b, since = 10000, unsupported)]
    fn cuGraphKernelNodeSetParams();
    #[call(op = 0x4c, since = 12000, unsupported)]
    fn cuGraphKernelNodeSetParams_v2();
    #[call(op = 0x4d, since = 10000, unsupported, ptsz)]
    fn cuGraphLaunch();
    #[call(op = 0x4e, since = 11040, unsupported)]
    fn cuGraphMemAllocNodeGetParams();
    #[call(op = 0x4f, since = 11040, unsupported)]
    fn cuGraphMemFreeNodeGetParams();
    #[call(op = 0x50, since = 10000, unsupported)]
    fn cuGraphMemcpyNodeGetParams();
    #[call(op = 0x51, since = 10000, unsupported)]
    fn cuGraphMemcpyNodeSetParams();
    #[call(op = 0x52, since = 10000, unsupported)]
    fn cuGraphMemsetNodeGetParams();
    #[call(op = 0x53, since = 10000, unsupported)]
    fn cuGraphMemsetNodeSetParams();
    #[call(op = 0x54, since = 10000, unsupported)]
    fn cuGraphNodeFindInClone();
    #[call(op = 0x55, since = 10000, unsupported)]
    fn cuGraphNodeGetDependencies();
    #[call(op = 0x56, since = 12030, unsupported)]
    fn cuGraphNodeGetDependencies_v2();
    #[call(op = 0x57, since = 10000, unsupported)]
    fn cuGraphNodeGetDependentNodes();
    #[call(op = 0x58, since = 12030, unsupported)]
    fn cuGraphNodeGetDependentNodes_v2();
    #[call(op = 0x59, since = 11060, unsupported)]
    fn cuGraphNodeGetEnabled();
    #[call(op = 0x5a, since = 10000, unsupported)]
    fn cuGraphNodeGetType();
    #[call(op = 0x5b, since = 11060, unsupported)]
    fn cuGraphNodeSetEnabled();
    #[call(op = 0x5c, since = 12020, unsupported)]
    fn cuGraphNodeSetParams();
    #[call(op = 0x5d, since = 11030, unsupported)]
    fn cuGraphReleaseUserObject();
    #[call(op = 0x5e, since = 10000, unsupported)]
    fn cuGraphRemoveDependencies();
    #[call(op = 0x5f, since = 12030, unsupported)]
    fn cuGraphRemoveDependencies_v2();
    #[call(op = 0x60, since = 11030, unsupported)]
    fn cuGraphRetainUserObject();
    #[call(op = 0x61, since = 11010, unsupported, ptsz)]
    fn cuGraphUpload();
    #[call(op = 0x62, since = 10000, unsupported, ptsz)]
    fn cuStreamBeginCapture();
    #[call(op = 0x63, since = 10010, unsupported, ptsz)]
    fn cuStreamBeginCapture_v2();
    #[call(op = 0x64, since = 12030, unsupported, ptsz)]
    fn cuStreamBeginCaptureToGraph();
    #[call(op = 0x65, since = 10000, unsupported, ptsz)]
    fn cuStreamEndCapture();
    #[call(op = 0x66, since = 11030, unsupported, ptsz)]
    fn cuStreamUpdateCaptureDependencies();
    #[call(op = 0x67, since = 12030, unsupported, ptsz)]
    fn cuStreamUpdateCaptureDependencies_v2();
    #[call(op = 0x68, since = 11030, unsupported)]
    fn cuUserObjectCreate();
    #[call(op = 0x69, since = 11030, unsupported)]
    fn cuUserObjectRelease();
    #[call(op = 0x6a, since = 11030, unsupported)]
    fn cuUserObjectRetain();
}
