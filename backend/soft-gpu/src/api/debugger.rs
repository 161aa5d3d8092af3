//! Symbols by which a debugger finds its way into the driver. Programs link without them missing; no debugger attaches
//! to this device, and every word says so.

#![allow(non_upper_case_globals, non_snake_case, reason = "the driver's own names")]

use std::sync::atomic::{AtomicU32, AtomicU64};

/// The debugger interface's own "not initialized".
const NOT_INITIALIZED: u32 = 5;

/// Words of 4 bytes, 8 bytes, and functions.
macro_rules! symbols {
    (words: $($word:ident)*; longs: $($long:ident)*; functions: $($function:ident)*;) => {
        $(#[unsafe(no_mangle)] static $word: AtomicU32 = AtomicU32::new(0);)*
        $(#[unsafe(no_mangle)] static $long: AtomicU64 = AtomicU64::new(0);)*
        $(#[unsafe(no_mangle)] extern "C" fn $function() -> u32 { NOT_INITIALIZED })*
    };
}

symbols! {
    words:
        cudbgApiClientPid cudbgApiClientRevision cudbgAttachHandlerAvailable cudbgDebuggerCapabilities
        cudbgDebuggerInitialized cudbgDetachSuspendedDevicesMask cudbgEnableIntegratedMemcheck
        cudbgEnableLaunchBlocking cudbgEnablePreemptionDebugging cudbgIpcFlag cudbgReportDriverApiErrorFlags
        cudbgReportedDriverApiErrorSource cudbgResumeForAttachDetach cudbgRpcEnabled cudbgSessionId
        cudbgUseExternalDebugger;
    longs:
        cudbgReportedDriverApiErrorCode cudbgReportedDriverApiErrorFuncNameAddr
        cudbgReportedDriverApiErrorFuncNameSize cudbgReportedDriverApiErrorNameAddr
        cudbgReportedDriverApiErrorNameSize cudbgReportedDriverApiErrorStringAddr
        cudbgReportedDriverApiErrorStringSize cudbgReportedDriverInternalErrorCode;
    functions:
        cudbgApiAttach cudbgApiDetach cudbgApiInit cudbgGetAPI cudbgGetAPIVersion cudbgMain
        cudbgReportDriverApiError cudbgReportDriverInternalError;
}

/// A path that a debugger fills in.
#[unsafe(no_mangle)]
static cudbgInjectionPath: [AtomicU64; 512] = [const { AtomicU64::new(0) }; 512];
