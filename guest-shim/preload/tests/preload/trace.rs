//! A process's system calls, seen from outside.
//!
//! Unsafe code: ptrace.

use std::ffi::{CString, c_long};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// What was seen.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Numbers of the system calls between the filter's installation and the process's end.
    pub(crate) calls: Vec<c_long>,
    /// The exit code, or the signal as a negative number.
    pub(crate) end: i32,
}

/// Gives a command another `/etc`, and a user.
pub(crate) fn in_own_etc(command: &mut Command, etc: &Path, user: libc::uid_t) {
    let etc = CString::new(etc.as_os_str().as_bytes()).expect("a path");
    let ok = |result| if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
    let change = move || {
        let none = std::ptr::null();
        // SAFETY: numbers only.
        ok(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        // SAFETY: a constant path.
        ok(unsafe { libc::mount(none, c"/".as_ptr(), none, private, none.cast()) })?;
        // SAFETY: two paths.
        ok(unsafe { libc::mount(etc.as_ptr(), c"/etc".as_ptr(), none, libc::MS_BIND, none.cast()) })?;
        // SAFETY: numbers only.
        ok(unsafe { libc::setresuid(user, user, user) })
    };
    // SAFETY: system calls between fork and exec.
    unsafe { command.pre_exec(change) };
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Trace {
    try_run(command).expect("the probe starts")
}

/// Runs a command to its end, if it can be started.
pub(crate) fn try_run(command: &mut Command) -> std::io::Result<Trace> {
    let traced = || {
        // SAFETY: numbers only.
        unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
        Ok(())
    };
    #[allow(clippy::zombie_processes, reason = "waited for below, as its tracer")]
    // SAFETY: one system call between fork and exec.
    let child = unsafe { command.pre_exec(traced) }.spawn()?;
    let process = i32::try_from(child.id()).expect("the kernel's numbers fit");
    let mut trace = Trace { calls: Vec::new(), end: 0 };
    let (mut has_options, mut is_counting) = (false, false);
    loop {
        let mut status = 0;
        // SAFETY: room for a status.
        let waited = unsafe { libc::waitpid(process, &raw mut status, libc::__WALL) };
        assert_eq!(waited, process);
        if libc::WIFEXITED(status) {
            trace.end = libc::WEXITSTATUS(status);
            return Ok(trace);
        }
        if libc::WIFSIGNALED(status) {
            trace.end = -libc::WTERMSIG(status);
            return Ok(trace);
        }
        let signal = libc::WSTOPSIG(status);
        if !has_options {
            let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
            // SAFETY: a stopped child of this thread.
            unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, process, 0, options) };
            has_options = true;
        } else if signal == libc::SIGTRAP | 0x80
            && let Some(number) = entered(process)
        {
            if is_counting && number != libc::SYS_exit_group {
                trace.calls.push(number);
            }
            is_counting |= number == libc::SYS_seccomp;
        }
        let deliver = if signal == libc::SIGTRAP || signal == libc::SIGTRAP | 0x80 { 0 } else { signal };
        // SAFETY: a stopped child of this thread.
        unsafe { libc::ptrace(libc::PTRACE_SYSCALL, process, 0, deliver) };
    }
}

/// The system call that a stopped process is entering.
fn entered(process: i32) -> Option<c_long> {
    let mut about = MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
    let size = size_of::<libc::ptrace_syscall_info>();
    // SAFETY: room for as many bytes as given.
    unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, process, size, about.as_mut_ptr()) };
    // SAFETY: zeros, or filled by the kernel.
    let about = unsafe { about.assume_init() };
    if about.op != libc::PTRACE_SYSCALL_INFO_ENTRY && about.op != libc::PTRACE_SYSCALL_INFO_SECCOMP {
        return None;
    }
    // SAFETY: the kind says that this is the one.
    let number = unsafe { about.u.entry.nr };
    c_long::try_from(number).ok()
}
