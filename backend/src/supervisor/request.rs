//! Requests of `controlq` and of the local socket: bytes that were copied once, checked.

use virtio_spec::{
    control::{
        self, DeviceInfo, Extent, Hello, Map, RequestHeader, SessionCreate, SessionOptions, Status, Type,
        Unmap, map_flags, options,
    },
    limits,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a page.
pub(crate) const PAGE: u64 = 4096;

/// Bytes of the longest request: a SESSION_CREATE with all the extents that a message may have.
pub(crate) const MAX_BYTES: usize = size_of::<RequestHeader>()
    + size_of::<SessionCreate>()
    + limits::MAX_EXTENTS_PER_MESSAGE as usize * size_of::<Extent>();

/// Most that `CUDA_DEVICE_MAX_CONNECTIONS` may be.
const MAX_CONNECTIONS: u32 = 32;

/// A request whose every field is within its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Hello { boot_nonce: u64, version: u32 },
    DeviceInfo { offset: u32, length: u32 },
    SessionCreate { length: u64, options: SessionOptions, extents: Vec<Extent> },
    SessionDestroy { session: u32 },
    Map { session: u32, region: u32, read_only: bool, address: u64, length: u64, extents: Vec<Extent> },
    Unmap { session: u32, region: u32 },
    Kick { session: u32 },
    Status,
}

/// What goes back: a status, and the reply's structure or bytes if it has any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: Status,
    pub(crate) payload: Vec<u8>,
}

impl Reply {
    /// A reply with a structure.
    pub(crate) fn with(payload: &(impl IntoBytes + Immutable)) -> Self {
        Self { status: Status::Ok, payload: payload.as_bytes().to_vec() }
    }

    /// The reply as it goes over the wire.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let header = control::ReplyHeader { status: self.status as u32, length };
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

impl From<Status> for Reply {
    fn from(status: Status) -> Self {
        Self { status, payload: Vec::new() }
    }
}

impl Request {
    /// Takes a request apart.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Status> {
        let (header, body) = RequestHeader::read_from_prefix(bytes).map_err(|_| Status::Invalid)?;
        if usize::try_from(header.length) != Ok(body.len()) || header.flags != 0 {
            return Err(Status::Invalid);
        }
        let kind = Type::from_u32(header.kind).ok_or(Status::Unsupported)?;
        let session = header.session;
        let needs_session =
            !matches!(kind, Type::Hello | Type::DeviceInfo | Type::SessionCreate | Type::Status);
        if needs_session != (session != 0) {
            return Err(Status::Invalid);
        }
        match kind {
            Type::Hello => hello(&exactly(body)?),
            Type::DeviceInfo => {
                let DeviceInfo { offset, length } = exactly(body)?;
                Ok(Self::DeviceInfo { offset, length })
            }
            Type::SessionCreate => create(body),
            Type::SessionDestroy => empty(body).map(|()| Self::SessionDestroy { session }),
            Type::Map => map(session, body),
            Type::Unmap => {
                let Unmap { region, reserved } = exactly(body)?;
                if region == 0 || reserved != 0 {
                    return Err(Status::Invalid);
                }
                Ok(Self::Unmap { session, region })
            }
            Type::Kick => empty(body).map(|()| Self::Kick { session }),
            Type::Status => empty(body).map(|()| Self::Status),
        }
    }

    /// The session and region of a MAP that could not be taken apart: the parts before it go with it.
    pub(crate) fn region_of_refused(bytes: &[u8]) -> Option<(u32, u32)> {
        let (header, body) = RequestHeader::read_from_prefix(bytes).ok()?;
        let (map, _) = Map::read_from_prefix(body).ok()?;
        (header.kind == Type::Map as u32).then_some((header.session, map.region))
    }

    /// Bytes that the reply's structure takes. DEVICE_INFO and STATUS take what there is room for.
    pub(crate) fn reply_bytes(&self) -> usize {
        match self {
            Self::Hello { .. } => size_of::<control::HelloReply>(),
            Self::SessionCreate { .. } => size_of::<control::SessionCreateReply>(),
            _ => 0,
        }
    }
}

fn exactly<T: FromBytes + KnownLayout + Immutable>(body: &[u8]) -> Result<T, Status> {
    T::read_from_bytes(body).map_err(|_| Status::Invalid)
}

fn empty(body: &[u8]) -> Result<(), Status> {
    if body.is_empty() { Ok(()) } else { Err(Status::Invalid) }
}

fn hello(hello: &Hello) -> Result<Request, Status> {
    if hello.reserved != 0 {
        return Err(Status::Invalid);
    }
    Ok(Request::Hello { boot_nonce: hello.boot_nonce, version: hello.version })
}

fn create(body: &[u8]) -> Result<Request, Status> {
    let (create, rest) = SessionCreate::read_from_prefix(body).map_err(|_| Status::Invalid)?;
    let SessionCreate { length, extent_count, reserved, options } = create;
    if reserved != 0 || options.reserved != [0; 4] || options.max_connections > MAX_CONNECTIONS {
        return Err(Status::Invalid);
    }
    if options.flags & !options::ALL != 0 {
        return Err(Status::Unsupported);
    }
    if length == 0 || !length.is_multiple_of(PAGE) {
        return Err(Status::Invalid);
    }
    if length > limits::MAX_SESSION_BYTES {
        return Err(Status::Limit);
    }
    Ok(Request::SessionCreate { length, options, extents: extents(extent_count, rest)? })
}

fn map(session: u32, body: &[u8]) -> Result<Request, Status> {
    let (map, rest) = Map::read_from_prefix(body).map_err(|_| Status::Invalid)?;
    let Map { region, flags, address, length, extent_count, reserved } = map;
    if flags & !map_flags::ALL != 0 {
        return Err(Status::Unsupported);
    }
    let pages = [address, length].iter().all(|value| value.is_multiple_of(PAGE));
    if region == 0 || reserved != 0 || !pages || length == 0 || address.checked_add(length).is_none() {
        return Err(Status::Invalid);
    }
    let read_only = flags & map_flags::READ_ONLY != 0;
    Ok(Request::Map { session, region, read_only, address, length, extents: extents(extent_count, rest)? })
}

fn extents(count: u32, bytes: &[u8]) -> Result<Vec<Extent>, Status> {
    if count > limits::MAX_EXTENTS_PER_MESSAGE {
        return Err(Status::Limit);
    }
    let list: Vec<Extent> =
        bytes.chunks(size_of::<Extent>()).map(exactly::<Extent>).collect::<Result<_, _>>()?;
    let sound = list.iter().all(|extent| {
        extent.length != 0
            && extent.length.is_multiple_of(PAGE)
            && extent.address.is_multiple_of(PAGE)
            && extent.address.checked_add(extent.length).is_some()
    });
    if usize::try_from(count) == Ok(list.len()) && sound { Ok(list) } else { Err(Status::Invalid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(kind: Type, session: u32, parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        let length = u32::try_from(body.len()).unwrap();
        let header = RequestHeader { kind: kind as u32, session, length, flags: 0 };
        [header.as_bytes(), &body].concat()
    }

    const CREATE: SessionCreate = SessionCreate {
        length: 2 * PAGE,
        extent_count: 1,
        reserved: 0,
        options: SessionOptions { process: 7, flags: 0, max_connections: 0, device: 0, reserved: [0; 4] },
    };
    const MAP: Map = Map { region: 1, flags: 0, address: PAGE, length: PAGE, extent_count: 1, reserved: 0 };
    const EXTENT: Extent = Extent { address: 16 * PAGE, length: 2 * PAGE };

    #[test]
    fn sound_requests_are_understood() {
        let create = bytes(Type::SessionCreate, 0, &[CREATE.as_bytes(), EXTENT.as_bytes()]);
        assert_eq!(
            Request::parse(&create),
            Ok(Request::SessionCreate { length: 2 * PAGE, options: CREATE.options, extents: vec![EXTENT] })
        );
        let kick = bytes(Type::Kick, 3, &[]);
        assert_eq!(Request::parse(&kick), Ok(Request::Kick { session: 3 }));
    }

    #[test]
    fn lengths_that_do_not_match_are_refused() {
        let mut request = bytes(Type::SessionCreate, 0, &[CREATE.as_bytes(), EXTENT.as_bytes()]);
        for cut in 0..request.len() {
            assert_eq!(Request::parse(&request[..cut]), Err(Status::Invalid), "{cut} bytes");
        }
        request.push(0);
        assert_eq!(Request::parse(&request), Err(Status::Invalid));
        let no_extent = bytes(Type::SessionCreate, 0, &[CREATE.as_bytes()]);
        assert_eq!(Request::parse(&no_extent), Err(Status::Invalid));
    }

    #[test]
    fn unknown_types_and_bits_are_unsupported() {
        let mut request = bytes(Type::Kick, 0, &[]);
        request[0] = 99;
        assert_eq!(Request::parse(&request), Err(Status::Unsupported));
        let options = SessionOptions { flags: 1 << 31, ..CREATE.options };
        let create = SessionCreate { options, ..CREATE };
        let request = bytes(Type::SessionCreate, 0, &[create.as_bytes(), EXTENT.as_bytes()]);
        assert_eq!(Request::parse(&request), Err(Status::Unsupported));
    }

    #[test]
    fn wild_numbers_are_refused() {
        let parse = |map: Map, extent: Extent| {
            Request::parse(&bytes(Type::Map, 1, &[map.as_bytes(), extent.as_bytes()]))
        };
        assert!(parse(MAP, EXTENT).is_ok());
        for map in [
            Map { region: 0, ..MAP },
            Map { address: 1, ..MAP },
            Map { length: 0, ..MAP },
            Map { length: 1, ..MAP },
            Map { address: u64::MAX - 4095, length: 2 * PAGE, ..MAP },
            Map { extent_count: 2, ..MAP },
            Map { reserved: 1, ..MAP },
        ] {
            assert_eq!(parse(map, EXTENT), Err(Status::Invalid), "{map:?}");
        }
        assert_eq!(parse(Map { extent_count: u32::MAX, ..MAP }, EXTENT), Err(Status::Limit));
        for extent in [
            Extent { address: 1, ..EXTENT },
            Extent { length: 0, ..EXTENT },
            Extent { length: 5, ..EXTENT },
            Extent { address: u64::MAX - 4095, length: u64::MAX - 4095 },
        ] {
            assert_eq!(parse(MAP, extent), Err(Status::Invalid), "{extent:?}");
        }
    }

    #[test]
    fn session_numbers_belong_to_requests_about_sessions() {
        assert_eq!(Request::parse(&bytes(Type::Kick, 0, &[])), Err(Status::Invalid));
        let info = DeviceInfo { offset: 0, length: 4096 };
        assert_eq!(Request::parse(&bytes(Type::DeviceInfo, 1, &[info.as_bytes()])), Err(Status::Invalid));
    }
}
