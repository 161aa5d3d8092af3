//! Launches. The first one of each shape is answered, so that CUDA's own checks and errors are the program's; equal
//! ones after its success are posted.
//!
//! Unsafe code: reads the application's kernel parameters, as laid out by the function.

use std::ffi::c_void;
use std::sync::PoisonError;

use virtio_spec::cuda::{CUlaunchAttribute, CUlaunchAttributeID, CUlaunchConfig, CUresult};
use virtio_spec::handle::Kind;
use virtio_spec::limits::MAX_LAUNCH_ATTRIBUTES;
use virtio_spec::requests::{ClusterCount, Launch, LaunchAttribute, launch_flags, opcode};

use super::function::{self, Function};
use super::proven;
use crate::memory::copy::is_stream;
use crate::wire::Request;
use crate::{context, handles};

/// `CU_LAUNCH_PARAM_BUFFER_POINTER`, `CU_LAUNCH_PARAM_BUFFER_SIZE`.
const BUFFER_POINTER: usize = 1;
const BUFFER_SIZE: usize = 2;
/// Pairs of `extra` that are looked at.
const MAX_EXTRA: usize = 16;
/// Shapes that are remembered of a function.
const MAX_SHAPES: usize = 64;
/// Blocks of a grid in x, and in y and z, within which only the answered launch's shape decides.
const MAX_GRID: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];

/// A shape in which a function was launched with success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launched {
    context: u64,
    block: [u32; 3],
    shared_bytes: u32,
    attributes: Vec<LaunchAttribute>,
}

/// What to launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) function: u64,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared_bytes: u32,
    pub(crate) stream: u64,
    /// Bits of [`launch_flags`].
    pub(crate) flags: u32,
    pub(crate) attributes: Vec<LaunchAttribute>,
}

impl Order {
    /// What an application's structure says.
    ///
    /// # Safety
    /// `config` is null or a complete structure.
    pub(crate) unsafe fn of_config(config: *const CUlaunchConfig, function: u64) -> Result<Self, CUresult> {
        if config.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: as the caller promises.
        let config = unsafe { config.read() };
        Ok(Self {
            function,
            grid: [config.gridDimX, config.gridDimY, config.gridDimZ],
            block: [config.blockDimX, config.blockDimY, config.blockDimZ],
            shared_bytes: config.sharedMemBytes,
            stream: config.hStream.0,
            flags: launch_flags::EXTENDED,
            // SAFETY: as the caller promises.
            attributes: unsafe { attributes(config.attrs, config.numAttrs) }?,
        })
    }

    /// The request's structures, up to its parameters.
    fn describe(&self, request: &mut Request, parameter_bytes: u32) -> Result<(), CUresult> {
        request.structure(&Launch {
            function: self.function,
            stream: self.stream,
            grid: self.grid,
            block: self.block,
            shared_bytes: self.shared_bytes,
            flags: self.flags,
            attribute_count: u32::try_from(self.attributes.len())
                .map_err(|_| CUresult::ERROR_INVALID_VALUE)?,
            parameter_bytes,
        });
        for attribute in &self.attributes {
            request.structure(attribute);
        }
        Ok(())
    }
}

/// Asks how many clusters, or how large ones, a launch may have: `question` is the request's opcode.
pub(crate) fn clusters(order: &Order, question: u32) -> Result<i32, CUresult> {
    let mut request = Request::start(question, context::required()?)?;
    order.describe(&mut request, 0)?;
    Ok(request.answer()?.take::<ClusterCount>()?.count)
}

/// Appends the application's parameters of a launch to `packed`.
///
/// # Safety
/// `parameters` names each parameter of the function, or `extra` a buffer with all of them.
pub(crate) unsafe fn pack(
    function: &Function,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
    packed: &mut Vec<u8>,
) -> Result<(), CUresult> {
    if function.parameter_bytes == 0 {
        return Ok(());
    }
    let start = packed.len();
    packed.resize(start + function.parameter_bytes as usize, 0);
    let packed = &mut packed[start..];
    if !extra.is_null() {
        if !parameters.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: as the caller promises.
        return unsafe { pack_extra(packed, extra) };
    }
    if parameters.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    for (index, parameter) in function.parameters.iter().enumerate() {
        // SAFETY: an element for each parameter.
        let from = unsafe { parameters.wrapping_add(index).read() };
        let range = parameter.offset as usize..(parameter.offset as usize + parameter.size as usize);
        let Some(to) = packed.get_mut(range) else { return Err(CUresult::ERROR_UNKNOWN) };
        if from.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: the application's parameter has its size.
        unsafe { std::ptr::copy_nonoverlapping(from.cast(), to.as_mut_ptr(), to.len()) };
    }
    Ok(())
}

/// # Safety
/// `extra` is a list of pairs that ends with `CU_LAUNCH_PARAM_END`, and its buffer has its size.
unsafe fn pack_extra(packed: &mut [u8], extra: *mut *mut c_void) -> Result<(), CUresult> {
    let mut buffer: *mut c_void = std::ptr::null_mut();
    let mut size = 0;
    for pair in 0..MAX_EXTRA {
        // SAFETY: the list has not ended yet.
        let key = unsafe { extra.wrapping_add(2 * pair).read() }.addr();
        if key == 0 {
            break;
        }
        // SAFETY: a key other than the end has a value.
        let value = unsafe { extra.wrapping_add(2 * pair + 1).read() };
        match key {
            BUFFER_POINTER => buffer = value,
            BUFFER_SIZE if value.is_null() => return Err(CUresult::ERROR_INVALID_VALUE),
            // SAFETY: the value is the address of a size.
            BUFFER_SIZE => size = unsafe { value.cast::<usize>().read_unaligned() },
            _ => return Err(CUresult::ERROR_INVALID_VALUE),
        }
    }
    if buffer.is_null() || size < packed.len() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: the buffer has at least as many bytes.
    unsafe { std::ptr::copy_nonoverlapping(buffer.cast(), packed.as_mut_ptr(), packed.len()) };
    Ok(())
}

/// Reads the attributes of `cuLaunchKernelEx`.
///
/// # Safety
/// `attributes` has `count` elements.
unsafe fn attributes(
    attributes: *const CUlaunchAttribute,
    count: u32,
) -> Result<Vec<LaunchAttribute>, CUresult> {
    if count > MAX_LAUNCH_ATTRIBUTES || (attributes.is_null() && count > 0) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let mut read = Vec::new();
    for index in 0..count as usize {
        // SAFETY: an element of the array.
        let attribute = unsafe { attributes.wrapping_add(index).read() };
        match attribute.id {
            CUlaunchAttributeID::IGNORE => {}
            id if id.has_event() && !handles::check(&[Kind::Event], attribute.value[0]) => {
                return Err(CUresult::ERROR_INVALID_HANDLE);
            }
            id if id.is_plain() || id.has_event() => {
                read.push(LaunchAttribute { id: id.0, reserved: 0, value: attribute.value });
            }
            _ => return Err(CUresult::ERROR_INVALID_VALUE),
        }
    }
    Ok(read)
}

/// Launches.
///
/// # Safety
/// `parameters` names each parameter of the function, or `extra` a buffer with all of them.
pub(crate) unsafe fn launch(
    order: Order,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Result<(), CUresult> {
    let context = context::required()?;
    let changes = function::changes();
    let known = proven::find(&order, context, changes).filter(|_| is_plain(&order));
    if let Some(function) = &known
        && is_stream(order.stream)
    {
        // SAFETY: as the caller promises.
        return unsafe { request(&order, context, function, parameters, extra) }?.post();
    }
    let function = match known {
        Some(function) => function,
        None => function::with_parameters(order.function)?,
    };
    let shape = Launched {
        context,
        block: order.block,
        shared_bytes: order.shared_bytes,
        attributes: order.attributes.clone(),
    };
    let is_known = function.launched.lock().unwrap_or_else(PoisonError::into_inner).contains(&shape);
    // SAFETY: as the caller promises.
    let request = unsafe { request(&order, context, &function, parameters, extra) }?;
    if is_known && is_plain(&order) && is_stream(order.stream) {
        request.post()?;
    } else {
        drop(request.answer()?);
        let mut launched = function.launched.lock().unwrap_or_else(PoisonError::into_inner);
        if !launched.contains(&shape) {
            if launched.len() >= MAX_SHAPES {
                launched.clear();
            }
            launched.push(shape);
        }
    }
    // If anything has changed since, what is noted here does not hold.
    proven::note(order, context, changes, function);
    Ok(())
}

/// The request for a launch.
///
/// # Safety
/// As for [`launch`].
unsafe fn request(
    order: &Order,
    context: u64,
    function: &Function,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Result<Request, CUresult> {
    let mut request = Request::start(opcode::LAUNCH, context)?.with_room(0);
    order.describe(&mut request, function.parameter_bytes)?;
    // SAFETY: as the caller promises.
    unsafe { pack(function, parameters, extra, request.room_for_bytes()) }?;
    request.pad();
    Ok(request)
}

/// Whether a launch whose shape has succeeded before can only fail for reasons that surface later anyway. A cooperative
/// one can be too large, and an event of an attribute can be gone.
fn is_plain(order: &Order) -> bool {
    let within = order.grid.iter().zip(MAX_GRID).all(|(blocks, most)| (1..=most).contains(blocks));
    let special = |attribute: &LaunchAttribute| {
        matches!(
            CUlaunchAttributeID(attribute.id),
            CUlaunchAttributeID::COOPERATIVE
                | CUlaunchAttributeID::CLUSTER_DIMENSION
                | CUlaunchAttributeID::PREFERRED_CLUSTER_DIMENSION
                | CUlaunchAttributeID::PROGRAMMATIC_EVENT
                | CUlaunchAttributeID::LAUNCH_COMPLETION_EVENT
        )
    };
    within && order.flags & launch_flags::COOPERATIVE == 0 && !order.attributes.iter().any(special)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_names_a_buffer() {
        let mut bytes = [1_u8, 2, 3, 4, 5, 6, 7, 8];
        let mut size = bytes.len();
        let mut extra = [
            std::ptr::without_provenance_mut(BUFFER_POINTER),
            bytes.as_mut_ptr().cast::<c_void>(),
            std::ptr::without_provenance_mut(BUFFER_SIZE),
            (&raw mut size).cast(),
            std::ptr::null_mut(),
        ];
        let mut packed = [0; 6];
        // SAFETY: a complete list.
        assert_eq!(unsafe { pack_extra(&mut packed, extra.as_mut_ptr()) }, Ok(()));
        assert_eq!(packed, [1, 2, 3, 4, 5, 6]);
        // SAFETY: a complete list.
        let short = unsafe { pack_extra(&mut [0; 9], extra.as_mut_ptr()) };
        assert_eq!(short, Err(CUresult::ERROR_INVALID_VALUE));
    }

    #[test]
    fn only_plain_launches_may_be_posted() {
        let order = |grid, flags, attributes| Order {
            function: 1,
            grid,
            block: [32, 1, 1],
            shared_bytes: 0,
            stream: 0,
            flags,
            attributes,
        };
        assert!(is_plain(&order([1, 1, 1], 0, Vec::new())));
        assert!(!is_plain(&order([0, 1, 1], 0, Vec::new())));
        assert!(!is_plain(&order([1, 65_536, 1], 0, Vec::new())));
        assert!(!is_plain(&order([1, 1, 1], launch_flags::COOPERATIVE, Vec::new())));
        let cooperative = LaunchAttribute { id: 2, reserved: 0, value: [1, 0, 0, 0, 0, 0, 0, 0] };
        assert!(!is_plain(&order([1, 1, 1], 0, vec![cooperative])));
    }
}
