//! Requests about arrays, textures and surfaces.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Copy;
use crate::assert_layout;
use crate::cuda::{CUDA_RESOURCE_DESC, CUDA_RESOURCE_VIEW_DESC, CUDA_TEXTURE_DESC};

/// Where in an array a copy begins; for the side of a copy that is no array, zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Origin {
    /// Bytes into a row.
    pub x: u64,
    /// Rows into a slice.
    pub y: u64,
    /// Slices or layers.
    pub z: u64,
}
assert_layout!(Origin, 24, x: 0, y: 8, z: 16);

/// COPY_ARRAY: a copy of which at least one side is [`super::Place::Array`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ArrayCopy {
    /// The copy.
    pub copy: Copy,
    /// Where it begins in the destination.
    pub destination: Origin,
    /// Where it begins in the source.
    pub source: Origin,
}
assert_layout!(ArrayCopy, 152, copy: 0, destination: 104, source: 128);

/// MIPMAP_LEVEL: one level of a mipmapped array as an array. It ends with the mipmapped array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MipmapLevel {
    /// The mipmapped array.
    pub mipmapped: u64,
    /// Handle to make, of kind Array.
    pub array: u64,
    /// Number of the level.
    pub level: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(MipmapLevel, 24, mipmapped: 0, array: 8, level: 16, reserved: 20);

/// Bits of [`ViewCreate::flags`].
pub mod view_flags {
    /// `view` holds something.
    pub const HAS_VIEW: u32 = 1;
}

/// VIEW_CREATE → [`ViewCreated`]: makes a texture or a surface. Kernels are given the device's own number of it, so the
/// program gets that number; the handle is what the session calls it by.
#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ViewCreate {
    /// Handle to make: its kind (Texture or Surface) says which.
    pub handle: u64,
    /// What it looks at: a handle of an array or a mipmapped array stands in the first word of its union.
    pub resource: CUDA_RESOURCE_DESC,
    /// How it is read; zeros for a surface.
    pub texture: CUDA_TEXTURE_DESC,
    /// What is made of the array.
    pub view: CUDA_RESOURCE_VIEW_DESC,
    /// Bits of [`view_flags`].
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(ViewCreate, 376, handle: 0, resource: 8, texture: 152, view: 256, flags: 368, reserved: 372);

/// → of VIEW_CREATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ViewCreated {
    /// The device's own number.
    pub object: u64,
}
assert_layout!(ViewCreated, 8, object: 0);

/// ARRAY_DESTROY: ends an array, a mipmapped array, a texture or a surface; the handle's kind says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ArrayDestroy {
    /// The handle.
    pub handle: u64,
}
assert_layout!(ArrayDestroy, 8, handle: 0);
