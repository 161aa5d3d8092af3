//! Arrays, and what textures and surfaces make of memory.
//!
//! An array is ordinary memory of the device, row by row; its address is told to nobody.

use std::sync::Arc;

use virtio_spec::cuda::{
    CUDA_ARRAY3D_DESCRIPTOR, CUDA_RESOURCE_DESC, CUDA_RESOURCE_VIEW_DESC, CUDA_TEXTURE_DESC,
    CUDA_TEXTURE_DESC as Sampling, CUarray_format, CUresourcetype, CUresult, array_flags, texture_flags,
};

use super::allocation::Kind;
use super::handles::{kind, mint};
use super::{Driver, Result};
use crate::exec::view::{Channel, Edge, Level, View};

/// Bytes to a multiple of which rows are filled up.
const PITCH: u64 = 32;

/// Alignment of memory that a texture looks at.
const ALIGNMENT: u64 = 512;

/// Elements of a texture of linear memory.
pub(crate) const MAX_LINEAR: u64 = 1 << 28;

const INVALID: CUresult = CUresult::ERROR_INVALID_VALUE;

/// An array, or a level of a mipmapped one.
#[derive(Debug)]
pub(crate) struct Array {
    pub(crate) handle: u64,
    pub(crate) context: u64,
    pub(crate) descriptor: CUDA_ARRAY3D_DESCRIPTOR,
    pub(crate) level: Level,
    /// The mipmapped array that it is a part of.
    pub(crate) whole: Option<u64>,
}

/// An array with levels of detail.
#[derive(Debug)]
pub(crate) struct Mipmapped {
    pub(crate) context: u64,
    descriptor: CUDA_ARRAY3D_DESCRIPTOR,
    pub(crate) levels: Vec<Arc<Array>>,
}

/// A texture or surface object.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) context: u64,
    pub(crate) resource: CUDA_RESOURCE_DESC,
    pub(crate) sampling: Option<Sampling>,
    pub(crate) view: Option<CUDA_RESOURCE_VIEW_DESC>,
    pub(crate) seen: Arc<View>,
}

fn channel(format: CUarray_format) -> Result<Channel> {
    Ok(match format {
        CUarray_format::UNSIGNED_INT8 => Channel::Unsigned(1),
        CUarray_format::UNSIGNED_INT16 => Channel::Unsigned(2),
        CUarray_format::UNSIGNED_INT32 => Channel::Unsigned(4),
        CUarray_format::SIGNED_INT8 => Channel::Signed(1),
        CUarray_format::SIGNED_INT16 => Channel::Signed(2),
        CUarray_format::SIGNED_INT32 => Channel::Signed(4),
        CUarray_format::HALF => Channel::Half,
        CUarray_format::FLOAT => Channel::Float,
        _ => return Err(CUresult::ERROR_NOT_SUPPORTED),
    })
}

/// What an element is: its channels' kind, their number, and its bytes.
pub(crate) fn element(format: CUarray_format, channels: u32) -> Result<(Channel, u8, u64)> {
    let channel = channel(format)?;
    let count = u8::try_from(channels).ok().filter(|count| matches!(count, 1 | 2 | 4)).ok_or(INVALID)?;
    Ok((channel, count, u64::from(channel.bytes()) * u64::from(count)))
}

/// Refuses sizes that no array of its kind has.
fn check(descriptor: &CUDA_ARRAY3D_DESCRIPTOR) -> Result<()> {
    let known =
        array_flags::LAYERED | array_flags::SURFACE_LDST | array_flags::CUBEMAP | array_flags::TEXTURE_GATHER;
    if descriptor.Flags & (array_flags::SPARSE | array_flags::DEFERRED_MAPPING) != 0 {
        return Err(CUresult::ERROR_NOT_SUPPORTED);
    }
    let (width, height, depth) = (descriptor.Width, descriptor.Height, descriptor.Depth);
    let layered = descriptor.Flags & array_flags::LAYERED != 0;
    let cube = descriptor.Flags & array_flags::CUBEMAP != 0;
    let most = match (layered, cube, height, depth) {
        (_, true, ..) => [32_768, 32_768, if layered { 2046 } else { 6 }],
        (true, ..) => [32_768, 32_768, 2048],
        (_, _, 0, _) => [131_072, 0, 0],
        (_, _, _, 0) => [131_072, 65_536, 0],
        _ => [16_384, 16_384, 16_384],
    };
    let fits = [width, height, depth].iter().zip(most).all(|(&size, most)| size <= most);
    let faces = !cube || (width == height && depth > 0 && depth.is_multiple_of(6));
    let layers = !layered || depth > 0;
    let valid = width > 0 && fits && faces && layers && descriptor.Flags & !known == 0;
    if valid { Ok(()) } else { Err(INVALID) }
}

/// Where a level's rows are, from an address on, and its bytes.
fn lay_out(descriptor: &CUDA_ARRAY3D_DESCRIPTOR, address: u64) -> Result<(Level, u64)> {
    let (_, _, bytes) = element(descriptor.Format, descriptor.NumChannels)?;
    let size = [descriptor.Width, descriptor.Height, descriptor.Depth];
    let size = size.map(|size| u32::try_from(size.max(1)).unwrap_or(u32::MAX));
    let [width, height, depth] = size.map(u64::from);
    let pitch = width.checked_mul(bytes).and_then(|row| row.checked_next_multiple_of(PITCH));
    let pitch = pitch.ok_or(INVALID)?;
    let slice = pitch.checked_mul(height).ok_or(INVALID)?;
    let total = slice.checked_mul(depth).and_then(|total| total.checked_next_multiple_of(ALIGNMENT));
    Ok((Level { address, size, pitch, slice }, total.ok_or(CUresult::ERROR_OUT_OF_MEMORY)?))
}

/// The descriptor of a level of detail.
fn smaller(descriptor: &CUDA_ARRAY3D_DESCRIPTOR, level: u32) -> CUDA_ARRAY3D_DESCRIPTOR {
    let half = |size: usize| if size == 0 { 0 } else { size.checked_shr(level).unwrap_or(0).max(1) };
    let layers = descriptor.Flags & (array_flags::LAYERED | array_flags::CUBEMAP) != 0;
    CUDA_ARRAY3D_DESCRIPTOR {
        Width: half(descriptor.Width),
        Height: half(descriptor.Height),
        Depth: if layers { descriptor.Depth } else { half(descriptor.Depth) },
        ..*descriptor
    }
}

impl Driver {
    /// Makes an array.
    pub(crate) fn create_array(&self, context: u64, descriptor: CUDA_ARRAY3D_DESCRIPTOR) -> Result<u64> {
        check(&descriptor)?;
        let (mut level, bytes) = lay_out(&descriptor, 0)?;
        level.address = self.memory.allocate(bytes, ALIGNMENT, Kind::Array, context)?;
        let handle = mint(kind::ARRAY);
        let array = Array { handle, context, descriptor, level, whole: None };
        self.arrays.insert(handle, Arc::new(array));
        Ok(handle)
    }

    /// Ends an array, after the work that was given before.
    pub(crate) fn destroy_array(&self, handle: u64) -> Result<()> {
        if self.arrays.get(handle)?.whole.is_some() {
            return Err(CUresult::ERROR_INVALID_HANDLE);
        }
        let array = self.arrays.remove(handle)?;
        self.release(array.level.address, &[Kind::Array], CUresult::ERROR_INVALID_HANDLE)
    }

    /// Makes an array with at most this many levels.
    pub(crate) fn create_mipmapped(
        &self,
        context: u64,
        descriptor: CUDA_ARRAY3D_DESCRIPTOR,
        count: u32,
    ) -> Result<u64> {
        check(&descriptor)?;
        let longest = descriptor.Width.max(descriptor.Height).max(descriptor.Depth);
        let count = count.clamp(1, longest.checked_ilog2().unwrap_or(0) + 1);
        let descriptors: Vec<_> = (0..count).map(|level| smaller(&descriptor, level)).collect();
        let mut places = Vec::new();
        let mut total = 0u64;
        for descriptor in &descriptors {
            let (level, bytes) = lay_out(descriptor, total)?;
            places.push(level);
            total = total.checked_add(bytes).ok_or(CUresult::ERROR_OUT_OF_MEMORY)?;
        }
        let start = self.memory.allocate(total, ALIGNMENT, Kind::Array, context)?;
        let handle = mint(kind::MIPMAPPED);
        let levels = descriptors.into_iter().zip(places).map(|(descriptor, mut level)| {
            level.address += start;
            let array = Array { handle: mint(kind::ARRAY), context, descriptor, level, whole: Some(handle) };
            Arc::new(array)
        });
        let levels: Vec<_> = levels.collect();
        for level in &levels {
            self.arrays.insert(level.handle, Arc::clone(level));
        }
        self.mipmapped.insert(handle, Arc::new(Mipmapped { context, descriptor, levels }));
        Ok(handle)
    }

    /// Ends an array with levels, and them.
    pub(crate) fn destroy_mipmapped(&self, handle: u64) -> Result<()> {
        let mipmapped = self.mipmapped.remove(handle)?;
        self.arrays.retain(|array| array.whole != Some(handle));
        let start = mipmapped.levels.first().map(|level| level.level.address).unwrap_or_default();
        self.release(start, &[Kind::Array], CUresult::ERROR_INVALID_HANDLE)
    }

    /// What a texture or surface of a resource is.
    pub(crate) fn look_at(
        &self,
        resource: &CUDA_RESOURCE_DESC,
        sampling: Option<&Sampling>,
        view: Option<&CUDA_RESOURCE_VIEW_DESC>,
    ) -> Result<View> {
        let (mut seen, flags) = match resource.resType {
            CUresourcetype::ARRAY => {
                let array = self.arrays.get(resource.object())?;
                (whole(&array.descriptor, vec![array.level])?, array.descriptor.Flags)
            }
            CUresourcetype::MIPMAPPED_ARRAY => {
                let mipmapped = self.mipmapped.get(resource.object())?;
                let levels = mipmapped.levels.iter().map(|level| level.level).collect();
                (whole(&mipmapped.descriptor, levels)?, mipmapped.descriptor.Flags)
            }
            CUresourcetype::LINEAR | CUresourcetype::PITCH2D => (self.plain_memory(resource)?, 0),
            _ => return Err(INVALID),
        };
        match sampling {
            None if resource.resType != CUresourcetype::ARRAY || flags & array_flags::SURFACE_LDST == 0 => {
                return Err(INVALID);
            }
            None => {}
            Some(sampling) => apply(&mut seen, sampling)?,
        }
        if flags & array_flags::CUBEMAP != 0 {
            // A direction ends on a face, whatever was said about edges.
            seen.edges = [Edge::Clamp; 3];
            seen.normalized = true;
        }
        if let Some(view) = view {
            apply_view(&mut seen, view)?;
        }
        Ok(seen)
    }

    fn plain_memory(&self, resource: &CUDA_RESOURCE_DESC) -> Result<View> {
        let (format, channels) = resource.element();
        let (channel, channels, bytes) = element(format, channels)?;
        let (size, pitch) = if resource.resType == CUresourcetype::LINEAR {
            ([resource.width() / bytes, 1], resource.width())
        } else {
            let (rows, pitch) = resource.rows();
            ([resource.width(), rows], pitch)
        };
        let [width, rows] = size;
        let row = width.checked_mul(bytes).ok_or(INVALID)?;
        let flat = resource.resType == CUresourcetype::LINEAR;
        let fits = if flat {
            width <= MAX_LINEAR
        } else {
            width <= 131_072 && rows <= 65_536 && pitch >= row && pitch.is_multiple_of(PITCH)
        };
        let address = resource.object();
        let span = rows.checked_sub(1).and_then(|rows| rows.checked_mul(pitch)?.checked_add(row));
        let there = span.is_some_and(|span| span > 0 && self.memory.contains(address, span));
        if !fits || !there || !address.is_multiple_of(ALIGNMENT) {
            return Err(INVALID);
        }
        let size = [width, rows, 1].map(|size| u32::try_from(size).unwrap_or(u32::MAX));
        let level = Level { address, size, pitch, slice: 0 };
        Ok(View { linear_memory: flat, ..bare(channel, channels, vec![level]) })
    }
}

/// A view that makes nothing of its texels.
fn bare(channel: Channel, channels: u8, levels: Vec<Level>) -> View {
    View {
        levels,
        channel,
        channels,
        linear_memory: false,
        edges: [Edge::Clamp; 3],
        filters: false,
        mixes_levels: false,
        normalized: false,
        reads_floats: false,
        border: [0.0; 4],
        bias: 0.0,
        clamp: [0.0; 2],
    }
}

fn whole(descriptor: &CUDA_ARRAY3D_DESCRIPTOR, levels: Vec<Level>) -> Result<View> {
    let (channel, channels, _) = element(descriptor.Format, descriptor.NumChannels)?;
    Ok(bare(channel, channels, levels))
}

fn apply(seen: &mut View, sampling: &CUDA_TEXTURE_DESC) -> Result<()> {
    let edge = |mode: u32| match mode {
        0 => Ok(Edge::Wrap),
        1 => Ok(Edge::Clamp),
        2 => Ok(Edge::Mirror),
        3 => Ok(Edge::Border),
        _ => Err(INVALID),
    };
    let filters = |mode: u32| match mode {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(INVALID),
    };
    if sampling.flags & texture_flags::SRGB != 0 {
        return Err(CUresult::ERROR_NOT_SUPPORTED);
    }
    let [x, y, z] = sampling.addressMode;
    seen.edges = [edge(x)?, edge(y)?, edge(z)?];
    seen.filters = filters(sampling.filterMode)?;
    seen.mixes_levels = filters(sampling.mipmapFilterMode)?;
    seen.normalized = sampling.flags & texture_flags::NORMALIZED_COORDINATES != 0;
    seen.reads_floats = sampling.flags & texture_flags::READ_AS_INTEGER == 0;
    seen.border = sampling.borderColor;
    seen.bias = sampling.mipmapLevelBias;
    seen.clamp = [sampling.minMipmapLevelClamp, sampling.maxMipmapLevelClamp];
    let integers = matches!(seen.channel, Channel::Unsigned(_) | Channel::Signed(_));
    let stay_integers = integers && (!seen.reads_floats || seen.channel.bytes() == 4);
    // CUDA filters floats only.
    if seen.filters && stay_integers { Err(INVALID) } else { Ok(()) }
}

/// `CU_RES_VIEW_FORMAT_UINT_1X8` to `CU_RES_VIEW_FORMAT_FLOAT_4X32`, three for each kind of channel.
fn viewed(format: u32) -> Result<(Channel, u8)> {
    let kinds = [
        Channel::Unsigned(1),
        Channel::Signed(1),
        Channel::Unsigned(2),
        Channel::Signed(2),
        Channel::Unsigned(4),
        Channel::Signed(4),
        Channel::Half,
        Channel::Float,
    ];
    let at = format.checked_sub(1).and_then(|index| usize::try_from(index).ok()).ok_or(INVALID)?;
    let kind = kinds.get(at / 3).copied().ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    Ok((kind, [1, 2, 4][at % 3]))
}

fn apply_view(seen: &mut View, view: &CUDA_RESOURCE_VIEW_DESC) -> Result<()> {
    if view.format != 0 {
        let (channel, channels) = viewed(view.format)?;
        let bytes = u64::from(channel.bytes()) * u64::from(channels);
        if bytes != u64::from(seen.channel.bytes()) * u64::from(seen.channels) {
            return Err(INVALID);
        }
        (seen.channel, seen.channels) = (channel, channels);
    }
    if view.firstLayer != 0 {
        return Err(CUresult::ERROR_NOT_SUPPORTED);
    }
    let range = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    let (first, last) = (range(view.firstMipmapLevel), range(view.lastMipmapLevel));
    let levels = seen.levels.get(first..=last).ok_or(INVALID)?.to_vec();
    if levels.is_empty() {
        return Err(INVALID);
    }
    seen.levels = levels;
    Ok(())
}
