//! Graphs, captures, and functions of the program that streams and graphs run.
//!
//! The device keeps graphs; here is what only this process can know. Read in this order: this file (requests about
//! graphs), `capture` (whether any stream captures), `host_calls` (functions of the program), `given` (what the program is
//! given pointers to), `held` (memory of the process that graphs copy), `memory` (graphs that allocate memory).
//!
//! Graphs and nodes have handles that the device gives them, because capture and cloning make them unasked.

pub(crate) mod capture;
pub(crate) mod given;
pub(crate) mod held;
pub(crate) mod host_calls;
pub(crate) mod memory;

use virtio_spec::cuda::{CUgraphEdgeData, CUgraphNodeType, CUresult};
use virtio_spec::graph_requests::{
    GraphCall, GraphEdges, GraphList, GraphListed, GraphNode, GraphNodeGet, GraphNodeMade, GraphObject,
    NodeValue, node_operation, opcode,
};
use virtio_spec::limits::MAX_RESPONSE_BYTES;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::context;
use crate::wire::{Request, Response};

/// Bytes of an answer with a list, or with a kernel's parameters.
const ROOM: u32 = MAX_RESPONSE_BYTES - 64;
/// Elements of a list that one request asks for.
const MOST: u32 = 2048;

/// Starts a request in the thread's context, or in none.
pub(crate) fn request(opcode: u32) -> Result<Request, CUresult> {
    Request::start(opcode, context::current().unwrap_or(0))
}

/// Sends a request whose answer is one structure.
pub(crate) fn ask<B: IntoBytes + Immutable, A: FromBytes>(opcode: u32, body: &B) -> Result<A, CUresult> {
    let mut request = request(opcode)?;
    request.structure(body);
    request.answer()?.take()
}

/// What names graphs and nodes and no more; `operation` is one of `graph_operation`.
pub(crate) fn call(operation: u32, flags: u32, first: u64, second: u64) -> Result<u64, CUresult> {
    let body = GraphCall { operation, flags, first, second };
    Ok(ask::<_, GraphObject>(opcode::GRAPH_CALL, &body)?.handle)
}

/// Nodes that a new one follows, with the edges' data if there is any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct After<'a> {
    pub(crate) nodes: &'a [u64],
    pub(crate) data: Option<&'a [CUgraphEdgeData]>,
}

impl After<'_> {
    /// None.
    pub(crate) const NOTHING: Self = After { nodes: &[], data: None };

    pub(crate) fn count(&self) -> Result<u32, CUresult> {
        u32::try_from(self.nodes.len()).map_err(|_| CUresult::ERROR_INVALID_VALUE)
    }

    pub(crate) fn append(&self, request: &mut Request) {
        request.slice(self.nodes.as_bytes());
        if let Some(data) = self.data {
            request.slice(data.as_bytes());
        }
    }
}

/// What came of adding a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) node: u64,
    /// Of the memory that an allocation node has, 0 for other kinds.
    pub(crate) address: u64,
}

/// Adds or changes a node. `operation` is one of `node_operation`; `body` appends what the kind of node needs.
pub(crate) fn node(
    operation: u32,
    kind: CUgraphNodeType,
    graph: u64,
    node: u64,
    after: After<'_>,
    body: impl FnOnce(&mut Request),
) -> Result<Made, CUresult> {
    let mut request = request(opcode::GRAPH_NODE)?;
    request.structure(&GraphNode {
        operation,
        kind: kind.0,
        graph,
        node,
        dependency_count: after.count()?,
        edge_data: u32::from(after.data.is_some()),
    });
    after.append(&mut request);
    body(&mut request);
    let mut response = request.answer()?;
    let node = response.take::<GraphNodeMade>()?.node;
    let allocates = kind == CUgraphNodeType::MEM_ALLOC && operation == node_operation::ADD;
    let address = if allocates { response.take::<NodeValue>()?.value } else { 0 };
    Ok(Made { node, address })
}

/// What a node of a kind does: its graph, and the response at the kind's structure.
pub(crate) fn node_get(node: u64, kind: CUgraphNodeType) -> Result<(u64, Response), CUresult> {
    let mut request = request(opcode::GRAPH_NODE_GET)?.with_room(ROOM);
    request.structure(&GraphNodeGet { node, kind: kind.0, reserved: 0 });
    let mut response = request.answer()?;
    let graph = response.take::<GraphObject>()?.handle;
    Ok((graph, response))
}

/// A list of nodes or edges.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Nodes, or where edges begin.
    pub(crate) nodes: Vec<u64>,
    /// Where edges end.
    pub(crate) ends: Vec<u64>,
    /// The edges' data.
    pub(crate) data: Vec<CUgraphEdgeData>,
    /// Elements of the whole list.
    pub(crate) total: usize,
}

/// The first `count` elements of a list, which is one of `graph_list`.
pub(crate) fn list(list: u32, object: u64, edge_data: bool, count: usize) -> Result<Listed, CUresult> {
    let mut found = Listed::default();
    loop {
        let skip = u32::try_from(found.nodes.len()).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
        let left = u32::try_from(count - found.nodes.len()).unwrap_or(u32::MAX).min(MOST);
        let mut request = request(opcode::GRAPH_LIST)?.with_room(ROOM);
        request.structure(&GraphList { list, edge_data: u32::from(edge_data), object, skip, count: left });
        let mut response = request.answer()?;
        let listed = response.take::<GraphListed>()?;
        found.total = usize::try_from(listed.total).map_err(|_| CUresult::ERROR_UNKNOWN)?;
        if listed.count > u64::from(left) {
            return Err(CUresult::ERROR_UNKNOWN);
        }
        for _ in 0..listed.count {
            found.nodes.push(response.take()?);
        }
        if list == virtio_spec::graph_requests::graph_list::EDGES {
            for _ in 0..listed.count {
                found.ends.push(response.take()?);
            }
        }
        if edge_data {
            for _ in 0..listed.count {
                found.data.push(response.take()?);
            }
        }
        if listed.count == 0 || found.nodes.len() >= count.min(found.total) {
            return Ok(found);
        }
    }
}

/// Adds or removes edges.
pub(crate) fn edges(
    graph: u64,
    from: &[u64],
    to: &[u64],
    data: Option<&[CUgraphEdgeData]>,
    remove: bool,
) -> Result<(), CUresult> {
    let mut request = request(opcode::GRAPH_EDGES)?;
    request.structure(&GraphEdges {
        graph,
        count: u32::try_from(from.len()).map_err(|_| CUresult::ERROR_INVALID_VALUE)?,
        remove: u32::from(remove),
        edge_data: u32::from(data.is_some()),
        reserved: 0,
    });
    request.slice(from.as_bytes());
    request.slice(to.as_bytes());
    if let Some(data) = data {
        request.slice(data.as_bytes());
    }
    request.answer().map(|_| ())
}
