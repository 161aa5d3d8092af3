//! CUDA's own C types, as the driver API's documentation defines them (version 13.0).
//!
//! An enumeration is a number with named values, because a program may pass any number; an opaque handle is a 64-bit
//! number of its own type. Names are CUDA's, without the prefix that its enumerators share.

#![allow(non_camel_case_types, non_snake_case, reason = "CUDA's own names")]

mod array;
mod batch;
mod context;
mod device;
mod graph;
mod memory;
mod module;
mod result;
mod structures;
mod tensor;
mod text;

pub use self::{
    array::*, batch::*, context::*, device::*, graph::*, memory::*, module::*, result::*, structures::*,
    tensor::*,
};

/// Defines a C enumeration as a number with named values.
macro_rules! cuda_enum {
    ($(#[$meta:meta])* $name:ident { $($value_name:ident = $value:literal as $c_name:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)]
        #[repr(transparent)]
        pub struct $name(pub u32);

        impl $name {
            $(
                #[doc = concat!("`", $c_name, "`.")]
                pub const $value_name: Self = Self($value);
            )*

            /// The enumerator's name in cuda.h, if the number has one.
            #[must_use]
            pub const fn c_name(self) -> Option<&'static str> {
                #[allow(unreachable_patterns, reason = "some enumerators share a number")]
                match self.0 {
                    $($value => Some($c_name),)*
                    _ => None,
                }
            }

            /// Every named value.
            pub const ALL: &'static [Self] = &[$(Self($value),)*];
        }

        impl crate::codec::Scalar for $name {
            fn to_u64(self) -> u64 {
                self.0.to_u64()
            }
            fn from_u64(value: u64) -> Self {
                Self(u32::from_u64(value))
            }
        }
    };
}
pub(crate) use cuda_enum;

macro_rules! cuda_number {
    ($($(#[$meta:meta])* $name:ident($number:ty);)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)]
        #[repr(transparent)]
        pub struct $name(pub $number);

        impl crate::codec::Scalar for $name {
            fn to_u64(self) -> u64 {
                crate::codec::Scalar::to_u64(self.0)
            }
            fn from_u64(value: u64) -> Self {
                Self(<$number as crate::codec::Scalar>::from_u64(value))
            }
        }
    )*};
}

pub(crate) use cuda_number;

cuda_number! {
    /// A device: its ordinal.
    CUdevice(i32);
    /// An address of device memory, or of any memory under unified addressing.
    CUdeviceptr(u64);
    /// A context.
    CUcontext(u64);
    /// A module.
    CUmodule(u64);
    /// A function of a module; many calls take a [`CUkernel`] in its place.
    CUfunction(u64);
    /// A library.
    CUlibrary(u64);
    /// A kernel of a library.
    CUkernel(u64);
    /// A stream, or one of [`CUstream::LEGACY`] and [`CUstream::PER_THREAD`].
    CUstream(u64);
    /// An event.
    CUevent(u64);
    /// A linker invocation.
    CUlinkState(u64);
    /// A memory pool.
    CUmemoryPool(u64);
    /// A graph.
    CUgraph(u64);
    /// An executable graph.
    CUgraphExec(u64);
    /// A node of a graph.
    CUgraphNode(u64);
    /// An array.
    CUarray(u64);
    /// Physical memory of virtual memory management, which has no address of its own.
    CUmemGenericAllocationHandle(u64);
}

impl CUstream {
    /// `CU_STREAM_LEGACY`: the default stream that synchronises with all blocking streams of its context.
    pub const LEGACY: Self = Self(1);
    /// `CU_STREAM_PER_THREAD`: the thread's own default stream.
    pub const PER_THREAD: Self = Self(2);
}
