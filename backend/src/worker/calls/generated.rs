//! The calls of which both halves are generated from the call table.
//!
//! Unsafe code: calls of the driver.

#![allow(clippy::unnecessary_wraps, reason = "generated")]

use virtio_spec::cuda::CUresult;

use super::Invocation;

virtio_spec::for_each_group!(virtio_spec::macros::worker_dispatch);

/// Runs a generated call; `None` if the opcode is none.
pub(super) fn dispatch(opcode: u32, call: &mut Invocation<'_>) -> Option<Result<(), CUresult>> {
    match opcode >> 8 {
        0x01 => devices::dispatch(opcode, call),
        0x02 => contexts::dispatch(opcode, call),
        0x03 => memory::dispatch(opcode, call),
        0x05 => memsets::dispatch(opcode, call),
        0x06 => modules::dispatch(opcode, call),
        0x07 => functions::dispatch(opcode, call),
        0x09 => streams::dispatch(opcode, call),
        0x0a => events::dispatch(opcode, call),
        0x10 => arrays::dispatch(opcode, call),
        0x11 => pools::dispatch(opcode, call),
        0x14 => sharing::dispatch(opcode, call),
        0x12 => virtual_memory::dispatch(opcode, call),
        0x13 => graphs::dispatch(opcode, call),
        0x19 => batches::dispatch(opcode, call),
        _ => None,
    }
}
