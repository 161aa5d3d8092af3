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

/// Slot 7, by cuFFT for each module that it loads: visits the module's functions. What the callback gets is the
/// function itself: on driver 580 nobody but the driver reads what it points to (`tests/ground/nodes.c`).
unsafe extern "C" fn visit(_: CUcontext, module: CUmodule, visit: Visit, data: *mut c_void) -> CUresult {
    answered("tools-modules[7]", || {
        let visit = visit.ok_or(CUresult::ERROR_INVALID_VALUE)?;
        if !handles::check(&[Kind::Module], module.0) {
            return Err(CUresult::ERROR_INVALID_HANDLE);
        }
        for handle in function::enumerate(module.0, Kind::Function, u32::MAX)? {
            let found = function::find(handle)?;
            // SAFETY: the library's own callback with its own data; the name lives as long as the module.
            unsafe { visit(data, CUfunction(handle), found.name.as_ptr()) };
        }
        Ok(())
    })
}

/// The tools' modules.
pub(super) fn table<const TABLE: usize>() -> Table {
    Table::sized::<TABLE>(99, &[(7, visit as *const () as Slot)])
}
