//! What the supervisor's thread waits for.

use std::{
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{Timespec, epoll},
    io::{Errno, Result},
};

/// Where an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The vhost-user threads have put something into the mailbox.
    Mailbox,
    /// The spawner has answered.
    Spawner,
    /// The discovery process has written something.
    Discovery,
    /// A client connects to the local socket.
    Listener,
    /// A worker has answered.
    Link(u32),
    /// A worker has ended.
    Worker(u32),
    /// A worker wakes its guest.
    Call(u32),
    /// A client of the local socket has sent something, or has gone.
    Client(u64),
    /// The discovery process has ended.
    DiscoveryEnd,
    /// The monitor has answered.
    Monitor,
    /// The monitor has ended.
    MonitorEnd,
    /// A worker asks for a token, or for what is behind one.
    Broker(u32),
}

const ID_BITS: u32 = 56;

impl Source {
    fn encode(self) -> u64 {
        let (kind, id) = match self {
            Self::Mailbox => (0, 0),
            Self::Spawner => (1, 0),
            Self::Discovery => (2, 0),
            Self::Listener => (3, 0),
            Self::Link(id) => (4, id.into()),
            Self::Worker(id) => (5, id.into()),
            Self::Call(id) => (6, id.into()),
            Self::Client(id) => (7, id),
            Self::DiscoveryEnd => (8, 0),
            Self::Monitor => (9, 0),
            Self::MonitorEnd => (10, 0),
            Self::Broker(id) => (11, id.into()),
        };
        (kind << ID_BITS) | id
    }

    fn decode(value: u64) -> Option<Self> {
        let id = value & ((1 << ID_BITS) - 1);
        let session = u32::try_from(id).ok();
        Some(match value >> ID_BITS {
            0 => Self::Mailbox,
            1 => Self::Spawner,
            2 => Self::Discovery,
            3 => Self::Listener,
            4 => Self::Link(session?),
            5 => Self::Worker(session?),
            6 => Self::Call(session?),
            7 => Self::Client(id),
            8 => Self::DiscoveryEnd,
            9 => Self::Monitor,
            10 => Self::MonitorEnd,
            11 => Self::Broker(session?),
            _ => return None,
        })
    }
}

/// An epoll instance, level-triggered.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

/// What is waited for besides the end of the peer, which is always reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    Nothing,
    Read,
    ReadAndWrite,
}

impl Interest {
    fn flags(self) -> epoll::EventFlags {
        match self {
            Self::Nothing => epoll::EventFlags::empty(),
            Self::Read => epoll::EventFlags::IN,
            Self::ReadAndWrite => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        }
    }
}

impl Poller {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, events: Vec::with_capacity(64) })
    }

    pub(crate) fn add(&self, descriptor: impl AsFd, source: Source, interest: Interest) -> Result<()> {
        epoll::add(&self.epoll, descriptor, epoll::EventData::new_u64(source.encode()), interest.flags())
    }

    pub(crate) fn change(&self, descriptor: impl AsFd, source: Source, interest: Interest) {
        let data = epoll::EventData::new_u64(source.encode());
        if let Err(error) = epoll::modify(&self.epoll, descriptor, data, interest.flags()) {
            log::error!("{source:?} cannot be waited for any more: {error}");
        }
    }

    /// Has to be called for descriptors that another process has too: closing them here does not end the wait.
    pub(crate) fn remove(&self, descriptor: impl AsFd) {
        if let Err(error) = epoll::delete(&self.epoll, descriptor)
            && error != Errno::NOENT
        {
            log::error!("epoll: {error}");
        }
    }

    /// Waits until something happens or `deadline` has come.
    pub(crate) fn wait(&mut self, deadline: Option<Instant>) -> Result<Vec<Source>> {
        let timeout = deadline.map(|deadline| {
            // One more millisecond, so that the deadline has come when the wait ends.
            let left =
                deadline.saturating_duration_since(Instant::now()).saturating_add(Duration::from_millis(1));
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        Ok(self.events.iter().filter_map(|event| Source::decode(event.data.u64())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_survive_the_kernel() {
        for source in [
            Source::Mailbox,
            Source::Link(u32::MAX),
            Source::Worker(1),
            Source::Call(7),
            Source::Client(1 << 40),
            Source::DiscoveryEnd,
        ] {
            assert_eq!(Source::decode(source.encode()), Some(source));
        }
        assert_eq!(Source::decode(u64::MAX), None);
    }
}
