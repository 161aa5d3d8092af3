//! System calls, as the kernel takes them: no cancellation point, no errno, and nobody else's function in between.
//!
//! Unsafe code: the calls.

use core::arch::asm;
use core::ffi::{CStr, c_int, c_long};

/// Makes a system call. A negative result is an error's number, negated.
///
/// # Safety
/// The arguments are as the call wants them.
#[must_use]
pub unsafe fn call(number: c_long, arguments: [usize; 6]) -> isize {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    let result;
    // SAFETY: the kernel changes these registers, and what the caller's pointers allow it to.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            in("r8") fifth,
            in("r9") sixth,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Whether a result is this error.
#[must_use]
pub fn is_error(result: isize, error: c_int) -> bool {
    isize::try_from(error).is_ok_and(|error| result == -error)
}

/// A flag or a descriptor as an argument.
#[must_use]
pub const fn word(number: c_int) -> usize {
    number.cast_unsigned() as usize
}

/// Opens a file.
#[must_use]
pub fn open(path: &CStr, flags: c_int, mode: usize) -> isize {
    let arguments = [word(libc::AT_FDCWD), path.as_ptr().expose_provenance(), word(flags), mode, 0, 0];
    // SAFETY: a path.
    unsafe { call(libc::SYS_openat, arguments) }
}

/// Reads a descriptor.
#[must_use]
pub fn read(descriptor: usize, bytes: &mut [u8]) -> isize {
    // SAFETY: room for as many bytes as given.
    unsafe {
        call(libc::SYS_read, [descriptor, bytes.as_mut_ptr().expose_provenance(), bytes.len(), 0, 0, 0])
    }
}

/// Writes to a descriptor.
#[must_use]
pub fn write(descriptor: usize, bytes: &[u8]) -> isize {
    // SAFETY: as many readable bytes as given.
    unsafe { call(libc::SYS_write, [descriptor, bytes.as_ptr().expose_provenance(), bytes.len(), 0, 0, 0]) }
}

/// Closes a descriptor that the caller has opened.
pub fn close(descriptor: usize) {
    // SAFETY: as the caller says.
    let _ = unsafe { call(libc::SYS_close, [descriptor, 0, 0, 0, 0, 0]) };
}

/// Reads a link into `bytes`.
#[must_use]
pub fn read_link(path: &CStr, bytes: &mut [u8]) -> isize {
    // SAFETY: a path, and room for as many bytes as given.
    unsafe {
        call(
            libc::SYS_readlink,
            [path.as_ptr().expose_provenance(), bytes.as_mut_ptr().expose_provenance(), bytes.len(), 0, 0, 0],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_the_kernels() {
        let mut bytes = [0; 64];
        let length = read_link(c"/proc/self/exe", &mut bytes);
        let expected = std::fs::read_link("/proc/self/exe").expect("there is a program");
        let expected = expected.to_str().expect("a path").as_bytes();
        assert_eq!(length, expected.len().min(64).cast_signed());
        assert_eq!(bytes.first_chunk::<8>(), expected.first_chunk());

        assert!(is_error(open(c"/nothing/there", libc::O_RDONLY, 0), libc::ENOENT));
        let zeros = open(c"/dev/zero", libc::O_RDWR | libc::O_CLOEXEC, 0).cast_unsigned();
        bytes.fill(7);
        assert_eq!(read(zeros, &mut bytes), 64);
        assert_eq!(bytes, [0; 64]);
        assert_eq!(write(zeros, &bytes), 64);
        close(zeros);
        assert!(is_error(read(zeros, &mut bytes), libc::EBADF));
    }
}
