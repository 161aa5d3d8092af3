//! What workers ask: tokens for what they have deposited for other processes of their VM, and images ([`super::images`]).
//!
//! A deposit lives until its session gives it back or is gone. A descriptor among them keeps memory of the GPU: so it must
//! not outlive the session, whose end is the only one that a process that died can be sure to have. (Natively, memory
//! lives on in a descriptor that was sent and not yet opened. What has been opened lives on here as well.)

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
    rand::GetRandomFlags,
};
use virtio_spec::{control::Status, limits, requests::SharedObject};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::{
    broker::{self, Answer, BYTES, Question, Want},
    packet,
    supervisor::{
        Supervisor,
        images::Images,
        session::{Owner, Session},
    },
};

/// Questions of one worker that are answered at once, before it is the others' turn.
const QUESTIONS_AT_ONCE: usize = 16;

type Bytes = [u8; BYTES];

/// Who shares handles with one another: the processes of one VM, or of one user of the local socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Circle {
    Vm,
    User(u32),
}

impl Circle {
    pub(crate) fn of(owner: Owner) -> Self {
        match owner {
            Owner::Vm => Self::Vm,
            Owner::Client { uid, .. } => Self::User(uid),
        }
    }
}

/// What a driver calls a handle for other processes.
#[derive(Clone, Debug)]
enum Secret {
    Bytes(Bytes),
    Descriptor(Arc<OwnedFd>),
}

#[derive(Debug)]
struct Deposit {
    circle: Circle,
    session: u32,
    object: SharedObject,
    secret: Secret,
}

/// Descriptors that one circle may have deposited: half of what this process may open, so that sessions can be made.
fn most_descriptors() -> u32 {
    let open = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let half = open.map_or(u32::MAX, |limit| u32::try_from(limit / 2).unwrap_or(u32::MAX));
    half.min(limits::MAX_SHARED_DESCRIPTORS)
}

/// The deposits of all sessions.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    by_token: BTreeMap<Bytes, Deposit>,
}

impl Tokens {
    /// A token for a handle; the same one for the same bytes of the same session.
    fn deposit(
        &mut self,
        owner: Owner,
        session: u32,
        object: SharedObject,
        secret: Secret,
    ) -> Result<Bytes, Status> {
        let circle = Circle::of(owner);
        if object.has_descriptor() != matches!(secret, Secret::Descriptor(_)) {
            return Err(Status::Invalid);
        }
        let (mut of_session, mut descriptors) = (0_u32, 0_u32);
        for (token, known) in &self.by_token {
            if known.circle == circle && matches!(known.secret, Secret::Descriptor(_)) {
                descriptors = descriptors.saturating_add(1);
            }
            if known.session != session {
                continue;
            }
            of_session = of_session.saturating_add(1);
            if let (Secret::Bytes(known_bytes), Secret::Bytes(bytes)) = (&known.secret, &secret)
                && known.object == object
                && known_bytes == bytes
            {
                return Ok(*token);
            }
        }
        if of_session >= limits::MAX_TOKENS || object.has_descriptor() && descriptors >= most_descriptors() {
            return Err(Status::Limit);
        }
        let mut token = [0; BYTES];
        let filled =
            rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut token, GetRandomFlags::NONBLOCK));
        if filled != Ok(BYTES) {
            return Err(Status::Failed);
        }
        self.by_token.insert(token, Deposit { circle, session, object, secret });
        Ok(token)
    }

    /// The handle behind a token of the same circle.
    fn redeem(&self, owner: Owner, object: SharedObject, token: &Bytes) -> Result<Secret, Status> {
        let found = self.by_token.get(token);
        let own = found.filter(|found| found.circle == Circle::of(owner) && found.object == object);
        own.map(|found| found.secret.clone()).ok_or(Status::Invalid)
    }

    /// Takes back what a session has deposited.
    fn give_back(&mut self, session: u32, token: &Bytes) -> Result<(), Status> {
        self.by_token.get(token).filter(|found| found.session == session).ok_or(Status::Invalid)?;
        self.by_token.remove(token);
        Ok(())
    }

    /// Forgets what a session has deposited: it is gone, and so is what stood behind its handles.
    pub(crate) fn forget(&mut self, session: u32) {
        self.by_token.retain(|_, deposit| deposit.session != session);
    }

    /// Answers a question, which may have come with a descriptor, with bytes or a descriptor.
    fn answer(
        &mut self,
        owner: Owner,
        session: u32,
        question: &Question,
        descriptor: Option<OwnedFd>,
    ) -> Result<Secret, Status> {
        let object = SharedObject::from_u32(question.object).ok_or(Status::Invalid);
        match Want::from_u32(question.want) {
            Some(Want::Deposit) => {
                let own = Secret::Bytes(question.value);
                let secret = descriptor.map_or(own, |file| Secret::Descriptor(Arc::new(file)));
                self.deposit(owner, session, object?, secret).map(Secret::Bytes)
            }
            Some(Want::Redeem) => self.redeem(owner, object?, &question.value),
            Some(Want::Forget) => {
                self.give_back(session, &question.value).map(|()| Secret::Bytes([0; BYTES]))
            }
            Some(Want::FindImage | Want::DepositImage) | None => Err(Status::Unsupported),
        }
    }
}

/// Sends an answer to a worker.
fn reply(broker: BorrowedFd<'_>, answer: Result<Secret, Status>) -> Result<(), Errno> {
    let (status, value, descriptor) = match answer {
        Ok(Secret::Bytes(value)) => (Status::Ok, value, None),
        Ok(Secret::Descriptor(file)) => (Status::Ok, [0; BYTES], Some(file)),
        Err(status) => (status, [0; BYTES], None),
    };
    let answer = Answer { status: status as u32, reserved: 0, value };
    let descriptor = descriptor.as_ref().map(|file| file.as_fd());
    packet::send(broker, answer.as_bytes(), descriptor.as_slice(), SendFlags::DONTWAIT)
}

/// The next question and the descriptor that came with it, `None` if there is none now.
fn receive(broker: BorrowedFd<'_>) -> Result<Option<(Question, Option<OwnedFd>)>, Errno> {
    let mut buffer = [0; size_of::<Question>()];
    match packet::receive(broker, &mut buffer, 1, RecvFlags::DONTWAIT) {
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error),
        Ok(None) => Err(Errno::PIPE),
        Ok(Some(mut packet)) => {
            let bytes = buffer.get(..packet.length).filter(|_| !packet.truncated).unwrap_or_default();
            let question = Question::read_from_bytes(bytes).map_err(|_| Errno::PROTO)?;
            Ok(Some((question, packet.descriptors.pop())))
        }
    }
}

/// Answers one question. `Err`: the worker is not to be listened to any more.
fn answer_question(
    tokens: &mut Tokens,
    images: &mut Images,
    session: &Session,
    number: u32,
    question: &Question,
    file: Option<OwnedFd>,
) -> Result<(), Errno> {
    let Some(broker) = session.broker() else { return Ok(()) };
    let send = |status: Status, file: &[BorrowedFd<'_>]| {
        let answer = Answer { status: status as u32, reserved: 0, value: [0; BYTES] };
        packet::send(broker, answer.as_bytes(), file, SendFlags::DONTWAIT)
    };
    let owner = session.owner;
    match (Want::from_u32(question.want), file) {
        (Some(Want::DepositImage), Some(file)) => {
            let kept = images.deposit(owner, broker::key(&question.value), file);
            send(kept.err().unwrap_or(Status::Ok), &[])
        }
        (Some(Want::Deposit), Some(file)) => {
            reply(broker, tokens.answer(owner, number, question, Some(file)))
        }
        (_, Some(file)) => {
            images.close(file);
            Err(Errno::PROTO)
        }
        (Some(Want::FindImage), None) => match images.find(owner, broker::key(&question.value)) {
            Ok(file) => send(Status::Ok, &[file]),
            Err(status) => send(status, &[]),
        },
        (_, None) => reply(broker, tokens.answer(owner, number, question, None)),
    }
}

impl Supervisor {
    /// Answers what a worker asks. One that does not keep to the questions' form, or does not read answers, is not
    /// listened to any more.
    pub(crate) fn worker_asks(&mut self, number: u32) {
        for _ in 0..QUESTIONS_AT_ONCE {
            let Some(session) = self.sessions.get_mut(&number) else { return };
            let Some(broker) = session.broker() else { return };
            let done = match receive(broker) {
                Ok(None) => return,
                Ok(Some((question, file))) => {
                    answer_question(&mut self.tokens, &mut self.images, session, number, &question, file)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                log::debug!("session {number}: no more tokens: {error}");
                self.poller.remove(broker);
                session.close_broker();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: Owner = Owner::Vm;
    const USER: Owner = Owner::Client { client: 1, uid: 1000 };
    const SAME_USER: Owner = Owner::Client { client: 2, uid: 1000 };
    const OTHER_USER: Owner = Owner::Client { client: 3, uid: 1001 };

    fn bytes(value: u8) -> Secret {
        Secret::Bytes([value; BYTES])
    }

    fn is_bytes(found: Result<Secret, Status>, value: u8) -> bool {
        matches!(found, Ok(Secret::Bytes(found)) if found == [value; BYTES])
    }

    fn descriptor() -> Secret {
        Secret::Descriptor(Arc::new(packet::pair().unwrap().0))
    }

    #[test]
    fn a_token_leads_to_the_handle_in_its_own_circle_only() {
        let memory = SharedObject::Memory;
        let mut tokens = Tokens::default();
        let of_vm = tokens.deposit(VM, 1, memory, bytes(7)).unwrap();
        let of_user = tokens.deposit(USER, 2, memory, bytes(8)).unwrap();
        assert!(is_bytes(tokens.redeem(VM, memory, &of_vm), 7));
        assert!(is_bytes(tokens.redeem(SAME_USER, memory, &of_user), 8));
        for stranger in [USER, OTHER_USER] {
            assert!(matches!(tokens.redeem(stranger, memory, &of_vm), Err(Status::Invalid)));
        }
        for stranger in [VM, OTHER_USER] {
            assert!(matches!(tokens.redeem(stranger, memory, &of_user), Err(Status::Invalid)));
        }
        let event = tokens.redeem(VM, SharedObject::Event, &of_vm);
        assert!(matches!(event, Err(Status::Invalid)), "a token of memory opens an event");
        assert!(
            matches!(tokens.redeem(VM, memory, &[7; BYTES]), Err(Status::Invalid)),
            "a handle is no token"
        );
    }

    #[test]
    fn one_handle_has_one_token_and_a_session_not_too_many() {
        let memory = SharedObject::Memory;
        let mut tokens = Tokens::default();
        let handle = |number: u32| {
            let mut handle = [0; BYTES];
            handle[..4].copy_from_slice(&number.to_le_bytes());
            Secret::Bytes(handle)
        };
        let first = tokens.deposit(VM, 1, memory, handle(0)).unwrap();
        assert_eq!(tokens.deposit(VM, 1, memory, handle(0)), Ok(first));
        assert_ne!(tokens.deposit(VM, 2, memory, handle(0)), Ok(first));
        for number in 1..limits::MAX_TOKENS {
            assert!(tokens.deposit(VM, 1, memory, handle(number)).is_ok());
        }
        assert_eq!(tokens.deposit(VM, 1, memory, handle(u32::MAX)), Err(Status::Limit));
        tokens.forget(1);
        assert!(matches!(tokens.redeem(VM, memory, &first), Err(Status::Invalid)));
        assert_eq!(tokens.by_token.len(), 1);
    }

    #[test]
    fn descriptors_are_kept_until_they_are_given_back() {
        let mut tokens = Tokens::default();
        let secret = descriptor();
        let Secret::Descriptor(file) = &secret else { unreachable!() };
        let held = Arc::downgrade(file);
        let token = tokens.deposit(VM, 1, SharedObject::Physical, secret).unwrap();
        assert!(matches!(tokens.redeem(VM, SharedObject::Physical, &token), Ok(Secret::Descriptor(_))));
        assert!(matches!(tokens.redeem(VM, SharedObject::Pool, &token), Err(Status::Invalid)));
        assert_eq!(tokens.give_back(2, &token), Err(Status::Invalid), "another session's");
        assert_eq!(tokens.give_back(1, &token), Ok(()));
        assert_eq!(tokens.give_back(1, &token), Err(Status::Invalid));
        assert!(held.upgrade().is_none(), "the descriptor is still open");
    }

    #[test]
    fn what_is_a_descriptor_and_what_is_not_is_kept_apart() {
        let mut tokens = Tokens::default();
        assert_eq!(tokens.deposit(VM, 1, SharedObject::Physical, bytes(1)), Err(Status::Invalid));
        assert_eq!(tokens.deposit(VM, 1, SharedObject::Memory, descriptor()), Err(Status::Invalid));
        assert!(tokens.by_token.is_empty());
    }
}
