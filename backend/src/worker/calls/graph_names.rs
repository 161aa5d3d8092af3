//! Handles of graphs and nodes: given out here, because capture and cloning make them unasked, when the guest is first
//! told of them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use virtio_spec::{
    cuda::CUresult,
    handle::{Handle, Kind, MAX_GENERATION},
};

use super::{
    Invocation,
    handles::{Handles, Object},
};

/// What is known of the objects that have names.
#[derive(Default)]
struct Table {
    by_raw: HashMap<(Kind, u64), u64>,
    /// Nodes of a graph, and graphs of a node.
    children: HashMap<u64, Vec<u64>>,
    free: HashMap<Kind, Vec<u32>>,
    next: HashMap<Kind, u32>,
    generation: u32,
}

/// The names that a session's graphs and nodes have.
#[derive(Default)]
pub(crate) struct Names {
    table: Mutex<Table>,
}

impl Names {
    /// The handle of an object, which gets one if it has none. It belongs to a graph, or to a node, or to nothing (0).
    fn name(&self, handles: &Handles, kind: Kind, raw: u64, parent: u64) -> Result<u64, CUresult> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.by_raw.get(&(kind, raw))
            && handles.get(kind, *known).is_ok()
        {
            return Ok(*known);
        }
        table.generation = table.generation.wrapping_add(1) & MAX_GENERATION;
        let generation = table.generation;
        let freed = table.free.entry(kind).or_default().pop();
        let index = freed.unwrap_or_else(|| {
            let next = table.next.entry(kind).or_default();
            let index = *next;
            *next = next.saturating_add(1);
            index
        });
        let handle = Handle { kind, generation, index }.to_u64();
        handles.insert(kind, handle, Object { raw, parent, context: 0 })?;
        table.by_raw.insert((kind, raw), handle);
        if parent != 0 {
            table.children.entry(parent).or_default().push(handle);
        }
        Ok(handle)
    }

    /// Forgets an object that is gone, and what belonged to it.
    fn forget(&self, handles: &Handles, handle: u64) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = vec![handle];
        while let Some(handle) = gone.pop() {
            gone.extend(table.children.remove(&handle).unwrap_or_default());
            let Some(parts) = Handle::from_u64(handle) else { continue };
            let Ok(object) = handles.get(parts.kind, handle) else { continue };
            handles.remove(parts.kind, handle);
            if table.by_raw.get(&(parts.kind, object.raw)) == Some(&handle) {
                table.by_raw.remove(&(parts.kind, object.raw));
            }
            table.free.entry(parts.kind).or_default().push(parts.index);
            if let Some(siblings) = table.children.get_mut(&object.parent) {
                siblings.retain(|sibling| *sibling != handle);
            }
        }
    }

    /// The handle of a graph that is gone by itself, if it had one.
    fn known(&self, kind: Kind, raw: u64) -> Option<u64> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).by_raw.get(&(kind, raw)).copied()
    }
}

impl Invocation<'_> {
    /// The handle of a graph of the driver; 0 for none.
    pub(super) fn name_graph(&self, raw: u64, node: u64) -> Result<u64, CUresult> {
        if raw == 0 {
            return Ok(0);
        }
        self.session().graphs.names.name(&self.session().handles, Kind::Graph, raw, node)
    }

    /// The handle of a node of this graph; 0 for none.
    pub(super) fn name_node(&self, raw: u64, graph: u64) -> Result<u64, CUresult> {
        if raw == 0 {
            return Ok(0);
        }
        self.session().graphs.names.name(&self.session().handles, Kind::GraphNode, raw, graph)
    }

    /// The graph that a node belongs to.
    pub(super) fn graph_of(&self, node: u64) -> Result<u64, CUresult> {
        Ok(self.session().handles.get(Kind::GraphNode, node)?.parent)
    }

    /// Forgets a graph or node that is gone.
    pub(super) fn forget_named(&self, handle: u64) {
        self.session().graphs.names.forget(&self.session().handles, handle);
    }

    /// Forgets a graph of the driver that is gone.
    pub(super) fn forget_raw_graph(&self, raw: u64) {
        if let Some(handle) = self.session().graphs.names.known(Kind::Graph, raw) {
            self.forget_named(handle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_one_name_until_it_is_gone_with_what_belongs_to_it() -> Result<(), CUresult> {
        let (names, handles) = (Names::default(), Handles::new());
        let graph = names.name(&handles, Kind::Graph, 0x10, 0)?;
        let node = names.name(&handles, Kind::GraphNode, 0x20, graph)?;
        let child = names.name(&handles, Kind::Graph, 0x30, node)?;
        assert_eq!(names.name(&handles, Kind::GraphNode, 0x20, graph), Ok(node));
        names.forget(&handles, graph);
        for (kind, handle) in [(Kind::Graph, graph), (Kind::GraphNode, node), (Kind::Graph, child)] {
            assert!(handles.get(kind, handle).is_err());
        }
        let again = names.name(&handles, Kind::GraphNode, 0x20, 0)?;
        assert_ne!(again, node, "the driver's address may be the same, the node is not");
        Ok(())
    }
}
