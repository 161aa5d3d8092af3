//! Tests of a session against a worker that is the test itself, and does not do what a worker should.

use zerocopy::IntoBytes as _;

use super::*;

/// A session that has been told to start, and the worker's end of its link.
fn session() -> (Session, OwnedFd) {
    let (link, worker) = packet::pair().unwrap();
    let kick = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    let mut session =
        Session::new(Owner::Client { client: 1, uid: 0 }, 7, link, Arc::new(File::from(kick)), None);
    session.start(4096, 1, Backing::default(), Ticket::Client(1));
    (session, worker)
}

fn command(worker: &OwnedFd) -> (Kind, Command) {
    let mut buffer = vec![0; link::MAX_BYTES];
    let packet = packet::receive(worker, &mut buffer, 8, RecvFlags::DONTWAIT).unwrap().unwrap();
    let (kind, command, _) = link::decode(&buffer[..packet.length]).unwrap();
    (kind, command)
}

fn reply(worker: &OwnedFd, bytes: &[u8]) {
    packet::send(worker, bytes, &[], SendFlags::DONTWAIT).unwrap();
}

fn answer(worker: &OwnedFd, token: u32, status: Status) {
    reply(worker, link::Reply { token, status: status as u32 }.as_bytes());
}

#[test]
fn a_worker_that_answers_is_believed_once() {
    let (mut session, worker) = session();
    let (kind, start) = command(&worker);
    assert_eq!(kind, Kind::Start);
    answer(&worker, start.token, Status::Ok);
    assert!(matches!(session.receive(), Some(Answered::Started(Ticket::Client(1)))));
    assert!(!session.is_busy() && !session.is_starting());
    assert_eq!(session.deadline(), None);
    answer(&worker, start.token, Status::Ok);
    assert!(session.receive().is_none());
    assert_eq!(session.phase, Phase::Ending, "the same answer twice ends the worker");
}

#[test]
fn what_is_no_answer_ends_the_worker() {
    let (_, sound) = (0, link::Reply { token: 1, status: 0 });
    let long = [sound.as_bytes(), &[0]].concat();
    let unknown_token = link::Reply { token: 99, ..sound };
    let unknown_status = link::Reply { status: 99, ..sound };
    for bytes in [&long, &sound.as_bytes()[..7], unknown_token.as_bytes(), unknown_status.as_bytes()] {
        let (mut session, worker) = session();
        reply(&worker, bytes);
        assert!(session.receive().is_none());
        assert_eq!(session.phase, Phase::Ending, "{bytes:?}");
        let tickets: Vec<Status> =
            session.into_tickets(Status::NoMemory).into_iter().map(|(_, status)| status).collect();
        assert!(matches!(tickets[..], [Status::NoMemory] | []), "{tickets:?}");
    }
}

#[test]
fn descriptors_of_a_worker_end_it() {
    let (mut session, worker) = session();
    let sound = link::Reply { token: 1, status: 0 };
    packet::send(&worker, sound.as_bytes(), &[worker.as_fd()], SendFlags::DONTWAIT).unwrap();
    assert!(session.receive().is_none());
    assert_eq!(session.phase, Phase::Ending);
}

#[test]
fn the_end_of_the_link_ends_the_worker() {
    let (mut session, worker) = session();
    drop(worker);
    assert!(session.receive().is_none());
    assert!(session.link_ended);
    assert_eq!(session.phase, Phase::Ending);
    assert!(session.end_is_news(), "nobody has asked for it");
}

#[test]
fn a_worker_that_takes_nothing_holds_nobody_up() {
    let (mut session, worker) = session();
    let mut waiting = 0;
    for region in 1..=1000 {
        let part = Part { region, read_only: false, address: 0, length: 4096, extents: 1, bytes: 4096 };
        let pieces = vec![Piece { file: 0, reserved: 0, offset: 0, length: 4096 }; 2000];
        let add = |backing: &mut Backing| {
            backing.pieces = pieces;
            Ok(4096)
        };
        assert!(matches!(session.map(&part, add, Ticket::Client(1)), Ok(None)));
        waiting = region;
        if session.has_unsent() {
            break;
        }
    }
    assert!(session.has_unsent(), "the socket has taken {waiting} commands");
    // What waits comes in order when the worker reads again.
    let mut last = command(&worker).1.token;
    while session.has_unsent() {
        session.flush();
        let token = command(&worker).1.token;
        assert_eq!(token, last + 1);
        last = token;
    }
}

#[test]
fn lateness_is_noticed_when_it_is_due() {
    let (mut session, worker) = session();
    let (_, start) = command(&worker);
    answer(&worker, start.token, Status::Ok);
    session.receive();
    session.pause();
    let due = session.deadline().unwrap();
    assert!(!session.expire(due - Duration::from_millis(1)));
    assert_eq!(session.phase, Phase::Pausing);
    assert!(session.expire(due));
    assert_eq!(session.phase, Phase::Ending);
    assert!(session.deadline().is_some(), "whoever should start the worker is waited for no longer either");
}

#[test]
fn a_pause_is_over_when_the_worker_says_so_and_can_be_ended() {
    let (mut session, worker) = session();
    let (_, start) = command(&worker);
    answer(&worker, start.token, Status::Ok);
    session.receive();
    session.pause();
    session.pause();
    let (kind, pause) = command(&worker);
    assert_eq!(kind, Kind::Pause);
    answer(&worker, pause.token, Status::Ok);
    assert!(matches!(session.receive(), Some(Answered::Paused)));
    assert_eq!((session.phase, session.deadline()), (Phase::Paused, None));
    session.resume();
    assert_eq!(command(&worker).0, Kind::Resume);
    session.end();
    session.resume();
    assert_eq!(command(&worker).0, Kind::Stop);
    assert_eq!(session.phase, Phase::Ending);
    assert!(!session.end_is_news());
}
