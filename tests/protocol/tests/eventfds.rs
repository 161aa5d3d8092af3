//! Eventfds that a front-end passes and then uses in ways of its own. The device's thread for kicks must outlive all of
//! it: without it the VM's device is dead, and nobody is told. (This file contains unsafe code: it makes an eventfd of
//! something that is none.)

use std::{
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Result;
use protocol_tests::{
    backend::Backend,
    message,
    vm::{self, Vm},
};
use rustix::fs::OFlags;
use vhost::VhostBackend as _;
use virtio_spec::control::Status;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

fn greeted(backend: &Backend) -> Result<Vm> {
    let mut vm = Vm::start(&backend.vm_socket())?;
    assert_eq!(vm.ask(&message::hello(1))?.status, Status::Ok);
    Ok(vm)
}

/// Both queues still work.
fn still_works(backend: &mut Backend, vm: &mut Vm) -> Result<()> {
    let session = vm.create_session(vm::page(0))?;
    backend.kill_worker()?;
    assert_eq!(vm.event()?.session, session);
    for _ in 0..10 {
        assert_eq!(vm.ask(&message::device_info(0, 16))?.status, Status::Ok);
    }
    backend.is_alive()
}

#[test]
fn a_kick_eventfd_can_be_replaced_while_its_queue_runs() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let new = EventFd::new(EFD_NONBLOCK)?;
        vm.frontend.set_vring_kick(0, &new)?;
        let old = std::mem::replace(&mut vm.control.kick, new);
        // The device still waits for it, and finds nothing in the new one.
        old.write(1)?;
        kept.push(old);
        assert_eq!(vm.ask(&message::device_info(0, 16))?.status, Status::Ok, "the new one is heard");
    }
    for old in &kept {
        old.write(1)?;
    }
    still_works(&mut backend, &mut vm)
}

#[test]
fn kicks_that_somebody_else_reads_hurt_nobody() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let thief = vm.control.kick.try_clone()?;
        let stop = &stop;
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // Most often there is nothing to read, or the device was quicker.
                let _stolen = thief.read();
            }
        });
        for _ in 0..20_000 {
            vm.control.kick.write(1)?;
        }
        stop.store(true, Ordering::Relaxed);
        Ok(())
    })?;
    assert_eq!(vm.ask(&message::device_info(0, 16))?.status, Status::Ok);
    still_works(&mut backend, &mut vm)
}

#[test]
fn eventfds_that_block_are_made_not_to() -> Result<()> {
    let backend = Backend::start()?;
    let mut vm = Vm::connect(&backend.vm_socket())?;
    vm.control.kick = EventFd::new(0)?;
    vm.control.call = EventFd::new(0)?;
    vm.negotiate()?;
    vm.start_queues()?;
    // A reply to a message that came later says that the eventfds have arrived.
    vm.config()?;
    for eventfd in [&vm.control.kick, &vm.control.call] {
        // SAFETY: it stays open for as long as it is borrowed.
        let borrowed = unsafe { BorrowedFd::borrow_raw(eventfd.as_raw_fd()) };
        assert!(rustix::fs::fcntl_getfl(borrowed)?.contains(OFlags::NONBLOCK));
    }
    Ok(())
}

#[test]
fn what_is_no_eventfd_is_not_used() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    let (reader, writer) = std::io::pipe()?;
    // SAFETY: the descriptor is passed on, and nobody else owns it.
    let fake = unsafe { EventFd::from_raw_fd(reader.into_raw_fd()) };
    vm.frontend.set_vring_kick(0, &fake)?;
    vm.frontend.set_vring_call(0, &fake)?;
    drop(writer);
    backend.wait_for_line("no eventfd")?;
    vm.config()?;
    vm.frontend.set_vring_kick(0, &vm.control.kick)?;
    vm.frontend.set_vring_call(0, &vm.control.call)?;
    assert_eq!(vm.ask(&message::device_info(0, 16))?.status, Status::Ok);
    still_works(&mut backend, &mut vm)
}
