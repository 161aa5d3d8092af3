//! Programs that people use, on the library: pynvml, gpustat, nvitop, nvtop.
//!
//! They are installed from PyPI into the build's folder once; without a network, without Python or without the programs
//! of the build the test says so and ends.

mod backend;

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use backend::{Backend, built, missing};

/// Python with the clients, or why there is none.
fn python() -> Result<PathBuf, String> {
    let folder = built().join("nvml-clients");
    let python = folder.join("bin/python");
    let run = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    };
    if run(Command::new(&python).args(["-c", "import pynvml, gpustat, nvitop"])).is_err() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let packages = ["nvidia-ml-py", "gpustat", "nvitop"];
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--timeout", "10"])
            .args(packages))?;
    }
    Ok(python)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn clients_run() {
    let needed = ["vhost-user-compute", "libsoft_gpu.so", "libcuda.so", "libvcompute.so", "libnvidia_ml.so"];
    if let Some(path) = missing(&needed) {
        return eprintln!("skipped: {path} is not built");
    }
    let python = match python() {
        Ok(python) => python,
        Err(why) => return eprintln!("skipped: the clients cannot be installed: {why}"),
    };
    let folder = std::env::temp_dir().join(format!("nvml-clients-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, file) in [("libcuda.so.1", "libcuda.so"), ("libnvidia-ml.so.1", "libnvidia_ml.so")] {
        symlink(built().join(file), folder.join(name)).expect("a link");
    }
    let backend = Backend::start(&folder);
    let run = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .env("LD_LIBRARY_PATH", &folder)
            .env(virtio_spec::local::SOCKET_VARIABLE, &backend.socket)
            .env("TERM", "xterm")
            .output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        assert!(output.status.success(), "{} {arguments:?}: {}", program.display(), text(&output));
        text(&output)
    };

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/nvml/client.py");
    let said = run(&python, &[&script.to_string_lossy()]);
    assert!(said.contains("pynvml agrees with CUDA"), "{said}");
    let said = run(&python, &["-m", "gpustat", "--json"]);
    assert!(said.contains("software GPU") && said.contains("memory.total"), "{said}");
    let said = run(&python, &["-m", "nvitop", "--once"]);
    assert!(said.contains("CUDA Driver Version") && said.contains("software GPU"), "{said}");
    if Path::new("/usr/bin/nvtop").exists() {
        let said = run(Path::new("/usr/bin/nvtop"), &["--snapshot"]);
        assert!(said.contains("software GPU"), "{said}");
    } else {
        eprintln!("skipped for nvtop: it is not installed");
    }
    drop(backend);
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}
