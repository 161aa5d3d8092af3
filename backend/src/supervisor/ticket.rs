//! Who waits for the answer to a request.

use crate::supervisor::chain::Taken;

/// The right to one answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ticket {
    /// A chain of `controlq`, of the connection with this number.
    Queue { connection: u64, taken: Taken },
    /// A client of the local socket.
    Client(u64),
}
