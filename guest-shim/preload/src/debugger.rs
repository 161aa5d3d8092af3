//! Symbols that a debugger looks for in the driver. They are there so that nothing fails to link; no debugger can attach
//! to a GPU of the host, so all of them say "no".
//!
//! The words are where nobody but a debugger can write: writable memory would be a page of its own in every process.
//!
//! Unsafe code: exported symbols.

/// `CUDBG_ERROR_UNINITIALIZED`.
const UNINITIALIZED: u32 = 5;

macro_rules! words {
    ($($name:ident: $type:ty = $zero:expr;)*) => {$(
        /// Read and written by a debugger only.
        #[unsafe(no_mangle)]
        #[cfg_attr(panic = "abort", unsafe(link_section = ".rodata.late"))]
        pub(crate) static $name: $type = $zero;
    )*};
}

words! {
    cudbgApiClientPid: u32 = 0;
    cudbgApiClientRevision: u32 = 0;
    cudbgAttachHandlerAvailable: u32 = 0;
    cudbgDebuggerCapabilities: u32 = 0;
    cudbgDebuggerInitialized: u32 = 0;
    cudbgDetachSuspendedDevicesMask: u32 = 0;
    cudbgEnableIntegratedMemcheck: u32 = 0;
    cudbgEnableLaunchBlocking: u32 = 0;
    cudbgEnablePreemptionDebugging: u32 = 0;
    cudbgIpcFlag: u32 = 0;
    cudbgReportDriverApiErrorFlags: u32 = 0;
    cudbgReportedDriverApiErrorCode: u64 = 0;
    cudbgReportedDriverApiErrorFuncNameAddr: u64 = 0;
    cudbgReportedDriverApiErrorFuncNameSize: u64 = 0;
    cudbgReportedDriverApiErrorNameAddr: u64 = 0;
    cudbgReportedDriverApiErrorNameSize: u64 = 0;
    cudbgReportedDriverApiErrorSource: u32 = 0;
    cudbgReportedDriverApiErrorStringAddr: u64 = 0;
    cudbgReportedDriverApiErrorStringSize: u64 = 0;
    cudbgReportedDriverInternalErrorCode: u64 = 0;
    cudbgResumeForAttachDetach: u32 = 0;
    cudbgRpcEnabled: u32 = 0;
    cudbgSessionId: u32 = 0;
    cudbgUseExternalDebugger: u32 = 0;
    cudbgInjectionPath: [u64; 512] = [0; 512];
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
