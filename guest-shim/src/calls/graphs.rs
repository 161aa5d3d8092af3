//! Graphs and stream capture.
//!
//! `capture` (streams that capture), `bodies` (what nodes do), `nodes` (adding and changing them), `params` (asking what
//! they do), `memory` (nodes that allocate and free), `operations` and `conditional` (nodes of those kinds), `lists` (what a graph is made of), `whole` (graphs as a whole,
//! executable graphs, user objects).

mod bodies;
mod capture;
mod conditional;
mod lists;
mod memory;
mod nodes;
mod operations;
mod params;
mod whole;

pub(crate) use self::{
    capture::*, conditional::*, lists::*, memory::*, nodes::*, operations::*, params::*, whole::*,
};

use virtio_spec::cuda::{CUgraphEdgeData, CUgraphNode, CUresult};

/// The program's nodes.
///
/// # Safety
/// `nodes` is null or has `count` elements.
unsafe fn nodes_at(nodes: *const CUgraphNode, count: usize) -> Result<Vec<u64>, CUresult> {
    if nodes.is_null() && count > 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    Ok((0..count).map(|index| unsafe { nodes.wrapping_add(index).read() }.0).collect())
}

/// The program's data of edges, if it gives any.
///
/// # Safety
/// `data` is null or has `count` elements.
unsafe fn data_at(data: *const CUgraphEdgeData, count: usize) -> Option<Vec<CUgraphEdgeData>> {
    if data.is_null() || count == 0 {
        return None;
    }
    // SAFETY: as the caller promises.
    Some((0..count).map(|index| unsafe { data.wrapping_add(index).read() }).collect())
}
