//! Requests of a lane: copied once, checked as a whole, then used.

use virtio_spec::{limits, session::RequestHeader};
use zerocopy::FromBytes as _;

use super::{
    queue::{Buffer, Chain},
    view::View,
};

/// Why a chain is no request. The session ends: the guest's own library never writes such a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChainError {
    #[error("a request of {0} bytes")]
    Length(u32),
    #[error("a buffer is outside session memory")]
    Outside,
    #[error("the parameters' length does not match the descriptor")]
    Parameters,
}

/// One request, copied out of session memory.
pub(crate) struct Request {
    pub(crate) head: u16,
    pub(crate) header: RequestHeader,
    /// Where the response goes, if anyone waits for it.
    pub(crate) response: Option<Buffer>,
}

/// Bytes of a request's header.
pub(crate) const HEADER: usize = size_of::<RequestHeader>();

/// Reads a chain's request. `bytes` is left with the header and the parameters, which are 8-aligned as in the request.
pub(crate) fn read(view: View<'_>, chain: Chain, bytes: &mut Vec<u8>) -> Result<Request, ChainError> {
    let Chain { head, request, response } = chain;
    let length = request.length;
    if length > limits::MAX_REQUEST_BYTES || (length as usize) < HEADER {
        return Err(ChainError::Length(length));
    }
    bytes.clear();
    if !view.read(request.offset, length as usize, bytes) {
        return Err(ChainError::Outside);
    }
    let (header, rest) = RequestHeader::read_from_prefix(bytes).map_err(|_| ChainError::Length(length))?;
    if rest.len() != header.length as usize {
        return Err(ChainError::Parameters);
    }
    Ok(Request { head, header, response })
}
