//! The addresses that guest process and worker keep free, so that a pointer's number tells what it points to.
//!
//! The worker runs under `ADDR_COMPAT_LAYOUT`: its libraries, and the device, pinned and managed memory that CUDA
//! places, go upwards from 0x2aaa_aaaa_a000 plus at most 1 TiB of randomisation (measured: 0x2aaa… to 0x2ae4…). The
//! guest process reserves [`START`]`..`[`END`] before it hands out a device pointer.

/// First address of the window.
pub const START: u64 = 0x2900_0000_0000;

/// End of the window (exclusive).
pub const END: u64 = 0x4800_0000_0000;

/// Where the guest process places pinned memory (`cuMemHostAlloc`); the worker maps nothing else here.
pub const PINNED_START: u64 = START;

/// End of the part for pinned memory (exclusive).
pub const PINNED_END: u64 = 0x2a00_0000_0000;

/// Where the guest process places address ranges that programs reserve (`cuMemAddressReserve`): far above what CUDA
/// places by itself, and room for a hundred times the memory of a large GPU.
pub const RESERVE_START: u64 = 0x3800_0000_0000;

/// End of the part for reserved ranges (exclusive).
pub const RESERVE_END: u64 = END;

/// Low addresses that CUDA uses for stream-ordered pools and for virtual memory management without a hint.
pub const LOW_START: u64 = 0x2_0000_0000;

/// End of the low part (exclusive).
pub const LOW_END: u64 = 0x100_0000_0000;

/// Whether an address can only be CUDA's (device, pool or managed memory), never ordinary host memory of the process.
#[must_use]
pub const fn is_device(address: u64) -> bool {
    (address >= PINNED_END && address < END) || (address >= LOW_START && address < LOW_END)
}
