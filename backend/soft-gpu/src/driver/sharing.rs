//! Memory for other processes: a handle says which file of which process to open, and where in it the memory is.
//!
//! The other process opens the file through `/proc`, which the kernel allows to the same user.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

use virtio_spec::cuda::{CUipcMemHandle, CUmemAllocationHandleType, CUmemPoolPtrExportData, CUresult};

use super::allocation::{Allocation, Kind};
use super::pages::{MEMORY, copy_of};
use super::queue::lock;
use super::{Driver, Result};

/// What handles of this driver begin with.
const MAGIC: u64 = u64::from_le_bytes(*b"soft-ipc");
const POOL_MAGIC: u64 = u64::from_le_bytes(*b"soft-mem");

/// What is in a handle: numbers of 8 bytes, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Origin {
    process: u64,
    descriptor: u64,
    /// Of the file, so that another one behind the descriptor is found out.
    device: u64,
    inode: u64,
    offset: u64,
    length: u64,
}

impl Origin {
    fn to_handle(self) -> CUipcMemHandle {
        let words =
            [MAGIC, self.process, self.descriptor, self.device, self.inode, self.offset, self.length, 0];
        let mut handle = CUipcMemHandle::default();
        for (place, word) in handle.reserved.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        handle
    }

    fn from_handle(handle: &CUipcMemHandle) -> Option<Self> {
        let mut words = handle.reserved.chunks_exact(8).map(|word| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            u64::from_le_bytes(bytes)
        });
        if words.next()? != MAGIC {
            return None;
        }
        let origin = Self {
            process: words.next()?,
            descriptor: words.next()?,
            device: words.next()?,
            inode: words.next()?,
            offset: words.next()?,
            length: words.next()?,
        };
        (words.next()? == 0 && origin.length > 0).then_some(origin)
    }
}

fn file_of(path: &str) -> std::io::Result<std::fs::File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Memory of other processes that is open here.
#[derive(Debug, Default)]
pub(crate) struct Imports {
    /// Where it is, and how often it was opened.
    open: Mutex<BTreeMap<Origin, (u64, u64)>>,
}

impl Driver {
    /// What another process opens the allocation with.
    pub(crate) fn share(&self, allocation: &Allocation) -> Result<CUipcMemHandle> {
        let failed = CUresult::ERROR_OPERATING_SYSTEM;
        let (file, offset) = self.memory.place_in_file(allocation).ok_or(failed)?;
        let descriptor = file.as_raw_fd();
        let metadata = std::fs::metadata(format!("/proc/self/fd/{descriptor}")).map_err(|_| failed)?;
        let origin = Origin {
            process: u64::from(std::process::id()),
            descriptor: u64::try_from(descriptor).map_err(|_| failed)?,
            device: metadata.dev(),
            inode: metadata.ino(),
            offset,
            length: allocation.length,
        };
        Ok(origin.to_handle())
    }

    /// Maps what another process has shared; once, however often it is opened.
    pub(crate) fn open_shared(&self, handle: &CUipcMemHandle, context: u64) -> Result<u64> {
        let origin = Origin::from_handle(handle).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        if origin.process == u64::from(std::process::id()) {
            return Err(CUresult::ERROR_INVALID_CONTEXT);
        }
        let mut open = lock(&self.imports.open);
        if let Some((start, count)) = open.get_mut(&origin)
            && self.memory.find_start(*start, &[Kind::Imported]).is_some()
        {
            *count += 1;
            return Ok(*start);
        }
        let path = format!("/proc/{}/fd/{}", origin.process, origin.descriptor);
        let file = file_of(&path).map_err(|_| CUresult::ERROR_MAP_FAILED)?;
        let same = file
            .metadata()
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (origin.device, origin.inode));
        if !same {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let start = {
            let file = OwnedFd::from(file);
            self.memory.import(&file, origin.offset, origin.length, Kind::Imported, context)?
        };
        open.insert(origin, (start, 1));
        Ok(start)
    }

    /// Closes what was opened; the last time it is unmapped.
    pub(crate) fn close_shared(&self, start: u64) -> Result<()> {
        let mut open = lock(&self.imports.open);
        let found = open.iter_mut().find(|(_, (place, _))| *place == start);
        let (origin, (_, count)) = found.ok_or(CUresult::ERROR_INVALID_VALUE)?;
        *count -= 1;
        if *count == 0 {
            let origin = *origin;
            open.remove(&origin);
            drop(open);
            self.release(start, &[Kind::Imported], CUresult::ERROR_INVALID_VALUE)?;
        }
        Ok(())
    }
}

/// What a pool's memory is for another process: where in the file that its pool leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PooledOrigin {
    offset: u64,
    length: u64,
}

impl PooledOrigin {
    fn to_data(self) -> CUmemPoolPtrExportData {
        let mut data = CUmemPoolPtrExportData::default();
        for (place, word) in data.reserved.chunks_exact_mut(8).zip([POOL_MAGIC, self.offset, self.length]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        data
    }

    fn from_data(data: &CUmemPoolPtrExportData) -> Option<Self> {
        let mut words = data.reserved.chunks_exact(8).map(|word| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            u64::from_le_bytes(bytes)
        });
        let (magic, offset, length) = (words.next()?, words.next()?, words.next()?);
        (magic == POOL_MAGIC && length > 0 && words.all(|word| word == 0)).then_some(Self { offset, length })
    }
}

impl Driver {
    /// A descriptor with which another process gets a pool: the file that its memory is in.
    pub(crate) fn export_pool(&self, handle: u64) -> Result<OwnedFd> {
        let pool = self.pools.get(handle)?;
        let failed = CUresult::ERROR_OPERATING_SYSTEM;
        if pool.handle_types == CUmemAllocationHandleType::NONE {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let file = match &pool.origin {
            Some(file) => file,
            None => self.memory.file()?,
        };
        file.try_clone().map_err(|_| failed)
    }

    /// Another process's pool, behind a descriptor.
    pub(crate) fn import_pool(&self, descriptor: RawFd) -> Result<u64> {
        let file = copy_of(MEMORY, descriptor).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let types = CUmemAllocationHandleType::POSIX_FILE_DESCRIPTOR;
        Ok(self.pools.create(0, types, Some(file))?.handle)
    }

    /// What another process opens memory of a pool with.
    pub(crate) fn export_pooled(&self, address: u64) -> Result<CUmemPoolPtrExportData> {
        let invalid = CUresult::ERROR_INVALID_VALUE;
        let found = self.memory.find(address).filter(|found| found.kind == Kind::Pool).ok_or(invalid)?;
        let pool = self.pools.numbered(found.flags);
        pool.filter(|pool| pool.handle_types != CUmemAllocationHandleType::NONE).ok_or(invalid)?;
        let (_, offset) = self.memory.place_in_file(&found).ok_or(invalid)?;
        Ok(PooledOrigin { offset, length: found.length }.to_data())
    }

    /// Maps memory of another process's pool.
    pub(crate) fn import_pooled(
        &self,
        pool: u64,
        data: &CUmemPoolPtrExportData,
        context: u64,
    ) -> Result<u64> {
        let invalid = CUresult::ERROR_INVALID_VALUE;
        let pool = self.pools.get(pool)?;
        let file = pool.origin.as_ref().ok_or(invalid)?;
        let PooledOrigin { offset, length } = PooledOrigin::from_data(data).ok_or(invalid)?;
        self.memory.import(file, offset, length, Kind::ImportedPool, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_say_where_memory_is() {
        let origin = Origin { process: 1, descriptor: 2, device: 3, inode: 4, offset: 5, length: 6 };
        let mut handle = origin.to_handle();
        assert_eq!(Origin::from_handle(&handle), Some(origin));
        handle.reserved[0] ^= 1;
        assert_eq!(Origin::from_handle(&handle), None);
        assert_eq!(Origin::from_handle(&CUipcMemHandle::default()), None);
    }

    #[test]
    fn data_of_a_pool_says_where_its_memory_is() {
        let origin = PooledOrigin { offset: 5, length: 6 };
        let mut data = origin.to_data();
        assert_eq!(PooledOrigin::from_data(&data), Some(origin));
        data.reserved[40] = 1;
        assert_eq!(PooledOrigin::from_data(&data), None);
        assert_eq!(PooledOrigin::from_data(&CUmemPoolPtrExportData::default()), None);
    }
}
