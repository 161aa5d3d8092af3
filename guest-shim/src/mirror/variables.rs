//! Managed variables of modules: they lie in managed memory of the worker, and pages of this process at the same address
//! are what the host's code sees of them.
//!
//! Unsafe code: reads and writes those pages.

use std::collections::BTreeMap;
use std::ffi::CStr;

use virtio_spec::cuda::{CUresult, CUstream};
use virtio_spec::handle::Kind as Handle;
use virtio_spec::limits::MAX_EXCHANGE_PIECES;
use virtio_spec::requests::{Exchange, ExchangePiece, ManagedRead, opcode};
use zerocopy::IntoBytes;

use super::compare::changes;
use super::place;
use crate::exports::streams::{wire_cuStreamCreate, wire_cuStreamDestroy_v2};
use crate::memory::{self, managed};
use crate::session::Session;
use crate::wire::Request;
use crate::{context, handles, session, window};

const PAGE: u64 = 4096;
/// Bytes of all variables together: they are compared at every launch.
const MOST: u64 = 64 << 20;
/// Unchanged bytes that are rather copied than left out.
const BETWEEN: usize = 4096;
/// `CU_STREAM_NON_BLOCKING`.
const NON_BLOCKING: u32 = 1;

/// Where a variable comes from.
#[derive(Clone, Copy)]
pub(crate) enum Origin<'a> {
    Module {
        module: u64,
        context: u64,
    },
    /// All contexts share it.
    Library {
        library: u64,
        name: &'a CStr,
    },
}

struct Variable {
    address: u64,
    owner: u64,
    /// The module's; 0 for a library's.
    context: u64,
    /// What was last known to be the same on both sides.
    known: Vec<u8>,
}

pub(super) struct Variables {
    list: Vec<Variable>,
    /// Pages of the process, with how many variables lie in each.
    pages: BTreeMap<u64, u32>,
    /// A stream of each context's own for what is exchanged.
    streams: Vec<(u64, CUstream)>,
}

/// Bytes of a variable: its number in the list, and from where to where.
struct Part {
    variable: usize,
    start: usize,
    end: usize,
}

impl Variable {
    fn length(&self) -> u64 {
        self.known.len() as u64
    }

    fn pages(&self) -> impl Iterator<Item = u64> + use<> {
        let first = self.address & !(PAGE - 1);
        (first..self.address + self.length()).step_by(4096)
    }

    /// What the host's code has there now.
    fn of_program(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.known.len()];
        // SAFETY: a variable's pages are mapped as long as it is in the list.
        unsafe { place::read(self.address, &mut bytes) };
        bytes
    }
}

impl Variables {
    pub(super) const NONE: Self = Self { list: Vec::new(), pages: BTreeMap::new(), streams: Vec::new() };

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The context's own stream.
    fn stream(&mut self, context: u64) -> Result<CUstream, CUresult> {
        if let Some((_, stream)) = self.streams.iter().find(|(of, _)| *of == context) {
            return Ok(*stream);
        }
        let stream = context::with(context, || {
            let mut stream = CUstream(0);
            // SAFETY: a local place.
            crate::calls::outcome(unsafe { wire_cuStreamCreate(&raw mut stream, NON_BLOCKING) })?;
            Ok(stream)
        })?;
        self.streams.push((context, stream));
        Ok(stream)
    }

    /// Makes a variable's pages.
    fn open_pages(&mut self, variable: &Variable) -> Result<(), CUresult> {
        for page in variable.pages() {
            if let Some(users) = self.pages.get_mut(&page) {
                *users += 1;
            } else if window::open(page, PAGE) {
                self.pages.insert(page, 1);
            } else {
                let opened = variable.pages().take_while(|opened| *opened < page);
                self.close_pages(opened);
                // The host's driver has placed it where this process has something else.
                return Err(CUresult::ERROR_NOT_SUPPORTED);
            }
        }
        Ok(())
    }

    fn close_pages(&mut self, pages: impl Iterator<Item = u64>) {
        for page in pages {
            if let Some(users) = self.pages.get_mut(&page) {
                *users -= 1;
                if *users == 0 {
                    self.pages.remove(&page);
                    window::clear(page, PAGE);
                }
            }
        }
    }

    pub(super) fn add(&mut self, address: u64, length: u64, origin: Origin<'_>) -> Result<(), CUresult> {
        if self.list.iter().any(|known| known.address == address && known.length() == length) {
            return Ok(());
        }
        let others: u64 = self.list.iter().map(Variable::length).sum();
        let end = address.checked_add(length).ok_or(CUresult::ERROR_UNKNOWN)?;
        let overlaps = |known: &Variable| known.address < end && address < known.address + known.length();
        if length == 0 || length > MOST - others.min(MOST) || self.list.iter().any(overlaps) {
            return Err(CUresult::ERROR_NOT_SUPPORTED);
        }
        let (owner, context) = match origin {
            Origin::Module { module, context } => (module, context),
            Origin::Library { library, .. } => (library, 0),
        };
        let length = usize::try_from(length).map_err(|_| CUresult::ERROR_NOT_SUPPORTED)?;
        let variable = Variable { address, owner, context, known: vec![0; length] };
        self.open_pages(&variable)?;
        self.list.push(variable);
        let index = self.list.len() - 1;
        // The fresh pages are zero, as what is known of them.
        let first = match origin {
            Origin::Module { .. } => self.fetch(index..index + 1),
            Origin::Library { library, name } => self.read(index, library, name),
        };
        if let Err(error) = first {
            self.forget(|known| known.address == address);
            return Err(error);
        }
        memory::insert(address, length as u64, memory::Kind::Variable, address, context);
        managed::note(address, length as u64);
        Ok(())
    }

    /// Reads a library's variable, for which no context is needed.
    fn read(&mut self, index: usize, library: u64, name: &CStr) -> Result<(), CUresult> {
        let name = name.to_bytes_with_nul();
        let name_bytes = u32::try_from(name.len()).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
        let variable = &mut self.list[index];
        let mut start = 0;
        while start < variable.known.len() {
            let session = session::get()?;
            let mut burst = Request::begin(session, opcode::MANAGED_READ, 0).into_burst();
            let (staging, room) = burst.staging();
            let length = usize::try_from(room).unwrap_or(0).min(variable.known.len() - start);
            let (offset, bytes) = (start as u64, length as u64);
            let body = ManagedRead { library, offset, length: bytes, name_bytes, reserved: 0 };
            let pending = burst.send_idle(&[body.as_bytes(), name])?;
            burst.receive(pending)?;
            let mut bytes = Vec::new();
            burst.read(staging, length, &mut bytes);
            variable.known[start..start + length].copy_from_slice(&bytes);
            // SAFETY: a variable's pages are mapped as long as it is in the list.
            unsafe { place::write(variable.address + offset, &bytes) };
            start += length;
        }
        Ok(())
    }

    /// A context in which what belongs to none can be exchanged: the thread's own, or else any.
    fn any_context(&self) -> Option<u64> {
        let known = || self.streams.first().map(|(context, _)| *context);
        context::required().ok().or_else(known)
    }

    /// Brings what the host's code has changed to the device. While that has nothing to do, the few bytes between two
    /// changes are as they are known to be, and are written too.
    pub(super) fn push(&mut self, is_idle: bool) {
        let most_between = if is_idle { BETWEEN } else { 0 };
        let any_context = self.any_context().is_some();
        let mut parts: Vec<Part> = Vec::new();
        for (index, variable) in self.list.iter_mut().enumerate() {
            if variable.context == 0 && !any_context {
                continue;
            }
            let now = variable.of_program();
            let before = parts.len();
            for run in changes(&variable.known, &now) {
                match parts.last_mut() {
                    Some(last) if last.variable == index && run.start - last.end <= most_between => {
                        last.end = run.end;
                    }
                    _ => parts.push(Part { variable: index, start: run.start, end: run.end }),
                }
            }
            if parts.len() > before {
                variable.known = now;
            }
        }
        // What fails, the call will tell that is about to be made.
        let _ = self.exchange(parts, true);
    }

    /// Brings what the device has changed to the program; false if that failed, which the next call will tell.
    pub(super) fn pull(&mut self) -> bool {
        self.fetch(0..self.list.len()).is_ok()
    }

    fn fetch(&mut self, variables: std::ops::Range<usize>) -> Result<(), CUresult> {
        let whole = |index: usize| Part { variable: index, start: 0, end: self.list[index].known.len() };
        let parts = variables.map(whole).collect();
        self.exchange(parts, false)
    }

    /// Copies parts of variables: what is known of them to the device, or the device's bytes into what is known and, where
    /// they differ, to the program. A request carries as many as there is room for.
    fn exchange(&mut self, mut parts: Vec<Part>, to_device: bool) -> Result<(), CUresult> {
        let session = session::get()?;
        let any_context = self.any_context();
        let context_of = |variables: &Self, part: &Part| match variables.list[part.variable].context {
            0 => any_context.unwrap_or(0),
            context => context,
        };
        parts.reverse();
        while let Some(part) = parts.last() {
            let context = context_of(self, part);
            if context == 0 {
                return Err(CUresult::ERROR_INVALID_CONTEXT);
            }
            let stream = self.stream(context)?;
            let room = usize::try_from(session.layout().staging_bytes()).unwrap_or(0);
            let (mut some, mut used) = (Vec::new(), 0);
            while let Some(mut part) = parts.pop() {
                if used == room
                    || some.len() == MAX_EXCHANGE_PIECES as usize
                    || context_of(self, &part) != context
                {
                    parts.push(part);
                    break;
                }
                if part.end - part.start > room - used {
                    let middle = part.start + (room - used);
                    parts.push(Part { start: middle, ..part });
                    part.end = middle;
                }
                used += part.end - part.start;
                some.push(part);
            }
            self.exchange_some(session, (context, stream), &some, to_device)?;
        }
        Ok(())
    }

    fn exchange_some(
        &mut self,
        session: &'static Session,
        (context, stream): (u64, CUstream),
        parts: &[Part],
        to_device: bool,
    ) -> Result<(), CUresult> {
        let body = Exchange {
            stream: stream.0,
            count: u32::try_from(parts.len()).map_err(|_| CUresult::ERROR_UNKNOWN)?,
            to_device: u32::from(to_device),
        };
        let pieces: Vec<_> = parts
            .iter()
            .map(|part| ExchangePiece {
                address: self.list[part.variable].address + part.start as u64,
                length: (part.end - part.start) as u64,
            })
            .collect();
        let mut burst = Request::begin(session, opcode::EXCHANGE, context).into_burst();
        let (mut at, _) = burst.staging();
        if to_device {
            for part in parts {
                let bytes = &self.list[part.variable].known[part.start..part.end];
                session.region().write(at, bytes);
                at += bytes.len() as u64;
            }
        }
        let pending = burst.send_idle(&[body.as_bytes(), pieces.as_bytes()])?;
        burst.receive(pending)?;
        if !to_device {
            let mut bytes = Vec::new();
            for part in parts {
                bytes.clear();
                burst.read(at, part.end - part.start, &mut bytes);
                at += bytes.len() as u64;
                let variable = &mut self.list[part.variable];
                let known = &mut variable.known[part.start..part.end];
                for run in changes(known, &bytes) {
                    let address = variable.address + (part.start + run.start) as u64;
                    // SAFETY: a variable's pages are mapped as long as it is in the list.
                    unsafe { place::write(address, &bytes[run]) };
                }
                known.copy_from_slice(&bytes);
            }
        }
        Ok(())
    }

    fn forget(&mut self, goes: impl Fn(&Variable) -> bool) {
        let gone: Vec<Variable> = self.list.extract_if(.., |variable| goes(variable)).collect();
        for variable in gone {
            self.close_pages(variable.pages());
            let noted = memory::find(variable.address).filter(|range| range.kind == memory::Kind::Variable);
            if let Some(range) = noted {
                memory::remove(range.start);
                managed::forget(&[range]);
            }
        }
    }

    pub(super) fn forget_unloaded(&mut self) {
        self.forget(|variable| !handles::check(&[Handle::Module, Handle::Library], variable.owner));
        let unused = if self.list.is_empty() { std::mem::take(&mut self.streams) } else { Vec::new() };
        for (context, stream) in unused {
            // A context that is gone took it along.
            let _ = context::with(context, || {
                // SAFETY: no pointers.
                crate::calls::outcome(unsafe { wire_cuStreamDestroy_v2(stream) })
            });
        }
    }

    pub(super) fn forget_context(&mut self, context: u64) {
        self.forget(|variable| variable.context == context);
        self.streams.retain(|(of, _)| *of != context);
    }
}
