//! What kernels have printed, on its way to the guest process.
//!
//! Unsafe code: writing to session memory.

use virtio_spec::{
    cuda::CUresult,
    requests::{OutputRead, OutputText},
};

use super::{Invocation, copy::staging};
use crate::worker::output;

/// Bytes that one request takes at most.
const PIECE: usize = 64 << 10;

pub(super) fn read(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: OutputRead = call.structure()?;
    call.end_of_parameters()?;
    let target = staging(call, request.staging, request.length)?;
    let room = usize::try_from(request.length).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
    let mut text = vec![0; room.min(PIECE)];
    let (descriptor, length) = output::read(&mut text).unwrap_or((0, 0));
    // SAFETY: `target` has room for `room` bytes, of which `length` is a part.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), target.cast::<u8>(), length) };
    call.put(&OutputText { length: u32::try_from(length).unwrap_or(0), descriptor })
}
