//! Nodes of memory operations, and conditional nodes. Kernels cannot set conditions here: they are what they are at a
//! launch.

use std::sync::Arc;

use virtio_spec::cuda::{CUgraphConditionalNodeType as Kind, CUresult, CUstreamBatchMemOpParams};

use super::Result;
use super::graph::Graph;

/// Memory operations as the program described them.
#[derive(Debug)]
pub(crate) struct Operations {
    /// Handle of the context.
    pub(crate) context: u64,
    pub(crate) flags: u32,
    pub(crate) list: Vec<CUstreamBatchMemOpParams>,
}

/// A condition.
#[derive(Debug)]
pub(crate) struct Condition {
    /// Handle of the graph whose nodes may have it.
    pub(crate) graph: u64,
    /// Its value at each launch.
    pub(crate) value: u32,
}

/// A conditional node.
#[derive(Debug)]
pub(crate) struct Conditional {
    pub(crate) condition: Arc<Condition>,
    pub(crate) kind: Kind,
    pub(crate) bodies: Vec<Arc<Graph>>,
    /// The bodies' handles, which a program is given a pointer to.
    pub(crate) handles: Vec<u64>,
}

impl Conditional {
    pub(crate) fn new(condition: &Arc<Condition>, kind: Kind, bodies: Vec<Arc<Graph>>) -> Self {
        let handles = bodies.iter().map(|body| body.handle).collect();
        Self { condition: Arc::clone(condition), kind, bodies, handles }
    }

    /// The body that a launch runs, once.
    pub(crate) fn chosen(&self) -> Result<Option<&Arc<Graph>>> {
        let value = self.condition.value;
        match self.kind {
            Kind::IF => Ok(self.bodies.get(usize::from(value == 0))),
            // It would never end.
            Kind::WHILE if value != 0 => Err(CUresult::ERROR_NOT_SUPPORTED),
            Kind::SWITCH => Ok(usize::try_from(value).ok().and_then(|index| self.bodies.get(index))),
            _ => Ok(None),
        }
    }
}
