//! A session's first region: guest memory in pieces.

use anyhow::{Context as _, Result, ensure};
use virtio_spec::control::Extent;
use vm_memory::{Bytes as _, GuestAddress, GuestAddressSpace as _};
use zerocopy::FromBytes as _;

use crate::noise::Noise;
use crate::queue::Memory;

/// The pieces, in order.
#[derive(Debug)]
pub(crate) struct Region {
    extents: Vec<Extent>,
    memory: Memory,
}

impl Region {
    /// From the end of a SESSION_CREATE request.
    pub(crate) fn new(memory: &Memory, extents: &[u8]) -> Self {
        let extents =
            extents.chunks(size_of::<Extent>()).filter_map(|bytes| Extent::read_from_bytes(bytes).ok());
        Self { extents: extents.collect(), memory: memory.clone() }
    }

    /// The guest address of `offset`, and how far its piece goes on.
    fn place(&self, mut offset: u64) -> Result<(GuestAddress, u64)> {
        for extent in &self.extents {
            if offset < extent.length {
                let address = extent.address.checked_add(offset).context("an extent beyond all memory")?;
                return Ok((GuestAddress(address), extent.length - offset));
            }
            offset -= extent.length;
        }
        anyhow::bail!("beyond the region")
    }

    /// Reads `N` bytes, which lie in one piece as all aligned words do.
    pub(crate) fn read<const N: usize>(&self, offset: u64) -> Result<[u8; N]> {
        let (address, left) = self.place(offset)?;
        ensure!(left >= N as u64, "across pieces");
        let mut bytes = [0; N];
        self.memory.memory().read_slice(&mut bytes, address)?;
        Ok(bytes)
    }

    /// Reads a 16-bit word.
    pub(crate) fn word(&self, offset: u64) -> Result<u16> {
        self.read(offset).map(u16::from_le_bytes)
    }

    /// Writes.
    pub(crate) fn write(&self, mut offset: u64, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (address, left) = self.place(offset)?;
            let (here, after) = bytes.split_at(bytes.len().min(usize::try_from(left)?));
            self.memory.memory().write_slice(here, address)?;
            offset = offset.saturating_add(here.len() as u64);
            bytes = after;
        }
        Ok(())
    }

    /// Fills all of it.
    pub(crate) fn fill(&self, noise: &mut Noise) -> Result<()> {
        let mut page = [0; 4096];
        let length: u64 = self.extents.iter().map(|extent| extent.length).sum();
        for offset in (0..length).step_by(page.len()) {
            noise.fill(&mut page);
            self.write(offset, &page)?;
        }
        Ok(())
    }
}
