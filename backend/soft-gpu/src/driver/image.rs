//! What programs give as code: PTX text, or containers of it.
//!
//! Unsafe code: reading images of which only the address is known. Their length is in them.

use std::io::Read;

use virtio_spec::cuda::CUresult;

use super::Result;

const WRAPPER_MAGIC: u32 = 0x4662_43b1;
const CONTAINER_MAGIC: u32 = 0xba55_ed50;
const ELF_MAGIC: u32 = 0x464c_457f;
const CONTAINER_HEADER: usize = 16;
const ENTRY_HEADER: usize = 64;

/// An entry with PTX text.
const KIND_PTX: u16 = 1;
/// An entry of this driver's linker: part of one program, to be linked with its neighbours.
const KIND_LINKED: u16 = 0x50f7;

/// Entry flag: the text is an LZ4 block.
const LZ4: u64 = 0x2000;
/// Entry flag: the text is a Zstandard frame.
const ZSTD: u64 = 0x8000;
/// Entry flag: the text is compressed in a way of old compilers, which this driver does not know.
const OLD: u64 = 0x1000;

/// Bound on a text whose end is found by its NUL, and on a container, in bytes.
const MAX_BYTES: usize = 1 << 30;

/// The texts that make up an image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sources(pub(crate) Vec<String>);

/// Reads an image of which only the address is known.
///
/// # Safety
/// `image` is what CUDA takes: PTX text with a NUL, a container, or a wrapper of one.
pub(crate) unsafe fn read(image: *const u8) -> Result<Sources> {
    if image.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller's.
    match unsafe { first_word(image) } {
        WRAPPER_MAGIC => {
            // SAFETY: a wrapper has the container's address 8 bytes from its start.
            let place = unsafe { image.add(8) };
            // SAFETY: as above; it need not be aligned.
            let container = unsafe { place.cast::<*const u8>().read_unaligned() };
            if container.is_null() {
                return Err(CUresult::ERROR_INVALID_IMAGE);
            }
            // SAFETY: a container's header is 16 bytes.
            unsafe { read_container(container) }
        }
        // SAFETY: it begins as a container.
        CONTAINER_MAGIC => unsafe { read_container(image) },
        ELF_MAGIC => Err(CUresult::ERROR_NO_BINARY_FOR_GPU),
        // SAFETY: neither is it binary, so it is text.
        _ => unsafe { read_text(image) },
    }
}

/// The same where a wrapper is none of the images that are taken.
///
/// # Safety
/// As for [`read`].
pub(crate) unsafe fn read_bare(image: *const u8) -> Result<Sources> {
    // SAFETY: the caller's.
    if !image.is_null() && unsafe { first_word(image) } == WRAPPER_MAGIC {
        return Err(CUresult::ERROR_INVALID_IMAGE);
    }
    // SAFETY: the caller's.
    unsafe { read(image) }
}

/// The bytes that an image begins with, up to its NUL if it is a short text.
///
/// # Safety
/// `image` is an image.
unsafe fn first_word(image: *const u8) -> u32 {
    let mut start = [0; 4];
    for (offset, byte) in start.iter_mut().enumerate() {
        // SAFETY: an image ends with a NUL or after its header, neither of which was passed yet.
        let place = unsafe { image.add(offset) };
        // SAFETY: as above.
        *byte = unsafe { place.read() };
        if *byte == 0 {
            break;
        }
    }
    u32::from_le_bytes(start)
}

/// # Safety
/// `image` is a text that ends with a NUL.
unsafe fn read_text(image: *const u8) -> Result<Sources> {
    // SAFETY: the caller's.
    let text = unsafe { std::ffi::CStr::from_ptr(image.cast()) };
    text_of(text.to_bytes()).map(|text| Sources(vec![text]))
}

/// # Safety
/// `container` is a container with all its bytes.
unsafe fn read_container(container: *const u8) -> Result<Sources> {
    // SAFETY: a container has a header.
    let header = unsafe { std::slice::from_raw_parts(container, CONTAINER_HEADER) };
    let length = container_bytes(header).ok_or(CUresult::ERROR_INVALID_IMAGE)?;
    // SAFETY: the header says that so many bytes are there.
    parse(unsafe { std::slice::from_raw_parts(container, length) })
}

fn number<const BYTES: usize>(bytes: &[u8], at: usize) -> Option<[u8; BYTES]> {
    bytes.get(at..at.checked_add(BYTES)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    number(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    number(bytes, at).map(u64::from_le_bytes)
}

/// Bytes of a container, its header included.
fn container_bytes(header: &[u8]) -> Option<usize> {
    if u32_at(header, 0)? != CONTAINER_MAGIC {
        return None;
    }
    let length = usize::try_from(u64_at(header, 8)?).ok()?.checked_add(usize::from(u16_at(header, 6)?))?;
    (CONTAINER_HEADER..=MAX_BYTES).contains(&length).then_some(length)
}

fn text_of(bytes: &[u8]) -> Result<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let bytes = bytes.get(..end).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes).into_owned();
    // Text that cannot be PTX is no image at all; what begins like PTX gets the compiler's words.
    let begins = text.trim_start();
    if begins.is_empty() || text.bytes().any(|byte| byte < 9) {
        return Err(CUresult::ERROR_INVALID_IMAGE);
    }
    Ok(text)
}

/// Reads an image of known length.
pub(crate) fn parse(bytes: &[u8]) -> Result<Sources> {
    match u32_at(bytes, 0) {
        Some(CONTAINER_MAGIC) => entries(bytes).unwrap_or(Err(CUresult::ERROR_INVALID_IMAGE)),
        Some(ELF_MAGIC) => Err(CUresult::ERROR_NO_BINARY_FOR_GPU),
        _ => text_of(bytes).map(|text| Sources(vec![text])),
    }
}

/// Chooses among a container's entries: the parts of a linked program, or the newest PTX that the device takes.
fn entries(bytes: &[u8]) -> Option<Result<Sources>> {
    let length = container_bytes(bytes)?.min(bytes.len());
    let mut at = usize::from(u16_at(bytes, 6)?);
    let mut best: Option<(u32, Result<String>)> = None;
    let mut linked = Vec::new();
    while at.checked_add(ENTRY_HEADER)? <= length {
        let entry = bytes.get(at..length)?;
        let (kind, header) = (u16_at(entry, 0)?, usize::try_from(u32_at(entry, 4)?).ok()?);
        let padded = usize::try_from(u64_at(entry, 8)?).ok()?;
        let end = header.checked_add(padded)?;
        if header < ENTRY_HEADER || end > entry.len() {
            return None;
        }
        let (arch, flags) = (u32_at(entry, 28)?, u64_at(entry, 40)?);
        let payload = entry.get(header..end)?;
        match kind {
            KIND_LINKED => linked.push(payload),
            KIND_PTX
                if flags & OLD == 0
                    && arch <= super::attributes::SM
                    && best.as_ref().is_none_or(|(known, _)| *known < arch) =>
            {
                best = Some((arch, text(entry, payload, flags)?));
            }
            _ => {}
        }
        at = at.checked_add(end)?;
    }
    if !linked.is_empty() {
        return Some(linked.into_iter().map(text_of).collect::<Result<_>>().map(Sources));
    }
    Some(match best {
        Some((_, text)) => text.map(|text| Sources(vec![text])),
        None => Err(CUresult::ERROR_NO_BINARY_FOR_GPU),
    })
}

/// The text of an entry with PTX; `None` if its numbers contradict each other.
fn text(entry: &[u8], payload: &[u8], flags: u64) -> Option<Result<String>> {
    if flags & (LZ4 | ZSTD) == 0 {
        return Some(text_of(payload));
    }
    let compressed = payload.get(..usize::try_from(u32_at(entry, 16)?).ok()?)?;
    let length = usize::try_from(u64_at(entry, 56)?).ok().filter(|length| *length <= MAX_BYTES)?;
    let text =
        if flags & LZ4 != 0 { super::lz4::decompress(compressed, length) } else { zstd(compressed, length) };
    Some(text_of(&text?))
}

/// Decompresses Zstandard frames of `length` bytes together.
fn zstd(frames: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut output = Vec::new();
    let decoder = ruzstd::decoding::StreamingDecoder::new(frames).ok()?;
    // One byte more than there should be tells that there is too much.
    decoder.take(length as u64 + 1).read_to_end(&mut output).ok()?;
    (output.len() == length).then_some(output)
}

/// Packs the parts of a linked program into one image.
pub(crate) fn pack(sources: &[String]) -> Vec<u8> {
    let mut body = Vec::new();
    for source in sources {
        let padded = (source.len() + 1).next_multiple_of(8);
        let mut header = [0; ENTRY_HEADER];
        header[0..2].copy_from_slice(&KIND_LINKED.to_le_bytes());
        header[2..4].copy_from_slice(&0x0101_u16.to_le_bytes());
        header[4..8].copy_from_slice(&64_u32.to_le_bytes());
        header[8..16].copy_from_slice(&(padded as u64).to_le_bytes());
        header[28..32].copy_from_slice(&super::attributes::SM.to_le_bytes());
        header[40..48].copy_from_slice(&0x11_u64.to_le_bytes());
        body.extend_from_slice(&header);
        body.extend_from_slice(source.as_bytes());
        body.resize(body.len() + padded - source.len(), 0);
    }
    let mut image = Vec::with_capacity(CONTAINER_HEADER + body.len());
    image.extend_from_slice(&CONTAINER_MAGIC.to_le_bytes());
    image.extend_from_slice(&1_u16.to_le_bytes());
    image.extend_from_slice(&16_u16.to_le_bytes());
    image.extend_from_slice(&(body.len() as u64).to_le_bytes());
    image.extend_from_slice(&body);
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A container with entries of (kind, architecture, flags, text).
    fn container(entries: &[(u16, u32, u64, &str)]) -> Vec<u8> {
        let mut image = pack(&entries.iter().map(|(.., text)| (*text).to_owned()).collect::<Vec<_>>());
        let mut at = CONTAINER_HEADER;
        for (kind, arch, flags, text) in entries {
            image[at..at + 2].copy_from_slice(&kind.to_le_bytes());
            image[at + 28..at + 32].copy_from_slice(&arch.to_le_bytes());
            image[at + 40..at + 48].copy_from_slice(&flags.to_le_bytes());
            at += ENTRY_HEADER + (text.len() + 1).next_multiple_of(8);
        }
        image
    }

    fn one(text: &str) -> Result<Sources> {
        Ok(Sources(vec![text.to_owned()]))
    }

    #[test]
    fn the_newest_ptx_that_the_device_takes_is_chosen() {
        let image =
            container(&[(1, 52, 0, "old"), (1, 80, 0, "new"), (1, 120, 0, "future"), (2, 90, 0, "elf")]);
        assert_eq!(parse(&image), one("new"));
    }

    #[test]
    fn machine_code_alone_is_no_binary_for_this_device() {
        assert_eq!(parse(&container(&[(2, 90, 0, "elf")])), Err(CUresult::ERROR_NO_BINARY_FOR_GPU));
        assert_eq!(parse(b"\x7fELF\x02\x01\x01"), Err(CUresult::ERROR_NO_BINARY_FOR_GPU));
        assert_eq!(parse(&container(&[(1, 80, OLD, "?")])), Err(CUresult::ERROR_NO_BINARY_FOR_GPU));
    }

    #[test]
    fn compressed_text_is_decompressed() {
        // A block of four literal bytes; the compressed and the real size stand in the entry's header.
        let mut image = container(&[(1, 80, LZ4, "\u{40}text")]);
        image[CONTAINER_HEADER + 16] = 5;
        image[CONTAINER_HEADER + 56] = 4;
        assert_eq!(parse(&image), one("text"));
        image[CONTAINER_HEADER + 56] = 3;
        assert_eq!(parse(&image), Err(CUresult::ERROR_INVALID_IMAGE));
    }

    #[test]
    fn zstandard_frames_are_decompressed_and_bounded() {
        // A frame with one raw block of four bytes.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 4, 0x21, 0, 0, b't', b'e', b'x', b't'];
        assert_eq!(zstd(&frame, 4).as_deref(), Some(b"text".as_slice()));
        assert_eq!(zstd(&frame, 3), None);
        assert_eq!(zstd(&frame, 5), None);
        assert_eq!(zstd(b"no frame", 8), None);
    }

    #[test]
    fn linked_parts_come_back_together() {
        let parts = vec!["first".to_owned(), "second".to_owned()];
        assert_eq!(parse(&pack(&parts)), Ok(Sources(parts)));
    }

    #[test]
    fn cut_or_forged_containers_are_invalid() {
        let whole = container(&[(1, 80, 0, "some text")]);
        for length in [16, 20, 70] {
            let cut = parse(whole.get(..length).unwrap_or_default());
            assert!(cut.is_err(), "{length}");
        }
        let mut forged = whole.clone();
        forged[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(parse(&forged), Err(CUresult::ERROR_INVALID_IMAGE));
    }

    #[test]
    fn an_address_is_enough() {
        let image = container(&[(1, 80, 0, "text")]);
        // SAFETY: a whole container.
        assert_eq!(unsafe { read(image.as_ptr()) }, one("text"));
        // SAFETY: a text with a NUL.
        assert_eq!(unsafe { read(c".version 7.0".as_ptr().cast()) }, one(".version 7.0"));
    }
}
