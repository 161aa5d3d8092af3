//! One call as a request and its response.
//!
//! Unsafe code: copies between the application's memory and the shim's, with lengths that CUDA's contracts state.

use std::ffi::c_char;
use std::sync::MutexGuard;

use virtio_spec::codec::padded;
use virtio_spec::cuda::CUresult;
use virtio_spec::limits::MAX_NAME_BYTES;
use virtio_spec::session::request_flags;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::entry::Row;
use crate::graph::{capture, host_calls};
use crate::session::lane::{Head, Lane, Pending, Traffic};
use crate::session::{self, Session};
use crate::{context, mirror};

/// Room for the results of a generated call, in bytes, where the caller does not ask for more.
const ROOM: u32 = 512;

/// What a request gives the GPU to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Nothing that anybody could wait for.
    None,
    /// A copy that is done when the request has been executed.
    Copy,
    /// Whatever there is.
    Any,
}

/// A request that is being built. It holds the thread's lane, so a thread has one at a time.
pub(crate) struct Request {
    session: &'static Session,
    lane: &'static Lane,
    traffic: MutexGuard<'static, Traffic>,
    head: Head,
    synchronises: bool,
    work: Work,
    valid: bool,
    room: u32,
}

/// A response whose results are being taken.
pub(crate) struct Response {
    traffic: MutexGuard<'static, Traffic>,
    at: usize,
}

impl Request {
    /// Starts a request for a generated call.
    pub(crate) fn new(row: Row, per_thread: bool) -> Result<Self, CUresult> {
        let needs = if row.needs_context { Some(context::required()?) } else { None };
        let context = needs.or_else(context::current).unwrap_or(0);
        let mut request = Self::start(row.opcode, context)?;
        if per_thread {
            request.head.flags |= request_flags::PER_THREAD_STREAM;
        }
        request.synchronises = row.synchronises;
        request.work = if row.gives_work { Work::Any } else { Work::None };
        Ok(request)
    }

    /// Starts a request of [`virtio_spec::requests`] in a context (0 = none).
    pub(crate) fn start(opcode: u32, context: u64) -> Result<Self, CUresult> {
        if host_calls::is_inside() {
            return Err(CUresult::ERROR_NOT_PERMITTED);
        }
        let session = session::get()?;
        session.check()?;
        Ok(Self::begin(session, opcode, context))
    }

    /// Starts a request of a session whatever has happened to it: for what is left to read after an error.
    pub(crate) fn begin(session: &'static Session, opcode: u32, context: u64) -> Self {
        let lane = session.lane();
        let mut traffic = lane.lock();
        traffic.bytes.clear();
        let head = Head { opcode, flags: 0, context, capture_mode: context::capture_mode() };
        Self { session, lane, traffic, head, synchronises: false, work: Work::Any, valid: true, room: ROOM }
    }

    /// Says that the call waits for the GPU, so that late errors of earlier requests of the thread surface at it.
    pub(crate) fn synchronising(mut self) -> Self {
        self.synchronises = true;
        self
    }

    /// Says how many bytes of results are expected.
    pub(crate) fn with_room(mut self, bytes: u32) -> Self {
        self.room = bytes;
        self
    }

    /// Appends a number.
    pub(crate) fn scalar(&mut self, value: u64) {
        self.traffic.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends a handle.
    pub(crate) fn handle(&mut self, value: u64) {
        self.scalar(value);
    }

    /// Appends a structure, padded to 8 bytes.
    pub(crate) fn structure<T: IntoBytes + Immutable>(&mut self, value: &T) {
        self.slice(value.as_bytes());
    }

    /// Appends bytes, padded to 8.
    pub(crate) fn slice(&mut self, bytes: &[u8]) {
        self.traffic.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// What has been appended so far, to append more; then comes [`Request::pad`].
    pub(crate) fn room_for_bytes(&mut self) -> &mut Vec<u8> {
        &mut self.traffic.bytes
    }

    /// Pads what has been appended to 8 bytes.
    pub(crate) fn pad(&mut self) {
        let end = padded(self.traffic.bytes.len());
        if end != self.traffic.bytes.len() {
            self.traffic.bytes.resize(end, 0);
        }
    }

    /// Appends bytes of the application's memory, padded to 8.
    ///
    /// # Safety
    /// `length` bytes are readable at `from`, unless `length` is 0.
    #[allow(dead_code, reason = "generated calls use it, as soon as a row of the call table reads memory")]
    pub(crate) unsafe fn bytes(&mut self, from: *const u8, length: usize) {
        if length > virtio_spec::limits::MAX_REQUEST_BYTES as usize {
            self.valid = false;
        } else if length > 0 {
            // SAFETY: as the caller promises.
            self.slice(unsafe { std::slice::from_raw_parts(from, length) });
        }
    }

    /// Appends a name: its length with the NUL, then its bytes, padded to 8.
    ///
    /// # Safety
    /// `text` is NUL-terminated.
    pub(crate) unsafe fn string(&mut self, text: *const c_char) {
        // SAFETY: as the caller promises.
        let text = unsafe { std::ffi::CStr::from_ptr(text) }.to_bytes_with_nul();
        if text.len() > MAX_NAME_BYTES as usize {
            self.valid = false;
        } else {
            self.scalar(text.len() as u64);
            self.slice(text);
        }
    }

    fn submit(&mut self, room: Option<u32>) -> Result<Pending, CUresult> {
        if !self.valid {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let pending = self.traffic.send(self.session, self.lane, self.head, room)?;
        match self.work {
            Work::None => {}
            Work::Copy => self.session.note_copy(),
            Work::Any => self.session.note_work(),
        }
        Ok(pending)
    }

    /// Says that the request is a copy that is done when it has been executed.
    pub(crate) fn copying(mut self) -> Self {
        self.work = Work::Copy;
        self
    }

    /// Sends the request; nobody waits for it.
    pub(crate) fn post(mut self) -> Result<(), CUresult> {
        if capture::is_active() {
            // A capture's errors belong to the call that they are about.
            return self.answer().map(|_| ());
        }
        self.submit(None).map(|_| ())
    }

    /// Sends the request and waits for the response.
    pub(crate) fn answer(self) -> Result<Response, CUresult> {
        let (result, response) = self.exchange()?;
        if result == CUresult::SUCCESS { Ok(response) } else { Err(result) }
    }

    /// Sends the request and waits for the response, which some requests have with an error too.
    pub(crate) fn exchange(mut self) -> Result<(CUresult, Response), CUresult> {
        let room = self.room;
        let pending = self.submit(Some(room))?;
        let patient = self.synchronises && context::spins();
        let mut result = self.traffic.receive(self.session, pending, patient)?;
        if self.synchronises && result == CUresult::SUCCESS {
            mirror::waited();
            if let Some(late) = self.lane.take_deferred_error() {
                result = late;
            }
        }
        Ok((result, Response { traffic: self.traffic, at: 0 }))
    }

    /// Goes on with the lane held: for several requests that belong together.
    pub(crate) fn into_burst(self) -> Burst {
        Burst { session: self.session, lane: self.lane, traffic: self.traffic, head: self.head }
    }
}

/// Several requests of one kind that share a lane without anything in between, such as the chunks of a copy.
pub(crate) struct Burst {
    session: &'static Session,
    lane: &'static Lane,
    traffic: MutexGuard<'static, Traffic>,
    head: Head,
}

impl Burst {
    /// Sends a structure as an answered request.
    pub(crate) fn send<T: IntoBytes + Immutable>(&mut self, body: &T) -> Result<Pending, CUresult> {
        self.traffic.bytes.clear();
        self.traffic.bytes.extend_from_slice(body.as_bytes());
        let pending = self.traffic.send(self.session, self.lane, self.head, Some(ROOM))?;
        self.session.note_work();
        Ok(pending)
    }

    /// Sends parts, each padded to 8 bytes, as an answered request that gives the GPU nothing to do that others wait for.
    pub(crate) fn send_idle(&mut self, parts: &[&[u8]]) -> Result<Pending, CUresult> {
        self.traffic.bytes.clear();
        for part in parts {
            self.traffic.bytes.extend_from_slice(part);
            let end = padded(self.traffic.bytes.len());
            self.traffic.bytes.resize(end, 0);
        }
        self.traffic.send(self.session, self.lane, self.head, Some(ROOM))
    }

    /// Waits for a request's result, which may have to wait for the GPU.
    pub(crate) fn receive(&mut self, pending: Pending) -> Result<(), CUresult> {
        match self.traffic.receive(self.session, pending, context::spins())? {
            CUresult::SUCCESS => Ok(()),
            error => Err(error),
        }
    }

    /// Waits for a request's result and its structure.
    pub(crate) fn receive_value<T: FromBytes>(&mut self, pending: Pending) -> Result<T, CUresult> {
        self.receive(pending)?;
        T::read_from_prefix(&self.traffic.bytes).map(|(value, _)| value).map_err(|_| CUresult::ERROR_UNKNOWN)
    }

    /// The thread's late error, at the end of a call that waited.
    pub(crate) fn late_error(&self) -> Result<(), CUresult> {
        mirror::waited();
        self.lane.take_deferred_error().map_or(Ok(()), Err)
    }

    /// Offset of the lane's staging in session memory, and its bytes.
    pub(crate) fn staging(&self) -> (u64, u64) {
        let layout = self.session.layout();
        (layout.staging(self.lane.index()), layout.staging_bytes())
    }

    /// Address of bytes of session memory.
    pub(crate) fn memory(&self, offset: u64, length: u64) -> *mut u8 {
        self.session.region().at(offset, length)
    }

    /// Appends bytes of session memory to `bytes`.
    pub(crate) fn read(&self, offset: u64, length: usize, bytes: &mut Vec<u8>) {
        self.session.region().read(offset, length, bytes);
    }
}

impl Response {
    /// Takes the next result.
    pub(crate) fn take<T: FromBytes>(&mut self) -> Result<T, CUresult> {
        let bytes = self.traffic.bytes.get(self.at..).ok_or(CUresult::ERROR_UNKNOWN)?;
        let (value, _) = T::read_from_prefix(bytes).map_err(|_| CUresult::ERROR_UNKNOWN)?;
        self.at += padded(size_of::<T>());
        Ok(value)
    }

    /// Takes the next `length` bytes.
    pub(crate) fn take_slice(&mut self, length: usize) -> Result<&[u8], CUresult> {
        let end = self.at.checked_add(length).ok_or(CUresult::ERROR_UNKNOWN)?;
        let bytes = self.traffic.bytes.get(self.at..end).ok_or(CUresult::ERROR_UNKNOWN)?;
        self.at = self.at.saturating_add(padded(length));
        Ok(bytes)
    }

    /// Copies the next `length` bytes into the application's memory.
    ///
    /// # Safety
    /// `length` bytes are writable at `to`, unless `length` is 0.
    pub(crate) unsafe fn take_bytes(&mut self, to: *mut u8, length: usize) -> Result<(), CUresult> {
        let bytes = self.take_slice(length)?;
        if length > 0 {
            // SAFETY: as the caller promises; the application's memory does not overlap the shim's.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, length) };
        }
        Ok(())
    }
}
