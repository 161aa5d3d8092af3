//! Virtual memory management.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

/// Virtual memory management.
#[calls(group = 0x12)]
pub trait VirtualMemory {
    #[call(op = 0x01, since = 10020, unsupported)]
    fn cuMemAddressFree();
    #[call(op = 0x02, since = 10020, unsupported)]
    fn cuMemAddressReserve();
    #[call(op = 0x03, since = 10020, unsupported)]
    fn cuMemCreate();
    #[call(op = 0x04, since = 10020, unsupported)]
    fn cuMemExportToShareableHandle();
    #[call(op = 0x05, since = 10020, unsupported)]
    fn cuMemGetAccess();
    #[call(op = 0x06, since = 10020, unsupported)]
    fn cuMemGetAllocationGranularity();
    #[call(op = 0x07, since = 10020, unsupported)]
    fn cuMemGetAllocationPropertiesFromHandle();
    #[call(op = 0x08, since = 11070, unsupported)]
    fn cuMemGetHandleForAddressRange();
    #[call(op = 0x09, since = 10020, unsupported)]
    fn cuMemImportFromShareableHandle();
    #[call(op = 0x0a, since = 10020, unsupported)]
    fn cuMemMap();
    #[call(op = 0x0b, since = 10020, unsupported)]
    fn cuMemRelease();
    #[call(op = 0x0c, since = 11000, unsupported)]
    fn cuMemRetainAllocationHandle();
    #[call(op = 0x0d, since = 10020, unsupported)]
    fn cuMemSetAccess();
    #[call(op = 0x0e, since = 10020, unsupported)]
    fn cuMemUnmap();
}
