//! What was executed: the last part of the path, of which the kernel shows 15 bytes as the process's name.
//!
//! The path is in the kernel's note to the process (AT_EXECFN): it needs no /proc, it is there before the process
//! renames itself, and for a script it is the script's.
//!
//! Unsafe code: the kernel's note.

use core::ffi::CStr;

use shim_policy::NAME_BYTES;

/// The program's name; nothing for a program that was executed by descriptor, whose path names the descriptor.
#[must_use]
pub fn executed() -> Option<&'static [u8]> {
    let place = usize::try_from(
        // SAFETY: reads what the kernel gave the process.
        unsafe { libc::getauxval(libc::AT_EXECFN) },
    )
    .ok()?;
    if place == 0 {
        return None;
    }
    // SAFETY: the kernel's own string, which stays above the stack as long as the process lives.
    let path = unsafe { CStr::from_ptr(core::ptr::with_exposed_provenance(place)) };
    of_path(path.to_bytes())
}

fn of_path(path: &[u8]) -> Option<&[u8]> {
    let mut parts = path.rsplit(|&byte| byte == b'/');
    let name = parts.next()?;
    let folder = parts.next();
    if folder == Some(b"fd") && name.iter().all(u8::is_ascii_digit) || name.is_empty() {
        return None;
    }
    Some(name.get(..NAME_BYTES).unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_the_kernel_shows_them() {
        for (path, name) in [
            ("/usr/bin/python3", Some("python3")),
            ("./a.out", Some("a.out")),
            ("sh", Some("sh")),
            ("/usr/lib/systemd/systemd-journald", Some("systemd-journal")),
            ("/dev/fd/7", None),
            ("/proc/self/fd/12", None),
            ("/proc/1/fd/0", None),
            ("/opt/fd/7z", Some("7z")),
            ("", None),
        ] {
            assert_eq!(of_path(path.as_bytes()), name.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn this_process_has_its_name() {
        let comm = std::fs::read("/proc/self/comm").expect("the kernel tells it too");
        assert_eq!(executed(), comm.strip_suffix(b"\n"));
    }
}
