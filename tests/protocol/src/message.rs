//! Requests and replies, as bytes.

use anyhow::{Context as _, Result, ensure};
use virtio_spec::{
    control::{
        DeviceInfo, Extent, Hello, Map, ReplyHeader, RequestHeader, SessionCreate, SessionOptions, Status,
        Type, Unmap,
    },
    device, limits,
    session::{self, Layout, SessionHeader},
};
use zerocopy::{FromBytes as _, FromZeros as _, Immutable, IntoBytes, KnownLayout};

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// A reply, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// How the request ended.
    pub status: Status,
    /// What follows the header.
    pub payload: Vec<u8>,
}

impl Reply {
    /// From the bytes that were written or received.
    ///
    /// # Errors
    /// They are no reply.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let (header, rest) = ReplyHeader::read_from_prefix(bytes).ok().context("a reply has a header")?;
        let status = Status::from_u32(header.status).context("unknown status")?;
        ensure!(rest.len() == header.length as usize, "{} bytes follow, not {}", rest.len(), header.length);
        Ok(Self { status, payload: rest.to_vec() })
    }

    /// The structure in the reply of a request that has succeeded.
    ///
    /// # Errors
    /// The request has failed, or the structure is another.
    pub fn structure<T: zerocopy::FromBytes + KnownLayout + Immutable>(&self) -> Result<T> {
        ensure!(self.status == Status::Ok, "{:?}", self.status);
        T::read_from_bytes(&self.payload).ok().context("the reply's structure has another size")
    }
}

/// A request with a sound header.
#[must_use]
pub fn request(kind: Type, session: u32, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u32::try_from(body.len()).expect("test requests are short");
    let header = RequestHeader { kind: kind as u32, session, length, flags: 0 };
    [header.as_bytes(), &body].concat()
}

/// HELLO.
#[must_use]
pub fn hello(boot_nonce: u64) -> Vec<u8> {
    let hello = Hello { boot_nonce, version: device::PROTOCOL_VERSION, reserved: 0 };
    request(Type::Hello, 0, &[hello.as_bytes()])
}

/// DEVICE_INFO.
#[must_use]
pub fn device_info(offset: u32, length: u32) -> Vec<u8> {
    request(Type::DeviceInfo, 0, &[DeviceInfo { offset, length }.as_bytes()])
}

/// SESSION_CREATE.
#[must_use]
pub fn session_create(length: u64, extents: &[Extent]) -> Vec<u8> {
    let create = SessionCreate {
        length,
        extent_count: u32::try_from(extents.len()).expect("few extents"),
        reserved: 0,
        options: SessionOptions::default(),
    };
    request(Type::SessionCreate, 0, &[create.as_bytes(), extents.as_bytes()])
}

/// MAP of a whole region.
#[must_use]
pub fn map(session: u32, region: u32, address: u64, length: u64, extents: &[Extent]) -> Vec<u8> {
    let extent_count = u32::try_from(extents.len()).expect("few extents");
    let map = Map { region, flags: 0, address, length, extent_count, reserved: 0 };
    request(Type::Map, session, &[map.as_bytes(), extents.as_bytes()])
}

/// UNMAP.
#[must_use]
pub fn unmap(session: u32, region: u32) -> Vec<u8> {
    request(Type::Unmap, session, &[Unmap { region, reserved: 0 }.as_bytes()])
}

/// SESSION_DESTROY.
#[must_use]
pub fn session_destroy(session: u32) -> Vec<u8> {
    request(Type::SessionDestroy, session, &[])
}

/// STATUS.
#[must_use]
pub fn status() -> Vec<u8> {
    request(Type::Status, 0, &[])
}

/// KICK.
#[must_use]
pub fn kick(session: u32) -> Vec<u8> {
    request(Type::Kick, session, &[])
}

/// A small session: two lanes with a page of staging each.
///
/// # Panics
/// Never: the sizes are sound.
#[must_use]
pub fn layout() -> Layout {
    Layout::new(2, 16, 16, 256, PAGE).expect("sound sizes")
}

/// The header that a guest process writes for [`layout`].
#[must_use]
pub fn session_header() -> SessionHeader {
    let layout = layout();
    let mut header = SessionHeader::new_zeroed();
    header.magic = session::MAGIC;
    header.version = device::PROTOCOL_VERSION;
    header.lane_count = layout.lane_count();
    header.queue_size = layout.queue_size().into();
    header.slot_count = layout.slot_count();
    header.slot_bytes = layout.slot_bytes();
    header.staging_bytes = layout.staging_bytes();
    header
}

/// Bytes of the longest request that can be sound.
pub const LONGEST: usize = size_of::<RequestHeader>()
    + size_of::<SessionCreate>()
    + limits::MAX_EXTENTS_PER_MESSAGE as usize * size_of::<Extent>();
