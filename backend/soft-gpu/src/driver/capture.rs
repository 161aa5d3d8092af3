//! Capture: what streams are given becomes nodes of a graph.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use virtio_spec::cuda::{CUresult, CUstreamCaptureMode, CUstreamCaptureStatus};

use super::event::Event;
use super::graph::{Graph, Node, Op};
use super::queue::{Order, Stream, lock};
use super::{Driver, Result};

/// A capture.
#[derive(Debug)]
pub(crate) struct Capture {
    /// Unique in the process.
    pub(crate) id: u64,
    pub(crate) graph: Arc<Graph>,
    mode: CUstreamCaptureMode,
    thread: ThreadId,
    /// Number of the stream in which it began.
    origin: u64,
    invalid: AtomicBool,
    /// The graph is the program's, which captures into it.
    given: bool,
    streams: Mutex<Vec<Arc<Stream>>>,
}

/// A stream's part in a capture.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    pub(crate) capture: Arc<Capture>,
    /// Nodes that the next one follows.
    pub(crate) after: Vec<u64>,
}

static ACTIVE: Mutex<Vec<Arc<Capture>>> = Mutex::new(Vec::new());

thread_local! {
    static MODE: Cell<CUstreamCaptureMode> = const { Cell::new(CUstreamCaptureMode::GLOBAL) };
}

/// Sets the thread's mode and returns the one before.
pub(crate) fn exchange_mode(mode: CUstreamCaptureMode) -> CUstreamCaptureMode {
    MODE.replace(mode)
}

impl Capture {
    fn check(&self) -> Result<()> {
        if self.invalid.load(Ordering::Acquire) {
            Err(CUresult::ERROR_STREAM_CAPTURE_INVALIDATED)
        } else {
            Ok(())
        }
    }

    fn invalidate(&self) {
        self.invalid.store(true, Ordering::Release);
    }

    fn forbids(&self, mode: CUstreamCaptureMode) -> bool {
        let own = self.thread == std::thread::current().id() && self.mode != CUstreamCaptureMode::RELAXED;
        match mode {
            CUstreamCaptureMode::GLOBAL => own || self.mode == CUstreamCaptureMode::GLOBAL,
            CUstreamCaptureMode::THREAD_LOCAL => own,
            _ => false,
        }
    }
}

/// Refuses a call that is not safe while the thread must heed a capture, which that ends.
pub(crate) fn check_unsafe() -> Result<()> {
    let mode = MODE.get();
    let mut refused = Ok(());
    for capture in lock(&ACTIVE).iter().filter(|capture| capture.forbids(mode)) {
        capture.invalidate();
        refused = Err(CUresult::ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    refused
}

/// Refuses what would wait for a whole context in which a stream captures.
pub(crate) fn check_context(context: u64) -> Result<()> {
    let mut refused = Ok(());
    for capture in lock(&ACTIVE).iter() {
        if lock(&capture.streams).iter().any(|stream| stream.context == context) {
            capture.invalidate();
            refused = Err(CUresult::ERROR_STREAM_CAPTURE_UNSUPPORTED);
        }
    }
    refused
}

/// Refuses work for the default stream while a stream captures that it would have to wait for.
fn check_implicit(stream: &Stream) -> Result<()> {
    if stream.order != Order::Legacy {
        return Ok(());
    }
    let mut refused = Ok(());
    for capture in lock(&ACTIVE).iter() {
        let blocks = |other: &Arc<Stream>| other.context == stream.context && other.order == Order::Blocking;
        if lock(&capture.streams).iter().any(blocks) {
            capture.invalidate();
            refused = Err(CUresult::ERROR_STREAM_CAPTURE_IMPLICIT);
        }
    }
    refused
}

/// Refuses what a captured stream cannot do, which ends the capture.
pub(crate) fn refuse(stream: &Stream) -> Result<()> {
    check_implicit(stream)?;
    match &*lock(&stream.capture) {
        None => Ok(()),
        Some(joined) => {
            joined.capture.check()?;
            joined.capture.invalidate();
            Err(CUresult::ERROR_STREAM_CAPTURE_UNSUPPORTED)
        }
    }
}

/// Whether a stream captures.
pub(crate) fn is_capturing(stream: &Stream) -> bool {
    lock(&stream.capture).is_some()
}

/// Makes work a node if the stream captures; false if it does not.
pub(crate) fn add(driver: &Driver, stream: &Stream, op: impl FnOnce() -> Result<Op>) -> Result<bool> {
    add_to(driver, stream, |_| op())
}

/// The same for work that must know its graph.
pub(crate) fn add_to(
    driver: &Driver,
    stream: &Stream,
    op: impl FnOnce(&Graph) -> Result<Op>,
) -> Result<bool> {
    check_implicit(stream)?;
    let mut own = lock(&stream.capture);
    let Some(joined) = own.as_mut() else { return Ok(false) };
    joined.capture.check()?;
    let graph = &joined.capture.graph;
    let node: Arc<Node> = graph.add(driver, op(graph)?, &joined.after)?;
    joined.after = vec![node.handle];
    Ok(true)
}

pub(crate) fn begin(
    stream: &Arc<Stream>,
    mode: CUstreamCaptureMode,
    graph: Arc<Graph>,
    given: bool,
    after: Vec<u64>,
) -> Result<()> {
    static IDS: AtomicU64 = AtomicU64::new(1);
    mode.c_name().ok_or(CUresult::ERROR_INVALID_VALUE)?;
    if stream.order == Order::Legacy {
        return Err(CUresult::ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    let mut own = lock(&stream.capture);
    if own.is_some() {
        return Err(CUresult::ERROR_ILLEGAL_STATE);
    }
    let capture = Arc::new(Capture {
        id: IDS.fetch_add(1, Ordering::Relaxed),
        graph,
        mode,
        thread: std::thread::current().id(),
        origin: stream.id,
        invalid: AtomicBool::new(false),
        given,
        streams: Mutex::new(vec![Arc::clone(stream)]),
    });
    lock(&ACTIVE).push(Arc::clone(&capture));
    *own = Some(Joined { capture, after });
    Ok(())
}

/// The graph, which is the program's from now on.
pub(crate) fn end(driver: &Driver, stream: &Stream) -> Result<Arc<Graph>> {
    let joined = lock(&stream.capture).clone().ok_or(CUresult::ERROR_ILLEGAL_STATE)?;
    let capture = joined.capture;
    if capture.origin != stream.id {
        return Err(CUresult::ERROR_STREAM_CAPTURE_UNMATCHED);
    }
    if capture.mode != CUstreamCaptureMode::RELAXED && capture.thread != std::thread::current().id() {
        return Err(CUresult::ERROR_STREAM_CAPTURE_WRONG_THREAD);
    }
    let mut outcome = capture.check();
    let streams = std::mem::take(&mut *lock(&capture.streams));
    for other in streams {
        let Some(part) = lock(&other.capture).take() else { continue };
        if !part.after.iter().all(|node| capture.graph.leads_to(*node, &joined.after)) {
            outcome = outcome.and(Err(CUresult::ERROR_STREAM_CAPTURE_UNJOINED));
        }
    }
    lock(&ACTIVE).retain(|active| active.id != capture.id);
    match outcome {
        Ok(()) => Ok(Arc::clone(&capture.graph)),
        Err(error) => {
            if !capture.given {
                capture.graph.end(driver);
            }
            Err(error)
        }
    }
}

/// A stream that is destroyed leaves its capture, which cannot end well.
pub(crate) fn forget(stream: &Stream) {
    let Some(joined) = lock(&stream.capture).take() else { return };
    joined.capture.invalidate();
    lock(&joined.capture.streams).retain(|other| other.id != stream.id);
    if joined.capture.origin == stream.id {
        let streams = std::mem::take(&mut *lock(&joined.capture.streams));
        for other in streams {
            lock(&other.capture).take();
        }
        lock(&ACTIVE).retain(|active| active.id != joined.capture.id);
    }
}

/// What a stream captures.
pub(crate) fn status(stream: &Stream) -> (CUstreamCaptureStatus, Option<Joined>) {
    match lock(&stream.capture).clone() {
        None => (CUstreamCaptureStatus::NONE, None),
        Some(joined) if joined.capture.check().is_err() => (CUstreamCaptureStatus::INVALIDATED, None),
        Some(joined) => (CUstreamCaptureStatus::ACTIVE, Some(joined)),
    }
}

/// Changes what a stream's next node follows.
pub(crate) fn follow(stream: &Stream, nodes: &[u64], replace: bool) -> Result<()> {
    let mut own = lock(&stream.capture);
    let joined = own.as_mut().ok_or(CUresult::ERROR_ILLEGAL_STATE)?;
    joined.capture.check()?;
    let known = lock(&joined.capture.graph.contents).nodes.iter().map(|node| node.handle).collect::<Vec<_>>();
    if !nodes.iter().all(|node| known.contains(node)) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if replace {
        joined.after.clear();
    }
    for node in nodes {
        if !joined.after.contains(node) {
            joined.after.push(*node);
        }
    }
    Ok(())
}

/// Records an event in a stream that captures; false if it does not.
pub(crate) fn record(driver: &Driver, stream: &Stream, event: &Arc<Event>, external: bool) -> Result<bool> {
    if external {
        return add(driver, stream, || Ok(Op::Record(Arc::clone(event))));
    }
    check_implicit(stream)?;
    let own = lock(&stream.capture);
    if let Some(joined) = own.as_ref() {
        joined.capture.check()?;
    }
    event.set_captured(own.clone());
    Ok(own.is_some())
}

/// Has a stream wait for an event, where either is part of a capture; false if neither is.
pub(crate) fn wait(
    driver: &Driver,
    stream: &Arc<Stream>,
    event: &Arc<Event>,
    external: bool,
) -> Result<bool> {
    if external {
        return add(driver, stream, || Ok(Op::Wait(Arc::clone(event))));
    }
    check_implicit(stream)?;
    let mut own = lock(&stream.capture);
    let marked = event.captured();
    match (own.as_mut(), marked) {
        (None, None) => Ok(false),
        (Some(joined), None) => {
            joined.capture.check()?;
            joined.capture.invalidate();
            Err(CUresult::ERROR_STREAM_CAPTURE_ISOLATION)
        }
        (None, Some(mark)) => {
            mark.capture.check()?;
            if !lock(&ACTIVE).iter().any(|active| active.id == mark.capture.id) {
                // That capture is over.
                return Err(CUresult::ERROR_CAPTURED_EVENT);
            }
            if stream.order == Order::Legacy {
                mark.capture.invalidate();
                return Err(CUresult::ERROR_STREAM_CAPTURE_IMPLICIT);
            }
            lock(&mark.capture.streams).push(Arc::clone(stream));
            *own = Some(mark);
            Ok(true)
        }
        (Some(joined), Some(mark)) => {
            joined.capture.check()?;
            if joined.capture.id != mark.capture.id {
                joined.capture.invalidate();
                mark.capture.invalidate();
                return Err(CUresult::ERROR_STREAM_CAPTURE_MERGE);
            }
            for node in mark.after {
                if !joined.after.contains(&node) {
                    joined.after.push(node);
                }
            }
            Ok(true)
        }
    }
}

/// Refuses to look at an event whose last record is part of a capture.
pub(crate) fn check_event(event: &Event) -> Result<()> {
    match event.captured() {
        None => Ok(()),
        Some(mark) => {
            mark.capture.invalidate();
            Err(CUresult::ERROR_CAPTURED_EVENT)
        }
    }
}
