//! From guest-physical extents to pieces of files.

use std::{fs::File, sync::Arc};

use virtio_spec::control::{Extent, Status};
use vm_memory::{
    Address as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _,
};

use crate::{link::Piece, packet};

/// Files of one region: what fits a packet to the worker, beside its eventfds, the socket for tokens and the count of
/// spinning lanes. QEMU passes one for each part of RAM.
const MAX_FILES: usize = packet::MAX_DESCRIPTORS - 4;

/// The memory of a region, as it is passed to a worker.
#[derive(Debug, Default, Clone)]
pub(crate) struct Backing {
    /// In the region's order.
    pub(crate) pieces: Vec<Piece>,
    /// The pieces' files.
    pub(crate) files: Vec<Arc<File>>,
}

impl Backing {
    /// All of one file.
    pub(crate) fn whole(file: File, length: u64) -> Self {
        Self { pieces: vec![Piece { file: 0, reserved: 0, offset: 0, length }], files: vec![Arc::new(file)] }
    }

    /// Appends extents of guest memory, split where RAM regions meet and joined where files go on. Returns their bytes.
    pub(crate) fn extend(&mut self, memory: &GuestMemoryMmap<()>, extents: &[Extent]) -> Result<u64, Status> {
        let mut total = 0_u64;
        for extent in extents {
            let mut address = extent.address;
            let mut left = extent.length;
            while left > 0 {
                let (region, inside) =
                    memory.to_region_addr(GuestAddress(address)).ok_or(Status::NotShared)?;
                let file = region.file_offset().ok_or(Status::NotShared)?;
                let here = region.len().checked_sub(inside.raw_value()).ok_or(Status::NotShared)?.min(left);
                let offset = file.start().checked_add(inside.raw_value()).ok_or(Status::Invalid)?;
                self.push(file.arc(), offset, here)?;
                left = left.checked_sub(here).ok_or(Status::Invalid)?;
                total = total.checked_add(here).ok_or(Status::Invalid)?;
                address = address.checked_add(here).ok_or(Status::Invalid)?;
            }
        }
        Ok(total)
    }

    fn push(&mut self, file: &Arc<File>, offset: u64, length: u64) -> Result<(), Status> {
        let known = self.files.iter().position(|known| Arc::ptr_eq(known, file));
        let index = match known {
            Some(index) => index,
            None if self.files.len() < MAX_FILES => {
                self.files.push(Arc::clone(file));
                self.files.len().saturating_sub(1)
            }
            None => return Err(Status::Limit),
        };
        let index = u32::try_from(index).map_err(|_| Status::Limit)?;
        if let Some(last) = self.pieces.last_mut().filter(|last| last.file == index)
            && last.offset.checked_add(last.length) == Some(offset)
        {
            last.length = last.length.checked_add(length).ok_or(Status::Invalid)?;
            return Ok(());
        }
        self.pieces.push(Piece { file: index, reserved: 0, offset, length });
        Ok(())
    }
}

/// Bytes of the VM's shared memory.
pub(crate) fn shared_bytes(memory: &GuestMemoryMmap<()>) -> u64 {
    memory.iter().fold(0, |sum: u64, region| sum.saturating_add(region.len()))
}

#[cfg(test)]
mod tests {
    use rustix::fs::MemfdFlags;
    use vm_memory::FileOffset;

    use super::*;

    const PAGE: u64 = 4096;

    fn memfd(pages: u64) -> File {
        let file = File::from(rustix::fs::memfd_create("extents-test", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(pages * PAGE).unwrap();
        file
    }

    /// Pages 0..4 and 4..8 in one file but separate regions (the second from page 8 of the file), 16..18 unshared.
    fn memory() -> GuestMemoryMmap<()> {
        let file = Arc::new(memfd(16));
        let at = |page: u64| Some(FileOffset::from_arc(Arc::clone(&file), page * PAGE));
        GuestMemoryMmap::from_ranges_with_files([
            (GuestAddress(0), 4 * 4096, at(0)),
            (GuestAddress(4 * PAGE), 4 * 4096, at(8)),
            (GuestAddress(16 * PAGE), 2 * 4096, None),
        ])
        .unwrap()
    }

    fn extents(list: &[(u64, u64)]) -> Vec<Extent> {
        list.iter().map(|(page, pages)| Extent { address: page * PAGE, length: pages * PAGE }).collect()
    }

    fn pieces(list: &[(u64, u64)]) -> Result<Vec<(u64, u64)>, Status> {
        let mut backing = Backing::default();
        let total = backing.extend(&memory(), &extents(list))?;
        assert_eq!(total, list.iter().map(|(_, pages)| pages * PAGE).sum::<u64>());
        assert_eq!(backing.files.len(), 1, "one file, passed once");
        Ok(backing.pieces.iter().map(|piece| (piece.offset / PAGE, piece.length / PAGE)).collect())
    }

    #[test]
    fn extents_are_split_where_regions_meet() {
        assert_eq!(pieces(&[(3, 2)]), Ok(vec![(3, 1), (8, 1)]));
        assert_eq!(pieces(&[(0, 8)]), Ok(vec![(0, 4), (8, 4)]));
    }

    #[test]
    fn extents_that_go_on_are_joined() {
        assert_eq!(pieces(&[(0, 1), (1, 2), (5, 1), (6, 1)]), Ok(vec![(0, 3), (9, 2)]));
        assert_eq!(pieces(&[(1, 1), (0, 1)]), Ok(vec![(1, 1), (0, 1)]));
    }

    #[test]
    fn memory_that_is_not_shared_is_said() {
        for list in [&[(16, 1)][..], &[(8, 1)], &[(7, 2)], &[(0, 1), (1 << 40, 1)]] {
            assert_eq!(pieces(list), Err(Status::NotShared), "{list:?}");
        }
    }

    #[test]
    fn shared_bytes_counts_all_regions() {
        assert_eq!(shared_bytes(&memory()), 10 * PAGE);
    }
}
