//! How long an image is, of which a program gives the address only.
//!
//! Unsafe code: reads the headers of the application's image, which by CUDA's contract is complete.

use std::ptr::read_unaligned;

use virtio_spec::cuda::CUresult;
use virtio_spec::limits::MAX_IMAGE_BYTES;

/// First four bytes of what `nvcc` puts around a fat binary.
const WRAPPER: u32 = 0x4662_43b1;
/// First four bytes of a fat binary's container, now and formerly.
const CONTAINERS: [u32; 2] = [0xba55_ed50, 0x1ee5_5a01];
/// First four bytes of an ELF file.
const ELF: u32 = u32::from_le_bytes(*b"\x7fELF");
/// A section without bytes in the file.
const NO_BITS: u32 = 8;

/// Bytes of the application that are an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// First byte.
    pub(crate) start: *const u8,
    /// Bytes.
    pub(crate) length: u64,
}

/// A number of an image, wherever it lies.
///
/// # Safety
/// The image has a `T` at `offset`.
unsafe fn at<T>(image: *const u8, offset: u64) -> T
where
    T: Copy + zerocopy::FromBytes,
{
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let place = image.wrapping_add(offset).cast::<T>();
    // SAFETY: as the caller promises; any bytes are a `T`.
    unsafe { read_unaligned(place) }
}

/// Finds the image at an address, and its length.
///
/// # Safety
/// A complete wrapper, fat binary, ELF file or NUL-terminated text is at `start`.
pub(crate) unsafe fn find(start: *const u8) -> Result<Image, CUresult> {
    if start.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // Text may be shorter than four bytes, so the first decides whether there are more.
    // SAFETY: every image has a first byte.
    let first = unsafe { at::<u8>(start, 0) };
    let length = match first {
        0xb1 | 0x50 | 0x01 | 0x7f => {
            // SAFETY: these bytes begin no text, so the image has a header.
            let magic = unsafe { at::<u32>(start, 0) };
            if magic == WRAPPER {
                // SAFETY: a wrapper: two words, then the address of the container.
                let data = unsafe { at::<u64>(start, 8) };
                let data = std::ptr::with_exposed_provenance(usize::try_from(data).unwrap_or(0));
                // SAFETY: the wrapper names a complete container (or, linked ahead, an ELF file).
                return unsafe { inner(data) };
            }
            // SAFETY: as the caller promises.
            return unsafe { inner(start) };
        }
        // SAFETY: as the caller promises.
        _ => unsafe { text_length(start) }?,
    };
    Ok(Image { start, length })
}

/// As [`find`], without a wrapper: `cuModuleLoadFatBinary` takes what is inside.
///
/// # Safety
/// A complete fat binary, ELF file or NUL-terminated text is at `start`, or a wrapper.
pub(crate) unsafe fn find_bare(start: *const u8) -> Result<Image, CUresult> {
    // SAFETY: as the caller promises.
    let image = unsafe { find(start) }?;
    if image.start == start { Ok(image) } else { Err(CUresult::ERROR_INVALID_IMAGE) }
}

/// What may be inside a wrapper, or stand alone.
///
/// # Safety
/// A complete container or ELF file is at `start`, if it is not null and its first word says so.
unsafe fn inner(start: *const u8) -> Result<Image, CUresult> {
    if start.is_null() {
        return Err(CUresult::ERROR_INVALID_IMAGE);
    }
    // SAFETY: as the caller promises.
    let magic = unsafe { at::<u32>(start, 0) };
    let length = if CONTAINERS.contains(&magic) {
        // SAFETY: a container's header has 16 bytes.
        let header = unsafe { at::<u16>(start, 6) };
        // SAFETY: as above.
        let payload = unsafe { at::<u64>(start, 8) };
        u64::from(header).checked_add(payload)
    } else if magic == ELF {
        // SAFETY: an ELF file.
        unsafe { elf_length(start) }
    } else {
        None
    };
    match length {
        Some(length) if length <= MAX_IMAGE_BYTES => Ok(Image { start, length }),
        _ => Err(CUresult::ERROR_INVALID_IMAGE),
    }
}

/// The end of the last of an ELF file's parts: in files of `nvcc` that is the program headers.
///
/// # Safety
/// A complete 64-bit ELF file is at `image`.
unsafe fn elf_length(image: *const u8) -> Option<u64> {
    let read16 = |offset| {
        // SAFETY: inside the file's header.
        u64::from(unsafe { at::<u16>(image, offset) })
    };
    let read64 = |offset| {
        // SAFETY: inside one of the file's headers.
        unsafe { at::<u64>(image, offset) }
    };
    let (segments, sections) = (read64(0x20), read64(0x28));
    let (segment_bytes, section_bytes) = (read16(0x36), read16(0x3a));
    let (segment_count, mut section_count) = (read16(0x38), read16(0x3c));
    if segments.max(sections) > MAX_IMAGE_BYTES || (section_count > 0 && section_bytes < 0x40) {
        return None;
    }
    if section_count == 0 && sections != 0 {
        // With more sections than fit the header, the first one's size is their number.
        section_count = read64(sections + 0x20);
    }
    let mut end = 64_u64;
    end = end.max(segments.checked_add(segment_count * segment_bytes)?);
    end = end.max(sections.checked_add(section_count.checked_mul(section_bytes)?)?);
    if end > MAX_IMAGE_BYTES {
        return None;
    }
    for number in 0..section_count {
        let header = sections + number * section_bytes;
        // SAFETY: a section header inside the file.
        let kind = unsafe { at::<u32>(image, header + 4) };
        let (offset, size) = (read64(header + 0x18), read64(header + 0x20));
        if kind != NO_BITS && kind != 0 {
            end = end.max(offset.checked_add(size)?);
        }
    }
    if segment_bytes >= 0x38 {
        for number in 0..segment_count {
            let header = segments + number * segment_bytes;
            let (offset, size) = (read64(header + 8), read64(header + 0x20));
            end = end.max(offset.checked_add(size)?);
        }
    }
    Some(end)
}

/// Bytes of a text with its NUL.
///
/// # Safety
/// NUL-terminated text is at `text`, if its first byte is one of a text.
unsafe fn text_length(text: *const u8) -> Result<u64, CUresult> {
    // SAFETY: every image has a first byte.
    let first = unsafe { at::<u8>(text, 0) };
    if !first.is_ascii_graphic() && !first.is_ascii_whitespace() {
        return Err(CUresult::ERROR_INVALID_IMAGE);
    }
    let most = usize::try_from(MAX_IMAGE_BYTES).unwrap_or(usize::MAX);
    // SAFETY: NUL-terminated, as the caller promises.
    let length = unsafe { libc::strnlen(text.cast(), most) };
    if length == most { Err(CUresult::ERROR_INVALID_IMAGE) } else { Ok(length as u64 + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(bytes: &[u8]) -> Result<u64, CUresult> {
        // SAFETY: the tests' images are complete.
        unsafe { find(bytes.as_ptr()) }.map(|image| image.length)
    }

    fn put(image: &mut [u8], offset: usize, bytes: &[u8]) {
        image[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// An ELF file of 0x500 bytes: sections end at 0x300, the section headers at 0x400, the program headers last.
    fn elf() -> Vec<u8> {
        let mut image = vec![0; 0x500];
        put(&mut image, 0, b"\x7fELF\x02\x01");
        put(&mut image, 0x20, &(0x500_u64 - 0x38).to_le_bytes());
        put(&mut image, 0x28, &0x380_u64.to_le_bytes());
        put(&mut image, 0x36, &[0x38, 0, 1, 0, 0x40, 0, 2, 0]);
        let section = 0x3c0;
        put(&mut image, section + 4, &1_u32.to_le_bytes());
        put(&mut image, section + 0x18, &0x100_u64.to_le_bytes());
        put(&mut image, section + 0x20, &0x200_u64.to_le_bytes());
        image
    }

    #[test]
    fn text_ends_with_its_nul() {
        assert_eq!(length(b".version 8.0\n\0trailing"), Ok(14));
        assert_eq!(length(b"//\0"), Ok(3));
    }

    #[test]
    fn program_headers_may_be_last() {
        assert_eq!(length(&elf()), Ok(0x500));
    }

    #[test]
    fn sections_without_bytes_do_not_count() {
        let mut image = elf();
        put(&mut image, 0x3c0 + 4, &NO_BITS.to_le_bytes());
        put(&mut image, 0x3c0 + 0x20, &0x10_0000_u64.to_le_bytes());
        assert_eq!(length(&image), Ok(0x500));
    }

    #[test]
    fn a_container_says_its_length() {
        let mut image = vec![0; 64];
        put(&mut image, 0, &CONTAINERS[0].to_le_bytes());
        put(&mut image, 4, &[1, 0, 16, 0]);
        put(&mut image, 8, &48_u64.to_le_bytes());
        assert_eq!(length(&image), Ok(64));
    }

    #[test]
    fn a_wrapper_leads_to_its_container() {
        let mut container = vec![0; 40];
        put(&mut container, 0, &CONTAINERS[0].to_le_bytes());
        put(&mut container, 4, &[1, 0, 16, 0]);
        put(&mut container, 8, &24_u64.to_le_bytes());
        let mut wrapper = vec![0; 24];
        put(&mut wrapper, 0, &WRAPPER.to_le_bytes());
        put(&mut wrapper, 8, &(container.as_ptr().expose_provenance() as u64).to_le_bytes());
        // SAFETY: a complete wrapper around a complete container.
        let image = unsafe { find(wrapper.as_ptr()) };
        assert_eq!(image, Ok(Image { start: container.as_ptr(), length: 40 }));
        // SAFETY: the same.
        let bare = unsafe { find_bare(wrapper.as_ptr()) };
        assert_eq!(bare, Err(CUresult::ERROR_INVALID_IMAGE));
        // SAFETY: a complete container.
        let bare = unsafe { find_bare(container.as_ptr()) };
        assert_eq!(bare, Ok(Image { start: container.as_ptr(), length: 40 }));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        assert_eq!(length(&[0; 64]), Err(CUresult::ERROR_INVALID_IMAGE));
        assert_eq!(length(&[0x50, 0, 0, 0, 0, 0, 0, 0]), Err(CUresult::ERROR_INVALID_IMAGE));
        let mut image = elf();
        put(&mut image, 0x28, &u64::MAX.to_le_bytes());
        assert_eq!(length(&image), Err(CUresult::ERROR_INVALID_IMAGE));
    }
}
