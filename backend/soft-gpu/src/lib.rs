//! A CUDA driver in software: executes PTX on the CPU.
//!
//! Built as `libsoft_gpu.so`, which has the functions of `libcuda.so.1` and one device; programs that need no more than
//! the driver API can be given it in libcuda's place.
//!
//! Read in this order: `api` (the C functions), `driver` (contexts, memory, streams, modules), [`ptx`] (the compiler),
//! [`exec`] (the engine).
//!
//! The environment: `CUDA_VISIBLE_DEVICES` as everywhere; `SOFT_GPU_MAX_STEPS` bounds the instructions of one launch;
//! `SOFT_GPU_VERBOSE` has faults of kernels told on standard error.

mod api;
mod driver;
pub mod exec;
#[doc(hidden)]
pub mod fuzz;
pub mod ptx;
