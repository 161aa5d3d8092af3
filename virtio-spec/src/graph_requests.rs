//! Requests about graphs, capture and functions of the program, in the manner of [`crate::requests`].
//!
//! Graphs and their nodes come into being unasked (capture and cloning make nodes, a capture makes a graph), so their
//! handles are given out by the worker, when a response first names them; those of executable graphs are minted by the
//! guest, as all others. A function of the program is a number that only the guest can look behind.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// Opcodes of these requests, in group [`crate::requests::GROUP`]. Never reused.
pub mod opcode {
    /// [`super::GraphCall`] → [`super::GraphObject`].
    pub const GRAPH_CALL: u32 = 0x7f40;
    /// [`super::GraphNode`] → [`super::GraphNodeMade`].
    pub const GRAPH_NODE: u32 = 0x7f41;
    /// [`super::GraphNodeGet`] → [`super::GraphObject`] (its graph) and the body of a [`super::GraphNode`] of this kind.
    pub const GRAPH_NODE_GET: u32 = 0x7f42;
    /// [`super::GraphList`] → [`super::GraphListed`].
    pub const GRAPH_LIST: u32 = 0x7f43;
    /// [`super::GraphEdges`].
    pub const GRAPH_EDGES: u32 = 0x7f44;
    /// [`super::GraphInstantiate`] → [`super::GraphOutcome`].
    pub const GRAPH_INSTANTIATE: u32 = 0x7f45;
    /// [`super::GraphUpdate`] → [`super::GraphOutcome`].
    pub const GRAPH_UPDATE: u32 = 0x7f46;
    /// [`super::GraphText`] → [`super::GraphTextPart`].
    pub const GRAPH_TEXT: u32 = 0x7f47;
    /// [`super::CaptureBegin`].
    pub const CAPTURE_BEGIN: u32 = 0x7f48;
    /// [`super::CaptureStream`] → [`super::GraphObject`].
    pub const CAPTURE_END: u32 = 0x7f49;
    /// [`super::CaptureStream`] → [`super::Captured`].
    pub const CAPTURE_INFO: u32 = 0x7f4a;
    /// [`super::CaptureDependencies`].
    pub const CAPTURE_DEPENDENCIES: u32 = 0x7f4b;
    /// [`super::HostFunction`].
    pub const HOST_FUNCTION: u32 = 0x7f4c;
    /// [`super::HostNext`] → [`super::HostDue`].
    pub const HOST_NEXT: u32 = 0x7f4d;
    /// [`super::UserObject`].
    pub const USER_OBJECT: u32 = 0x7f4e;
    /// [`super::GraphMemory`] → [`super::NodeValue`].
    pub const GRAPH_MEMORY: u32 = 0x7f4f;
    /// [`super::GraphCondition`] → [`super::NodeValue`].
    pub const GRAPH_CONDITION: u32 = 0x7f50;
}

macro_rules! request {
    ($(#[$meta:meta])* $name:ident, $size:literal { $($(#[$field_meta:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
        #[repr(C)]
        pub struct $name { $($(#[$field_meta])* pub $field: $kind,)* }
        assert_layout!($name, $size);
    };
}

/// What a [`GraphCall`] does.
pub mod graph_operation {
    /// `cuGraphCreate`: flags.
    pub const CREATE: u32 = 1;
    /// `cuGraphDestroy`: the graph.
    pub const DESTROY: u32 = 2;
    /// `cuGraphClone`: the graph.
    pub const CLONE: u32 = 3;
    /// `cuGraphDestroyNode`: the node.
    pub const DESTROY_NODE: u32 = 4;
    /// `cuGraphNodeFindInClone`: the node, the clone.
    pub const FIND_IN_CLONE: u32 = 5;
    /// `cuGraphChildGraphNodeGetGraph`: the node.
    pub const CHILD_GRAPH: u32 = 6;
    /// `cuGraphKernelNodeCopyAttributes`: the node to, the node from.
    pub const COPY_ATTRIBUTES: u32 = 7;
}

request! {
    /// GRAPH_CALL: what names graphs and nodes and no more.
    GraphCall, 24 {
        /// One of [`graph_operation`].
        operation: u32,
        /// Flags of the call.
        flags: u32,
        /// Handle of a graph or node, as the operation says.
        first: u64,
        /// The second handle, 0 if there is none.
        second: u64,
    }
}

request! {
    /// → of GRAPH_CALL and CAPTURE_END.
    GraphObject, 8 {
        /// Handle of a graph or node; 0 for none.
        handle: u64,
    }
}

/// What a [`GraphNode`] does.
pub mod node_operation {
    /// `cuGraphAdd…Node`.
    pub const ADD: u32 = 1;
    /// `cuGraph…NodeSetParams`.
    pub const SET: u32 = 2;
    /// `cuGraphExec…NodeSetParams`.
    pub const EXEC_SET: u32 = 3;
}

request! {
    /// GRAPH_NODE: followed by `dependency_count` handles of nodes, as many `CUgraphEdgeData` if `edge_data` is 1, and the
    /// body of the node's kind: [`crate::requests::Launch`] (its stream is the context) with its packed parameters,
    /// [`NodeCopy`], [`NodeFill`], [`NodeAllocation`], [`NodeOperations`], [`NodeConditional`], or [`NodeValue`]; none for an
    /// empty node.
    GraphNode, 32 {
        /// One of [`node_operation`].
        operation: u32,
        /// `CUgraphNodeType`.
        kind: u32,
        /// The graph that gets a node, or the executable one.
        graph: u64,
        /// The node, 0 when one is added.
        node: u64,
        /// Nodes that it follows.
        dependency_count: u32,
        /// 1 if the edges have data.
        edge_data: u32,
    }
}

request! {
    /// → of GRAPH_NODE; for a new allocation node followed by a [`NodeValue`], the address; for a new conditional node by
    /// the handles of its bodies.
    GraphNodeMade, 8 {
        /// The node.
        node: u64,
    }
}

request! {
    /// A copy node.
    NodeCopy, 216 {
        /// Handle of the context.
        context: u64,
        /// `CUDA_MEMCPY3D`, with handles for arrays. Host addresses lie in regions of the session.
        copy: [u64; 25],
        /// Zero.
        reserved: u64,
    }
}

request! {
    /// A memset node.
    NodeFill, 48 {
        /// Handle of the context.
        context: u64,
        /// `CUDA_MEMSET_NODE_PARAMS`.
        fill: crate::cuda::CUDA_MEMSET_NODE_PARAMS,
    }
}

request! {
    /// An allocation node: pinned memory of a device that no other process can be given. Followed by `access_count`
    /// `CUmemAccessDesc`, whose places are devices as the worker numbers them.
    NodeAllocation, 40 {
        /// Bytes.
        bytes: u64,
        /// Zero when a node is added; its address when it is asked about.
        address: u64,
        /// `CUmemPoolProps::maxSize`.
        max_bytes: u64,
        /// The device, as the worker numbers it.
        device: u32,
        /// `CUmemPoolProps::usage`.
        usage: u32,
        /// Descriptors that follow.
        access_count: u32,
        /// Zero.
        reserved: u32,
    }
}

request! {
    /// A node of memory operations. Followed by `count` `CUstreamBatchMemOpParams`.
    NodeOperations, 16 {
        /// Handle of the context.
        context: u64,
        /// Operations that follow.
        count: u32,
        /// CUDA's flags.
        flags: u32,
    }
}

request! {
    /// A conditional node.
    NodeConditional, 24 {
        /// The condition, as [`GraphCondition`] has made it.
        condition: u64,
        /// Handle of the context.
        context: u64,
        /// `CUgraphConditionalNodeType`.
        kind: u32,
        /// Bodies.
        size: u32,
    }
}

request! {
    /// GRAPH_CONDITION: `cuGraphConditionalHandleCreate`. The answer is CUDA's own value, because kernels know it.
    GraphCondition, 24 {
        /// The graph.
        graph: u64,
        /// Handle of the context.
        context: u64,
        /// What it is at each launch, if the flags say so.
        value: u32,
        /// CUDA's flags.
        flags: u32,
    }
}

request! {
    /// A node of one value: the child graph, the event, the number of the host function, or the address that is freed.
    NodeValue, 8 {
        /// A handle or a number.
        value: u64,
    }
}

request! {
    /// GRAPH_NODE_GET.
    GraphNodeGet, 16 {
        /// The node.
        node: u64,
        /// `CUgraphNodeType`.
        kind: u32,
        /// Zero.
        reserved: u32,
    }
}

/// What a [`GraphList`] lists.
pub mod graph_list {
    /// Nodes of a graph.
    pub const NODES: u32 = 1;
    /// Nodes of a graph that follow none.
    pub const ROOTS: u32 = 2;
    /// Edges of a graph.
    pub const EDGES: u32 = 3;
    /// What a node follows.
    pub const DEPENDENCIES: u32 = 4;
    /// What follows a node.
    pub const DEPENDENTS: u32 = 5;
}

request! {
    /// GRAPH_LIST: a part of a list.
    GraphList, 24 {
        /// One of [`graph_list`].
        list: u32,
        /// 1 for the form that tells of edges' data.
        edge_data: u32,
        /// The graph or node.
        object: u64,
        /// Elements to leave out.
        skip: u32,
        /// Elements wanted at most; fewer come when they do not fit.
        count: u32,
    }
}

request! {
    /// → of GRAPH_LIST: followed by `count` handles (for edges: of the nodes that they leave), for edges as many of the
    /// nodes that they reach, and as many `CUgraphEdgeData` if they were asked for.
    GraphListed, 16 {
        /// Elements of the whole list.
        total: u64,
        /// Elements that follow.
        count: u64,
    }
}

request! {
    /// GRAPH_EDGES: adds or removes edges. Followed by `count` handles that they leave, as many that they reach, and as
    /// many `CUgraphEdgeData` if `edge_data` is 1.
    GraphEdges, 24 {
        /// The graph.
        graph: u64,
        /// Edges.
        count: u32,
        /// 1 to remove them.
        remove: u32,
        /// 1 if the edges have data.
        edge_data: u32,
        /// Zero.
        reserved: u32,
    }
}

request! {
    /// GRAPH_INSTANTIATE.
    GraphInstantiate, 40 {
        /// The graph.
        graph: u64,
        /// Handle to make.
        exec: u64,
        /// CUDA's flags.
        flags: u64,
        /// Stream of an upload, 0 for none.
        stream: u64,
        /// 1 for `cuGraphInstantiateWithParams`.
        with_params: u32,
        /// Zero.
        reserved: u32,
    }
}

request! {
    /// GRAPH_UPDATE: `cuGraphExecUpdate`.
    GraphUpdate, 16 {
        /// The executable graph.
        exec: u64,
        /// What it is to be.
        graph: u64,
    }
}

request! {
    /// → of GRAPH_INSTANTIATE and GRAPH_UPDATE, also when they fail.
    GraphOutcome, 24 {
        /// `CUgraphInstantiateResult` or `CUgraphExecUpdateResult`.
        result: u32,
        /// 1 if an executable graph was made that allocates or frees memory: its launches can be refused.
        has_memory: u32,
        /// The node at fault, 0 if none is named.
        node: u64,
        /// The node before it, 0 if none is named.
        from: u64,
    }
}

request! {
    /// GRAPH_MEMORY: `cuDeviceGetGraphMemAttribute` and `cuDeviceSetGraphMemAttribute`.
    GraphMemory, 24 {
        /// The device, as the worker numbers it.
        device: u32,
        /// `CUgraphMem_attribute`.
        attribute: u32,
        /// 1 to set `value`, 0 to ask for it.
        set: u32,
        /// Zero.
        reserved: u32,
        /// The new value.
        value: u64,
    }
}

request! {
    /// GRAPH_TEXT: a part of what `cuGraphDebugDotPrint` writes.
    GraphText, 24 {
        /// The graph.
        graph: u64,
        /// CUDA's flags.
        flags: u32,
        /// Bytes wanted at most.
        length: u32,
        /// First byte.
        offset: u64,
    }
}

request! {
    /// → of GRAPH_TEXT: followed by `length` bytes.
    GraphTextPart, 16 {
        /// Bytes of the whole text.
        total: u64,
        /// Bytes that follow.
        length: u64,
    }
}

request! {
    /// CAPTURE_BEGIN: followed by `dependency_count` handles of nodes, and as many `CUgraphEdgeData` if `edge_data` is 1.
    CaptureBegin, 32 {
        /// The stream.
        stream: u64,
        /// The graph to capture into; 0 for a new one.
        graph: u64,
        /// `CUstreamCaptureMode`.
        mode: u32,
        /// Nodes that follow.
        dependency_count: u32,
        /// 1 if the edges have data.
        edge_data: u32,
        /// Zero.
        reserved: u32,
    }
}

request! {
    /// CAPTURE_END and CAPTURE_INFO.
    CaptureStream, 16 {
        /// The stream.
        stream: u64,
        /// 1 for the form that tells of edges' data.
        edge_data: u32,
        /// 1 if graph and dependencies are wanted.
        detail: u32,
    }
}

request! {
    /// → of CAPTURE_INFO: followed by `dependency_count` handles of nodes, and as many `CUgraphEdgeData` if they were
    /// asked for.
    Captured, 24 {
        /// `CUstreamCaptureStatus`.
        status: u32,
        /// Nodes that follow.
        dependency_count: u32,
        /// Number of the capture.
        id: u64,
        /// The graph.
        graph: u64,
    }
}

request! {
    /// CAPTURE_DEPENDENCIES: `cuStreamUpdateCaptureDependencies`; followed as [`CaptureBegin`].
    CaptureDependencies, 24 {
        /// The stream.
        stream: u64,
        /// CUDA's flags.
        flags: u32,
        /// Nodes that follow.
        dependency_count: u32,
        /// 1 if the edges have data.
        edge_data: u32,
        /// Zero.
        reserved: u32,
    }
}

request! {
    /// HOST_FUNCTION: has a stream run a function of the program.
    HostFunction, 24 {
        /// The stream.
        stream: u64,
        /// The function's number.
        number: u64,
        /// 1 for `cuStreamAddCallback`, 0 for `cuLaunchHostFunc`.
        callback: u32,
        /// CUDA's flags.
        flags: u32,
    }
}

request! {
    /// HOST_NEXT: waits until a function of the program is due. Sent by the one thread of the guest that runs them; it
    /// tells what it has run, so that the stream goes on.
    HostNext, 16 {
        /// Ticket of the function that was run, 0 if none.
        done: u64,
        /// Longest wait; short where the lane is not the thread's alone.
        milliseconds: u64,
    }
}

/// What is due.
pub mod host_due {
    /// Nothing; ask again.
    pub const NOTHING: u32 = 0;
    /// A host function.
    pub const FUNCTION: u32 = 1;
    /// A stream's callback.
    pub const CALLBACK: u32 = 2;
    /// A user object has no owner any more; nobody waits for its destructor.
    pub const DESTRUCTOR: u32 = 3;
}

request! {
    /// → of HOST_NEXT.
    HostDue, 24 {
        /// Tells the worker later which function was run; 0 if it does not wait.
        ticket: u64,
        /// The function's number, or the user object.
        number: u64,
        /// One of [`host_due`].
        due: u32,
        /// `CUresult` for a callback.
        status: u32,
    }
}

/// What a [`UserObject`] does.
pub mod user_object_operation {
    /// `cuUserObjectCreate`.
    pub const CREATE: u32 = 1;
    /// `cuUserObjectRetain`.
    pub const RETAIN: u32 = 2;
    /// `cuUserObjectRelease`.
    pub const RELEASE: u32 = 3;
    /// `cuGraphRetainUserObject`.
    pub const GRAPH_RETAIN: u32 = 4;
    /// `cuGraphReleaseUserObject`.
    pub const GRAPH_RELEASE: u32 = 5;
}

request! {
    /// USER_OBJECT.
    UserObject, 32 {
        /// Number of the object, which the guest chooses.
        object: u64,
        /// The graph, 0 for none.
        graph: u64,
        /// One of [`user_object_operation`].
        operation: u32,
        /// References.
        count: u32,
        /// CUDA's flags.
        flags: u32,
        /// Zero.
        reserved: u32,
    }
}
