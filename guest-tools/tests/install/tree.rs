//! A small system in a directory: this machine's shell, what it needs, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// Programs that the tree has.
const PROGRAMS: &[&str] = &["/usr/bin/true", "/usr/bin/sh", "/usr/bin/cat", "/usr/bin/env", "/usr/bin/ls"];

pub(crate) const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
pub(crate) const LINE: &str = "/usr/$LIB/virtio-compute/preload.so";

/// What a library of the tests does when a process loads it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behaviour {
    /// Nothing.
    Harmless,
    /// Ends the process.
    Exits,
    /// Kills it.
    Crashes,
    /// Prints a line.
    Complains,
    /// Kills it, but not where it is tried before it is installed.
    CrashesLater,
}

/// The system, and beside it what is to be installed.
pub(crate) struct Tree {
    _directory: TempDir,
    pub top: PathBuf,
    pub payload: PathBuf,
}

impl Tree {
    /// A new one, with harmless libraries to install.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (top, payload) = (directory.path().join("system"), directory.path().join("payload"));
        let tree = Self { _directory: directory, top, payload };
        for place in [
            "etc",
            "usr/bin",
            "usr/sbin",
            LIBRARIES,
            "usr/lib64",
            "usr/lib/modules",
            "proc",
            "dev",
            "tmp",
            "var/lib",
        ] {
            fs::create_dir_all(tree.path(place)).expect("a directory");
        }
        for place in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{place}"), tree.path(place)).expect("a link");
        }
        fs::write(tree.path("etc/debian_version"), "13.0\n").expect("a file");
        for program in PROGRAMS {
            tree.copy_with_libraries(program);
        }
        fs::create_dir_all(tree.payload.join("driver")).expect("a directory");
        fs::write(tree.payload.join("driver/dkms.conf"), "PACKAGE_NAME=virtio-compute\n").expect("a file");
        fs::write(tree.payload.join("driver/main.c"), "int vcompute;\n").expect("a file");
        tree.offer_both(Behaviour::Harmless, Behaviour::Harmless);
        let management = tree.payload.join("libnvidia-ml.so.1");
        compile(&management, Behaviour::Harmless, "/dev/vcompute0", "libnvidia-ml.so.1");
        fs::copy(&management, tree.payload.join("vcompute-smi")).expect("a file");
        tree
    }

    /// Where a file of the tree is.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.top.join(inside)
    }

    /// The text of a file of the tree.
    pub(crate) fn text(&self, inside: &str) -> String {
        fs::read_to_string(self.path(inside)).unwrap_or_else(|error| panic!("{inside}: {error}"))
    }

    /// Writes a file of the tree.
    pub(crate) fn write(&self, inside: &str, text: &str, mode: u32) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    fn copy_with_libraries(&self, program: &str) {
        let copy = |from: &str, to: &str| {
            let to = self.path(to);
            fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
            fs::copy(from, to).unwrap_or_else(|error| panic!("{from}: {error}"));
        };
        copy(program, program.trim_start_matches('/'));
        let list = Command::new("ldd").arg(program).output().expect("ldd");
        for path in
            String::from_utf8_lossy(&list.stdout).split_whitespace().filter(|word| word.starts_with('/'))
        {
            let name = Path::new(path).file_name().expect("a name").to_string_lossy().into_owned();
            copy(path, &format!("{LIBRARIES}/{name}"));
            if name.starts_with("ld-linux") {
                copy(path, &format!("usr/lib64/{name}"));
            }
        }
    }

    /// Makes a CUDA library that is to be installed, or another one.
    pub(crate) fn compile(&self, to: &Path, behaviour: Behaviour, mark: &str) {
        compile(to, behaviour, mark, "libcuda.so.1");
    }

    /// Makes another vendor's management library.
    pub(crate) fn compile_management(&self, to: &Path) {
        compile(to, Behaviour::Harmless, "another", "libnvidia-ml.so.1");
    }

    /// Makes the library that is to be installed, which loads nothing.
    pub(crate) fn offer(&self, behaviour: Behaviour) {
        self.compile(&self.payload.join("libcuda.so.1"), behaviour, "/dev/vcompute0");
    }

    /// Makes the two libraries that are to be installed, of which one loads the other.
    pub(crate) fn offer_both(&self, cuda: Behaviour, engine: Behaviour) {
        self.compile(&self.payload.join("libcuda.so.1"), cuda, "/dev/vcompute0 $ORIGIN/libvcompute.so");
        compile(&self.payload.join("libvcompute.so"), engine, "/dev/vcompute0", "libvcompute.so");
    }

    /// Runs the program on the tree.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        run(&self.top, &self.payload, words)
    }

    /// The same, killed after a while with all its children. Says whether it was cut short.
    pub(crate) fn kill_after(&self, moment: Duration, words: &[&str]) -> bool {
        let mut child = command(&self.top, &self.payload, words)
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        // Not for anything to have happened: any moment will do.
        std::thread::sleep(moment);
        let group = format!("-{}", child.id());
        let killed = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let ended = child.wait().expect("it was started");
        killed.is_ok_and(|status| status.success()) && !ended.success()
    }

    /// The same; it must succeed. Returns what it printed.
    pub(crate) fn succeed(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let (said, complained) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{words:?}: {}\n{said}\n{complained}", output.status);
        said.into_owned()
    }

    /// The same; it must fail. Returns what it complained of.
    pub(crate) fn fail(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(
            !output.status.success(),
            "{words:?} succeeded:\n{}",
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Installs without a driver, which most tests do not need.
    pub(crate) fn install(&self) -> String {
        self.succeed(&["install", "--yes", "--no-driver"])
    }

    /// Everything that is in the tree: path, kind, mode, owner, contents.
    pub(crate) fn snapshot(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        collect(&self.top, &self.top, &mut all);
        all
    }
}

fn compile(to: &Path, behaviour: Behaviour, mark: &str, soname: &str) {
    let body = match behaviour {
        Behaviour::Harmless => "",
        Behaviour::Exits => "_exit(3);",
        Behaviour::Crashes => "abort();",
        Behaviour::Complains => "if (write(2, \"hello\\n\", 6)) {}",
        Behaviour::CrashesLater => "if (!getenv(\"LD_PRELOAD\")) abort();",
    };
    let source = to.with_extension("c");
    let text = format!(
        "#include <stdlib.h>\n#include <unistd.h>\nconst char mark[] = \"{mark}\";\nint cuInit(unsigned f) {{ return (int)f; }}\n\
             __attribute__((constructor)) static void start(void) {{ {body} }}\n"
    );
    fs::write(&source, text).expect("a source");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", &format!("-Wl,-soname,{soname}"), "-o"])
        .args([to, &source])
        .output()
        .expect("these tests need a C compiler named cc (Debian: apt install gcc libc6-dev)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::remove_file(source).expect("the source was there");
}

/// Runs the program on a tree, as root; an ordinary user is root in a name space of his own.
pub(crate) fn run(top: &Path, payload: &Path, words: &[&str]) -> Output {
    command(top, payload, words).output().expect("the program starts")
}

fn command(top: &Path, payload: &Path, words: &[&str]) -> Command {
    let program = payload.join("vcompute-guest");
    if !program.exists() {
        // Not by this process: another test's child could inherit the file while it is written, and nobody could start it.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_vcompute-guest")).arg(&program).status();
        assert!(copied.is_ok_and(|status| status.success()), "the program is built");
    }
    let mut command = if is_root() {
        Command::new(program)
    } else {
        let mut command = Command::new("unshare");
        command.arg("--map-root-user").arg(program);
        command
    };
    command.args(words).arg("--root").arg(top).stdin(Stdio::null());
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0)
}

fn collect(top: &Path, directory: &Path, all: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let about = fs::symlink_metadata(&path).expect("it is there");
        let inside = path.strip_prefix(top).expect("below the top").to_string_lossy().into_owned();
        let contents = if about.is_symlink() {
            fs::read_link(&path).expect("a link").to_string_lossy().into_owned()
        } else if about.is_dir() {
            collect(top, &path, all);
            String::new()
        } else {
            format!("{:x?}", digest(&fs::read(&path).expect("a file")))
        };
        all.insert(inside, format!("{:o} {}:{} {contents}", about.mode(), about.uid(), about.gid()));
    }
}

fn digest(bytes: &[u8]) -> (usize, u64) {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    (bytes.len(), hasher.finish())
}

/// What differs, for a message.
pub(crate) fn differences(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<String> {
    let gone =
        before.iter().filter(|(path, _)| !after.contains_key(*path)).map(|(path, _)| format!("gone: {path}"));
    let new =
        after.iter().filter(|(path, _)| !before.contains_key(*path)).map(|(path, _)| format!("new: {path}"));
    let changed = before
        .iter()
        .filter(|(path, what)| after.get(*path).is_some_and(|now| now != *what))
        .map(|(path, _)| format!("changed: {path}"));
    gone.chain(new).chain(changed).collect()
}

/// Arguments, as a list that is easy to write.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}
