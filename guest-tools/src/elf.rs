//! What must be known of a shared library before it is given to every process, and empty ones for other architectures.

use anyhow::{Context, Result, bail, ensure};

const CLASS_32: u8 = 1;
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const SHARED_OBJECT: u16 = 3;
const X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_GNU_STACK: u32 = 0x6474_e551;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_STRSZ: u64 = 10;
const DT_SYMENT: u64 = 11;
const DT_SONAME: u64 = 14;

/// Only our library asks for this device.
const MARK: &[u8] = virtio_spec::uapi::DEVICE_PATH.as_bytes();

/// Whether a file is this project's CUDA library, of whatever version.
pub(crate) fn is_ours(file: &[u8]) -> bool {
    file.starts_with(b"\x7fELF") && file.windows(MARK.len()).any(|window| window == MARK)
}

/// That a file is a complete x86-64 library named `soname`. A truncated one would kill every process that loads it.
pub(crate) fn check(file: &[u8], soname: &str) -> Result<()> {
    ensure!(file.starts_with(b"\x7fELF"), "it is no ELF file");
    ensure!(
        file.get(4) == Some(&CLASS_64) && file.get(5) == Some(&LITTLE_ENDIAN) && half(file, 18)? == X86_64,
        "it is not for x86-64"
    );
    ensure!(half(file, 16)? == SHARED_OBJECT, "it is no shared library");
    let sections = at_end(long(file, 40)?, half(file, 60)?, half(file, 58)?)?;
    ensure!(sections <= length(file), "it is cut off: its section headers end at byte {sections}");

    let mut segments = Vec::new();
    let (table, count) = (long(file, 32)?, half(file, 56)?);
    for index in 0..count {
        let at = table.checked_add(56 * u64::from(index)).context("its program headers lie nowhere")?;
        let at = usize::try_from(at)?;
        segments.push(Segment {
            kind: word(file, at)?,
            offset: long(file, at + 8)?,
            address: long(file, at + 16)?,
            bytes: long(file, at + 32)?,
        });
    }
    for segment in &segments {
        let end = segment.offset.checked_add(segment.bytes).context("a segment lies nowhere")?;
        ensure!(end <= length(file), "it is cut off: a segment ends at byte {end} of {}", file.len());
    }
    let found = name(file, &segments)?;
    ensure!(found == soname, "it is called {found:?}, not {soname:?}");
    Ok(())
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    bytes: u64,
}

fn name(file: &[u8], segments: &[Segment]) -> Result<String> {
    let dynamic =
        segments.iter().find(|segment| segment.kind == PT_DYNAMIC).context("it has no dynamic section")?;
    let (mut strings, mut name) = (None, None);
    for index in 0..dynamic.bytes / 16 {
        let at = usize::try_from(dynamic.offset + 16 * index)?;
        match long(file, at)? {
            0 => break,
            DT_STRTAB => strings = Some(long(file, at + 8)?),
            DT_SONAME => name = Some(long(file, at + 8)?),
            _ => {}
        }
    }
    let (Some(strings), Some(name)) = (strings, name) else { bail!("it has no name (DT_SONAME)") };
    let address = strings.checked_add(name).context("its name lies nowhere")?;
    let segment = segments
        .iter()
        .find(|segment| {
            segment.kind == PT_LOAD && (segment.address..segment.address + segment.bytes).contains(&address)
        })
        .context("its name lies outside of its segments")?;
    let at = usize::try_from(address - segment.address + segment.offset)?;
    let bytes: Vec<u8> = file.iter().skip(at).take_while(|byte| **byte != 0).copied().collect();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn at_end(table: u64, count: u16, size: u16) -> Result<u64> {
    table.checked_add(u64::from(count) * u64::from(size)).context("its section headers lie nowhere")
}

fn length(file: &[u8]) -> u64 {
    file.len() as u64
}

fn bytes<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N]> {
    let end = at.checked_add(N).context("it is cut off")?;
    Ok(file.get(at..end).context("it is cut off")?.try_into()?)
}

fn half(file: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(bytes(file, at)?))
}

fn word(file: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(bytes(file, at)?))
}

fn long(file: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from_le_bytes(bytes(file, at)?))
}

/// Architectures whose processes can run beside x86-64 ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    /// 32-bit x86.
    I386,
    /// 32-bit pointers on x86-64.
    X32,
    /// 64-bit Arm, emulated.
    Aarch64,
}

impl Machine {
    fn class(self) -> u8 {
        if self == Self::Aarch64 { CLASS_64 } else { CLASS_32 }
    }

    fn number(self) -> u16 {
        match self {
            Self::I386 => 3,
            Self::X32 => X86_64,
            Self::Aarch64 => 183,
        }
    }
}

/// A shared library that holds nothing: no code, no symbol, no dependency, no executable stack.
pub(crate) fn empty_library(machine: Machine) -> Vec<u8> {
    let wide = machine.class() == CLASS_64;
    let (header, segment, symbol, dynamic) = if wide { (64, 56, 24, 16) } else { (52, 32, 16, 8) };
    let symbols = header + 3 * segment;
    let hash = symbols + symbol;
    let hash_words: [u32; 4] = [1, 1, 0, 0];
    let strings = hash + 16;
    // One byte, the empty name; padded for what follows.
    let table = strings + 8;
    let entries = [
        (DT_HASH, hash),
        (DT_STRTAB, strings),
        (DT_SYMTAB, symbols),
        (DT_STRSZ, 1),
        (DT_SYMENT, symbol),
        (0, 0),
    ];
    let table_bytes = dynamic * entries.len() as u64;
    let end = table + table_bytes;

    let mut file = Writer { bytes: Vec::new(), wide };
    file.bytes.extend([0x7f, b'E', b'L', b'F', machine.class(), LITTLE_ENDIAN, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.half(SHARED_OBJECT);
    file.half(machine.number());
    file.word(1); // version
    file.native(0); // entry
    file.native(header); // program headers
    file.native(0); // section headers
    file.word(0); // flags
    for value in [header, segment, 3, 0, 0, 0] {
        file.half(u16::try_from(value).unwrap_or_default());
    }
    // The dynamic linker writes into the dynamic section, so the segment is writable.
    file.segment(PT_LOAD, 0, end, 0x1_0000);
    file.segment(PT_DYNAMIC, table, table_bytes, 8);
    file.segment(PT_GNU_STACK, 0, 0, 16);
    file.bytes.resize(file.bytes.len() + usize::try_from(symbol).unwrap_or_default(), 0);
    for value in hash_words {
        file.word(value);
    }
    file.bytes.resize(file.bytes.len() + 8, 0);
    for (tag, value) in entries {
        file.native(tag);
        file.native(value);
    }
    file.bytes
}

struct Writer {
    bytes: Vec<u8>,
    wide: bool,
}

impl Writer {
    fn half(&mut self, value: u16) {
        self.bytes.extend(value.to_le_bytes());
    }

    fn word(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    /// As wide as a pointer; nothing here is larger than 32 bits.
    fn native(&mut self, value: u64) {
        let bytes = value.to_le_bytes();
        self.bytes.extend(if self.wide { &bytes[..] } else { &bytes[..4] });
    }

    /// A readable and writable segment whose address is its offset.
    fn segment(&mut self, kind: u32, offset: u64, size: u64, align: u64) {
        const READ_WRITE: u32 = 6;
        self.word(kind);
        if self.wide {
            self.word(READ_WRITE);
        }
        for value in [offset, offset, offset, size, size] {
            self.native(value);
        }
        if !self.wide {
            self.word(READ_WRITE);
        }
        self.native(align);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_library_is_a_whole_shared_object() {
        for machine in [Machine::I386, Machine::X32, Machine::Aarch64] {
            let file = empty_library(machine);

            assert_eq!(half(&file, 16).expect("a type"), SHARED_OBJECT);
            assert_eq!(half(&file, 18).expect("a machine"), machine.number());
            assert!(!is_ours(&file));
            let refused = check(&file, "libcuda.so.1").expect_err("it is no CUDA library").to_string();
            assert!(refused.contains("not for x86-64") || refused.contains("name"), "{refused}");
        }
    }

    #[test]
    fn a_library_of_this_machine_is_checked_as_a_whole() {
        let path = "/usr/lib/x86_64-linux-gnu/libc.so.6";
        let Ok(file) = std::fs::read(path) else {
            eprintln!("skipped: there is no {path}");
            return;
        };

        check(&file, "libc.so.6").expect("the C library is sound");
        assert!(check(&file, "libcuda.so.1").expect_err("it is another").to_string().contains("libc.so.6"));
        for cut in [0, 3, 20, 64, 4096, file.len() / 2, file.len() - 1] {
            let part = file.get(..cut).expect("a part");
            assert!(check(part, "libc.so.6").is_err(), "cut at {cut}");
        }
        assert!(check(b"#!/bin/sh\n", "libc.so.6").is_err());
    }
}
