//! What supervisor and workers agree upon about images that processes share.

use std::os::fd::BorrowedFd;

use rustix::fs::SealFlags;

/// `f_type` of memory files without huge pages.
pub(crate) const TMPFS_MAGIC: u64 = 0x0102_1994;

/// What nobody may do to an image's file any more.
pub(crate) const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW);

/// By what an image is found. Images that differ may have the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Bytes of the image.
    pub(crate) total: u64,
    /// [`virtio_spec::image_tag::sample`] of it.
    pub(crate) sample: u64,
}

/// Whether a file is that of an image of this length: sealed, in ordinary pages, and one byte longer.
pub(crate) fn is_sealed(file: BorrowedFd<'_>, total: u64) -> bool {
    // First, because files of other kinds may have whoever asks more of them wait.
    if !rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SEALS)) {
        return false;
    }
    // Huge pages can run out at the first touch, which is a signal instead of an error.
    let system =
        rustix::fs::fstatfs(file).is_ok_and(|system| u64::try_from(system.f_type) == Ok(TMPFS_MAGIC));
    let size = rustix::fs::fstat(file).ok().and_then(|status| u64::try_from(status.st_size).ok());
    system && size.is_some() && size == total.checked_add(1)
}
