//! Requests that hand-written code on both sides builds and reads.
//!
//! Many functions of CUDA's API come down to one of these: the forty forms of a linear copy are one [`struct@Copy`]. Their
//! opcodes lie in group [`GROUP`], which the call table leaves free. A request is [`crate::session::RequestHeader`], the
//! structure named here, then the arrays and bytes that the structure counts, each padded to 8 bytes. A response is
//! [`crate::session::ResponseHeader`], then the structure named "→".

mod arrays;
mod memory;
mod sharing;

pub use arrays::*;
pub use memory::*;
pub use sharing::*;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// Group (bits 8 and up of an opcode) of these requests.
pub const GROUP: u32 = 0x7f;

/// Opcodes of these requests. Never reused.
pub mod opcode {
    /// [`super::Copy`].
    pub const COPY: u32 = 0x7f01;
    /// [`super::ImageChunk`].
    pub const IMAGE_CHUNK: u32 = 0x7f02;
    /// [`super::Load`] → [`super::Loaded`].
    pub const LOAD: u32 = 0x7f03;
    /// [`super::GetFunction`] → [`super::FunctionInfo`].
    pub const GET_FUNCTION: u32 = 0x7f04;
    /// [`super::Launch`].
    pub const LAUNCH: u32 = 0x7f05;
    /// [`super::HostRegister`] → [`super::HostRegistered`].
    pub const HOST_REGISTER: u32 = 0x7f06;
    /// [`super::HostUnregister`].
    pub const HOST_UNREGISTER: u32 = 0x7f07;
    /// [`super::PrimaryContext`].
    pub const PRIMARY_CONTEXT: u32 = 0x7f08;
    /// [`super::ContextCreate`].
    pub const CONTEXT_CREATE: u32 = 0x7f09;
    /// [`super::LinkCreate`].
    pub const LINK_CREATE: u32 = 0x7f0a;
    /// [`super::LinkAdd`] → [`super::Loaded`].
    pub const LINK_ADD: u32 = 0x7f0b;
    /// [`super::LinkComplete`] → [`super::Linked`].
    pub const LINK_COMPLETE: u32 = 0x7f0c;
    /// [`super::LinkRead`].
    pub const LINK_READ: u32 = 0x7f0d;
    /// [`super::OutputRead`] → [`super::OutputText`].
    pub const OUTPUT_READ: u32 = 0x7f0e;
    /// [`super::Enumerate`] → [`super::Names`].
    pub const ENUMERATE: u32 = 0x7f0f;
    /// Without parameters → [`super::ProcessorLayout`].
    pub const PROCESSOR_LAYOUT: u32 = 0x7f20;
    /// [`super::Launch`] without parameters → [`super::ClusterCount`]: `cuOccupancyMaxActiveClusters`.
    pub const ACTIVE_CLUSTERS: u32 = 0x7f10;
    /// [`super::Launch`] without parameters → [`super::ClusterCount`]: `cuOccupancyMaxPotentialClusterSize`.
    pub const CLUSTER_SIZE: u32 = 0x7f11;
    /// [`super::AddressReserve`] → [`super::AddressReserved`].
    pub const ADDRESS_RESERVE: u32 = 0x7f12;
    /// [`super::MemoryCreate`].
    pub const MEMORY_CREATE: u32 = 0x7f13;
    /// [`super::MemoryGranularity`] → [`super::Granularity`].
    pub const MEMORY_GRANULARITY: u32 = 0x7f14;
    /// [`super::PoolCreate`].
    pub const POOL_CREATE: u32 = 0x7f15;
    /// [`super::PoolAttribute`] → [`super::PoolValue`].
    pub const POOL_ATTRIBUTE: u32 = 0x7f16;
    /// [`super::TensorMap`] → [`super::TensorMapBits`].
    pub const TENSOR_MAP: u32 = 0x7f17;
    /// [`super::Share`] → [`super::Token`].
    pub const SHARE: u32 = 0x7f18;
    /// [`super::ShareOpen`] → [`super::ShareOpened`] or [`super::ShareOpenedPhysical`].
    pub const SHARE_OPEN: u32 = 0x7f19;
    /// [`super::ArrayCopy`].
    pub const COPY_ARRAY: u32 = 0x7f1a;
    /// [`super::MipmapLevel`].
    pub const MIPMAP_LEVEL: u32 = 0x7f1b;
    /// [`super::ViewCreate`] → [`super::ViewCreated`].
    pub const VIEW_CREATE: u32 = 0x7f1c;
    /// [`super::ArrayDestroy`].
    pub const ARRAY_DESTROY: u32 = 0x7f1d;
    /// [`super::ImageFind`] → [`crate::image_tag::Secret`].
    pub const IMAGE_FIND: u32 = 0x7f30;
    /// [`super::ImageProof`].
    pub const IMAGE_PROOF: u32 = 0x7f31;
    /// [`super::ManagedQuery`] → [`super::ManagedAnswer`].
    pub const MANAGED_QUERY: u32 = 0x7f1e;
    /// [`super::Exchange`].
    pub const EXCHANGE: u32 = 0x7f1f;
    /// [`super::ManagedRead`].
    pub const MANAGED_READ: u32 = 0x7f21;
    /// [`super::ShareForget`].
    pub const SHARE_FORGET: u32 = 0x7f22;
}

/// Where one side of a [`struct@Copy`] lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Place {
    /// A device pointer (device, managed or pool memory); CUDA checks it.
    Device = 1,
    /// An address inside a region of the session that is mapped in the worker; the worker checks it.
    Region = 2,
    /// An offset into the staging of the lane that carries the request.
    Staging = 3,
    /// Source: the bytes follow the structure. Destination: the bytes follow the response header.
    Inline = 4,
    /// An array, in [`struct@ArrayCopy`] only: the side's address is its handle.
    Array = 5,
}

impl Place {
    /// The place with this number, if there is one.
    #[must_use]
    pub const fn from_u32(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::Device),
            2 => Some(Self::Region),
            3 => Some(Self::Staging),
            4 => Some(Self::Inline),
            5 => Some(Self::Array),
            _ => None,
        }
    }
}

/// One side of a [`struct@Copy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Side {
    /// [`Place`].
    pub place: u32,
    /// Zero.
    pub reserved: u32,
    /// Pointer or offset, as the place says; 0 for [`Place::Inline`].
    pub address: u64,
    /// Bytes from one row to the next; at least `width` when `height` or `depth` exceed 1.
    pub pitch: u64,
    /// Rows from one slice to the next; at least `height` when `depth` exceeds 1.
    pub slice_height: u64,
}
assert_layout!(Side, 32, place: 0, reserved: 4, address: 8, pitch: 16, slice_height: 24);

/// COPY: linear, 2D or 3D copy of `width × height × depth` bytes.
///
/// Posted copies have no [`Place::Staging`] side unless `flags` has [`copy_flags::WAIT`], so staging is free again when
/// a request has been returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Copy {
    /// Where to.
    pub destination: Side,
    /// Where from.
    pub source: Side,
    /// Bytes of a row.
    pub width: u64,
    /// Rows, 1 for a linear copy.
    pub height: u64,
    /// Slices, 1 for a linear or 2D copy.
    pub depth: u64,
    /// Stream handle, or 0 / `CU_STREAM_LEGACY` / `CU_STREAM_PER_THREAD`.
    pub stream: u64,
    /// Bits of [`copy_flags`].
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(Copy, 104, destination: 0, source: 32, width: 64, height: 72, depth: 80, stream: 88, flags: 96,
    reserved: 100);

/// Bits of [`Copy::flags`].
pub mod copy_flags {
    /// The application called an asynchronous form: the copy is queued on `stream`. Without it the synchronous form of
    /// CUDA's API is called (and `stream` is not used).
    pub const ASYNC: u32 = 1 << 0;
    /// With ASYNC: the worker waits for the stream before it returns the request, because staging or the response
    /// holds the data.
    pub const WAIT: u32 = 1 << 1;
    /// Every bit that is known.
    pub const ALL: u32 = ASYNC | WAIT;
}

/// IMAGE_CHUNK: a part of a module image, in the lane's staging. The first chunk makes the image handle; chunks come in
/// order and do not overlap. A LOAD or LINK_ADD consumes the image; a chunk with `length` 0 and `total` 0 drops it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ImageChunk {
    /// Handle of kind [`crate::handle::Kind::Image`].
    pub image: u64,
    /// Bytes of the whole image, at most [`crate::limits::MAX_IMAGE_BYTES`].
    pub total: u64,
    /// Where in the image this chunk goes: the bytes sent so far.
    pub offset: u64,
    /// Where in the lane's staging it lies.
    pub staging: u64,
    /// Bytes.
    pub length: u64,
}
assert_layout!(ImageChunk, 40, image: 0, total: 8, offset: 16, staging: 24, length: 32);

/// IMAGE_FIND: asks whether the device may have an image already. If so, the answer is a secret for an IMAGE_PROOF;
/// `CUDA_ERROR_NOT_FOUND` says that the image is to be sent in chunks, and `CUDA_ERROR_NOT_SUPPORTED` that this device keeps
/// no images, whatever it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ImageFind {
    /// Handle of kind [`crate::handle::Kind::Image`], which the proof or the first chunk makes.
    pub image: u64,
    /// Bytes of the image.
    pub total: u64,
    /// [`crate::image_tag::sample`] of it.
    pub sample: u64,
}
assert_layout!(ImageFind, 24, image: 0, total: 8, sample: 16);

/// IMAGE_PROOF: shows that the image that was found is the guest's own; the handle is then as if all chunks had been sent.
/// `CUDA_ERROR_NOT_FOUND` says that it is another one, and has to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ImageProof {
    /// The handle of the IMAGE_FIND.
    pub image: u64,
    /// [`crate::image_tag::tag`] of the image under the secret.
    pub tag: [u64; 2],
}
assert_layout!(ImageProof, 24, image: 0, tag: 8);

/// LOAD: makes a module or a library of an image. Followed by `option_count` + `library_option_count`
/// [`LoadOption`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Load {
    /// Handle to make: its kind (Module or Library) says which.
    pub target: u64,
    /// The image, consumed whether the load succeeds or not.
    pub image: u64,
    /// JIT options (`CUjit_option`), without the log buffers.
    pub option_count: u32,
    /// Library options (`CUlibraryOption`).
    pub library_option_count: u32,
    /// Bytes of the application's information log buffer, at most [`crate::limits::MAX_LOG_BYTES`]; 0 = none.
    pub info_log_bytes: u32,
    /// Bytes of the application's error log buffer; 0 = none.
    pub error_log_bytes: u32,
}
assert_layout!(Load, 32, target: 0, image: 8, option_count: 16, library_option_count: 20, info_log_bytes: 24,
    error_log_bytes: 28);

/// A JIT or library option with its value by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct LoadOption {
    /// `CUjit_option` or `CUlibraryOption`. Options whose value is a pointer to memory are refused, but for the logs,
    /// which [`Load`] describes.
    pub id: u32,
    /// Zero.
    pub reserved: u32,
    /// The value, as in the pointer-sized array of CUDA's API.
    pub value: u64,
}
assert_layout!(LoadOption, 16, id: 0, reserved: 4, value: 8);

/// → of LOAD and LINK_ADD: what the JIT compiler wrote, also when the load failed. Followed by the information log,
/// then the error log, each padded to 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Loaded {
    /// `CU_JIT_WALL_TIME`, milliseconds, as the bits of an `f32`.
    pub wall_time: u32,
    /// `CU_JIT_THREADS_PER_BLOCK` as written back.
    pub threads_per_block: u32,
    /// Bytes of information log that follow.
    pub info_log_bytes: u32,
    /// Bytes of error log that follow.
    pub error_log_bytes: u32,
}
assert_layout!(Loaded, 16, wall_time: 0, threads_per_block: 4, info_log_bytes: 8, error_log_bytes: 12);

/// GET_FUNCTION: looks up a function of a module (by name), a kernel of a library (by name), or the function of a
/// kernel (no name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetFunction {
    /// Handle of a module, library or kernel.
    pub parent: u64,
    /// Handle to make: Function for a module or kernel, Kernel for a library.
    pub function: u64,
    /// Bytes of the name that follows, its NUL included; 0 with a kernel.
    pub name_bytes: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(GetFunction, 24, parent: 0, function: 8, name_bytes: 16, reserved: 20);

/// Function attributes that [`FunctionInfo`] carries: `CUfunction_attribute` below this number.
pub const FUNCTION_ATTRIBUTES: usize = 24;

/// → of GET_FUNCTION. Followed by `parameter_count` [`Parameter`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct FunctionInfo {
    /// Bit `i`: attribute `i` is known.
    pub attributes_known: u32,
    /// Parameters of the kernel.
    pub parameter_count: u32,
    /// Bytes of the packed parameters: the end of the last one.
    pub parameter_bytes: u32,
    /// Zero.
    pub reserved: u32,
    /// `cuFuncGetAttribute` or, for a kernel, `cuKernelGetAttribute` on device 0.
    pub attributes: [i32; FUNCTION_ATTRIBUTES],
}
assert_layout!(FunctionInfo, 112, attributes_known: 0, parameter_count: 4, parameter_bytes: 8, reserved: 12,
    attributes: 16);

/// Where a kernel parameter lies in the packed parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Parameter {
    /// Offset in bytes.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}
assert_layout!(Parameter, 8, offset: 0, size: 4);

/// LAUNCH: followed by `attribute_count` [`LaunchAttribute`]s, then `parameter_bytes` of packed parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Launch {
    /// Handle of a function or kernel.
    pub function: u64,
    /// Stream handle, or 0 / `CU_STREAM_LEGACY` / `CU_STREAM_PER_THREAD`.
    pub stream: u64,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y, z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared_bytes: u32,
    /// Bits of [`launch_flags`].
    pub flags: u32,
    /// Attributes that follow, at most [`crate::limits::MAX_LAUNCH_ATTRIBUTES`].
    pub attribute_count: u32,
    /// Bytes of packed parameters that follow.
    pub parameter_bytes: u32,
}
assert_layout!(Launch, 56, function: 0, stream: 8, grid: 16, block: 28, shared_bytes: 40, flags: 44,
    attribute_count: 48, parameter_bytes: 52);

/// Bits of [`Launch::flags`].
pub mod launch_flags {
    /// `cuLaunchCooperativeKernel`.
    pub const COOPERATIVE: u32 = 1 << 0;
    /// `cuLaunchKernelEx`: attributes are given.
    pub const EXTENDED: u32 = 1 << 1;
    /// Every bit that is known.
    pub const ALL: u32 = COOPERATIVE | EXTENDED;
}

/// → of ACTIVE_CLUSTERS and CLUSTER_SIZE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ClusterCount {
    /// Clusters that can be active on the device at once, or blocks of the largest cluster.
    pub count: i32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(ClusterCount, 8, count: 0, reserved: 4);

/// → of PROCESSOR_LAYOUT: where the multiprocessors of the current context's device lie, as the driver's private table
/// `1734dc26…` says. Followed by the first list, padded to 8, and the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ProcessorLayout {
    /// Bytes of each of the two lists: the device's multiprocessors.
    pub count: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(ProcessorLayout, 8, count: 0, reserved: 4);

/// One `CUlaunchAttribute`. Only identifiers whose union arm is listed in `docs/adding-a-call.md` are accepted; events
/// in it are handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct LaunchAttribute {
    /// `CUlaunchAttributeID`.
    pub id: u32,
    /// Zero.
    pub reserved: u32,
    /// `CUlaunchAttributeValue`.
    pub value: [u64; 8],
}
assert_layout!(LaunchAttribute, 72, id: 0, reserved: 4, value: 8);

/// HOST_REGISTER: makes a mapped region known to CUDA (`cuMemHostRegister`); the region was added by MAP before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct HostRegister {
    /// Address, the same on both sides, inside one region.
    pub address: u64,
    /// Bytes.
    pub length: u64,
    /// `CU_MEMHOSTREGISTER_*`.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(HostRegister, 24, address: 0, length: 8, flags: 16, reserved: 20);

/// → of HOST_REGISTER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct HostRegistered {
    /// `cuMemHostGetDevicePointer` of the range; 0 where it is not mapped.
    pub device_pointer: u64,
}
assert_layout!(HostRegistered, 8, device_pointer: 0);

/// HOST_UNREGISTER: `cuMemHostUnregister`, before the region is removed by UNMAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct HostUnregister {
    /// Address that was registered.
    pub address: u64,
}
assert_layout!(HostUnregister, 8, address: 0);

/// What [`PrimaryContext`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PrimaryOperation {
    /// `cuDevicePrimaryCtxRetain`, on the first retain of the guest process.
    Retain = 1,
    /// `cuDevicePrimaryCtxRelease`, on its last release.
    Release = 2,
    /// `cuDevicePrimaryCtxReset`.
    Reset = 3,
    /// `cuDevicePrimaryCtxSetFlags`.
    SetFlags = 4,
}

impl PrimaryOperation {
    /// The operation with this number, if there is one.
    #[must_use]
    pub const fn from_u32(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::Retain),
            2 => Some(Self::Release),
            3 => Some(Self::Reset),
            4 => Some(Self::SetFlags),
            _ => None,
        }
    }
}

/// PRIMARY_CONTEXT. The reference count is the shim's; its handle for a device's primary context stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PrimaryContext {
    /// Handle of the primary context; RETAIN makes it.
    pub context: u64,
    /// Device ordinal, as in the device information.
    pub device: u32,
    /// [`PrimaryOperation`].
    pub operation: u32,
    /// `CUctx_flags` for SET_FLAGS.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(PrimaryContext, 24, context: 0, device: 8, operation: 12, flags: 16, reserved: 20);

/// CONTEXT_CREATE: `cuCtxCreate`; the worker never keeps it on a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ContextCreate {
    /// Handle to make.
    pub context: u64,
    /// Device ordinal.
    pub device: u32,
    /// `CUctx_flags`.
    pub flags: u32,
}
assert_layout!(ContextCreate, 16, context: 0, device: 8, flags: 12);

/// LINK_CREATE: `cuLinkCreate`; followed by `option_count` [`LoadOption`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct LinkCreate {
    /// Handle to make.
    pub link: u64,
    /// JIT options.
    pub option_count: u32,
    /// Bytes of the application's information log buffer.
    pub info_log_bytes: u32,
    /// Bytes of the application's error log buffer.
    pub error_log_bytes: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(LinkCreate, 24, link: 0, option_count: 8, info_log_bytes: 12, error_log_bytes: 16, reserved: 20);

/// LINK_ADD: `cuLinkAddData`; followed by `option_count` [`LoadOption`]s, then the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct LinkAdd {
    /// The link.
    pub link: u64,
    /// The image, consumed.
    pub image: u64,
    /// `CUjitInputType`.
    pub input_type: u32,
    /// Options of this input.
    pub option_count: u32,
    /// Bytes of the name that follows, its NUL included; 0 = none.
    pub name_bytes: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(LinkAdd, 32, link: 0, image: 8, input_type: 16, option_count: 20, name_bytes: 24, reserved: 28);

/// LINK_COMPLETE: `cuLinkComplete`; the result is then fetched by LINK_READ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct LinkComplete {
    /// The link.
    pub link: u64,
}
assert_layout!(LinkComplete, 8, link: 0);

/// → of LINK_COMPLETE: followed by the logs, as in [`Loaded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Linked {
    /// Bytes of the linked image; 0 when the link failed.
    pub image_bytes: u64,
    /// The logs.
    pub logs: Loaded,
}
assert_layout!(Linked, 24, image_bytes: 0, logs: 8);

/// LINK_READ: writes a part of the linked image into the lane's staging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct LinkRead {
    /// The link.
    pub link: u64,
    /// First byte of the image.
    pub offset: u64,
    /// Where in the lane's staging.
    pub staging: u64,
    /// Bytes.
    pub length: u64,
}
assert_layout!(LinkRead, 32, link: 0, offset: 8, staging: 16, length: 24);

/// OUTPUT_READ: takes what kernels have printed, and the driver's messages about failed assertions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OutputRead {
    /// Where in the lane's staging the text goes.
    pub staging: u64,
    /// Room in bytes.
    pub length: u64,
}
assert_layout!(OutputRead, 16, staging: 0, length: 8);

/// → of OUTPUT_READ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OutputText {
    /// Bytes written to staging; 0 when nothing is left.
    pub length: u32,
    /// Where the driver wrote it: 1 = standard output, 2 = standard error.
    pub descriptor: u32,
}
assert_layout!(OutputText, 8, length: 0, descriptor: 4);

/// ENUMERATE: the names of a module's functions or a library's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Enumerate {
    /// Handle of a module or library.
    pub parent: u64,
    /// How many names to leave out: names that do not fit one answer are asked for again.
    pub skip: u32,
    /// How many names to give at most.
    pub count: u32,
}
assert_layout!(Enumerate, 16, parent: 0, skip: 8, count: 12);

/// → of ENUMERATE: followed by `length` bytes, `count` names that each end with NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Names {
    /// Names that follow; fewer than asked for when they do not fit.
    pub count: u32,
    /// Bytes of the names.
    pub length: u32,
}
assert_layout!(Names, 8, count: 0, length: 4);
