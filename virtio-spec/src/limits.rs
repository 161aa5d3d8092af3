//! Every bound of the device, with its reason. A request beyond a bound is refused, never truncated.

/// Sessions of one VM at once. A bare CUDA context takes about 0.5 GiB of GPU memory, so a card holds fewer than this.
pub const MAX_SESSIONS: u32 = 256;

/// Lanes of one session: one host thread each. More guest threads share lanes.
pub const MAX_LANES: u32 = 64;

/// Descriptors of one lane's virtqueue: a power of two, as split virtqueues require.
pub const MAX_LANE_QUEUE_SIZE: u16 = 1024;

/// Descriptors of one chain in a lane: request, bulk data in, response, bulk data out.
pub const MAX_LANE_CHAIN: usize = 4;

/// Descriptors of one chain on `controlq`: header, payload, reply header, reply payload, and extents in up to 12 pieces.
pub const MAX_CONTROL_CHAIN: usize = 16;

/// Bytes of one request (header and parameters). CUDA's largest kernel parameter block is 32,764 bytes; the rest is
/// the launch's own header, attributes and alignment.
pub const MAX_REQUEST_BYTES: u32 = 48 << 10;

/// Bytes of one response.
pub const MAX_RESPONSE_BYTES: u32 = 64 << 10;

/// Bytes of the session's first region (header, lanes, staging). Bounds what one process can make the guest's kernel
/// allocate; 64 lanes with 4 MiB of staging each fit.
pub const MAX_SESSION_BYTES: u64 = 320 << 20;

/// Memory regions of one session besides the first.
pub const MAX_REGIONS: u32 = 4096;

/// Discontiguous extents of one session, all regions together. Each costs a mapping in the worker, and
/// `vm.max_map_count` is 65,530 by default, of which CUDA itself needs a share.
pub const MAX_EXTENTS: u32 = 16_384;

/// Extents in one MAP request; a longer list is sent in several.
pub const MAX_EXTENTS_PER_MESSAGE: u32 = 2048;

/// Devices in the device information page: 64 KiB of information fit one chain everywhere.
pub const MAX_DEVICES: u32 = 15;

/// Bytes of one module image. The largest image of the CUDA 13 libraries is a few hundred MiB.
pub const MAX_IMAGE_BYTES: u64 = 2 << 30;

/// Bytes of all images that one session may have under way (sent, not yet loaded).
pub const MAX_PENDING_IMAGE_BYTES: u64 = 2 << 30;

/// Bytes of the smallest image that is worth a question whether the device has it: sending less takes no longer.
pub const MIN_FOUND_IMAGE_BYTES: u64 = 256 << 10;

/// Images of one session that were found and not yet proven. A process loads in a few threads at once.
pub const MAX_FOUND_IMAGES: usize = 16;

/// Bytes of a name (function, global, module path), its NUL included. C++ mangled names of template kernels exceed
/// 4 KiB.
pub const MAX_NAME_BYTES: u32 = 32 << 10;

/// Bytes of one JIT log. CUDA's own default buffers are below 64 KiB.
pub const MAX_LOG_BYTES: u32 = 48 << 10;

/// JIT or library options in one load request. `CUjit_option` has about 35 values.
pub const MAX_LOAD_OPTIONS: u32 = 64;

/// Launch attributes of one launch. `CUlaunchAttributeID` has about 20 values.
pub const MAX_LAUNCH_ATTRIBUTES: u32 = 32;

/// Pieces of one EXCHANGE: what fits a request.
pub const MAX_EXCHANGE_PIECES: u32 = 2048;

/// Kernel parameters of one function: each is at least one byte of 32,764, far fewer in practice.
pub const MAX_KERNEL_PARAMETERS: u32 = 4096;

/// Handles for other processes that one session may have given away. PyTorch gives one away for each 20 MiB of a
/// tensor in expandable segments.
pub const MAX_TOKENS: u32 = 8192;

/// How many of them, of all sessions of one VM or of one user of the local socket, may be descriptors of the host.
pub const MAX_SHARED_DESCRIPTORS: u32 = 8192;

/// Operations of a node or of a call that does several (`cuStreamBatchMemOp`); CUDA's own bound.
pub const MAX_MEMORY_OPERATIONS: u32 = 256;

/// Bodies of a conditional node.
pub const MAX_CONDITIONAL_BODIES: u32 = 1024;

/// Conditions of live graphs that one session may have.
pub const MAX_CONDITIONS: usize = 1 << 16;

/// Live handles of one session, all types together: bounds the worker's tables.
pub const MAX_HANDLES: u32 = 1 << 20;

/// Time that a worker has to stop reading its lanes when the VM pauses or resets, in milliseconds. After it the
/// supervisor kills the worker, because QEMU holds the whole VM until the queue has stopped.
pub const DRAIN_MILLISECONDS: u64 = 500;

/// Posted requests whose chains a device returns together at most: few beside a queue of which a process waits for three
/// quarters.
pub const MAX_RETURNED_TOGETHER: u16 = 16;

/// Longest sleep of a waiter before it looks again by itself, in milliseconds. A backstop: it is counted, and the
/// tests require the count to stay zero.
pub const WAIT_BACKSTOP_MILLISECONDS: u64 = 100;

/// The same for a device that has nothing to do, in milliseconds: each look of its own that finds nothing doubles the time
/// to the next one, up to this. So a session that does nothing takes next to nothing of a processor.
pub const IDLE_BACKSTOP_MILLISECONDS: u64 = 1600;
