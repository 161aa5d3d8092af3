//! What holds for every call: results, pointers of the caller, panics.
//!
//! Unsafe code: pointers that programs pass, which NVML's contract says are null or valid.

use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::abi::Error;
use crate::state::{self, Session};

/// Where the caller wants something to be written, or has it lying. Only C callers make these.
#[repr(transparent)]
pub(crate) struct Place<T>(*mut T);

impl<T> Clone for Place<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Place<T> {}

impl<T: Copy> Place<T> {
    /// Refuses a null pointer.
    pub(crate) fn check(self) -> Result<Self, Error> {
        if self.0.is_null() { Err(Error::INVALID_ARGUMENT) } else { Ok(self) }
    }

    /// The structure's first field, which says which form of it the caller means.
    pub(crate) fn of<S>(structure: Place<S>) -> Self {
        Self(structure.0.cast())
    }

    /// Whether it is null.
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Writes a value.
    pub(crate) fn put(self, value: T) -> Result<(), Error> {
        let place = self.check()?.0;
        // SAFETY: not null, so room for a value, by NVML's contract.
        unsafe { place.write_unaligned(value) };
        Ok(())
    }

    /// Writes the value at `index` of an array that the caller says is long enough.
    pub(crate) fn put_at(self, index: usize, value: T) -> Result<(), Error> {
        let place = self.check()?.0.wrapping_add(index);
        // SAFETY: within the array, as the caller of this function has checked against the length it was given.
        unsafe { place.write_unaligned(value) };
        Ok(())
    }

    /// What lies there.
    pub(crate) fn get(self) -> Result<T, Error> {
        let place = self.check()?.0;
        // SAFETY: not null, so a value, by NVML's contract.
        Ok(unsafe { place.read_unaligned() })
    }

    /// What lies at `index` of an array that the caller says is long enough.
    pub(crate) fn get_at(self, index: usize) -> Result<T, Error> {
        let place = self.check()?.0.wrapping_add(index);
        // SAFETY: as in `put_at`.
        Ok(unsafe { place.read_unaligned() })
    }
}

impl Place<c_char> {
    /// Writes a text with its NUL into `length` bytes.
    pub(crate) fn put_text(self, length: u32, text: &str) -> Result<(), Error> {
        self.check()?;
        if text.len() >= length as usize {
            return Err(Error::INSUFFICIENT_SIZE);
        }
        for (index, byte) in text.bytes().chain([0]).enumerate() {
            self.put_at(index, byte.cast_signed())?;
        }
        Ok(())
    }

    /// The text that lies there.
    pub(crate) fn text(self) -> Result<String, Error> {
        let place = self.check()?.0;
        // SAFETY: not null, so a text with a NUL, by NVML's contract.
        Ok(unsafe { CStr::from_ptr(place) }.to_string_lossy().into_owned())
    }
}

/// Runs a call's body, of a library that must be initialised.
pub(crate) fn call(body: impl FnOnce(&Session) -> Result<(), Error>) -> u32 {
    always(|| body(&*state::session()?))
}

/// Runs a call's body. A panic ends in the library: the program's frames know nothing of it.
pub(crate) fn always(body: impl FnOnce() -> Result<(), Error>) -> u32 {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => error.number(),
        Err(_) => Error::UNKNOWN.number(),
    }
}

/// The library's functions: `[names] (parameters) = |session| body;`. The first name is the newest form.
macro_rules! nvml {
    ($($(#[$doc:meta])* [$($name:ident)+] $parameters:tt = $body:expr;)*) => {
        $($(nvml! { @one $name $parameters $body })+)*
    };
    (@one $name:ident ($($parameter:ident: $type:ty),* $(,)?) $body:expr) => {
        #[allow(non_snake_case, reason = "NVML's own names")]
        #[unsafe(no_mangle)]
        extern "C" fn $name($($parameter: $type),*) -> u32 {
            $crate::entry::call($body)
        }
    };
}
