//! Memsets of linear memory: posted where the shim knows the whole target, else answered.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use virtio_spec::calls::memsets::rows;
use virtio_spec::cuda::{CUdeviceptr, CUresult, CUstream};

use crate::entry::{Flavour, Row, status};
use crate::memory::{Reach, copy::is_stream, reach};
use crate::wire::Request;

/// Sends a row's numbers; `extent` is the bytes from the first to the last that are set, if they are aligned.
fn memset(
    row: Row,
    target: CUdeviceptr,
    extent: Option<u64>,
    numbers: &[u64],
    stream: Option<CUstream>,
    flavour: Flavour,
) -> CUresult {
    let known = extent.is_some_and(|extent| reach(target.0, extent) == Reach::Device { known: true });
    let posted = known && stream.is_none_or(|stream| is_stream(stream.0));
    let send = || {
        let mut request = Request::new(row, flavour.is_per_thread())?.with_room(0);
        request.scalar(target.0);
        for number in numbers {
            request.scalar(*number);
        }
        if let Some(stream) = stream {
            request.handle(stream.0);
        }
        if posted { request.post() } else { request.answer().map(|_| ()) }
    };
    status(send())
}

/// Bytes of a linear target, unless CUDA would refuse its alignment.
fn linear_extent(target: CUdeviceptr, count: usize, element: u64) -> Option<u64> {
    if target.0.is_multiple_of(element) { (count as u64).checked_mul(element) } else { None }
}

/// Bytes of a target of rows, unless CUDA would refuse its alignment or pitch.
fn rows_extent(target: CUdeviceptr, pitch: usize, width: usize, height: usize, element: u64) -> Option<u64> {
    if !target.0.is_multiple_of(element) || !(pitch as u64).is_multiple_of(element) {
        return None;
    }
    if height > 1 && (pitch as u64) < (width as u64).checked_mul(element)? {
        return None;
    }
    let last = (height as u64).saturating_sub(1).checked_mul(pitch as u64)?;
    last.checked_add((width as u64).checked_mul(element)?)
}

macro_rules! linear {
    ($($name:ident, $async_name:ident, $value:ty;)*) => {$(
        pub(crate) unsafe fn $name(target: CUdeviceptr, value: $value, n: usize, flavour: Flavour) -> CUresult {
            let extent = linear_extent(target, n, size_of::<$value>() as u64);
            memset(const { Row::of(&rows::$name) }, target, extent, &[u64::from(value), n as u64], None, flavour)
        }

        pub(crate) unsafe fn $async_name(
            target: CUdeviceptr,
            value: $value,
            n: usize,
            stream: CUstream,
            flavour: Flavour,
        ) -> CUresult {
            let extent = linear_extent(target, n, size_of::<$value>() as u64);
            memset(const { Row::of(&rows::$async_name) }, target, extent, &[u64::from(value), n as u64], Some(stream), flavour)
        }
    )*};
}

macro_rules! rectangles {
    ($($name:ident, $async_name:ident, $value:ty;)*) => {$(
        pub(crate) unsafe fn $name(
            target: CUdeviceptr,
            pitch: usize,
            value: $value,
            width: usize,
            height: usize,
            flavour: Flavour,
        ) -> CUresult {
            let extent = rows_extent(target, pitch, width, height, size_of::<$value>() as u64);
            let numbers = [pitch as u64, u64::from(value), width as u64, height as u64];
            memset(const { Row::of(&rows::$name) }, target, extent, &numbers, None, flavour)
        }

        pub(crate) unsafe fn $async_name(
            target: CUdeviceptr,
            pitch: usize,
            value: $value,
            width: usize,
            height: usize,
            stream: CUstream,
            flavour: Flavour,
        ) -> CUresult {
            let extent = rows_extent(target, pitch, width, height, size_of::<$value>() as u64);
            let numbers = [pitch as u64, u64::from(value), width as u64, height as u64];
            memset(const { Row::of(&rows::$async_name) }, target, extent, &numbers, Some(stream), flavour)
        }
    )*};
}

linear! {
    cuMemsetD8_v2, cuMemsetD8Async, u8;
    cuMemsetD16_v2, cuMemsetD16Async, u16;
    cuMemsetD32_v2, cuMemsetD32Async, u32;
}

rectangles! {
    cuMemsetD2D8_v2, cuMemsetD2D8Async, u8;
    cuMemsetD2D16_v2, cuMemsetD2D16Async, u16;
    cuMemsetD2D32_v2, cuMemsetD2D32Async, u32;
}
