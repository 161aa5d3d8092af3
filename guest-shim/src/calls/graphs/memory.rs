//! Graphs that allocate and free memory, and the memory that a device has for graphs.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::ffi::c_void;

use virtio_spec::codec::Scalar;
use virtio_spec::cuda::{
    CUDA_MEM_ALLOC_NODE_PARAMS, CUdevice, CUdeviceptr, CUgraph, CUgraphMem_attribute, CUgraphNode,
    CUgraphNodeType, CUmemAccessDesc, CUmemAllocationHandleType, CUmemAllocationType, CUmemLocation,
    CUmemLocationType, CUmemPoolProps, CUresult,
};
use virtio_spec::graph_requests::{GraphMemory, NodeAllocation, NodeValue, opcode};
use zerocopy::FromBytes;

use super::bodies::Body;
use super::nodes::{add, added};
use super::params::value;
use crate::calls::give;
use crate::calls::virtual_memory::{descriptors, host_location};
use crate::device::devices;
use crate::entry::status;
use crate::exports::graphs::wire_cuDeviceGraphMemTrim;
use crate::graph::{ask, given, node_get};

/// What an allocation node is to have.
///
/// # Safety
/// `params` is null or a structure whose list of descriptors is complete.
pub(super) unsafe fn allocation(params: *const CUDA_MEM_ALLOC_NODE_PARAMS) -> Result<Body, CUresult> {
    if params.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    let params = unsafe { params.read() };
    let properties = params.poolProps;
    // Memory of graphs is never shared with other processes.
    if properties.allocType != CUmemAllocationType::PINNED
        || properties.handleTypes != CUmemAllocationHandleType::NONE
        || !properties.win32SecurityAttributes.is_null()
        || properties.reserved != [0; 54]
    {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let place = host_location(properties.location)?;
    let access = match params.accessDescCount {
        0 => Vec::new(),
        // SAFETY: as the caller promises.
        count => unsafe { descriptors(params.accessDescs, count) }?.1,
    };
    let allocation = NodeAllocation {
        bytes: params.bytesize as u64,
        address: 0,
        max_bytes: properties.maxSize as u64,
        device: u32::try_from(place.id).map_err(|_| CUresult::ERROR_INVALID_DEVICE)?,
        usage: u32::from(properties.usage),
        access_count: u32::try_from(access.len()).map_err(|_| CUresult::ERROR_INVALID_VALUE)?,
        reserved: 0,
    };
    Ok(Body::Allocation(allocation, access))
}

/// Tells the program the address of a new allocation.
///
/// # Safety
/// `params` is the structure that the node was described with.
pub(super) unsafe fn give_address(params: *mut CUDA_MEM_ALLOC_NODE_PARAMS, address: u64) {
    // SAFETY: as the caller promises.
    let place = unsafe { &raw mut (*params).dptr };
    // SAFETY: as the caller promises.
    unsafe { place.write(CUdeviceptr(address)) };
}

pub(crate) unsafe fn cuGraphAddMemAllocNode(
    node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    dependency_count: usize,
    params: *mut CUDA_MEM_ALLOC_NODE_PARAMS,
) -> CUresult {
    // SAFETY: the same contract.
    let body = || Ok((CUgraphNodeType::MEM_ALLOC, unsafe { allocation(params) }?));
    // SAFETY: the same contract.
    let made = unsafe { added(node, graph, (dependencies, std::ptr::null()), dependency_count, body) };
    // SAFETY: the application's structure, which was read before.
    status(made.map(|made| unsafe { give_address(params, made.address) }))
}

pub(crate) unsafe fn cuGraphAddMemFreeNode(
    node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    dependency_count: usize,
    address: CUdeviceptr,
) -> CUresult {
    let body = || Ok((CUgraphNodeType::MEM_FREE, Body::Value(address.0)));
    // SAFETY: the same contract.
    unsafe { add(node, graph, (dependencies, std::ptr::null()), dependency_count, body) }
}

/// A device as a place of memory, as the program numbers it.
fn location(host_ordinal: u32) -> Result<CUmemLocation, CUresult> {
    let device = devices()?.at_host_ordinal(host_ordinal).ok_or(CUresult::ERROR_INVALID_DEVICE)?;
    Ok(CUmemLocation { kind: CUmemLocationType::DEVICE.0, id: crate::device::number(device) })
}

/// An allocation node's structure, without the pointer to its descriptors; with its graph, and the descriptors.
fn allocation_of(
    node: CUgraphNode,
) -> Result<(CUDA_MEM_ALLOC_NODE_PARAMS, u64, Vec<CUmemAccessDesc>), CUresult> {
    let (graph, mut response) = node_get(node.0, CUgraphNodeType::MEM_ALLOC)?;
    let found = response.take::<NodeAllocation>()?;
    let count = found.access_count as usize;
    let bytes = response.take_slice(count.saturating_mul(size_of::<CUmemAccessDesc>()))?;
    let access = bytes.chunks_exact(size_of::<CUmemAccessDesc>()).map(|bytes| {
        let one = CUmemAccessDesc::read_from_bytes(bytes).map_err(|_| CUresult::ERROR_UNKNOWN)?;
        let place = u32::try_from(one.location.id).map_err(|_| CUresult::ERROR_UNKNOWN)?;
        Ok(CUmemAccessDesc { location: location(place)?, ..one })
    });
    let access = access.collect::<Result<Vec<_>, CUresult>>()?;
    let size = |value| usize::try_from(value).map_err(|_| CUresult::ERROR_UNKNOWN);
    let params = CUDA_MEM_ALLOC_NODE_PARAMS {
        poolProps: CUmemPoolProps {
            allocType: CUmemAllocationType::PINNED,
            handleTypes: CUmemAllocationHandleType::NONE,
            location: location(found.device)?,
            win32SecurityAttributes: std::ptr::null_mut(),
            maxSize: size(found.max_bytes)?,
            usage: u16::try_from(found.usage).map_err(|_| CUresult::ERROR_UNKNOWN)?,
            reserved: [0; 54],
        },
        accessDescs: std::ptr::null(),
        accessDescCount: access.len(),
        bytesize: size(found.bytes)?,
        dptr: CUdeviceptr(found.address),
    };
    Ok((params, graph, access))
}

pub(crate) unsafe fn cuGraphMemAllocNodeGetParams(
    node: CUgraphNode,
    params: *mut CUDA_MEM_ALLOC_NODE_PARAMS,
) -> CUresult {
    let run = || {
        let (found, graph, access) = allocation_of(node)?;
        let accessDescs = given::access(node.0, graph, &access);
        // SAFETY: the application's structure.
        unsafe { give(params, CUDA_MEM_ALLOC_NODE_PARAMS { accessDescs, ..found }) }
    };
    if params.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    status(run())
}

pub(crate) unsafe fn cuGraphMemFreeNodeGetParams(node: CUgraphNode, address: *mut CUdeviceptr) -> CUresult {
    let found = value(node, CUgraphNodeType::MEM_FREE);
    // SAFETY: the application's place for an address.
    status(found.and_then(|found| unsafe { give(address, CUdeviceptr(found)) }))
}

pub(crate) unsafe fn cuDeviceGraphMemTrim(device: CUdevice) -> CUresult {
    match devices().and_then(|devices| devices.host_ordinal(device)) {
        // SAFETY: no pointers.
        Ok(place) => unsafe { wire_cuDeviceGraphMemTrim(CUdevice::from_u64(u64::from(place))) },
        Err(error) => error,
    }
}

/// Asks for an attribute of a device's memory for graphs, or sets it.
fn attribute(
    device: CUdevice,
    attribute: CUgraphMem_attribute,
    wanted: Option<u64>,
) -> Result<u64, CUresult> {
    let device = devices()?.host_ordinal(device)?;
    let body = GraphMemory {
        device,
        attribute: attribute.0,
        set: u32::from(wanted.is_some()),
        reserved: 0,
        value: wanted.unwrap_or(0),
    };
    Ok(ask::<_, NodeValue>(opcode::GRAPH_MEMORY, &body)?.value)
}

pub(crate) unsafe fn cuDeviceGetGraphMemAttribute(
    device: CUdevice,
    attr: CUgraphMem_attribute,
    value: *mut c_void,
) -> CUresult {
    if value.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let found = attribute(device, attr, None);
    // SAFETY: the application's place for a 64-bit number, which every attribute is.
    status(found.and_then(|found| unsafe { give(value.cast::<u64>(), found) }))
}

pub(crate) unsafe fn cuDeviceSetGraphMemAttribute(
    device: CUdevice,
    attr: CUgraphMem_attribute,
    value: *mut c_void,
) -> CUresult {
    if value.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's 64-bit number.
    let wanted = unsafe { value.cast::<u64>().read() };
    status(attribute(device, attr, Some(wanted)).map(|_| ()))
}
