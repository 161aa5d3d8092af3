//! What a texture or surface is, and what reading it gives.
//!
//! The rules are those of CUDA's programming guide, "Texture Fetching": filtering has weights of 8 bits, and a coordinate
//! is a place between texels.

use super::alu::half;
use crate::ptx::types::Type;

/// What a channel of an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// An integer of 1, 2 or 4 bytes.
    Unsigned(u8),
    /// A signed integer of 1, 2 or 4 bytes.
    Signed(u8),
    /// A 16-bit float.
    Half,
    /// A 32-bit float.
    Float,
}

impl Channel {
    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u8 {
        match self {
            Self::Unsigned(bytes) | Self::Signed(bytes) => bytes,
            Self::Half => 2,
            Self::Float => 4,
        }
    }

    /// Bits as a kernel gets them where nothing is made of an integer: floats as floats, integers as 32 bits.
    fn widened(self, bits: u64) -> u64 {
        match self {
            Self::Unsigned(_) | Self::Float => bits,
            Self::Signed(bytes) => {
                let unused = 64 - 8 * u32::from(bytes);
                (bits.cast_signed() << unused >> unused).cast_unsigned() & 0xffff_ffff
            }
            Self::Half => u64::from(half_as_single(bits).to_bits()),
        }
    }

    /// The value as a float, integers from 0 to 1 or from -1 to 1.
    #[expect(clippy::cast_precision_loss, reason = "at most 16 bits")]
    fn normalized(self, bits: u64) -> f32 {
        let wide = self.widened(bits);
        match self {
            Self::Unsigned(bytes) => wide as f32 / ((1u64 << (8 * u32::from(bytes))) - 1) as f32,
            Self::Signed(bytes) => {
                let most = ((1u64 << (8 * u32::from(bytes) - 1)) - 1) as f32;
                ((wide << 32).cast_signed() >> 32) as f32 / most
            }
            Self::Half | Self::Float => return f32::from_bits(low(wide)),
        }
        .max(-1.0)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "every half is a single")]
fn half_as_single(bits: u64) -> f32 {
    half::widen(Type::F16, u16::try_from(bits & 0xffff).unwrap_or(0)) as f32
}

fn low(bits: u64) -> u32 {
    u32::try_from(bits & 0xffff_ffff).unwrap_or(0)
}

/// One level of detail in memory.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// First byte.
    pub address: u64,
    /// Elements of a row, rows, slices (or layers).
    pub size: [u32; 3],
    /// Bytes from row to row.
    pub pitch: u64,
    /// Bytes from slice to slice.
    pub slice: u64,
}

/// What stands for texels outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The picture repeats.
    Wrap,
    /// The last texel.
    Clamp,
    /// The picture repeats, every other time backwards.
    Mirror,
    /// The border's colour.
    Border,
}

/// A texture or surface.
#[derive(Clone, Debug)]
pub struct View {
    /// At least one.
    pub levels: Vec<Level>,
    /// What a channel is.
    pub channel: Channel,
    /// Channels of an element: 1, 2 or 4.
    pub channels: u8,
    /// It is plain memory, not an array: only whole texels are read, and those outside are zero.
    pub linear_memory: bool,
    /// By axis.
    pub edges: [Edge; 3],
    /// Texels are mixed.
    pub filters: bool,
    /// Levels are mixed.
    pub mixes_levels: bool,
    /// Coordinates from 0 to 1.
    pub normalized: bool,
    /// Small integers are read as floats.
    pub reads_floats: bool,
    /// Colour of what is outside, where `Edge::Border` says so.
    pub border: [f32; 4],
    /// Added to a level of detail.
    pub bias: f32,
    /// Least and greatest level of detail.
    pub clamp: [f32; 2],
}

/// A texel: the bits of four channels.
pub(super) type Texel = [u64; 4];

/// Reads one channel: address and bytes.
pub(super) type Reader<'r, E> = dyn FnMut(u64, u8) -> Result<u64, E> + 'r;

/// What a sample is taken of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// As many as the geometry has.
    pub(super) at: [f32; 3],
    pub(super) axes: usize,
    /// Layer or face, for geometries that have some.
    pub(super) layer: Option<u32>,
}

impl View {
    /// Bytes of an element.
    pub(super) fn element(&self) -> u64 {
        u64::from(self.channel.bytes()) * u64::from(self.channels)
    }

    /// Whether what a kernel gets is a float.
    fn gives_floats(&self) -> bool {
        match self.channel {
            Channel::Half | Channel::Float => true,
            Channel::Unsigned(bytes) | Channel::Signed(bytes) => self.reads_floats && bytes < 4,
        }
    }

    /// One texel by its place in a level, which is inside; channels that there are not are 0, 0, 0 and 1.
    fn load<E>(&self, level: &Level, at: [u32; 3], read: &mut Reader<'_, E>) -> Result<Texel, E> {
        let [x, y, z] = at.map(u64::from);
        let start = level.address + x * self.element() + y * level.pitch + z * level.slice;
        let floats = self.gives_floats();
        let one = if floats { u64::from(1f32.to_bits()) } else { 1 };
        let mut texel = [0, 0, 0, one];
        let bytes = self.channel.bytes();
        for (index, channel) in (0u64..).zip(texel.iter_mut().take(usize::from(self.channels))) {
            let bits = read(start + index * u64::from(bytes), bytes)?;
            *channel = if floats {
                u64::from(self.channel.normalized(bits).to_bits())
            } else {
                self.channel.widened(bits)
            };
        }
        Ok(texel)
    }

    /// The border's colour as a texel.
    fn outside(&self) -> Texel {
        if self.linear_memory {
            return [0; 4];
        }
        self.border.map(|value| u64::from(value.to_bits()))
    }

    /// A texel anywhere; the layer or face is inside.
    fn texel<E>(
        &self,
        level: &Level,
        at: [i64; 3],
        axes: usize,
        layer: Option<u32>,
        read: &mut Reader<'_, E>,
    ) -> Result<Texel, E> {
        let mut inside = [0; 3];
        for axis in 0..axes.min(3) {
            let (Some(&value), Some(&size)) = (at.get(axis), level.size.get(axis)) else { continue };
            let size = i64::from(size.max(1));
            let edge = if self.linear_memory && axes == 1 { Edge::Border } else { self.edge(axis) };
            let index = match edge {
                Edge::Wrap => value.rem_euclid(size),
                Edge::Clamp => value.clamp(0, size - 1),
                Edge::Mirror => {
                    let twice = value.rem_euclid(2 * size);
                    twice.min(2 * size - 1 - twice)
                }
                Edge::Border if (0..size).contains(&value) => value,
                Edge::Border => return Ok(self.outside()),
            };
            if let Some(place) = inside.get_mut(axis) {
                *place = u32::try_from(index).unwrap_or(0);
            }
        }
        if let Some(layer) = layer {
            inside[2] = layer.min(level.size[2].saturating_sub(1));
        }
        self.load(level, inside, read)
    }

    /// Repeating needs coordinates from 0 to 1; without them it is clamping.
    fn edge(&self, axis: usize) -> Edge {
        match self.edges.get(axis) {
            Some(Edge::Wrap | Edge::Mirror) if !self.normalized => Edge::Clamp,
            Some(edge) => *edge,
            None => Edge::Clamp,
        }
    }

    /// Texels by whole numbers: neither normalized nor filtered.
    pub(super) fn fetch<E>(
        &self,
        lod: f32,
        at: [i64; 3],
        axes: usize,
        layer: Option<u32>,
        read: &mut Reader<'_, E>,
    ) -> Result<Texel, E> {
        match self.level(lod.round()) {
            Some(level) => self.texel(level, at, axes, layer, read),
            None => Ok([0; 4]),
        }
    }

    fn level(&self, lod: f32) -> Option<&Level> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let index = lod.clamp(0.0, 64.0) as usize;
        self.levels.get(index).or_else(|| self.levels.last())
    }

    /// A sample at a level of detail.
    pub(super) fn sample<E>(&self, lod: f32, place: Place, read: &mut Reader<'_, E>) -> Result<Texel, E> {
        let [least, most] = self.clamp;
        let last = f32::from(u16::try_from(self.levels.len().saturating_sub(1)).unwrap_or(u16::MAX));
        let lod = if self.levels.len() > 1 {
            (lod + self.bias).max(least).min(most.max(least)).clamp(0.0, last)
        } else {
            0.0
        };
        if !self.mixes_levels || !self.gives_floats() || lod.fract() == 0.0 {
            let Some(level) = self.level((lod + 0.5).floor()) else { return Ok([0; 4]) };
            return self.sample_level(level, place, read);
        }
        let (Some(fine), Some(coarse)) = (self.level(lod.floor()), self.level(lod.ceil())) else {
            return Ok([0; 4]);
        };
        let fine = self.sample_level(fine, place, read)?;
        let coarse = self.sample_level(coarse, place, read)?;
        Ok(mix(&[(fine, 1.0 - weight(lod.fract())), (coarse, weight(lod.fract()))]))
    }

    /// Coordinates in texels.
    fn scaled(&self, level: &Level, place: &Place) -> [f64; 3] {
        let mut at = place.at.map(f64::from);
        if self.normalized {
            for (value, size) in at.iter_mut().zip(level.size) {
                *value *= f64::from(size);
            }
        }
        // Beyond what an index can be there is only one edge or another.
        at.map(|value| if value.is_nan() { 0.0 } else { value.clamp(-1e9, 1e9) })
    }

    fn sample_level<E>(&self, level: &Level, place: Place, read: &mut Reader<'_, E>) -> Result<Texel, E> {
        let at = self.scaled(level, &place);
        if !self.filters || !self.gives_floats() || self.linear_memory && place.axes == 1 {
            return self.texel(level, at.map(whole), place.axes, place.layer, read);
        }
        let low = at.map(|value| whole(value - 0.5));
        let high = at.map(|value| weight_of(value - 0.5));
        let mut parts = Vec::with_capacity(1 << place.axes);
        for corner in 0..1usize << place.axes.min(3) {
            let (mut index, mut share) = (low, 1.0);
            for axis in 0..place.axes.min(3) {
                let (Some(index), Some(&high)) = (index.get_mut(axis), high.get(axis)) else { continue };
                if corner >> axis & 1 == 1 {
                    *index += 1;
                    share *= high;
                } else {
                    share *= 1.0 - high;
                }
            }
            if share > 0.0 {
                parts.push((self.texel(level, index, place.axes, place.layer, read)?, share));
            }
        }
        Ok(mix(&parts))
    }

    /// One channel of the four texels that a filter would mix, counted from below on the left, against the clock.
    pub(super) fn gather<E>(
        &self,
        channel: usize,
        place: Place,
        read: &mut Reader<'_, E>,
    ) -> Result<Texel, E> {
        let Some(level) = self.levels.first() else { return Ok([0; 4]) };
        let [x, y, _] = self.scaled(level, &place).map(|value| whole(value - 0.5));
        let mut out = [0; 4];
        for (value, (right, below)) in out.iter_mut().zip([(0, 1), (1, 1), (1, 0), (0, 0)]) {
            let texel = self.texel(level, [x + right, y + below, 0], 2, place.layer, read)?;
            *value = texel.get(channel).copied().unwrap_or(0);
        }
        Ok(out)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "clamped before")]
fn whole(value: f64) -> i64 {
    value.floor() as i64
}

/// How much of the further texel a place between two has: 8 bits.
fn weight_of(value: f64) -> f64 {
    ((value - value.floor()) * 256.0).round() / 256.0
}

fn weight(value: f32) -> f64 {
    weight_of(f64::from(value))
}

fn mix(parts: &[(Texel, f64)]) -> Texel {
    let mut sums = [0.0f64; 4];
    for (texel, share) in parts {
        for (sum, bits) in sums.iter_mut().zip(texel) {
            *sum += f64::from(f32::from_bits(low(*bits))) * share;
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "rounded to what a kernel gets")]
    sums.map(|sum| u64::from((sum as f32).to_bits()))
}

/// Face of a cube and the place on it, from 0 to 1, in which a direction ends.
pub(super) fn cube([x, y, z]: [f32; 3]) -> (u32, [f32; 2]) {
    let (ax, ay, az) = (x.abs(), y.abs(), z.abs());
    let (face, s, t, m) = if ax >= ay && ax >= az {
        if x >= 0.0 { (0, -z, -y, ax) } else { (1, z, -y, ax) }
    } else if ay >= az {
        if y >= 0.0 { (2, x, z, ay) } else { (3, x, -z, ay) }
    } else if z >= 0.0 {
        (4, x, -y, az)
    } else {
        (5, -x, -y, az)
    };
    (face, [(s / m + 1.0) / 2.0, (t / m + 1.0) / 2.0])
}
