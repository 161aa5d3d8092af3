//! Where this process stands: initialised or not, a forked child, or on its way out.
//!
//! Unsafe code: a page that fork wipes, a fork handler, and the function that runs at exit.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use virtio_spec::cuda::CUresult;

use crate::transport::identity;

/// A word that is 1 in the process that initialised, and that the kernel wipes in a forked child, however it was
/// forked. So a call costs one load to know, and no handler needs to run.
static ALIVE: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());
static ENDING: AtomicBool = AtomicBool::new(false);
static INITIALISING: Mutex<()> = Mutex::new(());
/// The session's descriptor, which a forked child closes; -1 if there is none.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);
/// What the descriptor's number meant when it was opened.
static IDENTITY: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

fn alive() -> Option<&'static AtomicU32> {
    // SAFETY: null, or the page of `make_alive_page`, which is never unmapped.
    unsafe { ALIVE.load(Ordering::Acquire).as_ref() }
}

/// Whether `cuInit` has succeeded here or, for a forked child, in the parent.
fn was_initialised() -> bool {
    alive().is_some()
}

/// Whether this is a child, forked from a process that had initialised.
pub(crate) fn is_forked() -> bool {
    alive().is_some_and(|word| word.load(Ordering::Relaxed) == 0)
}

/// Whether calls can be answered: the process has initialised, was not forked since, and is not ending.
pub(crate) fn check_initialised() -> Result<(), CUresult> {
    if ENDING.load(Ordering::Relaxed) {
        return Err(CUresult::ERROR_DEINITIALIZED);
    }
    match alive() {
        Some(word) if word.load(Ordering::Relaxed) != 0 => Ok(()),
        _ => Err(CUresult::ERROR_NOT_INITIALIZED),
    }
}

/// Runs `initialise` unless it has succeeded before.
pub(crate) fn initialise_once(initialise: impl FnOnce() -> Result<(), CUresult>) -> Result<(), CUresult> {
    if ENDING.load(Ordering::Relaxed) {
        return Err(CUresult::ERROR_DEINITIALIZED);
    }
    if was_initialised() {
        // A forked child stays without CUDA, as with the real driver.
        return check_initialised();
    }
    let _one_at_a_time = INITIALISING.lock().unwrap_or_else(PoisonError::into_inner);
    if was_initialised() {
        return check_initialised();
    }
    initialise()?;
    let page = alive_page().ok_or(CUresult::ERROR_OUT_OF_MEMORY)?;
    page.store(1, Ordering::Relaxed);
    ALIVE.store(std::ptr::from_ref(page).cast_mut(), Ordering::Release);
    Ok(())
}

fn alive_page() -> Option<&'static AtomicU32> {
    const LENGTH: usize = 4096;
    // SAFETY: the kernel chooses free addresses.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            LENGTH,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the mapping was just made.
    let advised = unsafe { libc::madvise(page, LENGTH, libc::MADV_WIPEONFORK) };
    if advised != 0 {
        return None;
    }
    // SAFETY: mapped, aligned, zero, and never unmapped.
    Some(unsafe { AtomicU32::from_ptr(page.cast()) })
}

/// Has a forked child close the session's descriptor, so that the session ends with this process.
pub(crate) fn close_in_child(descriptor: i32) {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    let Some((device, inode)) = identity(descriptor) else { return };
    IDENTITY[0].store(device, Ordering::Relaxed);
    IDENTITY[1].store(inode, Ordering::Relaxed);
    DESCRIPTOR.store(descriptor, Ordering::Relaxed);
    if !REGISTERED.swap(true, Ordering::Relaxed) {
        // SAFETY: the handler is async-signal-safe, takes no lock, and the library is never unloaded. Should glibc have
        // no memory for it, a child keeps the session alive for as long as it lives.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    }
}

extern "C" fn in_child() {
    let descriptor = DESCRIPTOR.swap(-1, Ordering::Relaxed);
    let opened = IDENTITY.each_ref().map(|part| part.load(Ordering::Relaxed));
    // A process that closes whatever it finds may use the number for something else by now.
    if descriptor >= 0 && identity(descriptor).is_some_and(|(device, inode)| [device, inode] == opened) {
        // SAFETY: the child's duplicate, which nothing in it uses: every call answers CUDA_ERROR_NOT_INITIALIZED.
        unsafe { libc::close(descriptor) };
    }
}

/// Runs after the application's own exit handlers. Nothing is given back: the process's end does that, and other
/// libraries may still call.
extern "C" fn at_exit() {
    if !was_initialised() {
        return;
    }
    ENDING.store(true, Ordering::Relaxed);
    crate::trace::finish();
}

#[used]
#[cfg_attr(not(test), unsafe(link_section = ".fini_array"))]
static AT_EXIT: extern "C" fn() = at_exit;
