//! The backend's local socket: the same session without a VM ([`virtio_spec::local`]).
//!
//! Memory of the process that is to be registered is replaced, in place, by the same bytes in a memfd that the backend
//! maps too. That holds for private anonymous memory only, and while another thread writes to these very pages its
//! writes may be lost; a child that is forked later shares the pages until they are unregistered. Any other memory is
//! refused here and stays staged (see `memory::registered`).
//!
//! Unsafe code: sockets with descriptors, memfds, mappings, futexes.

use std::collections::HashMap;
use std::mem::size_of;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use guest_device::descriptor::{Descriptor, retry};
use guest_device::socket;
use virtio_spec::control::{Map, SessionCreate, SessionCreateReply, SessionOptions, Type, Unmap, map_flags};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Transport, TransportError, Woken, errno, map_shared};
use crate::session::region::Region;

#[derive(Debug)]
struct LocalRegion {
    address: u64,
    length: u64,
    /// Pages of the process that were replaced, to be given back as they were.
    replaced: bool,
}

/// A connection to the backend.
pub(super) struct Local {
    /// One exchange at a time.
    exchange: Mutex<()>,
    socket: Descriptor,
    doorbell: Descriptor,
    session: std::sync::OnceLock<u32>,
    regions: Mutex<HashMap<u32, LocalRegion>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A memfd of exactly `length` bytes that can change its size no more.
fn sealed_memory(length: u64) -> Result<Descriptor, TransportError> {
    let length = i64::try_from(length).map_err(|_| TransportError::NoMemory)?;
    // SAFETY: a constant name.
    let number =
        unsafe { libc::memfd_create(c"vcompute".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    let memory = Descriptor::new(number).ok_or(TransportError::NoMemory)?;
    // SAFETY: the size of a descriptor of ours.
    if unsafe { libc::ftruncate(memory.number(), length) } != 0 {
        return Err(TransportError::NoMemory);
    }
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: seals on a descriptor of ours.
    if unsafe { libc::fcntl(memory.number(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(TransportError::NoMemory);
    }
    Ok(memory)
}

impl Local {
    /// Connects to the socket at `path`.
    pub(super) fn connect(path: &[u8]) -> Result<Self, TransportError> {
        let socket = socket::connect(path)?;
        // SAFETY: makes an eventfd.
        let doorbell = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        Ok(Self {
            exchange: Mutex::new(()),
            socket,
            doorbell: Descriptor::new(doorbell).ok_or(TransportError::NoMemory)?,
            session: std::sync::OnceLock::new(),
            regions: Mutex::new(HashMap::new()),
        })
    }

    /// Reads the device information.
    pub(super) fn device_info(&self) -> Result<Vec<u8>, TransportError> {
        socket::device_info(|part| self.ask(Type::DeviceInfo, &part, &[]))
    }

    /// Sends a request and returns what follows the reply's header.
    fn ask<T: IntoBytes + Immutable>(
        &self,
        kind: Type,
        body: &T,
        descriptors: &[i32],
    ) -> Result<Vec<u8>, TransportError> {
        let session = self.session.get().copied().unwrap_or(0);
        let packet = socket::packet(kind, session, body.as_bytes());
        let _one_at_a_time = lock(&self.exchange);
        if !self.socket.is_ours() {
            return Err(TransportError::Dead);
        }
        self.send(&packet, descriptors)?;
        socket::receive(&self.socket)
    }

    fn send(&self, packet: &[u8], descriptors: &[i32]) -> Result<(), TransportError> {
        let mut part = libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
        // Room for the control message of two descriptors, aligned as its header.
        let mut control = [0_u64; 8];
        // SAFETY: an all-zero msghdr is a valid one.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if !descriptors.is_empty() {
            let bytes = u32::try_from(std::mem::size_of_val(descriptors)).unwrap_or(u32::MAX);
            // SAFETY: pure arithmetic.
            let space = unsafe { libc::CMSG_SPACE(bytes) } as usize;
            if space > size_of::<[u64; 8]>() {
                return Err(TransportError::Protocol);
            }
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = space;
            // SAFETY: `message` describes `control`, which has room for a header.
            let head = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
            // SAFETY: pure arithmetic.
            let length = unsafe { libc::CMSG_LEN(bytes) } as usize;
            let header =
                libc::cmsghdr { cmsg_len: length, cmsg_level: libc::SOL_SOCKET, cmsg_type: libc::SCM_RIGHTS };
            // SAFETY: the header lies inside `control`.
            unsafe { head.write(header) };
            // SAFETY: the data of a header inside `control`.
            let data = unsafe { libc::CMSG_DATA(head) };
            // SAFETY: `space` bytes, which include the descriptors, fit `control`.
            unsafe { std::ptr::copy_nonoverlapping(descriptors.as_ptr().cast(), data, bytes as usize) };
        }
        let sent = retry(|| {
            // SAFETY: a message whose parts live until the call returns.
            unsafe { libc::sendmsg(self.socket.number(), &raw const message, libc::MSG_NOSIGNAL) }
        });
        sent.map(|_| ()).map_err(|_| TransportError::Dead)
    }

    fn add(&self, memory: &Descriptor, address: u64, length: u64, flags: u32) -> Result<u32, TransportError> {
        let region = {
            let regions = lock(&self.regions);
            (1..=virtio_spec::limits::MAX_REGIONS).find(|number| !regions.contains_key(number))
        }
        .ok_or(TransportError::NoMemory)?;
        let map = Map { region, flags, address, length, extent_count: 0, reserved: 0 };
        lock(&self.regions).insert(region, LocalRegion { address, length, replaced: false });
        if let Err(error) = self.ask(Type::Map, &map, &[memory.number()]) {
            lock(&self.regions).remove(&region);
            return Err(error);
        }
        Ok(region)
    }
}

/// Whether `address..address + length` is private anonymous memory, readable and writable, and not the caller's stack.
fn is_replaceable(address: u64, length: u64) -> bool {
    let here = 0_u8;
    let stack = (&raw const here).addr() as u64;
    let end = address.saturating_add(length);
    if (address..end).contains(&stack) {
        return false;
    }
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return false };
    let mut covered = address;
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(rights), Some(inode)) = (words.next(), words.next(), words.nth(2)) else {
            return false;
        };
        let name = words.next().unwrap_or("");
        let Some((from, to)) = range.split_once('-') else { return false };
        let (Ok(from), Ok(to)) = (u64::from_str_radix(from, 16), u64::from_str_radix(to, 16)) else {
            return false;
        };
        if to <= covered {
            continue;
        }
        let plain = name.is_empty() || name == "[heap]" || name.starts_with("[anon");
        if from > covered || !rights.starts_with("rw-p") || inode != "0" || !plain {
            return false;
        }
        covered = to;
        if covered >= end {
            return true;
        }
    }
    false
}

/// Puts the pages of `copy` at `address`, with the bytes that are there now.
fn replace(copy: NonNull<u8>, address: u64, length: u64) -> Result<(), TransportError> {
    let (Ok(place), Ok(length)) = (usize::try_from(address), usize::try_from(length)) else {
        return Err(TransportError::Address);
    };
    let place = std::ptr::with_exposed_provenance_mut::<libc::c_void>(place);
    // SAFETY: the caller made `copy` with this length, and `address` is readable memory of the process.
    unsafe { std::ptr::copy_nonoverlapping(place.cast_const().cast::<u8>(), copy.as_ptr(), length) };
    // SAFETY: moves the copy over the original in one step; both are whole pages.
    let moved = unsafe {
        libc::mremap(copy.as_ptr().cast(), length, length, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, place)
    };
    if moved == libc::MAP_FAILED {
        // SAFETY: the copy is still where it was made, and not used after this.
        unsafe { libc::munmap(copy.as_ptr().cast(), length) };
        return Err(TransportError::NoMemory);
    }
    Ok(())
}

/// Fresh pages: of `memory`, or anonymous.
fn pages(memory: Option<&Descriptor>, length: u64) -> Result<NonNull<u8>, TransportError> {
    let length = usize::try_from(length).map_err(|_| TransportError::NoMemory)?;
    let flags = if memory.is_some() { libc::MAP_SHARED } else { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS };
    let number = memory.map_or(-1, Descriptor::number);
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the kernel chooses free addresses.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, number, 0) };
    if base == libc::MAP_FAILED { None } else { NonNull::new(base.cast()) }.ok_or(TransportError::NoMemory)
}

impl Transport for Local {
    fn create_session(
        &self,
        length: u64,
        options: SessionOptions,
        prepare: &dyn Fn(Region),
    ) -> Result<Region, TransportError> {
        let memory = sealed_memory(length)?;
        let base = map_shared(memory.number(), 0, None, length, true)?;
        // SAFETY: a mapping of this length that is never removed.
        let region = unsafe { Region::new(base, length) };
        prepare(region);
        let create = SessionCreate { length, extent_count: 0, reserved: 0, options };
        let reply = self.ask(Type::SessionCreate, &create, &[memory.number(), self.doorbell.number()])?;
        let (reply, _) =
            SessionCreateReply::read_from_prefix(&reply).map_err(|_| TransportError::Protocol)?;
        self.session.set(reply.session).map_err(|_| TransportError::Protocol)?;
        Ok(region)
    }

    fn map(&self, address: u64, length: u64) -> Result<u32, TransportError> {
        let memory = sealed_memory(length)?;
        map_shared(memory.number(), 0, Some(address), length, true)?;
        self.add(&memory, address, length, 0)
    }

    fn register(&self, address: u64, length: u64, read_only: bool) -> Result<u32, TransportError> {
        if !is_replaceable(address, length) {
            return Err(TransportError::Unsupported);
        }
        let memory = sealed_memory(length)?;
        let copy = pages(Some(&memory), length)?;
        replace(copy, address, length)?;
        let flags = if read_only { map_flags::READ_ONLY } else { 0 };
        match self.add(&memory, address, length, flags) {
            Ok(region) => {
                if let Some(entry) = lock(&self.regions).get_mut(&region) {
                    entry.replaced = true;
                }
                Ok(region)
            }
            Err(error) => {
                replace(pages(None, length)?, address, length)?;
                Err(error)
            }
        }
    }

    fn unmap(&self, region: u32) -> Result<(), TransportError> {
        let known = lock(&self.regions).remove(&region).ok_or(TransportError::Protocol)?;
        let answer = self.ask(Type::Unmap, &Unmap { region, reserved: 0 }, &[]);
        if known.replaced {
            replace(pages(None, known.length)?, known.address, known.length)?;
        }
        answer.map(|_| ())
    }

    fn kick(&self) {
        if !self.doorbell.is_ours() {
            return;
        }
        let one = 1_u64;
        // SAFETY: eight bytes. A full counter means that a kick is pending; a dead session is noticed by the waiter.
        unsafe { libc::write(self.doorbell.number(), (&raw const one).cast(), size_of::<u64>()) };
    }

    fn wait(&self, word: &AtomicU32, _offset: u64, expected: u32, limit: Duration) -> Woken {
        let timeout = libc::timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        // SAFETY: a live, aligned word and a complete time-out; a futex that is shared between processes.
        let result = unsafe {
            libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &raw const timeout)
        };
        if result == 0 {
            return Woken::Perhaps;
        }
        match errno() {
            libc::ETIMEDOUT if !self.is_alive() => Woken::Dead,
            libc::ETIMEDOUT => Woken::TimedOut,
            _ => Woken::Perhaps,
        }
    }

    fn descriptor(&self) -> i32 {
        self.socket.number()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_pages_keep_their_bytes() {
        const LENGTH: usize = 3 << 20;
        let base = pages(None, LENGTH as u64).expect("anonymous pages");
        // SAFETY: fresh pages of this length that only this test uses.
        let bytes = unsafe { std::slice::from_raw_parts_mut(base.as_ptr(), LENGTH) };
        bytes.iter_mut().zip((0..=250_u8).cycle()).for_each(|(byte, value)| *byte = value);
        let address = base.as_ptr().expose_provenance() as u64;
        assert!(is_replaceable(address, LENGTH as u64));
        let memory = sealed_memory(LENGTH as u64).expect("a memfd");

        replace(pages(Some(&memory), LENGTH as u64).expect("pages of it"), address, LENGTH as u64)
            .expect("replaced");

        assert!(bytes.iter().zip((0..=250_u8).cycle()).all(|(byte, value)| *byte == value));
        assert!(!is_replaceable(address, LENGTH as u64), "shared memory is not replaced again");
    }

    #[test]
    fn stacks_and_files_are_not_replaced() {
        let on_the_stack = [0_u8; 8192];
        let address = (on_the_stack.as_ptr().addr() as u64) & !4095;
        assert!(!is_replaceable(address, 8192));
        let code = stacks_and_files_are_not_replaced as fn();
        assert!(!is_replaceable((code as usize as u64) & !4095, 4096));
    }
}
