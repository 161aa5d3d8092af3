//! The driver's functions, one module and structure for each group of the call table, generated from its rows.

virtio_spec::for_each_group!(virtio_spec::macros::driver_functions);
