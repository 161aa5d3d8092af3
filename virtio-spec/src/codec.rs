//! How the parameters of a generated call are laid out in a request, and its results in a response.
//!
//! A request's parameters are, in this order:
//! 1. for each parameter that is a number, a handle (given, destroyed or minted) or an optional result, in the
//!    function's order: 8 bytes, sign-extended or zero-extended; an optional result is 1 if it is wanted;
//! 2. for each parameter that is read memory or a name, in the function's order: its bytes, padded to 8. Their number
//!    follows from the row and the numbers before; a name is preceded by its length (8 bytes), its NUL included.
//!
//! A response's results are, in the function's order, the bytes of each written memory, padded to 8. They follow only a
//! result of `CUDA_SUCCESS`.

use crate::cuda::CUresult;

/// A value that travels in 8 bytes.
pub trait Scalar: Copy {
    /// The 8 bytes.
    fn to_u64(self) -> u64;
    /// The value; what does not fit its type is cut off.
    fn from_u64(value: u64) -> Self;
    /// The same of what a guest has sent, to be given to the host's driver.
    ///
    /// # Errors
    /// What the call returns for a value that the driver must not be given.
    fn from_guest(value: u64) -> Result<Self, CUresult> {
        Ok(Self::from_u64(value))
    }
}

/// Bytes that `length` bytes take when padded to 8.
#[must_use]
pub const fn padded(length: usize) -> usize {
    length.div_ceil(8) * 8
}

macro_rules! scalar_numbers {
    ($($number:ty),*) => {$(
        impl Scalar for $number {
            #[expect(clippy::allow_attributes, reason = "each lint fires for some of the types only")]
            #[allow(clippy::cast_sign_loss, clippy::cast_lossless, trivial_numeric_casts, reason = "sign-extension is meant")]
            fn to_u64(self) -> u64 {
                self as u64
            }
            #[expect(clippy::allow_attributes, reason = "each lint fires for some of the types only")]
            #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, trivial_numeric_casts,
                reason = "the upper bytes are the extension")]
            fn from_u64(value: u64) -> Self {
                value as Self
            }
        }
    )*};
}
scalar_numbers!(u8, u16, u32, u64, usize, i32, i64);

impl Scalar for f32 {
    fn to_u64(self) -> u64 {
        u64::from(self.to_bits())
    }
    #[expect(clippy::cast_possible_truncation, reason = "the bits of an f32 are the lower half")]
    fn from_u64(value: u64) -> Self {
        Self::from_bits(value as u32)
    }
}
