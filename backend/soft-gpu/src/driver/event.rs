//! Events: points in the work of streams.

use std::sync::{Arc, Mutex};

use virtio_spec::cuda::{CUevent_flags, CUresult};

use super::Result;
use super::capture::Joined;
use super::queue::{Completion, lock};

/// An event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) handle: u64,
    /// Handle of its context.
    pub(crate) context: u64,
    flags: u32,
    recorded: Mutex<Option<Arc<Completion>>>,
    /// Its last record is part of a capture.
    captured: Mutex<Option<Joined>>,
}

impl Event {
    pub(crate) fn new(handle: u64, context: u64, flags: u32) -> Result<Self> {
        let known =
            CUevent_flags::BLOCKING_SYNC.0 | CUevent_flags::DISABLE_TIMING.0 | CUevent_flags::INTERPROCESS.0;
        let interprocess = flags & CUevent_flags::INTERPROCESS.0 != 0;
        let timed = flags & CUevent_flags::DISABLE_TIMING.0 == 0;
        if flags & !known != 0 || (interprocess && timed) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        Ok(Self { handle, context, flags, recorded: Mutex::default(), captured: Mutex::default() })
    }

    /// The event is now the end of this work.
    pub(crate) fn record(&self, completion: Arc<Completion>) {
        *lock(&self.recorded) = Some(completion);
        self.set_captured(None);
    }

    /// The event is now a point in a capture, or not.
    pub(crate) fn set_captured(&self, mark: Option<Joined>) {
        *lock(&self.captured) = mark;
    }

    /// The point in a capture that the event is, if it is one.
    pub(crate) fn captured(&self) -> Option<Joined> {
        lock(&self.captured).clone()
    }

    /// The work whose end the event is, if it was recorded.
    pub(crate) fn recorded(&self) -> Option<Arc<Completion>> {
        lock(&self.recorded).clone()
    }

    /// Milliseconds from this event to another.
    pub(crate) fn elapsed(&self, end: &Self) -> Result<f32> {
        if (self.flags | end.flags) & CUevent_flags::DISABLE_TIMING.0 != 0 {
            return Err(CUresult::ERROR_INVALID_HANDLE);
        }
        let (Some(first), Some(last)) = (self.recorded(), end.recorded()) else {
            return Err(CUresult::ERROR_INVALID_HANDLE);
        };
        let (Some(from), Some(to)) = (first.end(), last.end()) else {
            return Err(CUresult::ERROR_NOT_READY);
        };
        let milliseconds = match to.checked_duration_since(from) {
            Some(after) => after.as_secs_f32() * 1e3,
            None => from.duration_since(to).as_secs_f32() * -1e3,
        };
        Ok(milliseconds)
    }
}
