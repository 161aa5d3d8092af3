//! A CUDA driver in software: executes PTX on the CPU.
