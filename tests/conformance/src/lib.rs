//! What CUDA promises, asked of any libcuda.so.1.
