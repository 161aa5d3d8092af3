//! A CUDA driver in software: executes PTX on the CPU.

pub mod exec;
pub mod ptx;
