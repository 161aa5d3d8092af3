//! The one space of object handles: minted by the guest, checked by the worker, never a host pointer. Those of graphs and
//! their nodes are given out by the worker, because capture and cloning make them unasked; nothing else is different.
//!
//! | bits | what |
//! |---|---|
//! | 63 | 0 |
//! | 56–62 | [`Kind`], never zero |
//! | 28–55 | generation, counted up each time that the index is used again |
//! | 4–27 | index |
//! | 0–3 | 0 |
//!
//! So a handle is 16-aligned, above 2^32, never one of CUDA's small constants (`CU_STREAM_LEGACY`, …) or -1, and never
//! a valid address: a program that looks behind one faults at once.

/// What a handle names. The numbers are part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// `CUcontext`.
    Context = 1,
    /// `CUmodule`.
    Module = 2,
    /// `CUfunction`.
    Function = 3,
    /// `CUlibrary`.
    Library = 4,
    /// `CUkernel`.
    Kernel = 5,
    /// `CUstream`.
    Stream = 6,
    /// `CUevent`.
    Event = 7,
    /// `CUlinkState`.
    Link = 8,
    /// `CUmemoryPool`.
    Pool = 9,
    /// `CUgraph`.
    Graph = 10,
    /// `CUgraphExec`.
    GraphExec = 11,
    /// `CUgraphNode`.
    GraphNode = 12,
    /// `CUarray`.
    Array = 13,
    /// An image that is being sent, ahead of a load.
    Image = 14,
    /// `CUmemGenericAllocationHandle`.
    Allocation = 15,
    /// `CUmipmappedArray`.
    MipmappedArray = 16,
    /// A texture object, which the program knows by the device's own number.
    Texture = 17,
    /// A surface object, which the program knows by the device's own number.
    Surface = 18,
}

impl Kind {
    /// The kind with this number, if there is one.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Context,
            2 => Self::Module,
            3 => Self::Function,
            4 => Self::Library,
            5 => Self::Kernel,
            6 => Self::Stream,
            7 => Self::Event,
            8 => Self::Link,
            9 => Self::Pool,
            10 => Self::Graph,
            11 => Self::GraphExec,
            12 => Self::GraphNode,
            13 => Self::Array,
            14 => Self::Image,
            15 => Self::Allocation,
            16 => Self::MipmappedArray,
            17 => Self::Texture,
            18 => Self::Surface,
            _ => return None,
        })
    }
}

/// Highest index (24 bits).
pub const MAX_INDEX: u32 = (1 << 24) - 1;
/// Highest generation (28 bits).
pub const MAX_GENERATION: u32 = (1 << 28) - 1;

/// A handle taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    /// What it names.
    pub kind: Kind,
    /// Times that the index was given out before.
    pub generation: u32,
    /// Place in the table of its kind.
    pub index: u32,
}

impl Handle {
    /// The handle as the application sees it. Index and generation beyond their bits are cut off.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        (self.kind as u64) << 56
            | ((self.generation & MAX_GENERATION) as u64) << 28
            | ((self.index & MAX_INDEX) as u64) << 4
    }

    /// Takes a value apart; `None` if it has not the form of a handle.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "each part is masked to its bits")]
    pub const fn from_u64(value: u64) -> Option<Self> {
        if value & 0xf != 0 || value >> 63 != 0 {
            return None;
        }
        let Some(kind) = Kind::from_u8((value >> 56) as u8) else { return None };
        Some(Self {
            kind,
            generation: (value >> 28) as u32 & MAX_GENERATION,
            index: (value >> 4) as u32 & MAX_INDEX,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_trip() {
        let handle = Handle { kind: Kind::Event, generation: MAX_GENERATION, index: MAX_INDEX };
        assert_eq!(Handle::from_u64(handle.to_u64()), Some(handle));
    }

    #[test]
    fn refuses_constants_and_pointers() {
        for value in [0, 1, 2, u64::MAX, 0x7f00_1234_5670, 0x0100_0000_0000_0001, 0x7f00_0000_0000_0000] {
            assert_eq!(Handle::from_u64(value), None, "{value:#x}");
        }
    }
}
