//! The guest's `libnvidia-ml.so.1`: NVML, as far as programs of a guest use it.
//!
//! What stays the same comes from the device information, like what `libcuda.so.1` tells; what changes is asked of the
//! device with STATUS. Neither makes a session or a context. What a guest may not see or set is
//! `NVML_ERROR_NOT_SUPPORTED`, which programs show as "N/A".
//!
//! Read in this order:
//! 1. `entry`: what holds for every call, and `abi`: NVML's types and results;
//! 2. `state`: initialised or not, the devices, their numbers;
//! 3. the calls, by group: `system`, `identity`, `memory`, `activity`, `limits`, `links`, `modes`,
//!    `processes`, `fields`;
//! 4. `refused`: every other name, so that a program which looks for one finds it.

#[macro_use]
mod entry;
mod abi;
mod activity;
mod fields;
mod identity;
mod limits;
mod links;
mod memory;
mod modes;
mod processes;
mod refused;
mod state;
mod system;
