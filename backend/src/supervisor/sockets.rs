//! The two sockets, bound.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::{fs::FileTypeExt as _, net::UnixListener},
    },
    path::Path,
};

use rustix::{
    fs::Mode,
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

use crate::{config::Config, supervisor::SupervisorError};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// The sockets that are listened on.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// QEMU's.
    pub(crate) vhost_user: Option<UnixListener>,
    /// The local socket; non-blocking.
    pub(crate) local: Option<OwnedFd>,
}

impl Listeners {
    /// Binds what the configuration names. Called while the process has one thread: the mask of new files is the
    /// process's.
    pub(crate) fn bind(config: &Config) -> Result<Self, SupervisorError> {
        // For owner and group: 0660.
        let before = rustix::process::umask(Mode::XUSR | Mode::XGRP | Mode::RWXO);
        let vhost_user = config
            .socket_path
            .as_deref()
            .map(|path| bind(path, SocketType::STREAM, SocketFlags::CLOEXEC).map(UnixListener::from));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let local = config.local_socket.as_deref().map(|path| bind(path, SocketType::SEQPACKET, flags));
        rustix::process::umask(before);
        Ok(Self { vhost_user: vhost_user.transpose()?, local: local.transpose()? })
    }
}

fn bind(path: &Path, kind: SocketType, flags: SocketFlags) -> Result<OwnedFd, SupervisorError> {
    let failed = |error: Errno| SupervisorError::Listen(path.to_owned(), io::Error::from(error));
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    let make = || rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None).map_err(failed);
    let mut socket = make()?;
    match rustix::net::bind(&socket, &address) {
        Err(Errno::ADDRINUSE) => {
            remove_stale(path, &address, kind)?;
            socket = make()?;
            rustix::net::bind(&socket, &address).map_err(failed)?;
        }
        other => other.map_err(failed)?,
    }
    rustix::net::listen(&socket, BACKLOG).map_err(failed)?;
    log::info!("listening on {}", path.display());
    Ok(socket)
}

/// Removes a socket that a process has left behind: nobody listens on it any more.
fn remove_stale(path: &Path, address: &SocketAddrUnix, kind: SocketType) -> Result<(), SupervisorError> {
    let failed = |error: io::Error| SupervisorError::Listen(path.to_owned(), error);
    let metadata = std::fs::symlink_metadata(path).map_err(failed)?;
    if !metadata.file_type().is_socket() {
        return Err(SupervisorError::NoSocket(path.to_owned()));
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)
        .map_err(|error| failed(error.into()))?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path).map_err(failed),
        _ => Err(SupervisorError::InUse(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt as _,
        sync::{Mutex, MutexGuard, PoisonError},
    };

    use super::*;

    /// The mask of new files is the process's, and these tests share one.
    fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn config(folder: &Path) -> Config {
        Config {
            socket_path: Some(folder.join("vm.sock")),
            local_socket: Some(folder.join("local.sock")),
            drivers: Vec::new(),
            gpus: None,
            log: String::new(),
            limits: crate::config::Limits::default(),
            warm: crate::config::Warm::default(),
            images: crate::config::Images::default(),
            spin: crate::config::Spin::default(),
        }
    }

    #[test]
    fn sockets_are_for_owner_and_group_and_replace_only_stale_ones() {
        let _alone = alone();
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let listeners = Listeners::bind(&config).unwrap();
        for path in [&config.socket_path, &config.local_socket] {
            let mode = std::fs::metadata(path.as_ref().unwrap()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o660);
        }
        assert!(matches!(Listeners::bind(&config), Err(SupervisorError::InUse(_))));
        drop(listeners);
        Listeners::bind(&config).unwrap();
    }

    #[test]
    fn a_file_is_never_replaced() {
        let _alone = alone();
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        std::fs::write(config.socket_path.as_ref().unwrap(), b"precious").unwrap();
        assert!(matches!(Listeners::bind(&config), Err(SupervisorError::NoSocket(_))));
    }
}
