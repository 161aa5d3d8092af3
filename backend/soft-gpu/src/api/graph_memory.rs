//! Nodes that allocate and free memory, and the memory that the device has for graphs.
//!
//! Unsafe code: what is behind the program's pointers.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::c_void;

use virtio_spec::cuda::{
    CUDA_MEM_ALLOC_NODE_PARAMS, CUdevice, CUdeviceptr, CUgraph, CUgraphMem_attribute, CUgraphNode,
    CUmemAllocationHandleType, CUmemAllocationType, CUmemLocation, CUmemLocationType, CUmemPoolProps,
    CUresult,
};

use super::entry::{Call, List, Out, check_device, exports};
use super::graph_nodes::add;
use super::virtual_memory::{check_location, wanted_access};
use crate::driver::graph::{self, Op};
use crate::driver::graph_memory::Wanted;
use crate::driver::{Driver, Result, driver};

exports! {
    context cuGraphAddMemAllocNode(
        node: *mut CUgraphNode, graph: CUgraph, after: *const CUgraphNode, count: usize,
        params: *mut CUDA_MEM_ALLOC_NODE_PARAMS,
    ) = add_allocation;
    context cuGraphAddMemFreeNode(
        node: *mut CUgraphNode, graph: CUgraph, after: *const CUgraphNode, count: usize, address: CUdeviceptr,
    ) = add_free;
    init cuGraphMemAllocNodeGetParams(node: CUgraphNode, params: *mut CUDA_MEM_ALLOC_NODE_PARAMS) = get_allocation;
    init cuGraphMemFreeNodeGetParams(node: CUgraphNode, address: *mut CUdeviceptr) = get_free;
    init cuDeviceGraphMemTrim(device: CUdevice) = trim;
    init cuDeviceGetGraphMemAttribute(device: CUdevice, attribute: CUgraphMem_attribute, value: *mut c_void)
        = attribute;
    init cuDeviceSetGraphMemAttribute(device: CUdevice, attribute: CUgraphMem_attribute, value: *mut c_void)
        = set_attribute;
}

/// A new allocation of a graph, whose address is told in the structure.
///
/// # Safety
/// `params` is NULL or a structure whose list of descriptors is complete.
pub(super) unsafe fn allocation(params: *mut CUDA_MEM_ALLOC_NODE_PARAMS, graph: u64) -> Result<Op> {
    if params.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: not NULL, so the program's structure.
    let wanted = unsafe { params.read() };
    let properties = wanted.poolProps;
    if properties.allocType != CUmemAllocationType::PINNED
        || properties.handleTypes != CUmemAllocationHandleType::NONE
        || properties.reserved != [0; 54]
    {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    check_location(properties.location)?;
    let access = match wanted.accessDescCount {
        0 => Vec::new(),
        // There is one device.
        1 => List::at(wanted.accessDescs).get(1)?,
        _ => return Err(CUresult::ERROR_INVALID_VALUE),
    };
    if !access.is_empty() {
        wanted_access(&access)?;
    }
    let (most, usage) = (properties.maxSize, properties.usage);
    let made = driver().reserve_for(graph, Wanted { length: wanted.bytesize as u64, most, usage, access })?;
    // SAFETY: not NULL, so the program's structure.
    unsafe { params.write(CUDA_MEM_ALLOC_NODE_PARAMS { dptr: CUdeviceptr(made.start), ..wanted }) };
    Ok(Op::Allocate(made))
}

/// The end of an allocation.
pub(super) fn free(address: CUdeviceptr) -> Result<Op> {
    driver().graph_memory.find(address.0).map(Op::Free).ok_or(CUresult::ERROR_INVALID_VALUE)
}

fn add_allocation(
    _: &Call,
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: List<CUgraphNode>,
    count: usize,
    params: *mut CUDA_MEM_ALLOC_NODE_PARAMS,
) -> Result<()> {
    // SAFETY: the contract of the function's documentation.
    add(node, graph, after, count, || unsafe { allocation(params, graph.0) })
}

fn add_free(
    _: &Call,
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: List<CUgraphNode>,
    count: usize,
    address: CUdeviceptr,
) -> Result<()> {
    add(node, graph, after, count, || free(address))
}

fn get_allocation(_: &Driver, node: CUgraphNode, params: Out<CUDA_MEM_ALLOC_NODE_PARAMS>) -> Result<()> {
    params.check()?;
    let Op::Allocate(own) = graph::find_node(node.0)?.op() else {
        return Err(CUresult::ERROR_INVALID_VALUE);
    };
    let access = &own.wanted.access;
    params.put(CUDA_MEM_ALLOC_NODE_PARAMS {
        poolProps: CUmemPoolProps {
            allocType: CUmemAllocationType::PINNED,
            handleTypes: CUmemAllocationHandleType::NONE,
            location: CUmemLocation { kind: CUmemLocationType::DEVICE.0, id: 0 },
            win32SecurityAttributes: std::ptr::null_mut(),
            maxSize: own.wanted.most,
            usage: own.wanted.usage,
            reserved: [0; 54],
        },
        accessDescs: if access.is_empty() { std::ptr::null() } else { access.as_ptr() },
        accessDescCount: access.len(),
        bytesize: usize::try_from(own.wanted.length).unwrap_or(usize::MAX),
        dptr: CUdeviceptr(own.start),
    })
}

fn get_free(_: &Driver, node: CUgraphNode, address: Out<CUdeviceptr>) -> Result<()> {
    address.check()?;
    match graph::find_node(node.0)?.op() {
        Op::Free(allocation) => address.put(CUdeviceptr(allocation.start)),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

/// Nothing is kept that is not in use.
fn trim(_: &Driver, device: CUdevice) -> Result<()> {
    check_device(device)
}

fn attribute(
    driver: &Driver,
    device: CUdevice,
    attribute: CUgraphMem_attribute,
    value: *mut c_void,
) -> Result<()> {
    check_device(device)?;
    Out::at(value.cast::<u64>()).put(driver.graph_memory.attribute(attribute)?)
}

fn set_attribute(
    driver: &Driver,
    device: CUdevice,
    attribute: CUgraphMem_attribute,
    value: *mut c_void,
) -> Result<()> {
    check_device(device)?;
    if value.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: the program's value, which has 8 bytes for every attribute.
    driver.graph_memory.set_attribute(attribute, unsafe { value.cast::<u64>().read_unaligned() })
}
