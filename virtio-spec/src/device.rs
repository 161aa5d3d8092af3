//! Identity, feature bits and configuration space of the device.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// Virtio device ID. 38 ("parameter server") is named in stock QEMU's table, which refuses unnamed IDs, but was never
/// specified and has no driver. PCI device ID 0x1066 with vendor 0x1af4.
pub const VIRTIO_ID: u32 = 38;

/// First four bytes of the configuration space: `VCMP`. A driver refuses a device without it.
pub const MAGIC: u32 = u32::from_le_bytes(*b"VCMP");

/// Protocol version that this crate describes. Peers with another version do not talk.
pub const PROTOCOL_VERSION: u32 = 1;

/// Index of the request–reply queue.
pub const CONTROLQ: u16 = 0;

/// Index of the queue on which the device reports events.
pub const EVENTQ: u16 = 1;

/// Virtqueues of the device.
pub const QUEUE_COUNT: u16 = 2;

/// Descriptors of each of the two queues.
pub const QUEUE_SIZE: u16 = 256;

/// Device-specific feature bits. Protocol version 1 has none that is optional; bits are given out from 0 upwards.
pub mod features {
    /// Sessions can be made on memory that the host provides (shared-memory BAR). Reserved, not offered by version 1.
    pub const HOST_MEMORY: u64 = 1 << 0;
    /// Every device-specific feature that a version 1 device offers.
    pub const ALL: u64 = 0;
}

/// Configuration space, read-only for the driver. 64 bytes: stock QEMU aborts above 256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Config {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`PROTOCOL_VERSION`].
    pub version: u32,
    /// Counts up each time that anything below, or the device information, changes.
    pub generation: u32,
    /// [`State`] of the device.
    pub state: u32,
    /// CUDA devices that this VM may use.
    pub device_count: u32,
    /// Bytes of the device information ([`crate::info`]).
    pub info_bytes: u32,
    /// Sessions at once, at most.
    pub max_sessions: u32,
    /// Lanes of one session, at most.
    pub max_lanes: u32,
    /// Regions of one session, at most.
    pub max_regions: u32,
    /// Extents of one session, at most.
    pub max_extents: u32,
    /// Zero.
    pub reserved: [u32; 6],
}

assert_layout!(Config, 64, magic: 0, version: 4, generation: 8, state: 12, device_count: 16, info_bytes: 20,
    max_sessions: 24, max_lanes: 28, max_regions: 32, max_extents: 36, reserved: 40);

/// What the device can do at present ([`Config::state`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// The device information is not there yet; ask again.
    Starting = 0,
    /// Sessions can be made.
    Ready = 1,
    /// The host has no usable GPU; the device information says zero devices.
    NoGpu = 2,
    /// The host's part has failed; existing sessions are dead and new ones are refused.
    Failed = 3,
}

impl State {
    /// The state with this number, if there is one.
    #[must_use]
    pub const fn from_u32(value: u32) -> Option<Self> {
        match value {
            0 => Some(Self::Starting),
            1 => Some(Self::Ready),
            2 => Some(Self::NoGpu),
            3 => Some(Self::Failed),
            _ => None,
        }
    }
}
