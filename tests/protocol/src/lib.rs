//! A real vhost-user front-end, and a real client of the local socket, against the real backend, without a VM.
//!
//! Read in this order:
//! 1. [`backend`]: the backend as a process of the test;
//! 2. [`ring`]: the driver's half of a virtqueue;
//! 3. [`vm`]: what QEMU and the guest's driver do together;
//! 4. [`local`]: a client of the local socket;
//! 5. [`message`]: requests and replies, as bytes.
//!
//! The tests are in `tests/`. None of them sleeps; every wait ends with an error after [`PATIENCE`].

pub mod backend;
pub mod local;
pub mod message;
pub mod ring;
pub mod vm;

use std::time::Duration;

/// How long anything may take before a test fails. Generous: the machines of continuous integration are slow.
pub const PATIENCE: Duration = Duration::from_secs(20);
