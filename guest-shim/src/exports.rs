//! The C exports, one module for each group of the call table, all generated.
//!
//! Unsafe code: the exports take the application's pointers.

virtio_spec::for_each_group!(virtio_spec_macros::shim_exports);
