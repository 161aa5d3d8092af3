//! From a C call to a Rust function and back.
//!
//! Unsafe code: what is behind the program's pointers.

use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use virtio_spec::cuda::{CUdevice, CUresult, CUstream};

use crate::driver::context::{Context, current};
use crate::driver::queue::Stream;
use crate::driver::{Driver, Result, driver};

/// A C argument as the driver uses it.
pub(super) trait Argument<C> {
    /// Takes the argument.
    ///
    /// # Safety
    /// A pointer is NULL, or valid for what the C function's documentation says, for the length of the call.
    unsafe fn receive(value: C) -> Self;
}

impl<T> Argument<T> for T {
    unsafe fn receive(value: T) -> Self {
        value
    }
}

/// A place for a result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Out<T>(*mut T);

impl<T> Argument<*mut T> for Out<T> {
    unsafe fn receive(value: *mut T) -> Self {
        Self(value)
    }
}

impl<T> Out<T> {
    /// A place of which the contract of `receive` holds.
    pub(super) const fn at(place: *mut T) -> Self {
        Self(place)
    }

    /// The same place for a value of a type that CUDA does not say in its signature.
    pub(super) const fn of<U>(self) -> Out<U> {
        Out(self.0.cast())
    }

    /// Refuses NULL, before anything is done.
    pub(super) fn check(&self) -> Result<()> {
        if self.0.is_null() { Err(CUresult::ERROR_INVALID_VALUE) } else { Ok(()) }
    }

    /// Writes a result that the program must want.
    pub(super) fn put(self, value: T) -> Result<()> {
        self.check()?;
        // SAFETY: not NULL, so a place for a value by the contract of `receive`.
        unsafe { self.0.write(value) };
        Ok(())
    }

    /// Writes a result if the program wants it.
    pub(super) fn put_if_wanted(self, value: T) {
        let _ = self.put(value);
    }
}

/// A value that the program points to.
#[derive(Clone, Copy, Debug)]
pub(super) struct In<T>(*const T);

impl<T> Argument<*const T> for In<T> {
    unsafe fn receive(value: *const T) -> Self {
        Self(value)
    }
}

impl<T> In<T> {
    /// A value that is known to be there for as long as this is used.
    pub(super) const fn of(value: &T) -> Self {
        Self(std::ptr::from_ref(value))
    }

    /// A value behind a pointer of which the contract of `receive` holds.
    pub(super) const fn at(value: *const T) -> Self {
        Self(value)
    }
}

impl<T: Copy> In<T> {
    /// The value; NULL is refused.
    pub(super) fn get(self) -> Result<T> {
        if self.0.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: not NULL, so a value by the contract of `receive`.
        Ok(unsafe { self.0.read() })
    }
}

/// Several values that the program points to.
#[derive(Clone, Copy, Debug)]
pub(super) struct List<T>(*const T);

impl<T> Argument<*const T> for List<T> {
    unsafe fn receive(value: *const T) -> Self {
        Self(value)
    }
}

impl<T: Copy> List<T> {
    /// Values behind a pointer of which the contract of `receive` holds.
    pub(super) const fn at(values: *const T) -> Self {
        Self(values)
    }

    /// The values, of which there may be none.
    pub(super) fn all(self, count: usize) -> Result<Vec<T>> {
        if count == 0 { Ok(Vec::new()) } else { self.get(count) }
    }

    /// The values; NULL is refused, and so is none.
    pub(super) fn get(self, count: usize) -> Result<Vec<T>> {
        if self.0.is_null() || count == 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: not NULL, so `count` values by the contract of `receive`.
        Ok((0..count).map(|index| unsafe { self.0.wrapping_add(index).read() }).collect())
    }
}

/// A text that the program points to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text(*const c_char);

impl Argument<*const c_char> for Text {
    unsafe fn receive(value: *const c_char) -> Self {
        Self(value)
    }
}

impl Text {
    /// The text without its NUL; NULL is refused.
    pub(super) fn bytes(&self) -> Result<&[u8]> {
        if self.0.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: not NULL, so a text by the contract of `receive`.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_bytes())
    }

    /// The text as a file's name.
    pub(super) fn path(&self) -> Result<std::path::PathBuf> {
        use std::os::unix::ffi::OsStrExt;
        Ok(std::ffi::OsStr::from_bytes(self.bytes()?).into())
    }
}

/// What a function that works in a context is told of the call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) context: Arc<Context>,
    /// The null stream is the thread's own.
    pub(super) per_thread: bool,
}

impl Call {
    /// The driver.
    pub(super) fn driver(&self) -> &'static Driver {
        driver()
    }

    /// The stream that the program means, and the context that its work belongs to.
    pub(super) fn stream(&self, handle: CUstream) -> Result<(Arc<Context>, Arc<Stream>)> {
        let stream = self.context.stream(handle, self.per_thread)?;
        if stream.context == self.context.handle {
            return Ok((Arc::clone(&self.context), stream));
        }
        let context = driver().contexts.find(stream.context).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        Ok((context, stream))
    }
}

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Runs a function of the program that must not call the driver.
pub(crate) fn callback(body: impl FnOnce()) {
    IN_CALLBACK.set(true);
    body();
    IN_CALLBACK.set(false);
}

fn guard(body: impl FnOnce() -> Result<()>) -> CUresult {
    match std::panic::catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => CUresult::SUCCESS,
        Ok(Err(error)) => error,
        Err(_) => CUresult::ERROR_UNKNOWN,
    }
}

/// A call that needs nothing.
pub(super) fn free(body: impl FnOnce() -> Result<()>) -> CUresult {
    guard(body)
}

/// A call after `cuInit`.
pub(super) fn init(body: impl FnOnce(&'static Driver) -> Result<()>) -> CUresult {
    guard(|| {
        let driver = driver();
        driver.check_initialized()?;
        if IN_CALLBACK.get() {
            return Err(CUresult::ERROR_NOT_PERMITTED);
        }
        body(driver)
    })
}

/// A call with a current context, whatever its health.
pub(super) fn current_context(per_thread: bool, body: impl FnOnce(&Call) -> Result<()>) -> CUresult {
    init(|driver| body(&Call { context: current(driver)?, per_thread }))
}

/// A call with a current context that has not failed.
pub(super) fn healthy_context(per_thread: bool, body: impl FnOnce(&Call) -> Result<()>) -> CUresult {
    init(|driver| {
        let context = current(driver)?;
        context.health.check()?;
        body(&Call { context, per_thread })
    })
}

/// Refuses a device that there is not.
pub(super) fn check_device(device: CUdevice) -> Result<()> {
    if device == CUdevice(0) { Ok(()) } else { Err(CUresult::ERROR_INVALID_DEVICE) }
}

/// Defines exported functions, and the list of their names and addresses.
///
/// `free`: no condition. `init`: after `cuInit`; the body gets the driver. `current`: with a current context, which
/// may have failed; `context`: with one that has not; the body gets a [`Call`].
macro_rules! exports {
    (@one free $per_thread:literal $name:ident ($($argument:ident: $kind:ty),* $(,)?) $body:ident) => {
        #[unsafe(no_mangle)]
        pub(in crate::api) unsafe extern "C" fn $name($($argument: $kind),*) -> CUresult {
            // SAFETY: the program keeps the contract of the function's documentation.
            crate::api::entry::free(|| self::$body($(unsafe { crate::api::entry::Argument::receive($argument) }),*))
        }
    };
    (@one init $per_thread:literal $name:ident ($($argument:ident: $kind:ty),* $(,)?) $body:ident) => {
        #[unsafe(no_mangle)]
        pub(in crate::api) unsafe extern "C" fn $name($($argument: $kind),*) -> CUresult {
            crate::api::entry::init(|driver| {
                // SAFETY: the program keeps the contract of the function's documentation.
                self::$body(driver, $(unsafe { crate::api::entry::Argument::receive($argument) }),*)
            })
        }
    };
    (@one current $per_thread:literal $name:ident ($($argument:ident: $kind:ty),* $(,)?) $body:ident) => {
        #[unsafe(no_mangle)]
        pub(in crate::api) unsafe extern "C" fn $name($($argument: $kind),*) -> CUresult {
            crate::api::entry::current_context($per_thread, |call| {
                // SAFETY: the program keeps the contract of the function's documentation.
                self::$body(call, $(unsafe { crate::api::entry::Argument::receive($argument) }),*)
            })
        }
    };
    (@one context $per_thread:literal $name:ident ($($argument:ident: $kind:ty),* $(,)?) $body:ident) => {
        #[unsafe(no_mangle)]
        pub(in crate::api) unsafe extern "C" fn $name($($argument: $kind),*) -> CUresult {
            crate::api::entry::healthy_context($per_thread, |call| {
                // SAFETY: the program keeps the contract of the function's documentation.
                self::$body(call, $(unsafe { crate::api::entry::Argument::receive($argument) }),*)
            })
        }
    };
    (@line $need:ident $name:ident [] $arguments:tt $body:ident) => {
        crate::api::entry::exports!(@one $need false $name $arguments $body);
    };
    (@line $need:ident $name:ident [$own:ident] $arguments:tt $body:ident) => {
        crate::api::entry::exports!(@one $need false $name $arguments $body);
        crate::api::entry::exports!(@one $need true $own $arguments $body);
    };
    ($($need:ident $name:ident $(/ $own:ident)? ($($arguments:tt)*) = $body:ident;)*) => {
        $(crate::api::entry::exports!(@line $need $name [$($own)?] ($($arguments)*) $body);)*

        /// Names and addresses of this file's functions.
        pub(in crate::api) static ENTRIES: &[crate::api::lookup::Entry] = &[$(
            crate::api::lookup::Entry { name: stringify!($name), address: $name as *const () },
            $(crate::api::lookup::Entry { name: stringify!($own), address: $own as *const () },)?
        )*];
    };
}
pub(super) use exports;
