//! STATUS: what the devices are doing, asked without a session.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use protocol_tests::{
    PATIENCE,
    backend::Backend,
    local::Client,
    message::{self, Reply},
};
use virtio_spec::{
    control::{Status, Type},
    management::{Live, Quantities, StatusReply},
};
use zerocopy::FromBytes as _;

/// Asks until there is something to say.
fn status(client: &Client) -> Result<Reply> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let reply = client.ask(&message::status(), &[])?;
        if reply.status != Status::Again {
            return Ok(reply);
        }
        std::thread::yield_now();
    }
    bail!("there is nothing to say")
}

#[test]
fn status_is_answered_without_a_session() -> Result<()> {
    let backend = Backend::start()?;
    let client = Client::connect(&backend.local_socket())?;
    for _ in 0..2 {
        let reply = status(&client)?;
        ensure!(reply.status == Status::Ok, "{reply:?}");
        let (head, rest) = StatusReply::read_from_prefix(&reply.payload).ok().context("a head")?;
        assert_eq!(
            (head.device_count, head.process_count),
            (1, 0),
            "a client without a session is no process"
        );
        let numbers = Quantities::read_from_bytes(rest).ok().context("one device")?;
        assert!(numbers.live(Live::MemoryFree).is_some());
        assert_eq!(numbers.live(Live::Temperature), None, "the host's NVML knows nothing of the stub");
    }
    Ok(())
}

#[test]
fn status_is_of_no_session_and_has_no_body() -> Result<()> {
    let backend = Backend::start()?;
    let client = Client::connect(&backend.local_socket())?;
    for packet in [message::request(Type::Status, 1, &[]), message::request(Type::Status, 0, &[&[0; 4]])] {
        assert_eq!(client.ask(&packet, &[])?.status, Status::Invalid);
    }
    ensure!(status(&client)?.status == Status::Ok, "the connection goes on");
    Ok(())
}
