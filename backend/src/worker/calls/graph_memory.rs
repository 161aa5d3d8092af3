//! Graphs that allocate and free memory, and the memory that a device has for graphs.
//!
//! Unsafe code: calls of the driver.

use virtio_spec::{
    cuda::{
        CUDA_MEM_ALLOC_NODE_PARAMS, CUdevice, CUdeviceptr, CUgraph, CUgraphMem_attribute, CUgraphNode,
        CUgraphNodeType, CUmemAccessDesc, CUmemAllocationHandleType, CUmemAllocationType, CUmemLocation,
        CUmemPoolProps, CUresult,
    },
    graph_requests::{GraphMemory, NodeAllocation, NodeValue},
};

use super::{
    Invocation,
    graph::{function, list_with, pointer_to},
    graph_node::Target,
    ok,
    virtual_memory::location,
};

/// An allocation node without a place and a size yet.
const EMPTY: CUDA_MEM_ALLOC_NODE_PARAMS = CUDA_MEM_ALLOC_NODE_PARAMS {
    poolProps: CUmemPoolProps {
        allocType: CUmemAllocationType::PINNED,
        handleTypes: CUmemAllocationHandleType::NONE,
        location: CUmemLocation { kind: 0, id: 0 },
        win32SecurityAttributes: std::ptr::null_mut(),
        maxSize: 0,
        usage: 0,
        reserved: [0; 54],
    },
    accessDescs: std::ptr::null(),
    accessDescCount: 0,
    bytesize: 0,
    dptr: CUdeviceptr(0),
};

/// Adds a node that allocates; also its address. Such a node cannot be changed.
pub(super) fn allocate(
    call: &mut Invocation<'_>,
    target: Target<'_>,
) -> Result<(CUgraphNode, NodeValue), CUresult> {
    let request: NodeAllocation = call.structure()?;
    let access: Vec<CUmemAccessDesc> = call.values(u64::from(request.access_count))?;
    call.end_of_parameters()?;
    let Target::Add(graph, after) = target else { return Err(CUresult::ERROR_NOT_SUPPORTED) };
    if request.address != 0 || request.reserved != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let size = |value| usize::try_from(value).map_err(|_| CUresult::ERROR_INVALID_VALUE);
    let mut params = CUDA_MEM_ALLOC_NODE_PARAMS {
        poolProps: CUmemPoolProps {
            location: location(request.device)?,
            maxSize: size(request.max_bytes)?,
            usage: u16::try_from(request.usage).map_err(|_| CUresult::ERROR_INVALID_VALUE)?,
            ..EMPTY.poolProps
        },
        accessDescs: pointer_to(&access),
        accessDescCount: access.len(),
        bytesize: size(request.bytes)?,
        ..EMPTY
    };
    let add = function!(call, cuGraphAddMemAllocNode);
    let mut node = CUgraphNode::default();
    // SAFETY: live objects, room for one handle; the structure leads to the worker's own list alone.
    ok(call.in_driver(|| unsafe {
        add(&raw mut node, graph, pointer_to(after), after.len(), &raw mut params)
    }))?;
    Ok((node, NodeValue { value: params.dptr.0 }))
}

/// Adds a node that frees. Such a node cannot be changed.
pub(super) fn free(call: &mut Invocation<'_>, target: Target<'_>) -> Result<CUgraphNode, CUresult> {
    let address = call.structure::<NodeValue>()?.value;
    call.end_of_parameters()?;
    let Target::Add(graph, after) = target else { return Err(CUresult::ERROR_NOT_SUPPORTED) };
    let add = function!(call, cuGraphAddMemFreeNode);
    let mut node = CUgraphNode::default();
    // SAFETY: live objects, room for one handle; the driver knows which addresses are a graph's.
    ok(unsafe { add(&raw mut node, graph, pointer_to(after), after.len(), CUdeviceptr(address)) })?;
    Ok(node)
}

/// Tells what an allocation node has.
pub(super) fn get_allocation(call: &mut Invocation<'_>, node: CUgraphNode) -> Result<(), CUresult> {
    let get = function!(call, cuGraphMemAllocNodeGetParams);
    let mut params = EMPTY;
    // SAFETY: a live node, room for its structure.
    ok(unsafe { get(node, &raw mut params) })?;
    let count = if params.accessDescs.is_null() { 0 } else { params.accessDescCount };
    let access: Vec<CUmemAccessDesc> = (0..count)
        // SAFETY: the node's own list has `count` elements, and lives as long as the node.
        .map(|index| unsafe { params.accessDescs.wrapping_add(index).read() })
        .collect();
    call.put(&NodeAllocation {
        bytes: params.bytesize as u64,
        address: params.dptr.0,
        max_bytes: params.poolProps.maxSize as u64,
        device: u32::try_from(params.poolProps.location.id).map_err(|_| CUresult::ERROR_UNKNOWN)?,
        usage: u32::from(params.poolProps.usage),
        access_count: u32::try_from(access.len()).map_err(|_| CUresult::ERROR_UNKNOWN)?,
        reserved: 0,
    })?;
    call.put_values(&access)
}

/// Tells what a free node frees.
pub(super) fn get_free(call: &mut Invocation<'_>, node: CUgraphNode) -> Result<(), CUresult> {
    let get = function!(call, cuGraphMemFreeNodeGetParams);
    let mut address = CUdeviceptr::default();
    // SAFETY: a live node, room for one address.
    ok(unsafe { get(node, &raw mut address) })?;
    call.put(&NodeValue { value: address.0 })
}

/// Whether launches of a graph allocate or free memory, by its own nodes or by those of its child graphs.
pub(super) fn has_memory(call: &Invocation<'_>, graph: CUgraph) -> Result<bool, CUresult> {
    let list = function!(call, cuGraphGetNodes);
    let kind_of = function!(call, cuGraphNodeGetType);
    let child_of = function!(call, cuGraphChildGraphNodeGetGraph);
    let mut open = vec![graph];
    while let Some(graph) = open.pop() {
        // SAFETY: a live graph, room for as many nodes as it says.
        let (nodes, _, _) = list_with(|nodes, _, _, count| unsafe { list(graph, nodes, count) }, false)?;
        for node in nodes {
            let mut kind = CUgraphNodeType::EMPTY;
            // SAFETY: a live node, room for its type.
            ok(unsafe { kind_of(node, &raw mut kind) })?;
            match kind {
                CUgraphNodeType::MEM_ALLOC | CUgraphNodeType::MEM_FREE => return Ok(true),
                CUgraphNodeType::GRAPH => {
                    let mut child = CUgraph::default();
                    // SAFETY: a live node, room for one handle.
                    ok(unsafe { child_of(node, &raw mut child) })?;
                    open.push(child);
                }
                _ => {}
            }
        }
    }
    Ok(false)
}

/// Asks for an attribute of a device's memory for graphs, or sets it.
pub(super) fn attribute(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: GraphMemory = call.structure()?;
    call.end_of_parameters()?;
    let attribute = CUgraphMem_attribute(request.attribute);
    // The size of the value follows from the attribute, so that an unknown one is never passed on.
    if attribute.c_name().is_none() || request.set > 1 || request.reserved != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let device = i32::try_from(request.device).map_err(|_| CUresult::ERROR_INVALID_DEVICE)?;
    let graphs = &call.driver().graphs;
    let function = if request.set == 1 {
        graphs.cuDeviceSetGraphMemAttribute
    } else {
        graphs.cuDeviceGetGraphMemAttribute
    };
    let function = function.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let mut value = request.value;
    // SAFETY: eight bytes, as every known attribute has.
    ok(call.in_driver(|| unsafe { function(CUdevice(device), attribute, (&raw mut value).cast()) }))?;
    call.put(&NodeValue { value })
}
