//! Graphs: nodes, what each does, and the order among them.

use std::collections::{HashMap, HashSet};
use std::ffi::c_void;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use virtio_spec::cuda::{CUDA_MEMCPY3D, CUDA_MEMSET_NODE_PARAMS, CUgraphNodeType, CUhostFn, CUresult};

use super::conditional::{Conditional, Operations};
use super::event::Event;
use super::graph_memory::GraphAllocation;
use super::handles::{kind, mint};
use super::launch::Shape;
use super::module::Function;
use super::queue::{Health, lock};
use super::{Driver, Result, driver};

/// What a node does when its turn comes; it can be done any number of times.
pub(crate) type Replay = Arc<dyn Fn(&Health) -> Result<()> + Send + Sync>;

/// A kernel's parameters, and the pointers to them that a program is given.
#[derive(Debug)]
pub(crate) struct KernelParams {
    bytes: Vec<u8>,
    /// Addresses in `bytes`.
    pub(crate) pointers: Vec<usize>,
}

impl KernelParams {
    pub(crate) fn new(bytes: Vec<u8>, function: &Function) -> Self {
        let start = bytes.as_ptr().expose_provenance();
        let pointers =
            function.info.params.iter().map(|param| start.wrapping_add(param.offset as usize)).collect();
        Self { bytes, pointers }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A copy as the program described it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Described(pub(crate) CUDA_MEMCPY3D);

// SAFETY: addresses of the program, which only its own copies look behind.
unsafe impl Send for Described {}
// SAFETY: as above.
unsafe impl Sync for Described {}

/// What a node is.
#[derive(Clone)]
pub(crate) enum Op {
    Kernel { function: Arc<Function>, shape: Shape, params: Arc<KernelParams>, replay: Replay },
    Copy { described: Described, replay: Replay },
    Fill { described: CUDA_MEMSET_NODE_PARAMS, replay: Replay },
    Host { function: CUhostFn, data: usize, replay: Replay },
    Record(Arc<Event>),
    Wait(Arc<Event>),
    Child(Arc<Graph>),
    Allocate(Arc<GraphAllocation>),
    Free(Arc<GraphAllocation>),
    Operations { described: Arc<Operations>, replay: Replay },
    Conditional(Arc<Conditional>),
    Empty,
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind().c_name().unwrap_or("?"))
    }
}

impl Op {
    pub(crate) const fn kind(&self) -> CUgraphNodeType {
        match self {
            Self::Kernel { .. } => CUgraphNodeType::KERNEL,
            Self::Copy { .. } => CUgraphNodeType::MEMCPY,
            Self::Fill { .. } => CUgraphNodeType::MEMSET,
            Self::Host { .. } => CUgraphNodeType::HOST,
            Self::Record(_) => CUgraphNodeType::EVENT_RECORD,
            Self::Wait(_) => CUgraphNodeType::WAIT_EVENT,
            Self::Child(_) => CUgraphNodeType::GRAPH,
            Self::Allocate(_) => CUgraphNodeType::MEM_ALLOC,
            Self::Free(_) => CUgraphNodeType::MEM_FREE,
            Self::Operations { .. } => CUgraphNodeType::BATCH_MEM_OP,
            Self::Conditional(_) => CUgraphNodeType::CONDITIONAL,
            Self::Empty => CUgraphNodeType::EMPTY,
        }
    }

    /// Whether it allocates or frees memory.
    pub(crate) const fn is_memory(&self) -> bool {
        matches!(self, Self::Allocate(_) | Self::Free(_))
    }

    /// What is its own in a clone: child graphs.
    fn cloned(&self, driver: &Driver) -> Self {
        match self {
            Self::Child(graph) => Self::Child(graph.duplicate(driver)),
            Self::Conditional(own) => {
                let bodies = own.bodies.iter().map(|body| body.duplicate(driver)).collect();
                Self::Conditional(Arc::new(Conditional::new(&own.condition, own.kind, bodies)))
            }
            other => other.clone(),
        }
    }
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) handle: u64,
    /// Handle of its graph.
    pub(crate) graph: u64,
    /// Handle of the node that it was cloned from, 0 if of none.
    origin: u64,
    op: Mutex<Op>,
}

impl Node {
    pub(crate) fn op(&self) -> Op {
        lock(&self.op).clone()
    }

    /// Changes what the node does, but not its kind.
    pub(crate) fn set(&self, op: Op) -> Result<()> {
        let mut own = lock(&self.op);
        if own.kind() != op.kind() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        *own = op;
        Ok(())
    }
}

/// An object of the program that ends with its last reference.
#[derive(Debug)]
pub(crate) struct UserObject {
    pub(crate) references: AtomicI64,
    pub(crate) destroy: CUhostFn,
    pub(crate) data: usize,
}

impl UserObject {
    /// Gives references back.
    pub(crate) fn release(&self, count: u32) {
        let count = i64::from(count);
        let before = self.references.fetch_sub(count, Ordering::AcqRel);
        if before > 0
            && before <= count
            && let Some(destroy) = self.destroy
        {
            let data: *mut c_void = std::ptr::with_exposed_provenance_mut(self.data);
            // SAFETY: the program's destructor with its object.
            crate::api::callback(|| unsafe { destroy(data) });
        }
    }
}

/// References that a graph has.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) handle: u64,
    pub(crate) object: Arc<UserObject>,
    pub(crate) count: u32,
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.object.release(self.count);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) nodes: Vec<Arc<Node>>,
    /// Handles of the nodes at both ends.
    pub(crate) edges: Vec<(u64, u64)>,
    /// Shared with what was cloned or instantiated.
    pub(crate) owned: Vec<Arc<Owned>>,
}

impl Contents {
    fn has_memory(&self) -> bool {
        self.nodes.iter().any(|node| lock(&node.op).is_memory())
    }
}

/// A graph.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) handle: u64,
    /// It belongs to a node, and is not the program's to destroy.
    pub(crate) embedded: bool,
    pub(crate) contents: Mutex<Contents>,
    /// Handle of the last executable graph that was made of it, 0 if none was.
    pub(crate) instance: AtomicU64,
}

impl Graph {
    fn new(driver: &Driver, embedded: bool) -> Arc<Self> {
        let (contents, instance) = (Mutex::default(), AtomicU64::new(0));
        let graph = Arc::new(Self { handle: mint(kind::GRAPH), embedded, contents, instance });
        driver.graphs.insert(graph.handle, Arc::clone(&graph));
        graph
    }

    /// A graph without nodes.
    pub(crate) fn create(driver: &Driver) -> Arc<Self> {
        Self::new(driver, false)
    }

    /// A graph without nodes that belongs to a node.
    pub(crate) fn create_body(driver: &Driver) -> Arc<Self> {
        Self::new(driver, true)
    }

    /// A copy, nodes and all, for the program or for a node.
    fn copy(&self, driver: &Driver, embedded: bool) -> Arc<Self> {
        let copy = Self::new(driver, embedded);
        let contents = lock(&self.contents);
        let mut names = HashMap::new();
        let mut copied = Contents { owned: contents.owned.clone(), ..Contents::default() };
        for node in &contents.nodes {
            let made = Arc::new(Node {
                handle: mint(kind::NODE),
                graph: copy.handle,
                origin: node.handle,
                op: Mutex::new(node.op().cloned(driver)),
            });
            names.insert(node.handle, made.handle);
            driver.nodes.insert(made.handle, Arc::clone(&made));
            copied.nodes.push(made);
        }
        let name = |handle: &u64| names.get(handle).copied().unwrap_or(0);
        copied.edges = contents.edges.iter().map(|(from, to)| (name(from), name(to))).collect();
        *lock(&copy.contents) = copied;
        copy
    }

    /// Refuses what cannot be done with a graph whose nodes allocate or free memory: cloning, and taking parts out.
    pub(crate) fn check_no_memory(&self) -> Result<()> {
        if lock(&self.contents).has_memory() { Err(CUresult::ERROR_INVALID_VALUE) } else { Ok(()) }
    }

    /// A clone for the program.
    pub(crate) fn clone_whole(&self, driver: &Driver) -> Result<Arc<Self>> {
        self.check_no_memory()?;
        Ok(self.copy(driver, false))
    }

    /// A clone for a node.
    pub(crate) fn clone_for_node(&self, driver: &Driver) -> Result<Arc<Self>> {
        self.check_no_memory()?;
        Ok(self.copy(driver, true))
    }

    /// A copy for the driver itself.
    pub(crate) fn duplicate(&self, driver: &Driver) -> Arc<Self> {
        self.copy(driver, true)
    }

    /// Adds a node that follows others of this graph.
    pub(crate) fn add(&self, driver: &Driver, op: Op, after: &[u64]) -> Result<Arc<Node>> {
        let mut contents = lock(&self.contents);
        let known = |handle: &u64| contents.nodes.iter().any(|node| node.handle == *handle);
        if !after.iter().all(known) || after.iter().collect::<HashSet<_>>().len() != after.len() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        if op.is_memory() && self.embedded {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        if let Op::Free(allocation) = &op {
            allocation.check_free_in(self.handle)?;
            allocation.freed_in(self.handle);
        }
        let handle = mint(kind::NODE);
        let node = Arc::new(Node { handle, graph: self.handle, origin: 0, op: Mutex::new(op) });
        driver.nodes.insert(handle, Arc::clone(&node));
        contents.nodes.push(Arc::clone(&node));
        contents.edges.extend(after.iter().map(|from| (*from, handle)));
        Ok(node)
    }

    /// Adds edges between nodes of this graph, or removes them.
    pub(crate) fn connect(&self, edges: &[(u64, u64)], remove: bool) -> Result<()> {
        let mut contents = lock(&self.contents);
        if remove && contents.has_memory() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let known = |handle: u64| contents.nodes.iter().any(|node| node.handle == handle);
        for (from, to) in edges {
            if !known(*from) || !known(*to) || from == to || contents.edges.contains(&(*from, *to)) != remove
            {
                return Err(CUresult::ERROR_INVALID_VALUE);
            }
        }
        if remove {
            contents.edges.retain(|edge| !edges.contains(edge));
        } else {
            contents.edges.extend(edges);
        }
        Ok(())
    }

    /// Takes a node out, with its edges.
    pub(crate) fn remove(&self, driver: &Driver, handle: u64) -> Result<()> {
        self.check_no_memory()?;
        driver.nodes.remove(handle)?;
        let mut contents = lock(&self.contents);
        contents.nodes.retain(|node| node.handle != handle);
        contents.edges.retain(|(from, to)| *from != handle && *to != handle);
        Ok(())
    }

    /// Makes the graph and its nodes unknown; what was instantiated stays.
    pub(crate) fn end(&self, driver: &Driver) {
        let _ = driver.graphs.remove(self.handle);
        let contents = std::mem::take(&mut *lock(&self.contents));
        for node in &contents.nodes {
            let _ = driver.nodes.remove(node.handle);
            match node.op() {
                Op::Child(child) => child.end(driver),
                Op::Conditional(own) => own.bodies.iter().for_each(|body| body.end(driver)),
                _ => {}
            }
        }
    }

    /// The node that was cloned from this one.
    pub(crate) fn find_clone(&self, origin: u64) -> Option<u64> {
        lock(&self.contents).nodes.iter().find(|node| node.origin == origin).map(|node| node.handle)
    }

    /// Nodes in an order in which each comes after those that it follows, with the places of those; none for a cycle.
    pub(crate) fn ordered(&self) -> Option<Vec<(Arc<Node>, Vec<usize>)>> {
        let contents = lock(&self.contents);
        let mut places: HashMap<u64, usize> = HashMap::new();
        let mut ordered = Vec::new();
        while ordered.len() < contents.nodes.len() {
            let before = ordered.len();
            for node in &contents.nodes {
                if places.contains_key(&node.handle) {
                    continue;
                }
                let follows = contents.edges.iter().filter(|(_, to)| *to == node.handle);
                let follows: Option<Vec<usize>> =
                    follows.map(|(from, _)| places.get(from).copied()).collect();
                if let Some(follows) = follows {
                    places.insert(node.handle, ordered.len());
                    ordered.push((Arc::clone(node), follows));
                }
            }
            if ordered.len() == before {
                return None;
            }
        }
        Some(ordered)
    }

    /// Whether a node is one of `ends`, or comes before one.
    pub(crate) fn leads_to(&self, node: u64, ends: &[u64]) -> bool {
        let contents = lock(&self.contents);
        let mut open: Vec<u64> = ends.to_vec();
        let mut seen = HashSet::new();
        while let Some(at) = open.pop() {
            if at == node {
                return true;
            }
            if seen.insert(at) {
                open.extend(contents.edges.iter().filter(|(_, to)| *to == at).map(|(from, _)| *from));
            }
        }
        false
    }
}

/// The graph with a handle.
pub(crate) fn find(handle: u64) -> Result<Arc<Graph>> {
    driver().graphs.find(handle).ok_or(CUresult::ERROR_INVALID_VALUE)
}

/// The node with a handle.
pub(crate) fn find_node(handle: u64) -> Result<Arc<Node>> {
    driver().nodes.find(handle).ok_or(CUresult::ERROR_INVALID_VALUE)
}
