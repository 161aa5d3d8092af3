//! Copies, fills and pointers.

use super::*;

#[test]
fn rows_are_copied_with_their_pitches() {
    let gpu = Fixture::new();
    let source = gpu.upload(&(0..64).collect::<Vec<_>>());
    let mut rows = [0_u32; 9];
    let mut copy = CUDA_MEMCPY2D {
        srcXInBytes: 4,
        srcY: 1,
        srcMemoryType: CUmemorytype::DEVICE,
        srcHost: std::ptr::null(),
        srcDevice: source,
        srcArray: CUarray(0),
        srcPitch: 32,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: CUmemorytype::HOST,
        dstHost: rows.as_mut_ptr().cast(),
        dstDevice: CUdeviceptr(0),
        dstArray: CUarray(0),
        dstPitch: 12,
        WidthInBytes: 12,
        Height: 3,
    };
    assert_eq!(unsafe { cuMemcpy2D_v2(&raw const copy) }, CUresult::SUCCESS);
    assert_eq!(rows, [9, 10, 11, 17, 18, 19, 25, 26, 27]);
    copy.srcPitch = 8;
    assert_eq!(unsafe { cuMemcpy2D_v2(&raw const copy) }, CUresult::ERROR_INVALID_VALUE);
}

#[test]
fn fills_are_aligned_and_bounded() {
    let gpu = Fixture::new();
    let pointer = gpu.upload(&[0; 8]);
    assert_eq!(unsafe { cuMemsetD32_v2(CUdeviceptr(pointer.0 + 4), 0x0102_0304, 2) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuMemsetD2D8_v2(CUdeviceptr(pointer.0 + 16), 8, 0xff, 2, 2) }, CUresult::SUCCESS);
    assert_eq!(gpu.read(pointer, 8), [0, 0x0102_0304, 0x0102_0304, 0, 0xffff, 0, 0xffff, 0]);
    let refused = CUresult::ERROR_INVALID_VALUE;
    assert_eq!(unsafe { cuMemsetD32_v2(CUdeviceptr(pointer.0 + 2), 0, 1) }, refused);
    assert_eq!(unsafe { cuMemsetD8_v2(pointer, 0, 33) }, refused);
}

#[test]
fn pointers_tell_what_they_are() {
    let gpu = Fixture::new();
    let device = gpu.alloc(1000);
    let mut kind = CUmemorytype(0);
    let ask = |kind: &mut CUmemorytype, pointer| unsafe {
        cuPointerGetAttribute(std::ptr::from_mut(kind).cast(), CUpointer_attribute::MEMORY_TYPE, pointer)
    };
    assert_eq!(ask(&mut kind, CUdeviceptr(device.0 + 999)), CUresult::SUCCESS);
    assert_eq!(kind, CUmemorytype::DEVICE);
    assert_eq!(ask(&mut kind, CUdeviceptr(device.0 + 1000)), CUresult::ERROR_INVALID_VALUE);
    let mut host = null_mut();
    assert_eq!(unsafe { cuMemHostAlloc(&raw mut host, 100, 0) }, CUresult::SUCCESS);
    let pinned = CUdeviceptr(host.expose_provenance() as u64);
    assert_eq!((ask(&mut kind, pinned), kind), (CUresult::SUCCESS, CUmemorytype::HOST));
    assert_eq!(unsafe { cuMemFreeHost(host) }, CUresult::SUCCESS);
    assert_eq!(ask(&mut kind, pinned), CUresult::ERROR_INVALID_VALUE);
}

#[test]
fn managed_memory_is_one_for_host_and_kernels() {
    let gpu = Fixture::new();
    let mut pointer = CUdeviceptr(0);
    assert_eq!(unsafe { cuMemAllocManaged(&raw mut pointer, 8, 1) }, CUresult::SUCCESS);
    let host = std::ptr::with_exposed_provenance_mut::<u32>(usize::try_from(pointer.0).unwrap());
    unsafe { host.write(1) };
    let function = gpu.function(STORE, c"store");
    assert_eq!(launch(function, CUstream(0), CUdeviceptr(pointer.0 + 4), 2), CUresult::SUCCESS);
    assert_eq!(unsafe { cuCtxSynchronize() }, CUresult::SUCCESS);
    assert_eq!(unsafe { host.cast::<[u32; 2]>().read() }, [1, 2]);
    let mut managed = 7_u32;
    let attribute = CUpointer_attribute::IS_MANAGED;
    let told = unsafe { cuPointerGetAttribute((&raw mut managed).cast(), attribute, pointer) };
    assert_eq!((told, managed), (CUresult::SUCCESS, 1));
    let to_device = unsafe { cuMemPrefetchAsync(pointer, 8, 0, CUstream(0)) };
    assert_eq!(to_device, CUresult::ERROR_INVALID_DEVICE);
    assert_eq!(unsafe { cuMemPrefetchAsync(pointer, 8, -1, CUstream(0)) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuMemFree_v2(pointer) }, CUresult::SUCCESS);
    drop(gpu);
}

#[test]
fn kernels_do_not_write_memory_that_is_registered_for_reading() {
    const READ_ONLY: u32 = 8;
    #[repr(align(4096))]
    struct Page([u32; 1024]);
    static PAGE: Page = Page([7; 1024]);
    let gpu = Fixture::new();
    let host = PAGE.0.as_ptr().cast_mut().cast::<c_void>();
    let address = CUdeviceptr(host.expose_provenance() as u64);
    assert_eq!(unsafe { cuMemHostRegister_v2(host, 4096, READ_ONLY) }, CUresult::SUCCESS);
    let device = gpu.alloc(4);
    assert_eq!(unsafe { cuMemcpyDtoD_v2(device, address, 4) }, CUresult::SUCCESS);
    assert_eq!(gpu.read(device, 1), [7]);
    assert_eq!(launch(gpu.function(STORE, c"store"), CUstream(0), address, 1), CUresult::SUCCESS);
    assert_eq!(unsafe { cuCtxSynchronize() }, CUresult::ERROR_ILLEGAL_ADDRESS);
    drop(gpu);
}
