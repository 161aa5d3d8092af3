//! Making memory pools, and their attributes.
//!
//! Unsafe code: calls of the driver.

use virtio_spec::{
    codec::Scalar,
    cuda::{CUmemAllocationType, CUmemPool_attribute, CUmemPoolProps, CUmemoryPool, CUresult},
    handle::Kind,
    requests::{PoolAttribute, PoolCreate, PoolValue},
};

use super::{
    Invocation,
    handles::Object,
    ok,
    virtual_memory::{handle_types, location},
};

pub(super) fn create(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: PoolCreate = call.structure()?;
    call.end_of_parameters()?;
    call.check_free(Kind::Pool, request.pool)?;
    let given = request.properties;
    if given.reserved != 0 || given.compression != 0 || given.rdma != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let properties = CUmemPoolProps {
        allocType: CUmemAllocationType::PINNED,
        handleTypes: handle_types(given.handle_types)?,
        location: location(given.device)?,
        win32SecurityAttributes: std::ptr::null_mut(),
        maxSize: usize::try_from(request.max_bytes).map_err(|_| CUresult::ERROR_INVALID_VALUE)?,
        usage: given.usage,
        reserved: [0; 54],
    };
    let create = call.driver().pools.cuMemPoolCreate.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let mut made = CUmemoryPool::default();
    // SAFETY: room for one handle; the structure holds no pointer.
    ok(call.in_driver(|| unsafe { create(&raw mut made, &raw const properties) }))?;
    let object = Object { raw: made.to_u64(), parent: 0, context: 0 };
    call.session().handles.insert(Kind::Pool, request.pool, object)
}

pub(super) fn attribute(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: PoolAttribute = call.structure()?;
    call.end_of_parameters()?;
    let attribute = CUmemPool_attribute(request.attribute);
    // The size of the value follows from the attribute, so that an unknown one is never passed on.
    if attribute.c_name().is_none() || request.set > 1 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let pool: CUmemoryPool = Scalar::from_u64(call.handle(Kind::Pool, request.pool)?);
    let functions = &call.driver().pools;
    let function =
        if request.set == 1 { functions.cuMemPoolSetAttribute } else { functions.cuMemPoolGetAttribute };
    let function = function.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    // Room for the larger kind of value; an `int` is its lower half.
    let mut value = request.value;
    // SAFETY: eight bytes, at least as many as the attribute has.
    ok(call.in_driver(|| unsafe { function(pool, attribute, (&raw mut value).cast()) }))?;
    if attribute.is_int() {
        value = i32::from_u64(value).to_u64();
    }
    call.put(&PoolValue { value })
}
