//! Pieces of managed variables that the guest process has changed, or wants to see.
//!
//! They are copied in a stream of their own and waited for there, so that nothing else of the GPU's work holds them up, and
//! nothing is held up by them: a kernel may be running that uses the rest of a variable.
//!
//! Unsafe code: calls of the driver, addresses inside session memory.

use virtio_spec::{
    codec::Scalar,
    cuda::{CUdeviceptr, CUlibrary, CUpointer_attribute, CUresult, CUstream},
    handle::Kind,
    limits::MAX_EXCHANGE_PIECES,
    requests::{Exchange, ExchangePiece, ManagedAnswer, ManagedQuery, ManagedRead},
};

use super::{Invocation, copy::staging, host_memory::pointer, ok};

pub(super) fn is_managed(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: ManagedQuery = call.structure()?;
    call.end_of_parameters()?;
    // Which context does not matter to the question.
    let _result = call.set_current();
    let get = call.driver().memory.cuPointerGetAttribute.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let mut managed = 0_u32;
    let place = (&raw mut managed).cast();
    // SAFETY: room for the attribute's 4 bytes; CUDA checks the address.
    let told = unsafe { get(place, CUpointer_attribute::IS_MANAGED, CUdeviceptr::from_u64(request.address)) };
    let managed = u32::from(told == CUresult::SUCCESS && managed != 0);
    call.put(&ManagedAnswer { managed, reserved: 0 })
}

pub(super) fn read_managed(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: ManagedRead = call.structure()?;
    let name = call.text_of(u64::from(request.name_bytes))?;
    call.end_of_parameters()?;
    let to = staging(call, 0, request.length)?;
    let library: CUlibrary = Scalar::from_u64(call.handle(Kind::Library, request.library)?);
    let get = call.driver().modules.cuLibraryGetManaged.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let (mut address, mut bytes) = (CUdeviceptr::default(), 0_usize);
    // SAFETY: places of this function, a library of the session, and a name that ends.
    ok(unsafe { get(&raw mut address, &raw mut bytes, library, name.as_ptr()) })?;
    let end = request.offset.checked_add(request.length).and_then(|end| usize::try_from(end).ok());
    let is_inside = |length: &usize| *length > 0 && end.is_some_and(|end| end <= bytes);
    let length = usize::try_from(request.length).ok().filter(is_inside);
    let length = length.ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let from = address.to_u64().checked_add(request.offset).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    // SAFETY: bytes of the variable, which the host reads as kernels do, and as many of staging.
    unsafe { std::ptr::copy_nonoverlapping(pointer(from).cast::<u8>(), to.cast(), length) };
    Ok(())
}

pub(super) fn run(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: Exchange = call.structure()?;
    if request.count > MAX_EXCHANGE_PIECES || request.to_device > 1 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let pieces: Vec<ExchangePiece> = call.values(u64::from(request.count))?;
    call.end_of_parameters()?;
    // All of them are checked before any is copied.
    let mut at = 0_u64;
    let mut checked = Vec::with_capacity(pieces.len());
    for piece in &pieces {
        let length = usize::try_from(piece.length).ok().filter(|length| *length > 0);
        let length = length.ok_or(CUresult::ERROR_INVALID_VALUE)?;
        checked.push((CUdeviceptr::from_u64(piece.address), staging(call, at, piece.length)?, length));
        at = at.checked_add(piece.length).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    }
    call.set_current()?;
    let stream: CUstream = Scalar::from_u64(call.handle(Kind::Stream, request.stream)?);
    let copies = &call.driver().copies;
    let to_device = copies.cuMemcpyHtoDAsync_v2.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let from_device = copies.cuMemcpyDtoHAsync_v2.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let synchronize = call.driver().streams.cuStreamSynchronize.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let copy_all = || {
        for (address, memory, length) in &checked {
            ok(if request.to_device == 1 {
                // SAFETY: the piece's bytes of staging; CUDA checks the device's address.
                unsafe { to_device(*address, memory.cast_const(), *length, stream) }
            } else {
                // SAFETY: as above.
                unsafe { from_device(*memory, *address, *length, stream) }
            })?;
        }
        Ok(())
    };
    call.relaxed(|| {
        call.in_driver(|| {
            let copied = copy_all();
            // Staging is used until then, whatever became of the later pieces.
            // SAFETY: a stream of the session, or one of CUDA's own.
            copied.and(ok(unsafe { synchronize(stream) }))
        })
    })
}
