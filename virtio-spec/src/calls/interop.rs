//! External memory and semaphores, and graphics.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

/// External memory and semaphores, and graphics.
#[calls(group = 0x15)]
pub trait Interop {
    #[call(op = 0x01, since = 10000, unsupported)]
    fn cuDestroyExternalMemory();
    #[call(op = 0x02, since = 10000, unsupported)]
    fn cuDestroyExternalSemaphore();
    #[call(op = 0x03, since = 10020, unsupported)]
    fn cuDeviceGetNvSciSyncAttributes();
    #[call(op = 0x04, since = 0, unsupported)]
    fn cuEGLApiInit();
    #[call(op = 0x05, since = 7000, unsupported)]
    fn cuEGLStreamConsumerAcquireFrame();
    #[call(op = 0x06, since = 7000, unsupported)]
    fn cuEGLStreamConsumerConnect();
    #[call(op = 0x07, since = 8000, unsupported)]
    fn cuEGLStreamConsumerConnectWithFlags();
    #[call(op = 0x08, since = 7000, unsupported)]
    fn cuEGLStreamConsumerDisconnect();
    #[call(op = 0x09, since = 7000, unsupported)]
    fn cuEGLStreamConsumerReleaseFrame();
    #[call(op = 0x0a, since = 7000, unsupported)]
    fn cuEGLStreamProducerConnect();
    #[call(op = 0x0b, since = 7000, unsupported)]
    fn cuEGLStreamProducerDisconnect();
    #[call(op = 0x0c, since = 7000, unsupported)]
    fn cuEGLStreamProducerPresentFrame();
    #[call(op = 0x0d, since = 7000, unsupported)]
    fn cuEGLStreamProducerReturnFrame();
    #[call(op = 0x0e, since = 10000, unsupported)]
    fn cuExternalMemoryGetMappedBuffer();
    #[call(op = 0x0f, since = 10000, unsupported)]
    fn cuExternalMemoryGetMappedMipmappedArray();
    #[call(op = 0x10, since = 2000, unsupported)]
    fn cuGLCtxCreate();
    #[call(op = 0x11, since = 3020, unsupported)]
    fn cuGLCtxCreate_v2();
    #[call(op = 0x12, since = 4010, unsupported)]
    fn cuGLGetDevices();
    #[call(op = 0x13, since = 6050, unsupported)]
    fn cuGLGetDevices_v2();
    #[call(op = 0x14, since = 2000, unsupported)]
    fn cuGLInit();
    #[call(op = 0x15, since = 2000, unsupported)]
    fn cuGLMapBufferObject();
    #[call(op = 0x16, since = 3020, unsupported, ptds)]
    fn cuGLMapBufferObject_v2();
    #[call(op = 0x17, since = 2030, unsupported)]
    fn cuGLMapBufferObjectAsync();
    #[call(op = 0x18, since = 3020, unsupported, ptsz)]
    fn cuGLMapBufferObjectAsync_v2();
    #[call(op = 0x19, since = 2000, unsupported)]
    fn cuGLRegisterBufferObject();
    #[call(op = 0x1a, since = 2030, unsupported)]
    fn cuGLSetBufferObjectMapFlags();
    #[call(op = 0x1b, since = 2000, unsupported)]
    fn cuGLUnmapBufferObject();
    #[call(op = 0x1c, since = 2030, unsupported)]
    fn cuGLUnmapBufferObjectAsync();
    #[call(op = 0x1d, since = 2000, unsupported)]
    fn cuGLUnregisterBufferObject();
    #[call(op = 0x1e, since = 7000, unsupported)]
    fn cuGraphicsEGLRegisterImage();
    #[call(op = 0x1f, since = 3000, unsupported)]
    fn cuGraphicsGLRegisterBuffer();
    #[call(op = 0x20, since = 3000, unsupported)]
    fn cuGraphicsGLRegisterImage();
    #[call(op = 0x21, since = 3000, unsupported, ptsz)]
    fn cuGraphicsMapResources();
    #[call(op = 0x22, since = 7000, unsupported)]
    fn cuGraphicsResourceGetMappedEglFrame();
    #[call(op = 0x23, since = 5000, unsupported)]
    fn cuGraphicsResourceGetMappedMipmappedArray();
    #[call(op = 0x24, since = 3000, unsupported)]
    fn cuGraphicsResourceGetMappedPointer();
    #[call(op = 0x25, since = 3020, unsupported)]
    fn cuGraphicsResourceGetMappedPointer_v2();
    #[call(op = 0x26, since = 3000, unsupported)]
    fn cuGraphicsResourceSetMapFlags();
    #[call(op = 0x27, since = 6050, unsupported)]
    fn cuGraphicsResourceSetMapFlags_v2();
    #[call(op = 0x28, since = 3000, unsupported)]
    fn cuGraphicsSubResourceGetMappedArray();
    #[call(op = 0x29, since = 3000, unsupported, ptsz)]
    fn cuGraphicsUnmapResources();
    #[call(op = 0x2a, since = 3000, unsupported)]
    fn cuGraphicsUnregisterResource();
    #[call(op = 0x2b, since = 3010, unsupported)]
    fn cuGraphicsVDPAURegisterOutputSurface();
    #[call(op = 0x2c, since = 3010, unsupported)]
    fn cuGraphicsVDPAURegisterVideoSurface();
    #[call(op = 0x2d, since = 10000, unsupported)]
    fn cuImportExternalMemory();
    #[call(op = 0x2e, since = 10000, unsupported)]
    fn cuImportExternalSemaphore();
    #[call(op = 0x2f, since = 10000, unsupported, ptsz)]
    fn cuSignalExternalSemaphoresAsync();
    #[call(op = 0x30, since = 3010, unsupported)]
    fn cuVDPAUCtxCreate();
    #[call(op = 0x31, since = 3020, unsupported)]
    fn cuVDPAUCtxCreate_v2();
    #[call(op = 0x32, since = 3010, unsupported)]
    fn cuVDPAUGetDevice();
    #[call(op = 0x33, since = 10000, unsupported, ptsz)]
    fn cuWaitExternalSemaphoresAsync();
}
