//! Attributes of streams: remembered, and they steer nothing.

#![allow(non_snake_case, reason = "CUDA's own names")]

use virtio_spec::cuda::{CUlaunchAttributeID as Attribute, CUresult, CUstream, CUstreamAttrID};

use super::entry::{Call, In, Out, exports};
use crate::driver::Result;
use crate::driver::queue::{Attributes, lock};

exports! {
    context cuStreamGetAttribute / cuStreamGetAttribute_ptsz (
        stream: CUstream, attribute: CUstreamAttrID, value: *mut [u64; 4],
    ) = get;
    context cuStreamSetAttribute / cuStreamSetAttribute_ptsz (
        stream: CUstream, attribute: CUstreamAttrID, value: *const [u64; 8],
    ) = set;
    context cuStreamCopyAttributes / cuStreamCopyAttributes_ptsz (to: CUstream, from: CUstream) = copy;
}

/// The first words of a value, of which an attribute has this many bytes.
fn cut(value: [u64; 8], bytes: usize) -> [u64; 8] {
    let mut kept = [0; 8];
    for (index, (place, word)) in kept.iter_mut().zip(value).enumerate() {
        let here = bytes.saturating_sub(8 * index).min(8);
        *place = if here == 8 { word } else { word & ((1 << (8 * here)) - 1) };
    }
    kept
}

/// The union is larger in CUDA 12, but no attribute of a stream is.
fn get(call: &Call, stream: CUstream, attribute: CUstreamAttrID, value: Out<[u64; 4]>) -> Result<()> {
    value.check()?;
    attribute.value_bytes().ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let (_, stream) = call.stream(stream)?;
    let set = lock(&stream.attributes).get(&attribute.0.0).copied();
    let default = match attribute.0 {
        // `CU_SYNC_POLICY_AUTO`.
        Attribute::SYNCHRONIZATION_POLICY => 1,
        Attribute::PRIORITY => u64::from(stream.priority.cast_unsigned()),
        // The remote domain is the second.
        Attribute::MEM_SYNC_DOMAIN_MAP => 1 << 8,
        _ => 0,
    };
    let [first, second, third, fourth, ..] = set.unwrap_or([default, 0, 0, 0, 0, 0, 0, 0]);
    value.put([first, second, third, fourth])
}

fn check(attribute: Attribute, value: &[u64; 8]) -> Result<()> {
    let [first, ..] = *value;
    let good = match attribute {
        Attribute::SYNCHRONIZATION_POLICY => (1..=4).contains(&first),
        Attribute::MEM_SYNC_DOMAIN => first <= 1,
        _ => true,
    };
    if good { Ok(()) } else { Err(CUresult::ERROR_INVALID_VALUE) }
}

fn set(call: &Call, stream: CUstream, attribute: CUstreamAttrID, value: In<[u64; 8]>) -> Result<()> {
    let bytes = attribute.value_bytes().ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let value = cut(value.get()?, bytes);
    check(attribute.0, &value)?;
    let (_, stream) = call.stream(stream)?;
    lock(&stream.attributes).insert(attribute.0.0, value);
    Ok(())
}

fn copy(call: &Call, to: CUstream, from: CUstream) -> Result<()> {
    let ((_, to), (_, from)) = (call.stream(to)?, call.stream(from)?);
    let copied: Attributes = lock(&from.attributes).clone();
    *lock(&to.attributes) = copied;
    Ok(())
}
