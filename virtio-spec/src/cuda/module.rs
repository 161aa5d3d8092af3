//! Modules, libraries, functions and launches.

use super::{CUresult, cuda_enum};
use crate::codec::Scalar;

cuda_enum! {
    /// Attributes of a function (`CUfunction_attribute` of cuda.h).
    CUfunction_attribute {
        MAX_THREADS_PER_BLOCK = 0 as "CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK",
        SHARED_SIZE_BYTES = 1 as "CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES",
        CONST_SIZE_BYTES = 2 as "CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES",
        LOCAL_SIZE_BYTES = 3 as "CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES",
        NUM_REGS = 4 as "CU_FUNC_ATTRIBUTE_NUM_REGS",
        PTX_VERSION = 5 as "CU_FUNC_ATTRIBUTE_PTX_VERSION",
        BINARY_VERSION = 6 as "CU_FUNC_ATTRIBUTE_BINARY_VERSION",
        CACHE_MODE_CA = 7 as "CU_FUNC_ATTRIBUTE_CACHE_MODE_CA",
        MAX_DYNAMIC_SHARED_SIZE_BYTES = 8 as "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES",
        PREFERRED_SHARED_MEMORY_CARVEOUT = 9 as "CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT",
        CLUSTER_SIZE_MUST_BE_SET = 10 as "CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET",
        REQUIRED_CLUSTER_WIDTH = 11 as "CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH",
        REQUIRED_CLUSTER_HEIGHT = 12 as "CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT",
        REQUIRED_CLUSTER_DEPTH = 13 as "CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH",
        NON_PORTABLE_CLUSTER_SIZE_ALLOWED = 14 as "CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED",
        CLUSTER_SCHEDULING_POLICY_PREFERENCE = 15 as "CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE",
    }
}

cuda_enum! {
    /// Whether a function is loaded (`CUfunctionLoadingState` of cuda.h).
    CUfunctionLoadingState {
        UNLOADED = 0 as "CU_FUNCTION_LOADING_STATE_UNLOADED",
        LOADED = 1 as "CU_FUNCTION_LOADING_STATE_LOADED",
    }
}

cuda_enum! {
    /// Options of the JIT compiler and linker (`CUjit_option` of cuda.h).
    CUjit_option {
        MAX_REGISTERS = 0 as "CU_JIT_MAX_REGISTERS",
        THREADS_PER_BLOCK = 1 as "CU_JIT_THREADS_PER_BLOCK",
        WALL_TIME = 2 as "CU_JIT_WALL_TIME",
        INFO_LOG_BUFFER = 3 as "CU_JIT_INFO_LOG_BUFFER",
        INFO_LOG_BUFFER_SIZE_BYTES = 4 as "CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES",
        ERROR_LOG_BUFFER = 5 as "CU_JIT_ERROR_LOG_BUFFER",
        ERROR_LOG_BUFFER_SIZE_BYTES = 6 as "CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES",
        OPTIMIZATION_LEVEL = 7 as "CU_JIT_OPTIMIZATION_LEVEL",
        TARGET_FROM_CUCONTEXT = 8 as "CU_JIT_TARGET_FROM_CUCONTEXT",
        TARGET = 9 as "CU_JIT_TARGET",
        FALLBACK_STRATEGY = 10 as "CU_JIT_FALLBACK_STRATEGY",
        GENERATE_DEBUG_INFO = 11 as "CU_JIT_GENERATE_DEBUG_INFO",
        LOG_VERBOSE = 12 as "CU_JIT_LOG_VERBOSE",
        GENERATE_LINE_INFO = 13 as "CU_JIT_GENERATE_LINE_INFO",
        CACHE_MODE = 14 as "CU_JIT_CACHE_MODE",
        NEW_SM3X_OPT = 15 as "CU_JIT_NEW_SM3X_OPT",
        FAST_COMPILE = 16 as "CU_JIT_FAST_COMPILE",
        GLOBAL_SYMBOL_NAMES = 17 as "CU_JIT_GLOBAL_SYMBOL_NAMES",
        GLOBAL_SYMBOL_ADDRESSES = 18 as "CU_JIT_GLOBAL_SYMBOL_ADDRESSES",
        GLOBAL_SYMBOL_COUNT = 19 as "CU_JIT_GLOBAL_SYMBOL_COUNT",
        LTO = 20 as "CU_JIT_LTO",
        FTZ = 21 as "CU_JIT_FTZ",
        PREC_DIV = 22 as "CU_JIT_PREC_DIV",
        PREC_SQRT = 23 as "CU_JIT_PREC_SQRT",
        FMA = 24 as "CU_JIT_FMA",
        REFERENCED_KERNEL_NAMES = 25 as "CU_JIT_REFERENCED_KERNEL_NAMES",
        REFERENCED_KERNEL_COUNT = 26 as "CU_JIT_REFERENCED_KERNEL_COUNT",
        REFERENCED_VARIABLE_NAMES = 27 as "CU_JIT_REFERENCED_VARIABLE_NAMES",
        REFERENCED_VARIABLE_COUNT = 28 as "CU_JIT_REFERENCED_VARIABLE_COUNT",
        OPTIMIZE_UNUSED_DEVICE_VARIABLES = 29 as "CU_JIT_OPTIMIZE_UNUSED_DEVICE_VARIABLES",
        POSITION_INDEPENDENT_CODE = 30 as "CU_JIT_POSITION_INDEPENDENT_CODE",
        MIN_CTA_PER_SM = 31 as "CU_JIT_MIN_CTA_PER_SM",
        MAX_THREADS_PER_BLOCK = 32 as "CU_JIT_MAX_THREADS_PER_BLOCK",
        OVERRIDE_DIRECTIVE_VALUES = 33 as "CU_JIT_OVERRIDE_DIRECTIVE_VALUES",
        SPLIT_COMPILE = 34 as "CU_JIT_SPLIT_COMPILE",
        NUM_OPTIONS = 35 as "CU_JIT_NUM_OPTIONS",
    }
}

cuda_enum! {
    /// Kind of an input of the linker (`CUjitInputType` of cuda.h).
    CUjitInputType {
        CUBIN = 0 as "CU_JIT_INPUT_CUBIN",
        PTX = 1 as "CU_JIT_INPUT_PTX",
        FATBINARY = 2 as "CU_JIT_INPUT_FATBINARY",
        OBJECT = 3 as "CU_JIT_INPUT_OBJECT",
        LIBRARY = 4 as "CU_JIT_INPUT_LIBRARY",
        NVVM = 5 as "CU_JIT_INPUT_NVVM",
        CU_JIT_NUM_INPUT_TYPES = 6 as "CU_JIT_NUM_INPUT_TYPES",
    }
}

cuda_enum! {
    /// Options of a library (`CUlibraryOption` of cuda.h).
    CUlibraryOption {
        HOST_UNIVERSAL_FUNCTION_AND_DATA_TABLE = 0 as "CU_LIBRARY_HOST_UNIVERSAL_FUNCTION_AND_DATA_TABLE",
        BINARY_IS_PRESERVED = 1 as "CU_LIBRARY_BINARY_IS_PRESERVED",
        NUM_OPTIONS = 2 as "CU_LIBRARY_NUM_OPTIONS",
    }
}

cuda_enum! {
    /// Whether functions are loaded at first use (`CUmoduleLoadingMode` of cuda.h).
    CUmoduleLoadingMode {
        EAGER_LOADING = 1 as "CU_MODULE_EAGER_LOADING",
        LAZY_LOADING = 2 as "CU_MODULE_LAZY_LOADING",
    }
}

cuda_enum! {
    /// Attributes of a launch (`CUlaunchAttributeID` of cuda.h).
    CUlaunchAttributeID {
        IGNORE = 0 as "CU_LAUNCH_ATTRIBUTE_IGNORE",
        ACCESS_POLICY_WINDOW = 1 as "CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW",
        COOPERATIVE = 2 as "CU_LAUNCH_ATTRIBUTE_COOPERATIVE",
        SYNCHRONIZATION_POLICY = 3 as "CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY",
        CLUSTER_DIMENSION = 4 as "CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION",
        CLUSTER_SCHEDULING_POLICY_PREFERENCE = 5 as "CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE",
        PROGRAMMATIC_STREAM_SERIALIZATION = 6 as "CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION",
        PROGRAMMATIC_EVENT = 7 as "CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT",
        PRIORITY = 8 as "CU_LAUNCH_ATTRIBUTE_PRIORITY",
        MEM_SYNC_DOMAIN_MAP = 9 as "CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP",
        MEM_SYNC_DOMAIN = 10 as "CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN",
        PREFERRED_CLUSTER_DIMENSION = 11 as "CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION",
        LAUNCH_COMPLETION_EVENT = 12 as "CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT",
        DEVICE_UPDATABLE_KERNEL_NODE = 13 as "CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE",
        PREFERRED_SHARED_MEMORY_CARVEOUT = 14 as "CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT",
        NVLINK_UTIL_CENTRIC_SCHEDULING = 16 as "CU_LAUNCH_ATTRIBUTE_NVLINK_UTIL_CENTRIC_SCHEDULING",
    }
}

impl CUlaunchAttributeID {
    /// Whether the value is plain numbers. In others are events, graph nodes and addresses of host memory, which mean
    /// nothing outside the process that has them.
    #[must_use]
    pub const fn is_plain(self) -> bool {
        matches!(
            self,
            Self::IGNORE
                | Self::ACCESS_POLICY_WINDOW
                | Self::COOPERATIVE
                | Self::SYNCHRONIZATION_POLICY
                | Self::CLUSTER_DIMENSION
                | Self::CLUSTER_SCHEDULING_POLICY_PREFERENCE
                | Self::PROGRAMMATIC_STREAM_SERIALIZATION
                | Self::PRIORITY
                | Self::MEM_SYNC_DOMAIN_MAP
                | Self::MEM_SYNC_DOMAIN
                | Self::PREFERRED_CLUSTER_DIMENSION
                | Self::PREFERRED_SHARED_MEMORY_CARVEOUT
        )
    }

    /// Whether the value begins with an event.
    #[must_use]
    pub const fn has_event(self) -> bool {
        matches!(self, Self::PROGRAMMATIC_EVENT | Self::LAUNCH_COMPLETION_EVENT)
    }
}

/// An attribute of a kernel node (`CUkernelNodeAttrID` of cuda.h, another name for [`CUlaunchAttributeID`]): a guest may
/// set and get those whose values are plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct CUkernelNodeAttrID(pub CUlaunchAttributeID);

impl Scalar for CUkernelNodeAttrID {
    fn to_u64(self) -> u64 {
        self.0.to_u64()
    }

    fn from_u64(value: u64) -> Self {
        Self(CUlaunchAttributeID::from_u64(value))
    }

    fn from_guest(value: u64) -> Result<Self, CUresult> {
        let attribute = Self::from_u64(value);
        if attribute.0.is_plain() { Ok(attribute) } else { Err(CUresult::ERROR_NOT_SUPPORTED) }
    }
}

/// An attribute of a stream (`CUstreamAttrID` of cuda.h, another name for [`CUlaunchAttributeID`]): those that streams
/// have, all of them plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct CUstreamAttrID(pub CUlaunchAttributeID);

impl CUstreamAttrID {
    /// Bytes of the value, from the beginning of CUDA's union; `None` for what is no attribute of a stream.
    #[must_use]
    pub const fn value_bytes(self) -> Option<usize> {
        match self.0 {
            CUlaunchAttributeID::ACCESS_POLICY_WINDOW => Some(32),
            CUlaunchAttributeID::SYNCHRONIZATION_POLICY
            | CUlaunchAttributeID::PRIORITY
            | CUlaunchAttributeID::MEM_SYNC_DOMAIN => Some(4),
            CUlaunchAttributeID::MEM_SYNC_DOMAIN_MAP => Some(2),
            _ => None,
        }
    }
}

impl Scalar for CUstreamAttrID {
    fn to_u64(self) -> u64 {
        self.0.to_u64()
    }

    fn from_u64(value: u64) -> Self {
        Self(CUlaunchAttributeID::from_u64(value))
    }

    fn from_guest(value: u64) -> Result<Self, CUresult> {
        let attribute = Self::from_u64(value);
        if attribute.value_bytes().is_some() { Ok(attribute) } else { Err(CUresult::ERROR_INVALID_VALUE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_streams_are_plain() {
        for attribute in CUlaunchAttributeID::ALL {
            let of_stream = CUstreamAttrID(*attribute).value_bytes().is_some();
            assert!(!of_stream || attribute.is_plain(), "{attribute:?}");
            assert_eq!(CUstreamAttrID::from_guest(attribute.to_u64()).is_ok(), of_stream, "{attribute:?}");
        }
    }

    #[test]
    fn a_guest_cannot_name_addresses_in_a_node_s_attribute() {
        let from = |attribute: CUlaunchAttributeID| CUkernelNodeAttrID::from_guest(attribute.to_u64());
        for attribute in CUlaunchAttributeID::ALL {
            let plain = attribute.is_plain();
            assert_eq!(from(*attribute).is_ok(), plain, "{attribute:?}");
            assert!(!(plain && attribute.has_event()), "{attribute:?}");
        }
        assert_eq!(from(CUlaunchAttributeID::PROGRAMMATIC_EVENT), Err(CUresult::ERROR_NOT_SUPPORTED));
        assert_eq!(from(CUlaunchAttributeID(99)), Err(CUresult::ERROR_NOT_SUPPORTED));
    }
}
