//! Functions and kernels: looking them up, with everything that the guest asks of them later.
//!
//! Unsafe code: calls of the driver.

use virtio_spec::{
    codec::Scalar,
    cuda::{CUdevice, CUfunction, CUfunction_attribute, CUkernel, CUlibrary, CUmodule, CUresult},
    handle::{Handle, Kind},
    limits,
    requests::{FUNCTION_ATTRIBUTES, FunctionInfo, GetFunction, Parameter},
};
use zerocopy::FromZeros as _;

use super::{Invocation, ok};

/// What was looked up.
#[derive(Clone, Copy)]
enum Found {
    Function(CUfunction),
    Kernel(CUkernel),
}

pub(super) fn get(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: GetFunction = call.structure()?;
    let name = call.text_of(u64::from(request.name_bytes));
    let parent = Handle::from_u64(request.parent).ok_or(CUresult::ERROR_INVALID_HANDLE)?.kind;
    let raw = call.handle(parent, request.parent)?;
    let modules = &call.driver().modules;
    let (kind, found) = match parent {
        Kind::Module => {
            let name = name?;
            call.end_of_parameters()?;
            call.check_free(Kind::Function, request.function)?;
            let get = modules.cuModuleGetFunction.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
            call.set_current()?;
            let mut function = CUfunction::default();
            // SAFETY: a live module, a NUL-terminated name, room for one handle.
            let get = || unsafe { get(&raw mut function, CUmodule::from_u64(raw), name.as_ptr()) };
            ok(call.relaxed(|| call.in_driver(get)))?;
            (Kind::Function, Found::Function(function))
        }
        Kind::Library => {
            let name = name?;
            call.end_of_parameters()?;
            call.check_free(Kind::Kernel, request.function)?;
            let get = modules.cuLibraryGetKernel.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
            if call.context() != 0 {
                // Not needed for the kernel itself; the driver tells more about it inside a context.
                call.set_current()?;
            }
            let mut kernel = CUkernel::default();
            // SAFETY: a live library, a NUL-terminated name, room for one handle.
            let get = || unsafe { get(&raw mut kernel, CUlibrary::from_u64(raw), name.as_ptr()) };
            ok(call.relaxed(|| call.in_driver(get)))?;
            (Kind::Kernel, Found::Kernel(kernel))
        }
        Kind::Kernel => {
            if request.name_bytes != 0 {
                return Err(CUresult::ERROR_INVALID_VALUE);
            }
            call.end_of_parameters()?;
            call.check_free(Kind::Function, request.function)?;
            let get = modules.cuKernelGetFunction.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
            call.set_current()?;
            let mut function = CUfunction::default();
            // SAFETY: a live kernel, room for one handle.
            let get = || unsafe { get(&raw mut function, CUkernel::from_u64(raw)) };
            ok(call.relaxed(|| call.in_driver(get)))?;
            (Kind::Function, Found::Function(function))
        }
        _ => return Err(CUresult::ERROR_INVALID_HANDLE),
    };
    let (information, parameters) = describe(call, found)?;
    let raw = match found {
        Found::Function(function) => function.to_u64(),
        Found::Kernel(kernel) => kernel.to_u64(),
    };
    call.insert_child(kind, request.function, raw, request.parent)?;
    call.put(&information)?;
    call.put_values(&parameters)
}

/// Attributes and parameter layout.
fn describe(call: &Invocation<'_>, found: Found) -> Result<(FunctionInfo, Vec<Parameter>), CUresult> {
    let mut information = FunctionInfo::new_zeroed();
    let functions = &call.driver().functions;
    for (index, slot) in (0_u32..).zip(information.attributes.iter_mut()).take(FUNCTION_ATTRIBUTES) {
        let attribute = CUfunction_attribute(index);
        let mut value = 0_i32;
        let result = match found {
            Found::Function(function) => functions.cuFuncGetAttribute.map(|get| {
                // SAFETY: a live function, room for one number.
                call.in_driver(|| unsafe { get(&raw mut value, attribute, function) })
            }),
            Found::Kernel(kernel) => functions.cuKernelGetAttribute.map(|get| {
                // SAFETY: a live kernel, room for one number.
                call.in_driver(|| unsafe { get(&raw mut value, attribute, kernel, CUdevice(0)) })
            }),
        };
        if result == Some(CUresult::SUCCESS) {
            *slot = value;
            information.attributes_known |= 1_u32.wrapping_shl(index);
        }
    }
    let mut parameters = Vec::new();
    while parameters.len() < limits::MAX_KERNEL_PARAMETERS as usize {
        let (mut offset, mut size) = (0_usize, 0_usize);
        let index = parameters.len();
        let result = match found {
            Found::Function(function) => {
                let get = functions.cuFuncGetParamInfo.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
                // SAFETY: a live function, room for two numbers.
                call.in_driver(|| unsafe { get(function, index, &raw mut offset, &raw mut size) })
            }
            Found::Kernel(kernel) => {
                let get = functions.cuKernelGetParamInfo.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
                // SAFETY: a live kernel, room for two numbers.
                call.in_driver(|| unsafe { get(kernel, index, &raw mut offset, &raw mut size) })
            }
        };
        if result != CUresult::SUCCESS {
            break;
        }
        let fits = |value: usize| u32::try_from(value).map_err(|_| CUresult::ERROR_INVALID_VALUE);
        let parameter = Parameter { offset: fits(offset)?, size: fits(size)? };
        information.parameter_bytes =
            information.parameter_bytes.max(parameter.offset.saturating_add(parameter.size));
        parameters.push(parameter);
    }
    information.parameter_count = u32::try_from(parameters.len()).unwrap_or(0);
    Ok((information, parameters))
}
