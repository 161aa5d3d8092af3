//! Kernels of other people's compilers, and NVIDIA's runtimes, on the software GPU through the library and the local
//! transport: numba, CuPy, clang's NVPTX back-end, nvcc, and the shared runtimes from CUDA 11.8 on (`tests/compat/ci/`).
//!
//! What they need is fetched once, in pinned versions: Debian's clang, and packages of PyPI.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use qemu::Places;
use qemu::debian::Root;
use qemu::debian::root::Recipe;

use crate::artifacts::Artifacts;
use crate::backend::Backend;
use crate::counts::Counts;
use crate::prerequisites;
use crate::process::{self, Finished};
use crate::steps::Steps;
use crate::suite;
use crate::wheels::{self, Wheels};

const LIMIT: Duration = Duration::from_secs(300);

/// Shared runtimes, each of a file in `requirements/`.
const RUNTIMES: &[&str] = &["11.8", "12.1", "12.4", "12.8", "12.9", "13.0", "13.2"];

/// Programs of the compatibility suite that need nothing which the software GPU lacks; what they print is in `expected/`.
const NVCC_CASES: &[&str] =
    &["rt_basics", "rt_graphs", "rt_managed_variable", "rt_memory", "rt_shared", "rt_textures", "rt_threads"];

/// Large files of the compilers' packages that are not used: machine code is not made, and one NVRTC is enough.
const UNWANTED: &[&str] = &["ptxas", "libnvrtc.alt", "libnvrtc-builtins.alt", "libnvrtc_static"];

/// The compiler, the libraries that it is linked with, and theirs.
const CLANG: Recipe<'static> = Recipe {
    name: "clang",
    suites: &["bookworm"],
    packages: &["clang-14"],
    only: Some(&[
        "clang-14",
        "libbsd0",
        "libc6",
        "libclang-cpp14",
        "libedit2",
        "libffi8",
        "libgcc-s1",
        "libicu72",
        "libllvm14",
        "liblzma5",
        "libmd0",
        "libstdc++6",
        "libtinfo6",
        "libxml2",
        "libz3-4",
        "zlib1g",
    ]),
    files: &["*/bin/clang", "*.so*"],
};

/// All of them.
pub(super) fn run(places: &Places, artifacts: &Artifacts, steps: &mut Steps) {
    let here = Here::new(places, artifacts);
    let comparisons = "the compatibility suite's comparisons";
    if prerequisites::is_there("python3") {
        steps.step(comparisons, || here.comparisons());
    } else {
        steps.skip(comparisons, "there is no python3");
    }
    let mut texts = None;
    steps.step("kernels by clang: local transport", || {
        let compiled = here.clang()?;
        let counts = here.clang_programs(&compiled)?;
        texts = Some(compiled);
        Ok(counts)
    });
    let rest = [
        "kernels by numba: local transport",
        "kernels by CuPy: local transport",
        "programs by nvcc: local transport",
        "CUDA runtimes: local transport",
    ];
    if let Some(reason) = wheels::obstacle() {
        for name in rest {
            steps.skip(name, &reason);
        }
        return;
    }
    let [numba, cupy, nvcc, runtimes] = rest;
    steps.step(numba, || here.python("numba_programs.py"));
    steps.step(cupy, || here.python("cupy_programs.py"));
    if prerequisites::is_there("g++") {
        steps.step(nvcc, || here.nvcc());
    } else {
        steps.skip(nvcc, "nvcc needs g++ for the host's part");
    }
    match texts.as_deref() {
        Some([.., text]) => drop(steps.step(runtimes, || here.runtimes(text))),
        _ => steps.skip(runtimes, "clang did not compile its kernels"),
    }
}

/// Where things are.
struct Here<'a> {
    places: &'a Places,
    artifacts: &'a Artifacts,
    /// `tests/compat`.
    suite: PathBuf,
    /// `tests/compat/ci`.
    sources: PathBuf,
    work: PathBuf,
}

impl<'a> Here<'a> {
    fn new(places: &'a Places, artifacts: &'a Artifacts) -> Self {
        let suite = places.workspace().join("tests/compat");
        let sources = suite.join("ci");
        Self { places, artifacts, suite, sources, work: places.guest().join("logs/compilers") }
    }

    /// What the suite calls equal; its programs themselves need a GPU.
    fn comparisons(&self) -> Result<Counts> {
        let mut command = Command::new("python3");
        command.arg("-B").arg(self.suite.join("test_run.py"));
        self.quietly(&mut command, "test_run.py")?;
        Ok(Counts::one(true))
    }

    /// The kernels as PTX, without and with optimisation.
    fn clang(&self) -> Result<Vec<PathBuf>> {
        let root = Root::open_or_make(&self.places.debian(), &CLANG)?.path;
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        fs::create_dir_all(&self.work)?;
        let mut texts = Vec::new();
        for level in ["O0", "O2"] {
            let text = self.work.join(format!("kernels-{level}.ptx"));
            let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
            command
                .arg("--library-path")
                .arg(&libraries)
                .arg(root.join("usr/lib/llvm-14/bin/clang"))
                .args([
                    "-x",
                    "cuda",
                    "--cuda-device-only",
                    "--cuda-gpu-arch=sm_70",
                    "-nocudainc",
                    "-nocudalib",
                ])
                .args(["-Wall", "-Wextra", "-Wno-sign-compare", "-Werror", &format!("-{level}"), "-S", "-o"])
                .arg(&text)
                .arg(self.sources.join("kernels.cu"));
            self.quietly(&mut command, "clang")?;
            texts.push(text);
        }
        Ok(texts)
    }

    fn clang_programs(&self, texts: &[PathBuf]) -> Result<Counts> {
        let program = self.work.join("clang_host");
        let headers = self.places.workspace().join("qemu/guest");
        let library = self.artifacts.shim();
        let arguments = ["-I".as_ref(), headers.as_os_str(), library.as_os_str()];
        self.compile(&program, "clang_host.c", &arguments.map(Into::into))?;
        let mut command = Command::new(program);
        command.args(texts);
        counted(&self.remoted(&mut command, &[])?)
    }

    fn compilers(&self) -> Result<Wheels> {
        Wheels::open_or_fetch(self.places, &self.sources.join("requirements/compilers.txt"), UNWANTED)
    }

    fn python(&self, programs: &str) -> Result<Counts> {
        let mut command = Command::new(self.compilers()?.python);
        command.arg("-B").arg(self.sources.join(programs));
        counted(&self.remoted(&mut command, &[])?)
    }

    /// Programs in CUDA C++ with static and shared runtime. Their kernels are PTX only, which the driver compiles.
    fn nvcc(&self) -> Result<Counts> {
        let compilers = self.compilers()?;
        let toolkit = compilers.packages.join("nvidia/cu13");
        let libraries = toolkit.join("lib");
        // The linker's name of the shared runtime, which the package lacks.
        let link = libraries.join("libcudart.so");
        if !link.exists() {
            std::os::unix::fs::symlink("libcudart.so.13", &link)?;
        }
        let mut counts = Counts::default();
        for name in NVCC_CASES {
            let source = self.suite.join("cases").join(format!("{name}.cu"));
            let text = fs::read_to_string(&source).with_context(|| format!("read {}", source.display()))?;
            let flags =
                text.lines().find_map(|line| line.strip_prefix("// compat: flags = ")).unwrap_or_default();
            let program = self.work.join(name);
            let mut command = Command::new(toolkit.join("bin/nvcc"));
            command
                .args(["-std=c++17", "-gencode", "arch=compute_75,code=compute_75"])
                .args(flags.split_whitespace())
                .arg("-L")
                .arg(&libraries)
                .arg("-o")
                .args([&program, &source]);
            self.quietly(&mut command, "nvcc")?;

            let finished = self.remoted(&mut Command::new(program), &[&libraries])?;
            finished.expect_success(name)?;
            let path = self.sources.join(format!("expected/{name}.txt"));
            let expected = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let said = finished.lines.join("\n");
            ensure!(said.trim() == expected.trim(), "{name} said\n{said}\ninstead of\n{expected}");
            counts += Counts::one(true);
        }
        Ok(counts)
    }

    fn runtimes(&self, text: &Path) -> Result<Counts> {
        let program = self.work.join("runtime");
        self.compile(&program, "runtime.c", &["-ldl".into()])?;
        let mut counts = Counts::default();
        for version in RUNTIMES {
            let requirements = self.sources.join(format!("requirements/cudart-{version}.txt"));
            let library = Wheels::open_or_fetch(self.places, &requirements, &[])?.file("libcudart.so.")?;
            let mut command = Command::new(&program);
            command.args([library.as_path(), text]);
            counts += counted(&self.remoted(&mut command, &[])?)
                .with_context(|| format!("the runtime of CUDA {version}"))?;
        }
        Ok(counts)
    }

    fn compile(&self, program: &Path, source: &str, arguments: &[std::ffi::OsString]) -> Result<()> {
        let mut command = Command::new("cc");
        command
            .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(program)
            .arg(self.sources.join(source))
            .args(arguments);
        self.quietly(&mut command, "cc")
    }

    fn quietly(&self, command: &mut Command, what: &str) -> Result<()> {
        process::run(command, &self.work.join(format!("{what}.log")), LIMIT, |_| false)?.expect_success(what)
    }

    /// Runs a program whose libcuda.so.1 is ours, with the software GPU behind it.
    fn remoted(&self, command: &mut Command, libraries: &[&Path]) -> Result<Finished> {
        let program = PathBuf::from(command.get_program());
        let name = program.file_name().context("a program has a name")?.to_string_lossy().into_owned();
        let logs = self.work.join(format!("{name}-logs"));
        let library = self.artifacts.shim();
        let ours = library.parent().context("the library is in a directory")?;
        let path = env::join_paths([ours].iter().chain(libraries))?;
        let backend = Backend { program: self.artifacts.backend(), driver: "soft".into() };
        suite::with_local_backend(&backend, &logs, command.env("LD_LIBRARY_PATH", path), |command| {
            process::run(command, &logs.join("program.log"), LIMIT, |line| line.starts_with("FAIL"))
        })
    }
}

/// What the program counted, unless it ended in another way than that says.
fn counted(finished: &Finished) -> Result<Counts> {
    match Counts::closing(finished.lines()) {
        Some(counts) if finished.status.success() == (counts.failed == 0) => Ok(counts),
        _ => {
            finished.expect_success("the program")?;
            bail!("the program did not say how many of its parts passed (log: {})", finished.log.display())
        }
    }
}
