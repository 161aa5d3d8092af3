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

#[cfg(test)]
mod tests {
    use std::ptr::NonNull;

    use zerocopy::IntoBytes as _;

    use super::*;

    #[test]
    fn a_request_is_inside_and_as_long_as_it_says() {
        let mut memory = vec![0_u64; 512];
        let end = 4096;
        // Eight bytes of parameters.
        memory.as_mut_bytes()[24] = 8;
        let base = NonNull::new(memory.as_mut_ptr().cast::<u8>()).expect("not null");
        // SAFETY: 4096 bytes, aligned to 8, which is all that copies need, and only used through the view from here on.
        let view = unsafe { View::new(base, 4096) };
        let mut bytes = Vec::new();
        let mut of = |offset, length| {
            let chain = Chain { head: 0, request: Buffer { offset, length }, response: None };
            read(view, chain, &mut bytes).map(|request| request.header.length)
        };

        assert_eq!(of(0, 40), Ok(8));
        assert_eq!(of(0, 31), Err(ChainError::Length(31)), "no header");
        assert_eq!(
            of(0, limits::MAX_REQUEST_BYTES + 1),
            Err(ChainError::Length(limits::MAX_REQUEST_BYTES + 1))
        );
        assert_eq!((of(0, 39), of(0, 41)), (Err(ChainError::Parameters), Err(ChainError::Parameters)));
        assert_eq!(of(end - 32, 32), Ok(0), "the last bytes");
        for offset in [end - 31, end, u64::MAX - 8, u64::MAX] {
            assert_eq!(of(offset, 32), Err(ChainError::Outside), "{offset:#x}");
        }
    }
}
