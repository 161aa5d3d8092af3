//! Symbols that a debugger looks for in the driver. They are there so that nothing fails to link; no debugger can attach
//! to a GPU of the host, so all of them say "no".
//!
//! Unsafe code: exported symbols.
#![allow(non_upper_case_globals, reason = "the driver's own names")]

use std::sync::atomic::{AtomicU32, AtomicU64};

/// `CUDBG_ERROR_UNINITIALIZED`.
const UNINITIALIZED: u32 = 5;

macro_rules! words {
    ($($name:ident: $type:ty = $zero:expr;)*) => {$(
        /// Read and written by a debugger only.
        #[unsafe(no_mangle)]
        pub(crate) static $name: $type = $zero;
    )*};
}

words! {
    cudbgApiClientPid: AtomicU32 = AtomicU32::new(0);
    cudbgApiClientRevision: AtomicU32 = AtomicU32::new(0);
    cudbgAttachHandlerAvailable: AtomicU32 = AtomicU32::new(0);
    cudbgDebuggerCapabilities: AtomicU32 = AtomicU32::new(0);
    cudbgDebuggerInitialized: AtomicU32 = AtomicU32::new(0);
    cudbgDetachSuspendedDevicesMask: AtomicU32 = AtomicU32::new(0);
    cudbgEnableIntegratedMemcheck: AtomicU32 = AtomicU32::new(0);
    cudbgEnableLaunchBlocking: AtomicU32 = AtomicU32::new(0);
    cudbgEnablePreemptionDebugging: AtomicU32 = AtomicU32::new(0);
    cudbgIpcFlag: AtomicU32 = AtomicU32::new(0);
    cudbgReportDriverApiErrorFlags: AtomicU32 = AtomicU32::new(0);
    cudbgReportedDriverApiErrorCode: AtomicU64 = AtomicU64::new(0);
    cudbgReportedDriverApiErrorFuncNameAddr: AtomicU64 = AtomicU64::new(0);
    cudbgReportedDriverApiErrorFuncNameSize: AtomicU64 = AtomicU64::new(0);
    cudbgReportedDriverApiErrorNameAddr: AtomicU64 = AtomicU64::new(0);
    cudbgReportedDriverApiErrorNameSize: AtomicU64 = AtomicU64::new(0);
    cudbgReportedDriverApiErrorSource: AtomicU32 = AtomicU32::new(0);
    cudbgReportedDriverApiErrorStringAddr: AtomicU64 = AtomicU64::new(0);
    cudbgReportedDriverApiErrorStringSize: AtomicU64 = AtomicU64::new(0);
    cudbgReportedDriverInternalErrorCode: AtomicU64 = AtomicU64::new(0);
    cudbgResumeForAttachDetach: AtomicU32 = AtomicU32::new(0);
    cudbgRpcEnabled: AtomicU32 = AtomicU32::new(0);
    cudbgSessionId: AtomicU32 = AtomicU32::new(0);
    cudbgUseExternalDebugger: AtomicU32 = AtomicU32::new(0);
    cudbgInjectionPath: [AtomicU64; 512] = [const { AtomicU64::new(0) }; 512];
}

macro_rules! refusals {
    ($($name:ident)*) => {$(
        /// Refuses, whatever it is given.
        #[unsafe(no_mangle)]
        pub(crate) extern "C" fn $name() -> u32 {
            UNINITIALIZED
        }
    )*};
}

refusals! {
    cudbgApiAttach cudbgApiDetach cudbgApiInit cudbgGetAPI cudbgGetAPIVersion cudbgMain cudbgReportDriverApiError
    cudbgReportDriverInternalError
}
