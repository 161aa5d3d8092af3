//! Executable graphs: the steps that a launch takes, one after the other.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use virtio_spec::cuda::{CUgraphExecUpdateResult, CUresult};

use super::capture;
use super::context::Context;
use super::graph::{Graph, Op, Owned};
use super::graph_memory::Balance;
use super::handles::{kind, mint};
use super::queue::{Completion, Health, Stream, lock};
use super::{Driver, Result, driver};

/// What a step does.
#[derive(Clone, Debug)]
enum Work {
    Op(Op),
    Graph(Plan),
    /// How many bodies there are, and the one that runs.
    Conditional(usize, Option<Plan>),
}

/// A node's part of a launch.
#[derive(Clone, Debug)]
struct Step {
    /// Handle of the node that it was made from.
    node: u64,
    /// Places of the steps that it follows.
    follows: Vec<usize>,
    enabled: bool,
    work: Work,
}

/// What launching a graph does.
#[derive(Clone, Debug)]
struct Plan {
    steps: Vec<Step>,
    /// What the program must not end while the plan may be launched.
    owned: Vec<Arc<Owned>>,
}

/// An executable graph.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) handle: u64,
    pub(crate) flags: u64,
    plan: Mutex<Arc<Plan>>,
    /// What it was made from, as it was then: a launch that is captured becomes a node with it.
    source: Mutex<Arc<Graph>>,
    /// What launches do with memory; the same after updates, which cannot change it.
    balance: Balance,
    /// The last launch, which the next one follows.
    last: Mutex<Option<Arc<Completion>>>,
}

fn plan(graph: &Graph) -> Result<Plan> {
    let ordered = graph.ordered().ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let step = |(node, follows): (Arc<super::graph::Node>, Vec<usize>)| {
        let work = match node.op() {
            Op::Child(child) => Work::Graph(plan(&child)?),
            Op::Conditional(own) => {
                let chosen = own.chosen()?.map(|body| plan(body)).transpose()?;
                Work::Conditional(own.bodies.len(), chosen)
            }
            op => Work::Op(op),
        };
        Ok(Step { node: node.handle, follows, enabled: true, work })
    };
    let steps = ordered.into_iter().map(step).collect::<Result<_>>()?;
    Ok(Plan { steps, owned: lock(&graph.contents).owned.clone() })
}

/// What must have ended before a launch begins: the events that it waits for.
fn awaited(steps: &[Step], after: &mut Vec<Arc<Completion>>) {
    for step in steps {
        match &step.work {
            Work::Op(Op::Wait(event)) => after.extend(event.recorded()),
            Work::Graph(plan) => awaited(&plan.steps, after),
            // Events have no place in bodies.
            Work::Op(_) | Work::Conditional(..) => {}
        }
    }
}

/// The end of a launch is that of the events that it records.
fn recorded(steps: &[Step], done: &Arc<Completion>) {
    for step in steps {
        match &step.work {
            Work::Op(Op::Record(event)) => event.record(Arc::clone(done)),
            Work::Graph(plan) => recorded(&plan.steps, done),
            Work::Op(_) | Work::Conditional(..) => {}
        }
    }
}

/// The nodes that are no child graphs: those of child graphs neither allocate nor free.
fn ops(steps: &[Step]) -> impl Iterator<Item = &Op> + Clone {
    steps.iter().filter_map(|step| match &step.work {
        Work::Op(op) => Some(op),
        Work::Graph(_) | Work::Conditional(..) => None,
    })
}

fn run(steps: &[Step], context: u64, health: &Health) -> Result<()> {
    for step in steps.iter().filter(|step| step.enabled) {
        match &step.work {
            Work::Op(
                Op::Kernel { replay, .. }
                | Op::Copy { replay, .. }
                | Op::Fill { replay, .. }
                | Op::Host { replay, .. }
                | Op::Operations { replay, .. },
            ) => replay(health)?,
            Work::Op(Op::Allocate(allocation)) => driver().graph_memory.begin(allocation, context)?,
            Work::Op(Op::Free(allocation)) => driver().graph_memory.end(allocation),
            Work::Op(_) => {}
            Work::Graph(plan) | Work::Conditional(_, Some(plan)) => run(&plan.steps, context, health)?,
            Work::Conditional(_, None) => {}
        }
    }
    Ok(())
}

/// A node at fault, and why.
type Difference = (u64, CUgraphExecUpdateResult);

/// Takes over what the new plan does and owns, where it has the same shape.
fn update(old: &Plan, new: &Plan) -> core::result::Result<Plan, Difference> {
    if old.steps.len() != new.steps.len() {
        let node = new.steps.get(old.steps.len()).map_or(0, |step| step.node);
        return Err((node, CUgraphExecUpdateResult::ERROR_TOPOLOGY_CHANGED));
    }
    let pairs = old.steps.iter().zip(&new.steps);
    let steps = pairs
        .map(|(old, new)| {
            let kind = |work: &Work| match work {
                Work::Op(op) => op.kind().0,
                Work::Graph(_) => u32::MAX,
                Work::Conditional(..) => u32::MAX - 1,
            };
            if kind(&old.work) != kind(&new.work) {
                return Err((new.node, CUgraphExecUpdateResult::ERROR_NODE_TYPE_CHANGED));
            }
            if old.follows != new.follows {
                return Err((new.node, CUgraphExecUpdateResult::ERROR_TOPOLOGY_CHANGED));
            }
            if let (Work::Conditional(old, _), Work::Conditional(bodies, _)) = (&old.work, &new.work)
                && old != bodies
            {
                return Err((new.node, CUgraphExecUpdateResult::ERROR_PARAMETERS_CHANGED));
            }
            let is_same_memory = match (&old.work, &new.work) {
                (Work::Op(Op::Allocate(old)), Work::Op(Op::Allocate(new)))
                | (Work::Op(Op::Free(old)), Work::Op(Op::Free(new))) => Arc::ptr_eq(old, new),
                _ => true,
            };
            if !is_same_memory {
                return Err((new.node, CUgraphExecUpdateResult::ERROR_PARAMETERS_CHANGED));
            }
            let work = match (&old.work, &new.work) {
                (Work::Graph(old), Work::Graph(new)) => Work::Graph(update(old, new)?),
                (_, work) => work.clone(),
            };
            Ok(Step { work, ..old.clone() })
        })
        .collect::<core::result::Result<_, Difference>>()?;
    Ok(Plan { steps, owned: new.owned.clone() })
}

impl Drop for Exec {
    fn drop(&mut self) {
        lock(&self.source).end(driver());
    }
}

impl Exec {
    /// An executable graph; one at a time of a graph whose nodes allocate or free memory.
    pub(crate) fn instantiate(driver: &Driver, graph: &Graph, flags: u64) -> Result<Arc<Self>> {
        let before = driver.execs.find(graph.instance.load(Ordering::Acquire));
        if before.is_some() {
            graph.check_no_memory()?;
        }
        let plan = plan(graph)?;
        let balance = Balance::of(ops(&plan.steps));
        let exec = Arc::new(Self {
            handle: mint(kind::EXEC),
            flags,
            plan: Mutex::new(Arc::new(plan)),
            source: Mutex::new(graph.duplicate(driver)),
            balance,
            last: Mutex::default(),
        });
        graph.instance.store(exec.handle, Ordering::Release);
        driver.execs.insert(exec.handle, Arc::clone(&exec));
        Ok(exec)
    }

    /// Makes it do what a graph of the same shape says; the difference if it has another one.
    pub(crate) fn update(&self, graph: &Graph) -> Result<Option<Difference>> {
        let new = plan(graph)?;
        let mut plan = lock(&self.plan);
        match update(&plan, &new) {
            Ok(updated) => {
                let before = std::mem::replace(&mut *plan, Arc::new(updated));
                drop(plan);
                let source = std::mem::replace(&mut *lock(&self.source), graph.duplicate(driver()));
                source.end(driver());
                // What only it owned ends here, or with the last launch of it.
                drop(before);
                Ok(None)
            }
            Err(difference) => Ok(Some(difference)),
        }
    }

    fn change(&self, node: u64, body: impl FnOnce(&mut Step) -> Result<()>) -> Result<()> {
        let mut plan = lock(&self.plan);
        // Launches that are under way keep the old plan.
        let mut changed = Plan::clone(&plan);
        let step = changed.steps.iter_mut().find(|step| step.node == node);
        body(step.ok_or(CUresult::ERROR_INVALID_VALUE)?)?;
        let before = std::mem::replace(&mut *plan, Arc::new(changed));
        drop(plan);
        drop(before);
        Ok(())
    }

    /// Changes what one node does.
    pub(crate) fn set(&self, node: u64, op: Op) -> Result<()> {
        self.change(node, |step| match (&mut step.work, op) {
            (Work::Graph(own), Op::Child(graph)) => {
                *own = update(own, &plan(&graph)?).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
                Ok(())
            }
            (Work::Op(old), op) if old.kind() == op.kind() => {
                *old = op;
                Ok(())
            }
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        })
    }

    /// Whether a node takes part in launches.
    pub(crate) fn enabled(&self, node: u64) -> Result<bool> {
        let plan = lock(&self.plan);
        let step = plan.steps.iter().find(|step| step.node == node);
        Ok(step.ok_or(CUresult::ERROR_INVALID_VALUE)?.enabled)
    }

    /// Has a node take part in launches or not; only work has this choice.
    pub(crate) fn enable(&self, node: u64, enabled: bool) -> Result<()> {
        self.change(node, |step| {
            if !matches!(step.work, Work::Op(Op::Kernel { .. } | Op::Copy { .. } | Op::Fill { .. })) {
                return Err(CUresult::ERROR_INVALID_VALUE);
            }
            step.enabled = enabled;
            Ok(())
        })
    }

    /// Launches.
    pub(crate) fn launch(self: &Arc<Self>, context: &Context, stream: &Arc<Stream>) -> Result<()> {
        /// `CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH`.
        const FREES: u64 = 1;
        let node = || Ok(Op::Child(lock(&self.source).clone_for_node(driver())?));
        if capture::add(driver(), stream, node)? {
            return Ok(());
        }
        let plan = Arc::clone(&lock(&self.plan));
        let mut last = lock(&self.last);
        let left = self.balance.launch(self.flags & FREES != 0)?;
        let mut after: Vec<_> = last.take().into_iter().collect();
        awaited(&plan.steps, &mut after);
        let context_handle = context.handle;
        let exec = Arc::clone(self);
        let work = Arc::clone(&plan);
        let done = context.submit(stream, after, move |health: &Health| {
            for allocation in &left {
                driver().graph_memory.end(allocation);
            }
            let outcome =
                if health.check().is_err() { Ok(()) } else { run(&work.steps, context_handle, health) };
            drop((exec, work));
            outcome
        })?;
        recorded(&plan.steps, &done);
        *last = Some(done);
        Ok(())
    }
}
