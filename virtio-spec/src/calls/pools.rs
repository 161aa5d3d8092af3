//! Memory pools.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

/// Memory pools.
#[calls(group = 0x11)]
pub trait Pools {
    #[call(op = 0x01, since = 11020, unsupported)]
    fn cuDeviceGetDefaultMemPool();
    #[call(op = 0x02, since = 11020, unsupported)]
    fn cuDeviceGetMemPool();
    #[call(op = 0x03, since = 11020, unsupported)]
    fn cuDeviceSetMemPool();
    #[call(op = 0x04, since = 11020, unsupported, ptsz)]
    fn cuMemAllocFromPoolAsync();
    #[call(op = 0x05, since = 13000, unsupported)]
    fn cuMemGetDefaultMemPool();
    #[call(op = 0x06, since = 13000, unsupported)]
    fn cuMemGetMemPool();
    #[call(op = 0x07, since = 11020, unsupported)]
    fn cuMemPoolCreate();
    #[call(op = 0x08, since = 11020, unsupported)]
    fn cuMemPoolDestroy();
    #[call(op = 0x09, since = 11020, unsupported)]
    fn cuMemPoolExportPointer();
    #[call(op = 0x0a, since = 11020, unsupported)]
    fn cuMemPoolExportToShareableHandle();
    #[call(op = 0x0b, since = 11020, unsupported)]
    fn cuMemPoolGetAccess();
    #[call(op = 0x0c, since = 11020, unsupported)]
    fn cuMemPoolGetAttribute();
    #[call(op = 0x0d, since = 11020, unsupported)]
    fn cuMemPoolImportFromShareableHandle();
    #[call(op = 0x0e, since = 11020, unsupported)]
    fn cuMemPoolImportPointer();
    #[call(op = 0x0f, since = 11020, unsupported)]
    fn cuMemPoolSetAccess();
    #[call(op = 0x10, since = 11020, unsupported)]
    fn cuMemPoolSetAttribute();
    #[call(op = 0x11, since = 11020, unsupported)]
    fn cuMemPoolTrimTo();
    #[call(op = 0x12, since = 13000, unsupported)]
    fn cuMemSetMemPool();
}
