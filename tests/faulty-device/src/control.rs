//! What requests are answered.

use std::collections::BTreeMap;

use virtio_spec::control::{
    self, EventType, Hello, HelloReply, ReplyHeader, RequestHeader, SessionCreate, SessionCreateReply,
    Status, Type,
};
use virtio_spec::device::{PROTOCOL_VERSION, State};
use virtio_spec::management::StatusReply;
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::fault::Fault;
use crate::information;
use crate::lanes::Lanes;
use crate::noise::Noise;
use crate::queue::Memory;
use crate::region::Region;

/// A status that nobody knows.
const UNKNOWN_STATUS: u32 = 0xdead_beef;

/// The answer to a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// These bytes.
    Now(Vec<u8>),
    /// These bytes, later.
    Late(Vec<u8>),
    /// None.
    Never,
}

struct Session {
    region: Region,
    lanes: Lanes,
}

/// The device behind the queues.
#[derive(Default)]
pub(crate) struct Control {
    /// Counts up when the device information changes.
    pub(crate) generation: u32,
    /// Noise for everything.
    pub(crate) noise: Noise,
    sessions: BTreeMap<u32, Session>,
    last_session: u32,
    /// Events to be sent: type and session.
    pub(crate) events: Vec<(EventType, u32)>,
}

fn reply(status: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    [ReplyHeader { status, length }.as_bytes(), payload].concat()
}

fn status(status: Status) -> Answer {
    Answer::Now(reply(status as u32, &[]))
}

impl Control {
    /// Forgets everything, as a reset wants it.
    pub(crate) fn reset(&mut self) {
        self.sessions.clear();
        self.events.clear();
    }

    /// The answer to one request with room for `room` bytes.
    pub(crate) fn answer(&mut self, fault: Fault, memory: &Memory, request: &[u8], room: usize) -> Answer {
        let Ok((header, payload)) = RequestHeader::read_from_prefix(request) else {
            return status(Status::Invalid);
        };
        log::debug!("{:?}, session {}", Type::from_u32(header.kind), header.session);
        match Type::from_u32(header.kind) {
            None => status(Status::Unsupported),
            Some(Type::Hello) => self.hello(fault, payload),
            Some(Type::DeviceInfo) => self.information(fault, payload, room),
            Some(Type::SessionCreate) => self.create(fault, memory, payload),
            Some(Type::SessionDestroy) => match fault {
                Fault::DestroyNever => Answer::Never,
                Fault::DestroyRefused => status(Status::Failed),
                _ => {
                    self.sessions.remove(&header.session);
                    status(Status::Ok)
                }
            },
            Some(Type::Map) => match fault {
                Fault::MapNever => Answer::Never,
                Fault::MapRefused => status(Status::AddressTaken),
                _ => status(Status::Ok),
            },
            Some(Type::Unmap) => match fault {
                Fault::UnmapNever => Answer::Never,
                Fault::UnmapRefused => status(Status::Failed),
                _ => status(Status::Ok),
            },
            Some(Type::Kick) => self.kick(fault, header.session),
            Some(Type::Status) => self.status(fault, room),
        }
    }

    fn hello(&mut self, fault: Fault, payload: &[u8]) -> Answer {
        if let Ok((hello, _)) = Hello::read_from_prefix(payload) {
            log::info!("HELLO with nonce {:#x}: {fault:?}", hello.boot_nonce);
        }
        if fault == Fault::HelloRestless {
            self.generation = self.generation.wrapping_add(1);
            self.events.push((EventType::Config, 0));
        }
        let good = HelloReply {
            version: PROTOCOL_VERSION,
            state: State::Ready as u32,
            generation: self.generation,
            info_bytes: information::BYTES,
        };
        let changed = match fault {
            Fault::HelloNever => return Answer::Never,
            Fault::HelloShort => {
                let mut bytes = reply(Status::Ok as u32, good.as_bytes());
                bytes.truncate(size_of::<ReplyHeader>() + 4);
                return Answer::Now(bytes);
            }
            Fault::HelloStatus => return Answer::Now(reply(UNKNOWN_STATUS, good.as_bytes())),
            Fault::HelloAgain => return status(Status::Again),
            Fault::HelloState => HelloReply { state: 77, ..good },
            Fault::HelloStarting => HelloReply { state: State::Starting as u32, info_bytes: 0, ..good },
            Fault::HelloFailed => HelloReply { state: State::Failed as u32, ..good },
            Fault::HelloInfoHuge => HelloReply { info_bytes: u32::MAX, ..good },
            Fault::HelloInfoTiny => HelloReply { info_bytes: 1, ..good },
            _ => good,
        };
        Answer::Now(reply(Status::Ok as u32, changed.as_bytes()))
    }

    fn information(&mut self, fault: Fault, payload: &[u8], room: usize) -> Answer {
        let Ok((asked, _)) = control::DeviceInfo::read_from_prefix(payload) else {
            return status(Status::Invalid);
        };
        let mut bytes = match fault {
            Fault::InfoExtreme => information::extreme(self.generation),
            _ => information::sound(self.generation),
        };
        if fault == Fault::InfoGarbage {
            self.noise.fill(&mut bytes);
        }
        let begin = bytes.len().min(asked.offset as usize);
        let room = room.saturating_sub(size_of::<ReplyHeader>()).min(asked.length as usize);
        let end = bytes.len().min(begin.saturating_add(room));
        let part = bytes.get(begin..end).unwrap_or_default();
        match fault {
            Fault::InfoNever => Answer::Never,
            Fault::InfoEmpty => status(Status::Ok),
            Fault::InfoRefused => status(Status::Failed),
            Fault::InfoLong => {
                let header = ReplyHeader { status: Status::Ok as u32, length: u32::MAX };
                Answer::Now([header.as_bytes(), part].concat())
            }
            _ => Answer::Now(reply(Status::Ok as u32, part)),
        }
    }

    fn create(&mut self, fault: Fault, memory: &Memory, payload: &[u8]) -> Answer {
        let Ok((_, extents)) = SessionCreate::read_from_prefix(payload) else {
            return status(Status::Invalid);
        };
        self.last_session = self.last_session.wrapping_add(1);
        let number = match fault {
            Fault::CreateZero => 0,
            Fault::CreateSame => 1,
            _ => self.last_session,
        };
        let session = Session { region: Region::new(memory, extents), lanes: Lanes::default() };
        self.sessions.insert(number, session);
        let payload = SessionCreateReply { session: number, reserved: 0 };
        let good = reply(Status::Ok as u32, payload.as_bytes());
        match fault {
            Fault::CreateNever => Answer::Never,
            Fault::CreateLate => Answer::Late(good),
            Fault::CreateShort => status(Status::Ok),
            Fault::CreateStatus => Answer::Now(reply(UNKNOWN_STATUS, payload.as_bytes())),
            Fault::CreateRefused => status(Status::NoMemory),
            Fault::CreateDies => {
                self.events.push((EventType::SessionDied, number));
                Answer::Now(good)
            }
            _ => Answer::Now(good),
        }
    }

    fn status(&mut self, fault: Fault, room: usize) -> Answer {
        let nothing =
            StatusReply { generation: self.generation, device_count: 0, process_count: 0, reserved: 0 };
        match fault {
            Fault::StatusNever => Answer::Never,
            Fault::StatusAgain => status(Status::Again),
            Fault::StatusGarbage => {
                let mut noise = vec![0; room.saturating_sub(size_of::<ReplyHeader>())];
                self.noise.fill(&mut noise);
                Answer::Now(reply(Status::Ok as u32, &noise))
            }
            Fault::StatusLong => {
                let header = ReplyHeader { status: Status::Ok as u32, length: u32::MAX };
                Answer::Now([header.as_bytes(), nothing.as_bytes()].concat())
            }
            _ => Answer::Now(reply(Status::Ok as u32, nothing.as_bytes())),
        }
    }

    fn kick(&mut self, fault: Fault, number: u32) -> Answer {
        if let Some(session) = self.sessions.get_mut(&number) {
            let noise = &mut self.noise;
            let served = match fault {
                Fault::MemoryGarbage => session.region.fill(noise).map(|()| true),
                fault if fault.serves_calls() => session.lanes.serve(fault, &session.region, noise),
                _ => Ok(false),
            };
            match served {
                Ok(true) => self.events.push((EventType::Session, number)),
                Ok(false) => {}
                Err(error) => log::debug!("session {number}: {error:#}"),
            }
        }
        match fault {
            Fault::KickNever => Answer::Never,
            Fault::KickUnknown => status(Status::NoSession),
            _ => status(Status::Ok),
        }
    }
}
