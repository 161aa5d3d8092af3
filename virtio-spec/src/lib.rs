//! The contract of the virtio compute device: wire structures, limits and the table of CUDA calls.
