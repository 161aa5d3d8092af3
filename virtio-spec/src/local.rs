//! The same session without a VM: messages of the backend's local socket.
//!
//! A `SOCK_SEQPACKET` Unix socket; one connection is at most one session, which ends with it. Each packet is a
//! [`crate::control::RequestHeader`] with its structure, as on `controlq`; each is answered by one packet with a
//! [`crate::control::ReplyHeader`]. Descriptors travel with the packet (SCM_RIGHTS):
//!
//! | request | descriptors |
//! |---|---|
//! | DEVICE_INFO | none |
//! | SESSION_CREATE | a memfd sealed against shrinking, growing and further sealing, of exactly `length` bytes; an eventfd that the client writes to kick |
//! | MAP | a memfd sealed in the same way, of exactly `length` bytes |
//! | UNMAP, SESSION_DESTROY | none |
//!
//! HELLO is not sent. A lane's client sleeps with `FUTEX_WAIT` (shared) on the first word of the lane's used ring, and
//! the worker wakes it with `FUTEX_WAKE`; the end of the connection means that the session is dead.

/// Environment variable of the shim that names the socket.
pub const SOCKET_VARIABLE: &str = "VCOMPUTE_SOCKET";

/// Bytes of the longest packet in either direction.
pub const MAX_PACKET_BYTES: usize = 72 << 10;

/// Descriptors that one packet may carry.
pub const MAX_DESCRIPTORS: usize = 8;
