//! Descriptor chains of a lane: copied once, checked as a whole, then used.

use virtio_queue::{DescriptorChain, desc::split::Descriptor};
use virtio_spec::{limits, session::RequestHeader};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};
use zerocopy::FromBytes as _;

/// Why a chain is no request. The session ends: the guest's own library never writes such a chain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    #[error("a chain is broken, a loop, or longer than {} descriptors", limits::MAX_LANE_CHAIN)]
    Shape,
    #[error("a descriptor has an unknown flag or no length")]
    Descriptor,
    #[error("a request of {0} bytes")]
    Length(u32),
    #[error("a descriptor is outside session memory")]
    Outside(#[source] vm_memory::GuestMemoryError),
    #[error("the parameters' length does not match the descriptor")]
    Parameters,
}

/// One request, copied out of session memory.
pub(crate) struct Request {
    pub(crate) head: u16,
    pub(crate) header: RequestHeader,
    /// Where the response goes, if anyone waits for it.
    pub(crate) response: Option<(GuestAddress, u32)>,
}

/// Reads a chain. The parameters are left in `parameters`.
pub(crate) fn read(
    memory: &GuestMemoryMmap<()>,
    chain: DescriptorChain<&GuestMemoryMmap<()>>,
    parameters: &mut Vec<u8>,
) -> Result<Request, ChainError> {
    let head = chain.head_index();
    let (request, response) = check(chain)?;
    let length = request.len();
    if length > limits::MAX_REQUEST_BYTES || (length as usize) < size_of::<RequestHeader>() {
        return Err(ChainError::Length(length));
    }
    parameters.resize(length as usize, 0);
    memory.read_slice(parameters, request.addr()).map_err(ChainError::Outside)?;
    let (header, rest) =
        RequestHeader::read_from_prefix(parameters).map_err(|_| ChainError::Length(length))?;
    if rest.len() != header.length as usize {
        return Err(ChainError::Parameters);
    }
    parameters.drain(..size_of::<RequestHeader>());
    let response = response.map(|descriptor| (descriptor.addr(), descriptor.len()));
    Ok(Request { head, header, response })
}

/// The shape of a lane's chain: one readable descriptor, then at most one writable one.
fn check(
    mut chain: DescriptorChain<&GuestMemoryMmap<()>>,
) -> Result<(Descriptor, Option<Descriptor>), ChainError> {
    let first = chain.next().ok_or(ChainError::Shape)?;
    let second = if first.has_next() { Some(chain.next().ok_or(ChainError::Shape)?) } else { None };
    if second.is_some_and(|descriptor| descriptor.has_next()) {
        return Err(ChainError::Shape);
    }
    if first.is_write_only() || first.refers_to_indirect_table() {
        return Err(ChainError::Descriptor);
    }
    if second.is_some_and(|descriptor| !descriptor.is_write_only() || descriptor.len() < 8) {
        return Err(ChainError::Descriptor);
    }
    Ok((first, second))
}
