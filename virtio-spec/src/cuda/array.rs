//! Arrays, and how textures and surfaces look at memory.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{cuda_enum, cuda_number};
use crate::assert_layout;

cuda_number! {
    /// An array with several levels of detail.
    CUmipmappedArray(u64);
    /// A texture as kernels get it: a number of the device's own.
    CUtexObject(u64);
    /// A surface as kernels get it: a number of the device's own.
    CUsurfObject(u64);
}

cuda_enum! {
    /// What a channel of an element is (`CUarray_format` of cuda.h), but for the formats of video and compressed images.
    CUarray_format {
        UNSIGNED_INT8 = 0x01 as "CU_AD_FORMAT_UNSIGNED_INT8",
        UNSIGNED_INT16 = 0x02 as "CU_AD_FORMAT_UNSIGNED_INT16",
        UNSIGNED_INT32 = 0x03 as "CU_AD_FORMAT_UNSIGNED_INT32",
        SIGNED_INT8 = 0x08 as "CU_AD_FORMAT_SIGNED_INT8",
        SIGNED_INT16 = 0x09 as "CU_AD_FORMAT_SIGNED_INT16",
        SIGNED_INT32 = 0x0a as "CU_AD_FORMAT_SIGNED_INT32",
        HALF = 0x10 as "CU_AD_FORMAT_HALF",
        FLOAT = 0x20 as "CU_AD_FORMAT_FLOAT",
    }
}

impl CUarray_format {
    /// Bytes of a channel, for the formats named here.
    #[must_use]
    pub const fn bytes(self) -> Option<u64> {
        match self {
            Self::UNSIGNED_INT8 | Self::SIGNED_INT8 => Some(1),
            Self::UNSIGNED_INT16 | Self::SIGNED_INT16 | Self::HALF => Some(2),
            Self::UNSIGNED_INT32 | Self::SIGNED_INT32 | Self::FLOAT => Some(4),
            _ => None,
        }
    }
}

cuda_enum! {
    /// What a texture or surface looks at (`CUresourcetype` of cuda.h).
    CUresourcetype {
        ARRAY = 0 as "CU_RESOURCE_TYPE_ARRAY",
        MIPMAPPED_ARRAY = 1 as "CU_RESOURCE_TYPE_MIPMAPPED_ARRAY",
        LINEAR = 2 as "CU_RESOURCE_TYPE_LINEAR",
        PITCH2D = 3 as "CU_RESOURCE_TYPE_PITCH2D",
    }
}

/// Bits of [`CUDA_ARRAY3D_DESCRIPTOR::Flags`].
pub mod array_flags {
    /// `CUDA_ARRAY3D_LAYERED`: the depth counts layers.
    pub const LAYERED: u32 = 0x01;
    /// `CUDA_ARRAY3D_SURFACE_LDST`: surfaces may be made of it.
    pub const SURFACE_LDST: u32 = 0x02;
    /// `CUDA_ARRAY3D_CUBEMAP`: six faces, or six times the layers.
    pub const CUBEMAP: u32 = 0x04;
    /// `CUDA_ARRAY3D_TEXTURE_GATHER`.
    pub const TEXTURE_GATHER: u32 = 0x08;
    /// `CUDA_ARRAY3D_SPARSE`: without memory until some is mapped.
    pub const SPARSE: u32 = 0x40;
    /// `CUDA_ARRAY3D_DEFERRED_MAPPING`: without memory until some is mapped.
    pub const DEFERRED_MAPPING: u32 = 0x80;
}

/// Bits of [`CUDA_TEXTURE_DESC::flags`].
pub mod texture_flags {
    /// `CU_TRSF_READ_AS_INTEGER`: integers are not made into floats.
    pub const READ_AS_INTEGER: u32 = 0x01;
    /// `CU_TRSF_NORMALIZED_COORDINATES`: coordinates from 0 to 1.
    pub const NORMALIZED_COORDINATES: u32 = 0x02;
    /// `CU_TRSF_SRGB`.
    pub const SRGB: u32 = 0x10;
}

/// What a one- or two-dimensional array is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUDA_ARRAY_DESCRIPTOR {
    pub Width: usize,
    pub Height: usize,
    pub Format: CUarray_format,
    pub NumChannels: u32,
}
assert_layout!(CUDA_ARRAY_DESCRIPTOR, 24, Height: 8, Format: 16, NumChannels: 20);

/// What an array is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUDA_ARRAY3D_DESCRIPTOR {
    pub Width: usize,
    pub Height: usize,
    pub Depth: usize,
    pub Format: CUarray_format,
    pub NumChannels: u32,
    pub Flags: u32,
    pub padding: u32,
}
assert_layout!(CUDA_ARRAY3D_DESCRIPTOR, 40, Depth: 16, Format: 24, NumChannels: 28, Flags: 32);

/// What memory a texture or surface looks at. `resource` is cuda.h's union: see the functions that read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUDA_RESOURCE_DESC {
    pub resType: CUresourcetype,
    pub padding: u32,
    pub resource: [u64; 16],
    pub flags: u32,
    pub end: u32,
}
assert_layout!(CUDA_RESOURCE_DESC, 144, resType: 0, resource: 8, flags: 136);

impl CUDA_RESOURCE_DESC {
    /// The array, mipmapped array or address: the first word of each of the union's structures.
    #[must_use]
    pub const fn object(&self) -> u64 {
        self.resource[0]
    }

    /// For an array, mipmapped array or address in place of the present one.
    #[must_use]
    pub const fn with_object(mut self, object: u64) -> Self {
        self.resource[0] = object;
        self
    }

    /// For linear and pitched memory: what a channel is, and how many an element has.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "two 32-bit numbers in a word")]
    pub const fn element(&self) -> (CUarray_format, u32) {
        (CUarray_format(self.resource[1] as u32), (self.resource[1] >> 32) as u32)
    }

    /// For linear memory: bytes. For pitched memory: elements of a row.
    #[must_use]
    pub const fn width(&self) -> u64 {
        self.resource[2]
    }

    /// For pitched memory: rows, and bytes from row to row.
    #[must_use]
    pub const fn rows(&self) -> (u64, u64) {
        (self.resource[3], self.resource[4])
    }
}

/// How a texture is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUDA_TEXTURE_DESC {
    /// `CUaddress_mode`: 0 wrap, 1 clamp, 2 mirror, 3 border.
    pub addressMode: [u32; 3],
    /// `CUfilter_mode`: 0 point, 1 linear.
    pub filterMode: u32,
    pub flags: u32,
    pub maxAnisotropy: u32,
    pub mipmapFilterMode: u32,
    pub mipmapLevelBias: f32,
    pub minMipmapLevelClamp: f32,
    pub maxMipmapLevelClamp: f32,
    pub borderColor: [f32; 4],
    pub reserved: [i32; 12],
}
assert_layout!(CUDA_TEXTURE_DESC, 104, filterMode: 12, flags: 16, mipmapLevelBias: 28, borderColor: 40, reserved: 56);

/// What a texture makes of an array.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUDA_RESOURCE_VIEW_DESC {
    pub format: u32,
    pub padding: u32,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
    pub firstMipmapLevel: u32,
    pub lastMipmapLevel: u32,
    pub firstLayer: u32,
    pub lastLayer: u32,
    pub reserved: [u32; 16],
}
assert_layout!(CUDA_RESOURCE_VIEW_DESC, 112, width: 8, firstMipmapLevel: 32, lastLayer: 44, reserved: 48);

/// How an array is mapped piece by piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUDA_ARRAY_SPARSE_PROPERTIES {
    /// Elements of a tile by axis.
    pub tileExtent: [u32; 3],
    pub miptailFirstLevel: u32,
    pub miptailSize: u64,
    pub flags: u32,
    pub reserved: [u32; 4],
    pub padding: u32,
}
assert_layout!(CUDA_ARRAY_SPARSE_PROPERTIES, 48, miptailFirstLevel: 12, miptailSize: 16, flags: 24, reserved: 28);

/// What memory an array needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "named as in CUDA's documentation")]
pub struct CUDA_ARRAY_MEMORY_REQUIREMENTS {
    pub size: usize,
    pub alignment: usize,
    pub reserved: [u32; 4],
}
assert_layout!(CUDA_ARRAY_MEMORY_REQUIREMENTS, 32, alignment: 8, reserved: 16);
