//! Profiler, core dumps, checkpoints, logs and private tables.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Profiler, core dumps, checkpoints, logs and private tables.
#[calls(group = 0x18)]
pub trait Tools {
    #[call(op = 0x01, since = 3000, guest, before_init, no_context)]
    fn cuGetExportTable(pp_export_table: *mut *const core::ffi::c_void, p_export_table_id: *const CUuuid);
    #[call(op = 0x02, since = 12080, unsupported)]
    fn cuCheckpointProcessCheckpoint();
    #[call(op = 0x03, since = 12080, unsupported)]
    fn cuCheckpointProcessGetRestoreThreadId();
    #[call(op = 0x04, since = 12080, unsupported)]
    fn cuCheckpointProcessGetState();
    #[call(op = 0x05, since = 12080, unsupported)]
    fn cuCheckpointProcessLock();
    #[call(op = 0x06, since = 12080, unsupported)]
    fn cuCheckpointProcessRestore();
    #[call(op = 0x07, since = 12080, unsupported)]
    fn cuCheckpointProcessUnlock();
    #[call(op = 0x08, since = 12010, unsupported)]
    fn cuCoredumpGetAttribute();
    #[call(op = 0x09, since = 12010, unsupported)]
    fn cuCoredumpGetAttributeGlobal();
    #[call(op = 0x0a, since = 12010, unsupported)]
    fn cuCoredumpSetAttribute();
    #[call(op = 0x0b, since = 12010, unsupported)]
    fn cuCoredumpSetAttributeGlobal();
    #[call(op = 0x0c, since = 12040, unsupported)]
    fn cuDeviceRegisterAsyncNotification();
    #[call(op = 0x0d, since = 12040, unsupported)]
    fn cuDeviceUnregisterAsyncNotification();
    #[call(op = 0x0e, since = 12090, unsupported)]
    fn cuLogsCurrent();
    #[call(op = 0x0f, since = 12090, unsupported)]
    fn cuLogsDumpToFile();
    #[call(op = 0x10, since = 12090, unsupported)]
    fn cuLogsDumpToMemory();
    #[call(op = 0x11, since = 12090, unsupported)]
    fn cuLogsRegisterCallback();
    #[call(op = 0x12, since = 12090, unsupported)]
    fn cuLogsUnregisterCallback();
    #[call(op = 0x13, since = 4000, unsupported)]
    fn cuProfilerInitialize();
    #[call(op = 0x14, since = 4000, guest)]
    fn cuProfilerStart();
    #[call(op = 0x15, since = 4000, guest)]
    fn cuProfilerStop();
}
