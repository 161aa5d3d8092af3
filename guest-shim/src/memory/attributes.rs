//! `cuPointerGetAttribute` and its relatives, from the ranges that the shim knows.
//!
//! Unsafe code: asks the device through the C export.

use virtio_spec::cuda::{CUdevice, CUdeviceptr, CUpointer_attribute, CUresult};
use virtio_spec::window;

use super::{Kind, Range, pools, reserved};
use crate::exports::memory::cuMemGetAddressRange_v2;
use crate::{context, device, session};

/// Device memory and memory of the process, as `CU_POINTER_ATTRIBUTE_MEMORY_TYPE` says it.
const HOST: u64 = 1;
const DEVICE: u64 = 2;
/// `CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE`.
const READ_WRITE: u64 = 3;

/// An attribute's value and how many bytes of it the caller has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    /// The value, little-endian in its first bytes.
    pub(crate) value: u64,
    /// 1, 4 or 8.
    pub(crate) bytes: usize,
}

/// Bytes of an attribute; `None` if there is no such attribute that can be asked for.
const fn size(attribute: CUpointer_attribute) -> Option<usize> {
    Some(match attribute {
        CUpointer_attribute::MEMORY_TYPE
        | CUpointer_attribute::SYNC_MEMOPS
        | CUpointer_attribute::IS_MANAGED
        | CUpointer_attribute::DEVICE_ORDINAL
        | CUpointer_attribute::IS_LEGACY_CUDA_IPC_CAPABLE
        | CUpointer_attribute::MAPPED
        | CUpointer_attribute::IS_GPU_DIRECT_RDMA_CAPABLE
        | CUpointer_attribute::ACCESS_FLAGS
        | CUpointer_attribute::IS_HW_DECOMPRESS_CAPABLE => 4,
        CUpointer_attribute::CONTEXT
        | CUpointer_attribute::DEVICE_POINTER
        | CUpointer_attribute::HOST_POINTER
        | CUpointer_attribute::BUFFER_ID
        | CUpointer_attribute::RANGE_START_ADDR
        | CUpointer_attribute::RANGE_SIZE
        | CUpointer_attribute::ALLOWED_HANDLE_TYPES
        | CUpointer_attribute::MEMPOOL_HANDLE
        | CUpointer_attribute::MAPPING_SIZE
        | CUpointer_attribute::MAPPING_BASE_ADDR
        | CUpointer_attribute::MEMORY_BLOCK_ID => 8,
        _ => return None,
    })
}

/// The range of an address: a known one or, for memory that came with a module, what the device says.
fn lookup(address: u64) -> Option<Range> {
    super::find(address).or_else(|| {
        session::existing().filter(|_| window::is_device(address))?;
        let (mut start, mut length) = (CUdeviceptr(0), 0);
        // SAFETY: local places.
        let asked = unsafe { cuMemGetAddressRange_v2(&raw mut start, &raw mut length, CUdeviceptr(address)) };
        let inside = address.checked_sub(start.0).is_some_and(|offset| offset < length as u64);
        (asked == CUresult::SUCCESS && inside).then(|| Range {
            start: start.0,
            length: length as u64,
            kind: Kind::Device,
            device_pointer: start.0,
            context: context::current().unwrap_or(0),
            id: 0,
            synchronous: false,
        })
    })
}

/// What is known of an address that is reserved, whether something is mapped there or not.
fn of_reservation(attribute: CUpointer_attribute, address: u64) -> Option<u64> {
    match attribute {
        CUpointer_attribute::RANGE_START_ADDR => reserved::around(address).map(|(start, _)| start),
        CUpointer_attribute::RANGE_SIZE => reserved::around(address).map(|(_, length)| length),
        CUpointer_attribute::MAPPED if super::find(address).is_none() => reserved::around(address).map(|_| 0),
        _ => None,
    }
}

/// The attribute of an address, or CUDA's error for one that it does not know.
pub(crate) fn get(attribute: CUpointer_attribute, address: u64) -> Result<Value, CUresult> {
    let bytes = size(attribute).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    if let Some(value) = of_reservation(attribute, address) {
        return Ok(Value { value, bytes });
    }
    let range = lookup(address).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    Ok(Value { value: of_range(attribute, address, &range)?, bytes })
}

/// The attribute of an address as `cuPointerGetAttributes` gives it: zero where there is none, and -2 for the device of
/// ordinary memory.
pub(crate) fn get_or_none(attribute: CUpointer_attribute, address: u64) -> Result<Value, CUresult> {
    let bytes = size(attribute).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    if let Some(value) = of_reservation(attribute, address) {
        return Ok(Value { value, bytes });
    }
    let value = match lookup(address) {
        Some(range) => of_range(attribute, address, &range).unwrap_or(0),
        None if attribute == CUpointer_attribute::DEVICE_ORDINAL => u64::from((-2_i32).cast_unsigned()),
        None => 0,
    };
    Ok(Value { value, bytes })
}

/// The device that has a range, or uses it first.
fn device_of(range: &Range) -> CUdevice {
    match range.kind {
        Kind::Mapped { device, .. } => CUdevice(device),
        _ => context::find(range.context).map_or(CUdevice(0), |context| context.device),
    }
}

fn of_range(attribute: CUpointer_attribute, address: u64, range: &Range) -> Result<u64, CUresult> {
    let offset = address - range.start;
    let is_device = range.kind.is_device();
    Ok(match attribute {
        CUpointer_attribute::CONTEXT => range.context,
        CUpointer_attribute::MEMORY_TYPE => {
            if is_device || range.kind.is_managed() {
                DEVICE
            } else {
                HOST
            }
        }
        CUpointer_attribute::DEVICE_POINTER if range.device_pointer != 0 => range.device_pointer + offset,
        CUpointer_attribute::HOST_POINTER if !is_device => address,
        CUpointer_attribute::DEVICE_POINTER | CUpointer_attribute::HOST_POINTER => {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        CUpointer_attribute::BUFFER_ID | CUpointer_attribute::MEMORY_BLOCK_ID => range.id,
        CUpointer_attribute::DEVICE_ORDINAL => u64::from(device::number(device_of(range)).cast_unsigned()),
        CUpointer_attribute::RANGE_START_ADDR | CUpointer_attribute::MAPPING_BASE_ADDR => range.start,
        CUpointer_attribute::RANGE_SIZE | CUpointer_attribute::MAPPING_SIZE => range.length,
        CUpointer_attribute::MAPPED => u64::from(range.device_pointer != 0),
        CUpointer_attribute::ACCESS_FLAGS => match range.kind {
            Kind::Mapped { access, .. } => u64::from(access),
            _ => READ_WRITE,
        },
        CUpointer_attribute::ALLOWED_HANDLE_TYPES => match range.kind {
            Kind::Mapped { allocation, .. } => reserved::handle_types(allocation),
            _ => 0,
        },
        CUpointer_attribute::IS_LEGACY_CUDA_IPC_CAPABLE => u64::from(range.kind == Kind::Device),
        CUpointer_attribute::MEMPOOL_HANDLE => match range.kind {
            Kind::Pooled { pool: 0 } => pools::default_of(device_of(range))?,
            Kind::Pooled { pool } => pool,
            _ => 0,
        },
        CUpointer_attribute::SYNC_MEMOPS => u64::from(range.synchronous),
        CUpointer_attribute::IS_MANAGED => u64::from(range.kind.is_managed()),
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{insert, remove};
    use super::*;

    #[test]
    fn ordinary_memory_is_an_error_for_one_and_zero_for_many() {
        let address = 0x7fff_0000_0000;
        assert_eq!(get(CUpointer_attribute::MEMORY_TYPE, address), Err(CUresult::ERROR_INVALID_VALUE));
        let value = get_or_none(CUpointer_attribute::MEMORY_TYPE, address);
        assert_eq!(value, Ok(Value { value: 0, bytes: 4 }));
    }

    #[test]
    fn device_memory_has_no_host_pointer() {
        insert(0x3000_0000, 0x1000, Kind::Device, 0x3000_0000, 0);
        let get = |attribute| get(attribute, 0x3000_0010).map(|value| value.value);
        assert_eq!(get(CUpointer_attribute::MEMORY_TYPE), Ok(DEVICE));
        assert_eq!(get(CUpointer_attribute::DEVICE_POINTER), Ok(0x3000_0010));
        assert_eq!(get(CUpointer_attribute::HOST_POINTER), Err(CUresult::ERROR_INVALID_VALUE));
        assert_eq!(get(CUpointer_attribute::RANGE_START_ADDR), Ok(0x3000_0000));
        assert_eq!(get(CUpointer_attribute::RANGE_SIZE), Ok(0x1000));
        remove(0x3000_0000);
    }
}
