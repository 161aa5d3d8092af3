//! Images in memory files that nobody can change any more, so that processes share them. (This file contains unsafe
//! code: mappings, and a write from memory that the guest may change meanwhile.)

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    ptr::{self, NonNull},
};

use rustix::{
    fs::{MemfdFlags, SealFlags},
    io::Errno,
    mm::{Advice, MapFlags, ProtFlags},
};

use crate::images;

/// An image that is being collected: the bytes that have come, and a NUL behind the last one for PTX text.
#[derive(Debug)]
pub(crate) struct ImageFile(OwnedFd);

impl ImageFile {
    /// For so many bytes.
    pub(crate) fn new(total: u64) -> rustix::io::Result<Self> {
        let file = rustix::fs::memfd_create("image", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&file, total.checked_add(1).ok_or(Errno::FBIG)?)?;
        Ok(Self(file))
    }

    /// Copies bytes to an offset.
    ///
    /// # Safety
    /// `length` bytes at `from` are mapped; another process may change them meanwhile.
    pub(crate) unsafe fn write(&self, from: *const u8, length: usize, offset: u64) -> io::Result<()> {
        let mut done = 0_usize;
        while done < length {
            let at = offset.checked_add(done as u64).and_then(|at| libc::off_t::try_from(at).ok());
            let at = at.ok_or(io::ErrorKind::InvalidInput)?;
            let rest = length.saturating_sub(done);
            let from = from.wrapping_add(done).cast();
            // SAFETY: as the caller promises; the kernel copies, so it does not matter who else writes there.
            let written = unsafe { libc::pwrite(self.0.as_raw_fd(), from, rest, at) };
            match usize::try_from(written) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => done = done.saturating_add(written),
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// The image, when all bytes have come.
    pub(crate) fn seal(self, total: u64) -> rustix::io::Result<SealedImage> {
        rustix::fs::fcntl_add_seals(&self.0, images::SEALS | SealFlags::SEAL)?;
        SealedImage::map(self.0, total)
    }
}

/// An image that stays as it is, mapped.
#[derive(Debug)]
pub(crate) struct SealedImage {
    file: OwnedFd,
    base: NonNull<u8>,
    /// Bytes of the mapping: of the image and its NUL.
    length: usize,
}

// SAFETY: the value owns its mapping, whose bytes nobody can change.
unsafe impl Send for SealedImage {}
// SAFETY: as above; a shared reference only reads.
unsafe impl Sync for SealedImage {}

impl SealedImage {
    /// What another worker has made, if it is a sealed image of this size. Its bytes may be anything.
    pub(crate) fn import(file: OwnedFd, total: u64) -> Option<Self> {
        if !images::is_sealed(file.as_fd(), total) {
            return None;
        }
        let image = Self::map(file, total).ok()?;
        // Text without an end would be read beyond it.
        (image.with_nul().last() == Some(&0)).then_some(image)
    }

    fn map(file: OwnedFd, total: u64) -> rustix::io::Result<Self> {
        let length = total.checked_add(1).and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or(Errno::FBIG)?;
        // A shared mapping of a sealed file is refused before Linux 6.7, and a private one that is only read is the same.
        // SAFETY: the kernel chooses an unused range.
        let base = unsafe {
            rustix::mm::mmap(ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, &file, 0)
        }?;
        let base = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { file, base, length })
    }

    /// Has the kernel map all pages at once, for somebody who will read them.
    pub(crate) fn prefault(&self) {
        let base = self.base.as_ptr().cast();
        // SAFETY: changes nothing that a reader could see.
        let advised = unsafe { rustix::mm::madvise(base, self.length, Advice::LinuxPopulateRead) };
        if let Err(error) = advised {
            // Before Linux 5.14: they are mapped as they are read.
            log::debug!("an image is not mapped in advance: {error}");
        }
    }

    /// The image and its NUL.
    pub(crate) fn with_nul(&self) -> &[u8] {
        // SAFETY: mapped as long as `self`, of this length; the file is sealed, so it neither changes nor shrinks.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.length) }
    }

    /// The image.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.with_nul().split_last().map_or(&[], |(_, bytes)| bytes)
    }

    /// The file.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for SealedImage {
    fn drop(&mut self) {
        // SAFETY: the mapping is owned, and no reference outlives its owner.
        if let Err(error) = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.length) } {
            log::error!("an image cannot be unmapped: {error}");
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::worker) fn sealed(bytes: &[u8]) -> SealedImage {
        let total = bytes.len() as u64;
        let file = ImageFile::new(total).unwrap();
        // SAFETY: a live slice.
        unsafe { file.write(bytes.as_ptr(), bytes.len(), 0) }.unwrap();
        file.seal(total).unwrap()
    }

    #[test]
    fn an_image_ends_with_a_nul_and_cannot_be_changed() {
        for length in [1, 4095, 4096, 10_000] {
            let bytes = vec![7; length];
            let image = sealed(&bytes);
            assert_eq!(image.bytes(), bytes);
            assert_eq!(image.with_nul().last(), Some(&0));
            let file = image.file();
            assert_eq!(rustix::io::pwrite(file, &[1], 0), Err(Errno::PERM));
            assert_eq!(rustix::fs::ftruncate(file, 1), Err(Errno::PERM));
            assert_eq!(rustix::fs::fcntl_add_seals(file, SealFlags::FUTURE_WRITE), Err(Errno::PERM));
        }
    }

    #[test]
    fn only_what_is_sealed_is_imported() {
        let image = sealed(b"text");
        let copy = || image.file().try_clone_to_owned().unwrap();
        assert_eq!(SealedImage::import(copy(), 4).unwrap().bytes(), b"text");
        assert!(SealedImage::import(copy(), 5).is_none(), "another length");
        let open = ImageFile::new(4).unwrap();
        assert!(SealedImage::import(open.0.try_clone().unwrap(), 4).is_none());
        rustix::fs::fcntl_add_seals(&open.0, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
        assert!(SealedImage::import(open.0, 4).is_none(), "it can be written");
        let whole = ImageFile::new(3).unwrap();
        // SAFETY: a live slice.
        unsafe { whole.write(b"text".as_ptr(), 4, 0) }.unwrap();
        rustix::fs::fcntl_add_seals(&whole.0, images::SEALS | SealFlags::SEAL).unwrap();
        assert!(SealedImage::import(whole.0, 3).is_none(), "no NUL at the end");
    }
}
