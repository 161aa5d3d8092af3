//! The backend with the software GPU, as a process of a test.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Where the build puts programs and libraries.
pub(crate) fn built() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors().nth(2).expect("target/<profile>/deps/<test>").to_owned()
}

/// A running backend; it ends with this.
pub(crate) struct Backend {
    process: Child,
    pub(crate) socket: PathBuf,
}

impl Backend {
    /// Starts it with its socket in `folder`, and waits until it has its device.
    pub(crate) fn start(folder: &Path) -> Self {
        for name in ["vhost-user-compute", "libsoft_gpu.so"] {
            let path = built().join(name);
            assert!(
                path.exists(),
                "{} is needed: cargo build -p vhost-user-compute -p soft-gpu",
                path.display()
            );
        }
        let socket = folder.join("socket");
        let mut process = Command::new(built().join("vhost-user-compute"))
            .args(["--driver", "soft", "--local-socket"])
            .arg(&socket)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the backend starts");
        let mut lines = BufReader::new(process.stderr.take().expect("a pipe")).lines();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| line.contains("Ready"));
        assert!(ready, "the backend has ended before it had a device");
        // Whatever it says from now on must not stop it.
        std::thread::spawn(move || lines.map_while(Result::ok).count());
        Self { process, socket }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.process.kill();
        let _reaped = self.process.wait();
    }
}
