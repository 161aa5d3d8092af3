//! The contract of the virtio compute device, in Rust.
//!
//! `virtio-compute.md` beside this crate is the normative text; this crate holds the same structures, numbers and
//! limits for the two programs that speak it. No I/O, no unsafe code.
//!
//! Read in this order:
//! 1. [`device`]: identity, feature bits and configuration space;
//! 2. [`control`]: the messages of `controlq` and `eventq`, which make and unmake sessions;
//! 3. [`info`]: the device information page, from which `cuInit` and device queries are answered;
//!    [`management`]: what NVML asks for besides;
//! 4. [`session`]: session memory, lanes, and the headers of requests and responses;
//!    [`notify`]: how a lane's two sides sleep and wake each other;
//! 5. [`requests`]: the requests that hand-written code on both sides builds and reads;
//!    [`image_tag`]: how images that the device has are not sent again;
//! 6. [`handle`]: the one space of object handles;
//! 7. [`calls`]: the table of CUDA calls, one row for each function;
//! 8. [`codec`]: how the parameters of a generated call are laid out in a request;
//! 9. [`window`]: the addresses that both sides keep free;
//! 10. [`uapi`] and [`local`]: how a process reaches the device, through the guest's driver or a host's socket;
//! 11. [`limits`]: every bound, with its reason;
//! 12. [`cuda`]: CUDA's own C types.
#![forbid(unsafe_code)]

#[cfg(not(all(target_endian = "little", target_pointer_width = "64")))]
compile_error!("the wire format is that of 64-bit little-endian machines, the only ones supported");

pub mod calls;
pub mod codec;
pub mod control;
pub mod cuda;
pub mod device;
pub mod graph_requests;
pub mod handle;
pub mod image_tag;
pub mod info;
pub mod limits;
pub mod local;
pub mod management;
pub mod notify;
pub mod requests;
pub mod session;
pub mod uapi;
pub mod window;

/// The emitters that make code of the call table.
pub use virtio_spec_macros as macros;

/// Asserts at compile time where each named field of a wire structure lies, and the structure's size.
#[macro_export]
macro_rules! assert_layout {
    ($type:ty, $size:literal $(, $field:ident: $offset:literal)* $(,)?) => {
        const _: () = {
            assert!(core::mem::size_of::<$type>() == $size);
            $(assert!(core::mem::offset_of!($type, $field) == $offset);)*
        };
    };
}
