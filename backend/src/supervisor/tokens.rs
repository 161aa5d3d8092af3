//! What workers ask: tokens for what they have deposited for other processes of their VM, and images ([`super::images`]).

use std::{
    collections::BTreeMap,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
    rand::GetRandomFlags,
};
use virtio_spec::{control::Status, limits};
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

#[derive(Clone, Copy, Debug)]
struct Deposit {
    circle: Circle,
    session: u32,
    object: u32,
    handle: Bytes,
}

/// The deposits of all sessions.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    by_token: BTreeMap<Bytes, Deposit>,
}

impl Tokens {
    /// A token for a handle; the same one for the same handle of the same session.
    fn deposit(&mut self, owner: Owner, session: u32, object: u32, handle: Bytes) -> Result<Bytes, Status> {
        let mut count = 0_u32;
        for (token, known) in self.by_token.iter().filter(|(_, known)| known.session == session) {
            if known.object == object && known.handle == handle {
                return Ok(*token);
            }
            count = count.saturating_add(1);
        }
        if count >= limits::MAX_TOKENS {
            return Err(Status::Limit);
        }
        let mut token = [0; BYTES];
        let filled =
            rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut token, GetRandomFlags::NONBLOCK));
        if filled != Ok(BYTES) {
            return Err(Status::Failed);
        }
        self.by_token.insert(token, Deposit { circle: Circle::of(owner), session, object, handle });
        Ok(token)
    }

    /// The handle behind a token of the same circle.
    fn redeem(&self, owner: Owner, object: u32, token: &Bytes) -> Result<Bytes, Status> {
        let found = self.by_token.get(token);
        let own = found.filter(|found| found.circle == Circle::of(owner) && found.object == object);
        own.map(|found| found.handle).ok_or(Status::Invalid)
    }

    /// Forgets what a session has deposited: it is gone, and so is what stood behind its handles.
    pub(crate) fn forget(&mut self, session: u32) {
        self.by_token.retain(|_, deposit| deposit.session != session);
    }

    fn answer(&mut self, owner: Owner, session: u32, question: &Question) -> Answer {
        let result = match Want::from_u32(question.want) {
            Some(Want::Deposit) => self.deposit(owner, session, question.object, question.value),
            Some(Want::Redeem) => self.redeem(owner, question.object, &question.value),
            Some(Want::FindImage | Want::DepositImage) | None => Err(Status::Unsupported),
        };
        match result {
            Ok(value) => answer(Status::Ok, value),
            Err(status) => answer(status, [0; BYTES]),
        }
    }
}

fn answer(status: Status, value: Bytes) -> Answer {
    Answer { status: status as u32, reserved: 0, value }
}

/// The next question and the file that came with it, `None` if there is none now.
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
    let send = |answer: Answer, files: &[BorrowedFd<'_>]| {
        packet::send(broker, answer.as_bytes(), files, SendFlags::DONTWAIT)
    };
    let owner = session.owner;
    match (Want::from_u32(question.want), file) {
        (Some(Want::DepositImage), Some(file)) => {
            let kept = images.deposit(owner, broker::key(&question.value), file);
            send(answer(kept.err().unwrap_or(Status::Ok), [0; BYTES]), &[])
        }
        (_, Some(file)) => {
            images.close(file);
            Err(Errno::PROTO)
        }
        (Some(Want::FindImage), None) => match images.find(owner, broker::key(&question.value)) {
            Ok(file) => send(answer(Status::Ok, [0; BYTES]), &[file]),
            Err(status) => send(answer(status, [0; BYTES]), &[]),
        },
        (_, None) => send(tokens.answer(owner, number, question), &[]),
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

    #[test]
    fn a_token_leads_to_the_handle_in_its_own_circle_only() {
        let mut tokens = Tokens::default();
        let (of_vm, of_user) = (tokens.deposit(VM, 1, 1, [7; BYTES]), tokens.deposit(USER, 2, 1, [8; BYTES]));
        let (of_vm, of_user) = (of_vm.unwrap(), of_user.unwrap());
        assert_eq!(tokens.redeem(VM, 1, &of_vm), Ok([7; BYTES]));
        assert_eq!(tokens.redeem(SAME_USER, 1, &of_user), Ok([8; BYTES]));
        for stranger in [USER, OTHER_USER] {
            assert_eq!(tokens.redeem(stranger, 1, &of_vm), Err(Status::Invalid));
        }
        for stranger in [VM, OTHER_USER] {
            assert_eq!(tokens.redeem(stranger, 1, &of_user), Err(Status::Invalid));
        }
        assert_eq!(tokens.redeem(VM, 2, &of_vm), Err(Status::Invalid), "an event's token opens no memory");
        assert_eq!(tokens.redeem(VM, 1, &[7; BYTES]), Err(Status::Invalid), "a handle is no token");
    }

    #[test]
    fn one_handle_has_one_token_and_a_session_not_too_many() {
        let mut tokens = Tokens::default();
        let handle = |number: u32| {
            let mut handle = [0; BYTES];
            handle[..4].copy_from_slice(&number.to_le_bytes());
            handle
        };
        let first = tokens.deposit(VM, 1, 1, handle(0)).unwrap();
        assert_eq!(tokens.deposit(VM, 1, 1, handle(0)), Ok(first));
        assert_ne!(tokens.deposit(VM, 2, 1, handle(0)), Ok(first));
        for number in 1..limits::MAX_TOKENS {
            assert!(tokens.deposit(VM, 1, 1, handle(number)).is_ok());
        }
        assert_eq!(tokens.deposit(VM, 1, 1, handle(u32::MAX)), Err(Status::Limit));
        tokens.forget(1);
        assert_eq!(tokens.redeem(VM, 1, &first), Err(Status::Invalid));
        assert_eq!(tokens.by_token.len(), 1);
    }
}
