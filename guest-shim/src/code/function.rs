//! Functions and kernels: looked up once, with their attributes and the layout of their parameters.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use virtio_spec::cuda::CUresult;
use virtio_spec::handle::{Handle, Kind};
use virtio_spec::limits::{MAX_KERNEL_PARAMETERS, MAX_NAME_BYTES, MAX_RESPONSE_BYTES};
use virtio_spec::requests::{
    Enumerate, FUNCTION_ATTRIBUTES, FunctionInfo, GetFunction, Names, Parameter, opcode,
};

use super::launch::Launched;
use super::occupancy;
use crate::wire::Request;
use crate::{context, handles};

/// Bytes of the longest answer: the information and every parameter.
#[expect(clippy::cast_possible_truncation, reason = "the sizes of two small structures")]
const ROOM: u32 = size_of::<FunctionInfo>() as u32 + MAX_KERNEL_PARAMETERS * size_of::<Parameter>() as u32;

/// What is known of a function or kernel.
#[derive(Debug)]
pub(crate) struct Function {
    /// Its module, library, or the kernel that it is the function of.
    pub(crate) parent: u64,
    /// Context in which it was looked up; 0 for a kernel.
    context: u64,
    /// Its name, empty if the program never said it.
    pub(crate) name: CString,
    /// Where its parameters lie.
    pub(crate) parameters: Vec<Parameter>,
    /// Bytes of all parameters.
    pub(crate) parameter_bytes: u32,
    attributes: Mutex<Attributes>,
    /// Shapes in which it was launched with success, so that equal launches need no answer.
    pub(crate) launched: Mutex<Vec<Launched>>,
    pub(super) occupancy: Mutex<occupancy::Known>,
}

#[derive(Clone, Copy, Debug)]
struct Attributes {
    /// Bit `i`: the value of attribute `i` is known.
    known: u32,
    /// Bit `i`: attribute `i` has that value because the program set it.
    set: u32,
    values: [i32; FUNCTION_ATTRIBUTES],
}

#[derive(Default)]
struct Functions {
    by_handle: HashMap<u64, Arc<Function>>,
    /// Parent, context and name (none: the kernel's own function) to handle.
    by_name: HashMap<(u64, u64, CString), u64>,
}

static FUNCTIONS: RwLock<Option<Functions>> = RwLock::new(None);
/// Counts up whenever a function goes, or what decides about launches changes.
static CHANGES: AtomicU64 = AtomicU64::new(0);
thread_local! {
    /// The function that the thread found last, and [`CHANGES`] then.
    static RECENT: RefCell<Option<(u64, u64, Arc<Function>)>> = const { RefCell::new(None) };
}
/// Modules of libraries: library and context to module.
static LIBRARY_MODULES: Mutex<Option<HashMap<(u64, u64), u64>>> = Mutex::new(None);

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Function {
    /// An attribute, if it is known and cannot have changed.
    pub(crate) fn attribute(&self, index: u32) -> Option<i32> {
        let attributes = lock(&self.attributes);
        if index >= u32::BITS || attributes.known >> index & 1 == 0 {
            return None;
        }
        attributes.values.get(index as usize).copied()
    }

    /// Whether the program has set an attribute to this value already.
    pub(crate) fn is_set_to(&self, index: u32, value: i32) -> bool {
        let is_set = index < u32::BITS && lock(&self.attributes).set >> index & 1 != 0;
        is_set && self.attribute(index) == Some(value)
    }

    /// Notes what an attribute is, as the device has answered.
    pub(crate) fn attribute_is(&self, index: u32, value: i32) {
        let mut attributes = lock(&self.attributes);
        if let Some(known) = attributes.values.get_mut(index as usize).filter(|_| index < u32::BITS) {
            *known = value;
            attributes.known |= 1 << index;
        }
    }

    /// Notes the new value of an attribute, or that it is not known any more, and forgets what the old one decided about
    /// launches.
    fn attribute_was_set(&self, index: u32, value: Option<i32>) {
        if index < u32::BITS {
            let mut attributes = lock(&self.attributes);
            attributes.known &= !(1 << index);
            attributes.set &= !(1 << index);
        }
        if let Some(value) = value {
            self.attribute_is(index, value);
            lock(&self.attributes).set |= 1_u32.checked_shl(index).unwrap_or(0);
        }
        lock(&self.launched).clear();
        changed();
    }
}

/// A number that changes whenever a function goes, or what decides about launches changes.
pub(super) fn changes() -> u64 {
    CHANGES.load(Ordering::Acquire)
}

/// What decides about launches has changed, such as a preference for shared memory.
pub(crate) fn changed() {
    CHANGES.fetch_add(1, Ordering::Release);
}

/// The function or kernel with this handle.
pub(crate) fn find(handle: u64) -> Result<Arc<Function>, CUresult> {
    let changes = changes();
    let recent = |found: &RefCell<Option<(u64, u64, Arc<Function>)>>| {
        let found = found.try_borrow().ok()?;
        let (known, since, function) = found.as_ref()?;
        (*known == handle && *since == changes).then(|| Arc::clone(function))
    };
    if let Some(function) = RECENT.try_with(recent).ok().flatten() {
        return Ok(function);
    }
    let functions = FUNCTIONS.read().unwrap_or_else(PoisonError::into_inner);
    let function = functions.as_ref().and_then(|functions| functions.by_handle.get(&handle).cloned());
    let function = function.ok_or(CUresult::ERROR_INVALID_HANDLE)?;
    // A thread without its locals searches each time.
    let _ = RECENT.try_with(|found| found.replace(Some((handle, changes, Arc::clone(&function)))));
    Ok(function)
}

/// The function or kernel with this handle, with the layout of its parameters. The host's driver tells a kernel's layout
/// only once the kernel is loaded in a context, so a kernel without one is looked up again as a function of the current
/// context.
pub(crate) fn with_parameters(handle: u64) -> Result<Arc<Function>, CUresult> {
    let found = find(handle)?;
    let is_kernel = Handle::from_u64(handle).is_some_and(|handle| handle.kind == Kind::Kernel);
    if !is_kernel || !found.parameters.is_empty() || context::current().is_none() {
        return Ok(found);
    }
    find(get(handle, Kind::Function, None)?)
}

/// Notes that an attribute of a function or kernel was set, to this value if that succeeded. It is not known any more of
/// the kernel's functions.
pub(crate) fn attribute_was_set(handle: u64, index: u32, value: Option<i32>) {
    let functions = FUNCTIONS.read().unwrap_or_else(PoisonError::into_inner);
    let all = functions.iter().flat_map(|functions| functions.by_handle.iter());
    for (other, function) in all.filter(|(other, function)| **other == handle || function.parent == handle) {
        function.attribute_was_set(index, value.filter(|_| *other == handle));
    }
}

/// Looks a function of a module or a kernel of a library up by name, or the function of a kernel without one.
pub(crate) fn get(parent: u64, kind: Kind, name: Option<&CStr>) -> Result<u64, CUresult> {
    let context = if kind == Kind::Kernel { 0 } else { context::required()? };
    let name_bytes = name.map_or(0, |name| name.to_bytes_with_nul().len());
    if name_bytes > MAX_NAME_BYTES as usize {
        return Err(CUresult::ERROR_NOT_FOUND);
    }
    let key = (parent, context, name.map(CStr::to_owned).unwrap_or_default());
    {
        let functions = FUNCTIONS.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = functions.as_ref().and_then(|functions| functions.by_name.get(&key)) {
            return Ok(*handle);
        }
    }
    let handle = handles::mint(kind)?;
    let function = match ask(parent, handle, context, key.2.clone(), name_bytes) {
        Ok(function) => function,
        Err(error) => {
            handles::release(kind, handle);
            return Err(error);
        }
    };
    let mut functions = FUNCTIONS.write().unwrap_or_else(PoisonError::into_inner);
    let functions = functions.get_or_insert_default();
    functions.by_handle.insert(handle, Arc::new(function));
    functions.by_name.insert(key, handle);
    Ok(handle)
}

fn ask(
    parent: u64,
    function: u64,
    context: u64,
    name: CString,
    name_bytes: usize,
) -> Result<Function, CUresult> {
    let current = if context == 0 { context::current().unwrap_or(0) } else { context };
    let mut request = Request::start(opcode::GET_FUNCTION, current)?.with_room(ROOM);
    let length = u32::try_from(name_bytes).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
    request.structure(&GetFunction { parent, function, name_bytes: length, reserved: 0 });
    if name_bytes > 0 {
        request.slice(name.as_bytes_with_nul());
    }
    let mut response = request.answer()?;
    let info = response.take::<FunctionInfo>()?;
    if info.parameter_count > MAX_KERNEL_PARAMETERS {
        return Err(CUresult::ERROR_UNKNOWN);
    }
    let parameters =
        (0..info.parameter_count).map(|_| response.take::<Parameter>()).collect::<Result<Vec<_>, _>>()?;
    let fits = |parameter: &Parameter| {
        parameter.offset.checked_add(parameter.size).is_some_and(|end| end <= info.parameter_bytes)
    };
    if !parameters.iter().all(fits) {
        return Err(CUresult::ERROR_UNKNOWN);
    }
    Ok(Function {
        parent,
        context,
        name,
        parameters,
        parameter_bytes: info.parameter_bytes,
        attributes: Mutex::new(Attributes { known: info.attributes_known, set: 0, values: info.attributes }),
        launched: Mutex::new(Vec::new()),
        occupancy: Mutex::default(),
    })
}

/// Names that one request asks for: together they fit a response, unless names are very long.
const NAMES_AT_ONCE: u32 = 256;
/// Bytes of an answer with names: half of what a response may have, which leaves room for its header.
const NAMES_ROOM: u32 = MAX_RESPONSE_BYTES / 2;

/// Handles of the first `count` functions of a module, or kernels of a library; fewer if it has fewer.
pub(crate) fn enumerate(parent: u64, kind: Kind, count: u32) -> Result<Vec<u64>, CUresult> {
    let mut found = Vec::new();
    loop {
        let skip = u32::try_from(found.len()).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
        let wanted = count.saturating_sub(skip).min(NAMES_AT_ONCE);
        if wanted == 0 {
            return Ok(found);
        }
        let names = names(parent, skip, wanted)?;
        if names.is_empty() {
            return Ok(found);
        }
        for name in names {
            found.push(get(parent, kind, Some(&name))?);
        }
    }
}

fn names(parent: u64, skip: u32, count: u32) -> Result<Vec<CString>, CUresult> {
    let current = context::current().unwrap_or(0);
    let mut request = Request::start(opcode::ENUMERATE, current)?.with_room(NAMES_ROOM);
    request.structure(&Enumerate { parent, skip, count });
    let mut response = request.answer()?;
    let answer = response.take::<Names>()?;
    let text = response.take_slice(answer.length as usize)?;
    let names = text.split_inclusive(|byte| *byte == 0).take(answer.count as usize);
    names
        .map(|name| CStr::from_bytes_with_nul(name).map(CStr::to_owned).map_err(|_| CUresult::ERROR_UNKNOWN))
        .collect()
}

fn retain(keep: impl Fn(u64, &Function) -> bool) {
    let mut functions = FUNCTIONS.write().unwrap_or_else(PoisonError::into_inner);
    let Some(functions) = functions.as_mut() else { return };
    functions.by_handle.retain(|handle, function| {
        let stays = keep(*handle, function);
        if !stays && let Some(parts) = Handle::from_u64(*handle) {
            handles::release(parts.kind, *handle);
        }
        stays
    });
    let live = &functions.by_handle;
    functions.by_name.retain(|_, handle| live.contains_key(handle));
    changed();
}

/// Forgets what came from a module or library that is gone.
pub(crate) fn forget_parent(parent: u64) {
    let kernels: Vec<u64> = {
        let functions = FUNCTIONS.read().unwrap_or_else(PoisonError::into_inner);
        let all = functions.iter().flat_map(|functions| functions.by_handle.iter());
        all.filter(|(_, function)| function.parent == parent).map(|(handle, _)| *handle).collect()
    };
    retain(|_, function| function.parent != parent && !kernels.contains(&function.parent));
    lock(&LIBRARY_MODULES).get_or_insert_default().retain(|(library, _), module| {
        if *library == parent {
            handles::release(Kind::Module, *module);
        }
        *library != parent
    });
}

/// Forgets what was looked up in a context that is gone.
pub(super) fn forget_context(context: u64) {
    retain(|_, function| function.context != context);
    lock(&LIBRARY_MODULES).get_or_insert_default().retain(|(_, other), _| *other != context);
}

/// The module of a library in the current context, asked for once.
pub(crate) fn library_module(
    library: u64,
    ask: impl FnOnce() -> Result<u64, CUresult>,
) -> Result<u64, CUresult> {
    let key = (library, context::required()?);
    if let Some(module) = lock(&LIBRARY_MODULES).get_or_insert_default().get(&key) {
        return Ok(*module);
    }
    let module = ask()?;
    lock(&LIBRARY_MODULES).get_or_insert_default().insert(key, module);
    Ok(module)
}
