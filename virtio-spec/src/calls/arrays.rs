//! Arrays, textures and surfaces.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Arrays, textures and surfaces.
#[calls(group = 0x10)]
pub trait Arrays {
    #[call(op = 0x01, since = 2000, unsupported)]
    fn cuArray3DCreate();
    #[call(op = 0x02, since = 3020, wire)]
    fn cuArray3DCreate_v2(#[mint] array: *mut CUarray, #[input] descriptor: *const CUDA_ARRAY3D_DESCRIPTOR);
    #[call(op = 0x03, since = 2000, unsupported)]
    fn cuArray3DGetDescriptor();
    #[call(op = 0x04, since = 3020, wire)]
    fn cuArray3DGetDescriptor_v2(#[out] descriptor: *mut CUDA_ARRAY3D_DESCRIPTOR, array: CUarray);
    #[call(op = 0x05, since = 2000, unsupported)]
    fn cuArrayCreate();
    #[call(op = 0x06, since = 3020, wire)]
    fn cuArrayCreate_v2(#[mint] array: *mut CUarray, #[input] descriptor: *const CUDA_ARRAY_DESCRIPTOR);
    #[call(op = 0x07, since = 2000, custom)]
    fn cuArrayDestroy(array: CUarray);
    #[call(op = 0x08, since = 2000, unsupported)]
    fn cuArrayGetDescriptor();
    #[call(op = 0x09, since = 3020, wire)]
    fn cuArrayGetDescriptor_v2(#[out] descriptor: *mut CUDA_ARRAY_DESCRIPTOR, array: CUarray);
    #[call(op = 0x0a, since = 11060, wire, custom)]
    fn cuArrayGetMemoryRequirements(
        #[out] requirements: *mut CUDA_ARRAY_MEMORY_REQUIREMENTS,
        array: CUarray,
        device: CUdevice,
    );
    #[call(op = 0x0b, since = 11020, unsupported)]
    fn cuArrayGetPlane();
    #[call(op = 0x0c, since = 11010, wire)]
    fn cuArrayGetSparseProperties(#[out] properties: *mut CUDA_ARRAY_SPARSE_PROPERTIES, array: CUarray);
    #[call(op = 0x0d, since = 11010, unsupported, ptsz)]
    fn cuMemMapArrayAsync();
    #[call(op = 0x0e, since = 2000, unsupported)]
    fn cuMemcpyAtoA();
    #[call(op = 0x0f, since = 3020, custom, ptds)]
    fn cuMemcpyAtoA_v2(to: CUarray, to_offset: usize, from: CUarray, from_offset: usize, byte_count: usize);
    #[call(op = 0x10, since = 2000, unsupported)]
    fn cuMemcpyAtoD();
    #[call(op = 0x11, since = 3020, custom, ptds)]
    fn cuMemcpyAtoD_v2(to: CUdeviceptr, from: CUarray, from_offset: usize, byte_count: usize);
    #[call(op = 0x12, since = 2000, unsupported)]
    fn cuMemcpyAtoH();
    #[call(op = 0x13, since = 3020, custom, ptds)]
    fn cuMemcpyAtoH_v2(to: *mut core::ffi::c_void, from: CUarray, from_offset: usize, byte_count: usize);
    #[call(op = 0x14, since = 2000, unsupported)]
    fn cuMemcpyAtoHAsync();
    #[call(op = 0x15, since = 3020, custom, ptsz)]
    fn cuMemcpyAtoHAsync_v2(
        to: *mut core::ffi::c_void,
        from: CUarray,
        from_offset: usize,
        byte_count: usize,
        stream: CUstream,
    );
    #[call(op = 0x16, since = 2000, unsupported)]
    fn cuMemcpyDtoA();
    #[call(op = 0x17, since = 3020, custom, ptds)]
    fn cuMemcpyDtoA_v2(to: CUarray, to_offset: usize, from: CUdeviceptr, byte_count: usize);
    #[call(op = 0x18, since = 2000, unsupported)]
    fn cuMemcpyHtoA();
    #[call(op = 0x19, since = 3020, custom, ptds)]
    fn cuMemcpyHtoA_v2(to: CUarray, to_offset: usize, from: *const core::ffi::c_void, byte_count: usize);
    #[call(op = 0x1a, since = 2000, unsupported)]
    fn cuMemcpyHtoAAsync();
    #[call(op = 0x1b, since = 3020, custom, ptsz)]
    fn cuMemcpyHtoAAsync_v2(
        to: CUarray,
        to_offset: usize,
        from: *const core::ffi::c_void,
        byte_count: usize,
        stream: CUstream,
    );
    #[call(op = 0x1c, since = 5000, wire)]
    fn cuMipmappedArrayCreate(
        #[mint] mipmapped: *mut CUmipmappedArray,
        #[input] descriptor: *const CUDA_ARRAY3D_DESCRIPTOR,
        level_count: u32,
    );
    #[call(op = 0x1d, since = 5000, custom)]
    fn cuMipmappedArrayDestroy(mipmapped: CUmipmappedArray);
    #[call(op = 0x1e, since = 5000, custom)]
    fn cuMipmappedArrayGetLevel(level_array: *mut CUarray, mipmapped: CUmipmappedArray, level: u32);
    #[call(op = 0x1f, since = 11060, wire, custom)]
    fn cuMipmappedArrayGetMemoryRequirements(
        #[out] requirements: *mut CUDA_ARRAY_MEMORY_REQUIREMENTS,
        mipmapped: CUmipmappedArray,
        device: CUdevice,
    );
    #[call(op = 0x20, since = 11010, wire)]
    fn cuMipmappedArrayGetSparseProperties(
        #[out] properties: *mut CUDA_ARRAY_SPARSE_PROPERTIES,
        mipmapped: CUmipmappedArray,
    );
    #[call(op = 0x21, since = 3000, unsupported)]
    fn cuModuleGetSurfRef();
    #[call(op = 0x22, since = 2000, unsupported)]
    fn cuModuleGetTexRef();
    #[call(op = 0x23, since = 2000, unsupported)]
    fn cuParamSetTexRef();
    #[call(op = 0x24, since = 5000, custom)]
    fn cuSurfObjectCreate(surface: *mut CUsurfObject, resource: *const CUDA_RESOURCE_DESC);
    #[call(op = 0x25, since = 5000, custom)]
    fn cuSurfObjectDestroy(surface: CUsurfObject);
    #[call(op = 0x26, since = 5000, custom)]
    fn cuSurfObjectGetResourceDesc(resource: *mut CUDA_RESOURCE_DESC, surface: CUsurfObject);
    #[call(op = 0x27, since = 3000, unsupported)]
    fn cuSurfRefGetArray();
    #[call(op = 0x28, since = 3000, unsupported)]
    fn cuSurfRefSetArray();
    #[call(op = 0x29, since = 5000, custom)]
    fn cuTexObjectCreate(
        texture: *mut CUtexObject,
        resource: *const CUDA_RESOURCE_DESC,
        description: *const CUDA_TEXTURE_DESC,
        view: *const CUDA_RESOURCE_VIEW_DESC,
    );
    #[call(op = 0x2a, since = 5000, custom)]
    fn cuTexObjectDestroy(texture: CUtexObject);
    #[call(op = 0x2b, since = 5000, custom)]
    fn cuTexObjectGetResourceDesc(resource: *mut CUDA_RESOURCE_DESC, texture: CUtexObject);
    #[call(op = 0x2c, since = 5000, custom)]
    fn cuTexObjectGetResourceViewDesc(view: *mut CUDA_RESOURCE_VIEW_DESC, texture: CUtexObject);
    #[call(op = 0x2d, since = 5000, custom)]
    fn cuTexObjectGetTextureDesc(description: *mut CUDA_TEXTURE_DESC, texture: CUtexObject);
    #[call(op = 0x2e, since = 2000, unsupported)]
    fn cuTexRefCreate();
    #[call(op = 0x2f, since = 2000, unsupported)]
    fn cuTexRefDestroy();
    #[call(op = 0x30, since = 2000, unsupported)]
    fn cuTexRefGetAddress();
    #[call(op = 0x31, since = 3020, unsupported)]
    fn cuTexRefGetAddress_v2();
    #[call(op = 0x32, since = 2000, unsupported)]
    fn cuTexRefGetAddressMode();
    #[call(op = 0x33, since = 2000, unsupported)]
    fn cuTexRefGetArray();
    #[call(op = 0x34, since = 8000, unsupported)]
    fn cuTexRefGetBorderColor();
    #[call(op = 0x35, since = 2000, unsupported)]
    fn cuTexRefGetFilterMode();
    #[call(op = 0x36, since = 2000, unsupported)]
    fn cuTexRefGetFlags();
    #[call(op = 0x37, since = 2000, unsupported)]
    fn cuTexRefGetFormat();
    #[call(op = 0x38, since = 5000, unsupported)]
    fn cuTexRefGetMaxAnisotropy();
    #[call(op = 0x39, since = 5000, unsupported)]
    fn cuTexRefGetMipmapFilterMode();
    #[call(op = 0x3a, since = 5000, unsupported)]
    fn cuTexRefGetMipmapLevelBias();
    #[call(op = 0x3b, since = 5000, unsupported)]
    fn cuTexRefGetMipmapLevelClamp();
    #[call(op = 0x3c, since = 5000, unsupported)]
    fn cuTexRefGetMipmappedArray();
    #[call(op = 0x3d, since = 2000, unsupported)]
    fn cuTexRefSetAddress();
    #[call(op = 0x3e, since = 3020, unsupported)]
    fn cuTexRefSetAddress_v2();
    #[call(op = 0x3f, since = 2020, unsupported)]
    fn cuTexRefSetAddress2D();
    #[call(op = 0x40, since = 3020, unsupported)]
    fn cuTexRefSetAddress2D_v2();
    #[call(op = 0x41, since = 4010, unsupported)]
    fn cuTexRefSetAddress2D_v3();
    #[call(op = 0x42, since = 2000, unsupported)]
    fn cuTexRefSetAddressMode();
    #[call(op = 0x43, since = 2000, unsupported)]
    fn cuTexRefSetArray();
    #[call(op = 0x44, since = 8000, unsupported)]
    fn cuTexRefSetBorderColor();
    #[call(op = 0x45, since = 2000, unsupported)]
    fn cuTexRefSetFilterMode();
    #[call(op = 0x46, since = 2000, unsupported)]
    fn cuTexRefSetFlags();
    #[call(op = 0x47, since = 2000, unsupported)]
    fn cuTexRefSetFormat();
    #[call(op = 0x48, since = 5000, unsupported)]
    fn cuTexRefSetMaxAnisotropy();
    #[call(op = 0x49, since = 5000, unsupported)]
    fn cuTexRefSetMipmapFilterMode();
    #[call(op = 0x4a, since = 5000, unsupported)]
    fn cuTexRefSetMipmapLevelBias();
    #[call(op = 0x4b, since = 5000, unsupported)]
    fn cuTexRefSetMipmapLevelClamp();
    #[call(op = 0x4c, since = 5000, unsupported)]
    fn cuTexRefSetMipmappedArray();
}
