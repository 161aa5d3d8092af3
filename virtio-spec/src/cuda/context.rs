//! Contexts, streams and events: their flags.

use super::cuda_enum;

cuda_enum! {
    /// Flags of a context (`CUctx_flags` of cuda.h).
    CUctx_flags {
        SCHED_AUTO = 0 as "CU_CTX_SCHED_AUTO",
        SCHED_SPIN = 1 as "CU_CTX_SCHED_SPIN",
        SCHED_YIELD = 2 as "CU_CTX_SCHED_YIELD",
        SCHED_BLOCKING_SYNC = 4 as "CU_CTX_SCHED_BLOCKING_SYNC",
        BLOCKING_SYNC = 4 as "CU_CTX_BLOCKING_SYNC",
        SCHED_MASK = 7 as "CU_CTX_SCHED_MASK",
        MAP_HOST = 8 as "CU_CTX_MAP_HOST",
        COREDUMP_ENABLE = 32 as "CU_CTX_COREDUMP_ENABLE",
        USER_COREDUMP_ENABLE = 64 as "CU_CTX_USER_COREDUMP_ENABLE",
        SYNC_MEMOPS = 128 as "CU_CTX_SYNC_MEMOPS",
        FLAGS_MASK = 255 as "CU_CTX_FLAGS_MASK",
    }
}

cuda_enum! {
    /// Limits of a context (`CUlimit` of cuda.h).
    CUlimit {
        STACK_SIZE = 0 as "CU_LIMIT_STACK_SIZE",
        PRINTF_FIFO_SIZE = 1 as "CU_LIMIT_PRINTF_FIFO_SIZE",
        MALLOC_HEAP_SIZE = 2 as "CU_LIMIT_MALLOC_HEAP_SIZE",
        DEV_RUNTIME_SYNC_DEPTH = 3 as "CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH",
        DEV_RUNTIME_PENDING_LAUNCH_COUNT = 4 as "CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT",
        MAX_L2_FETCH_GRANULARITY = 5 as "CU_LIMIT_MAX_L2_FETCH_GRANULARITY",
        PERSISTING_L2_CACHE_SIZE = 6 as "CU_LIMIT_PERSISTING_L2_CACHE_SIZE",
        SHMEM_SIZE = 7 as "CU_LIMIT_SHMEM_SIZE",
        CIG_ENABLED = 8 as "CU_LIMIT_CIG_ENABLED",
        CIG_SHMEM_FALLBACK_ENABLED = 9 as "CU_LIMIT_CIG_SHMEM_FALLBACK_ENABLED",
    }
}

cuda_enum! {
    /// Preference between L1 cache and shared memory (`CUfunc_cache` of cuda.h).
    CUfunc_cache {
        PREFER_NONE = 0 as "CU_FUNC_CACHE_PREFER_NONE",
        PREFER_SHARED = 1 as "CU_FUNC_CACHE_PREFER_SHARED",
        PREFER_L1 = 2 as "CU_FUNC_CACHE_PREFER_L1",
        PREFER_EQUAL = 3 as "CU_FUNC_CACHE_PREFER_EQUAL",
    }
}

cuda_enum! {
    /// Bank size of shared memory (`CUsharedconfig` of cuda.h).
    CUsharedconfig {
        DEFAULT_BANK_SIZE = 0 as "CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE",
        FOUR_BYTE_BANK_SIZE = 1 as "CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE",
        EIGHT_BYTE_BANK_SIZE = 2 as "CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE",
    }
}

cuda_enum! {
    /// Flags of a stream (`CUstream_flags` of cuda.h).
    CUstream_flags {
        DEFAULT = 0 as "CU_STREAM_DEFAULT",
        NON_BLOCKING = 1 as "CU_STREAM_NON_BLOCKING",
    }
}

cuda_enum! {
    /// Flags of an event (`CUevent_flags` of cuda.h).
    CUevent_flags {
        DEFAULT = 0 as "CU_EVENT_DEFAULT",
        BLOCKING_SYNC = 1 as "CU_EVENT_BLOCKING_SYNC",
        DISABLE_TIMING = 2 as "CU_EVENT_DISABLE_TIMING",
        INTERPROCESS = 4 as "CU_EVENT_INTERPROCESS",
    }
}

cuda_enum! {
    /// Whether a stream captures (`CUstreamCaptureStatus` of cuda.h).
    CUstreamCaptureStatus {
        NONE = 0 as "CU_STREAM_CAPTURE_STATUS_NONE",
        ACTIVE = 1 as "CU_STREAM_CAPTURE_STATUS_ACTIVE",
        INVALIDATED = 2 as "CU_STREAM_CAPTURE_STATUS_INVALIDATED",
    }
}

cuda_enum! {
    /// Which calls a capture forbids (`CUstreamCaptureMode` of cuda.h).
    CUstreamCaptureMode {
        GLOBAL = 0 as "CU_STREAM_CAPTURE_MODE_GLOBAL",
        THREAD_LOCAL = 1 as "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL",
        RELAXED = 2 as "CU_STREAM_CAPTURE_MODE_RELAXED",
    }
}
