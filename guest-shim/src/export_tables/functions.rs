//! The functions of a module, one after the other.

use std::ffi::{c_char, c_void};

use virtio_spec::cuda::{CUcontext, CUfunction, CUmodule, CUresult};
use virtio_spec::handle::Kind;

use super::answered;
use super::table::{Slot, Table};
use crate::code::function;
use crate::handles;

/// Called with the caller's data, a function of the module, and its name.
type Visit = Option<unsafe extern "C" fn(*mut c_void, CUfunction, *const c_char)>;

/// Slot 7, by cuFFT for each module that it loads: visits the module's functions, and returns their number; without a
/// callback it only counts. What the callback gets is the function itself: on driver 580 nobody but the driver reads
/// what it points to (`tests/ground/nodes.c`), and what the callback returns does not matter.
unsafe extern "C" fn visit(_: CUcontext, module: CUmodule, visit: Visit, data: *mut c_void) -> u32 {
    let mut count = 0;
    let result = answered("tools-modules[7]", || {
        if !handles::check(&[Kind::Module], module.0) {
            return Err(CUresult::ERROR_INVALID_HANDLE);
        }
        for handle in function::enumerate(module.0, Kind::Function, u32::MAX)? {
            let found = function::find(handle)?;
            if let Some(visit) = visit {
                // SAFETY: the library's own callback with its own data; the name lives as long as the module.
                unsafe { visit(data, CUfunction(handle), found.name.as_ptr()) };
            }
            count += 1;
        }
        Ok(())
    });
    if result == CUresult::SUCCESS { count } else { 0 }
}

/// The tools' modules.
pub(super) fn table<const TABLE: usize>() -> Table {
    Table::sized::<TABLE>(99, &[(7, visit as *const () as Slot)])
}
