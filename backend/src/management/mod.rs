//! What management software asks of devices: NVML of the host, read by processes that live for it alone.
//! (This folder contains unsafe code: calls of NVML.)
//!
//! Read in this order: `nvml`, the host's library as typed questions; `fixed`, what stays the same, for the discovery
//! process; `monitor`, the process that answers what changes, and what the supervisor and it say to each other;
//! `software`, numbers for devices that NVML does not know.

mod fixed;
mod monitor;
mod nvml;
mod software;

pub(crate) use fixed::describe;
pub(crate) use monitor::{ANSWER_BYTES, Question, QuestionedDevice, ROLE, run};
