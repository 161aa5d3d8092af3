//! Tensor maps, whose bits only the driver of the device knows how to compute.
//!
//! Unsafe code: calls of the driver.

use virtio_spec::{
    cuda::{
        CUresult, CUtensorMap, CUtensorMapDataType, CUtensorMapFloatOOBfill, CUtensorMapIm2ColWideMode,
        CUtensorMapInterleave, CUtensorMapL2promotion, CUtensorMapSwizzle,
    },
    requests::{TENSOR_DIMENSIONS, TensorMap, TensorMapBits, TensorMapForm},
};

use super::{Invocation, host_memory::pointer, ok};

pub(super) fn encode(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: TensorMap = call.structure()?;
    call.end_of_parameters()?;
    let form = TensorMapForm::from_u32(request.form).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    // The driver reads as many elements of each array as the rank says.
    let rank_fits = usize::try_from(request.rank).is_ok_and(|rank| (1..=TENSOR_DIMENSIONS).contains(&rank));
    if form != TensorMapForm::ReplaceAddress && !rank_fits {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    call.set_current()?;
    let functions = &call.driver().batches;
    let (data_type, rank) = (CUtensorMapDataType(request.data_type), request.rank);
    let address = pointer(request.address);
    let (dimensions, strides) = (request.dimensions.as_ptr(), request.strides.as_ptr());
    let steps = request.element_strides.as_ptr();
    let (interleave, swizzle) =
        (CUtensorMapInterleave(request.interleave), CUtensorMapSwizzle(request.swizzle));
    let promotion = CUtensorMapL2promotion(request.l2_promotion);
    let fill = CUtensorMapFloatOOBfill(request.fill);
    let mut map = CUtensorMap { opaque: request.bits };
    let place = &raw mut map;
    let missing = CUresult::ERROR_NOT_SUPPORTED;
    // SAFETY (of the four calls below): the map and the arrays are the request's copy, with room for the greatest rank;
    // the address is a number that the driver does not look behind.
    let result = match form {
        TensorMapForm::Tiled => {
            let function = functions.cuTensorMapEncodeTiled.ok_or(missing)?;
            let sizes = request.box_dimensions.as_ptr();
            // SAFETY: as above.
            call.in_driver(|| unsafe {
                function(
                    place, data_type, rank, address, dimensions, strides, sizes, steps, interleave, swizzle,
                    promotion, fill,
                )
            })
        }
        TensorMapForm::Im2col => {
            let function = functions.cuTensorMapEncodeIm2col.ok_or(missing)?;
            let (lower, upper) = (request.lower_corner.as_ptr(), request.upper_corner.as_ptr());
            // SAFETY: as above.
            call.in_driver(|| unsafe {
                function(
                    place,
                    data_type,
                    rank,
                    address,
                    dimensions,
                    strides,
                    lower,
                    upper,
                    request.channels,
                    request.pixels,
                    steps,
                    interleave,
                    swizzle,
                    promotion,
                    fill,
                )
            })
        }
        TensorMapForm::Im2colWide => {
            let function = functions.cuTensorMapEncodeIm2colWide.ok_or(missing)?;
            let ([lower, ..], [upper, ..]) = (request.lower_corner, request.upper_corner);
            let mode = CUtensorMapIm2ColWideMode(request.mode);
            // SAFETY: as above.
            call.in_driver(|| unsafe {
                function(
                    place,
                    data_type,
                    rank,
                    address,
                    dimensions,
                    strides,
                    lower,
                    upper,
                    request.channels,
                    request.pixels,
                    steps,
                    interleave,
                    mode,
                    swizzle,
                    promotion,
                    fill,
                )
            })
        }
        TensorMapForm::ReplaceAddress => {
            let function = functions.cuTensorMapReplaceAddress.ok_or(missing)?;
            // SAFETY: as above.
            call.in_driver(|| unsafe { function(place, address) })
        }
    };
    ok(result)?;
    call.put(&TensorMapBits { bits: map.opaque })
}
