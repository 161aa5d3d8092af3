//! `libvcompute.so`: what answers CUDA's calls in a guest.
//!
//! Programs find `libcuda.so.1` (`shim-preload`), whose jumps lead here from the first call on. A program's call enters at a C
//! export (`exports`, generated from the call table), passes the checks of `entry`, and is then answered from what the shim knows,
//! or becomes a request in the calling thread's lane.
//!
//! Read in this order:
//! 1. `early`: what was learnt at the process's start;
//! 2. `entry` and `process`: what holds for every call; initialised, forked, ending;
//! 3. `transport`: the guest's driver or the backend's socket;
//! 4. `session`: shared memory, lanes, sleeping and waking;
//! 5. `wire`: one call as a request and its response;
//! 6. `handles`, `context`: objects and the threads' current contexts; `waited`: the stream that a thread has waited for;
//! 7. `device`: the device information and what the environment shows of it;
//! 8. `memory`: what an address is, pinned memory, copies; `window`: the reserved addresses;
//!    `mirror`: memory that program and device cannot share;
//! 9. `code`: images, modules, functions, launches;
//! 10. `calls`: the hand-written halves of calls, one module for each group;
//! 11. `threads`: those of the shim's own; `trace`: what a program calls, for developers;
//! 12. `proc_address`: `cuGetProcAddress`; `export_tables`: what NVIDIA's runtime asks for besides.
//!
//! Lock order: a lane's lock is taken last, and nothing else is locked while it is held but what hands a chunk of a copy to the
//! thread that helps with it (`memory::helper`).
#![cfg(not(loom))]

mod calls;
mod carrier;
mod code;
mod context;
mod device;
mod early;
mod entry;
#[cfg(feature = "export-tables")]
mod export_tables;
mod exports;
mod glibc;
mod graph;
mod handles;
mod memory;
mod mirror;
mod output;
mod proc_address;
mod process;
mod session;
mod threads;
mod trace;
mod transport;
mod waited;
mod window;
mod wire;
