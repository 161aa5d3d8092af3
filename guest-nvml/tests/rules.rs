//! What holds for every function: before initialisation, for null pointers, for handles of nobody.
//!
//! Unsafe code: calls of the library's functions with numbers for all parameters.

mod backend;

use std::{collections::BTreeSet, process::Command};

use libloading::os::unix::Library;

type Function = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize, usize, usize) -> u32;

const UNINITIALIZED: u32 = 1;
const INVALID_ARGUMENT: u32 = 2;
const NOT_SUPPORTED: u32 = 3;
const FUNCTION_NOT_FOUND: u32 = 13;

const SOURCES: [&str; 10] = [
    include_str!("../src/activity.rs"),
    include_str!("../src/fields.rs"),
    include_str!("../src/identity.rs"),
    include_str!("../src/limits.rs"),
    include_str!("../src/links.rs"),
    include_str!("../src/memory.rs"),
    include_str!("../src/modes.rs"),
    include_str!("../src/processes.rs"),
    include_str!("../src/refused.rs"),
    include_str!("../src/system.rs"),
];

/// Functions that answer at any time.
const ALWAYS: [&str; 5] =
    ["nvmlInit", "nvmlInit_v2", "nvmlInitWithFlags", "nvmlErrorString", "nvmlInternalGetExportTable"];

fn library() -> Library {
    let path = backend::built().join("libnvidia_ml.so");
    // SAFETY: the library under test has no initialisers.
    unsafe { Library::new(path) }.expect("the library is built: cargo build -p guest-nvml")
}

/// Every function that needs an initialised library.
fn names() -> BTreeSet<&'static str> {
    let words =
        SOURCES.iter().flat_map(|source| source.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    words
        .filter(|word| {
            word.strip_prefix("nvml").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
        })
        .filter(|word| !word.ends_with("_t") && !ALWAYS.contains(word))
        // Structures and lists that comments speak of.
        .filter(|word| !["nvmlClocksEventReasons"].contains(word))
        .collect()
}

fn function(library: &Library, name: &str) -> Function {
    // SAFETY: every function of the C interface can be called with numbers for its parameters.
    *unsafe { library.get::<Function>(name) }.unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn call(library: &Library, name: &str, first: usize, others: usize) -> u32 {
    let function = function(library, name);
    // SAFETY: as `function` says; pointers among them are null or to a page, as the tests choose.
    unsafe { function(first, others, others, others, others, others, others, others) }
}

#[test]
fn before_initialisation_nothing_is_answered() {
    let library = library();
    let names = names();
    assert!(names.len() > 400, "{} functions", names.len());
    for name in names {
        assert_eq!(call(&library, name, 0, 0), UNINITIALIZED, "{name}");
    }
    assert_eq!(call(&library, "nvmlInternalGetExportTable", 0, 0), FUNCTION_NOT_FOUND);
}

#[test]
fn clients_find_what_they_look_for() {
    let library = library();
    let lists = include_str!("../../tests/nvml/symbols.txt").lines().filter(|line| !line.starts_with('#'));
    for list in lists {
        let (client, names) = list.split_once(':').expect("a client's name");
        for name in names.split_whitespace() {
            // SAFETY: the symbol is not used.
            assert!(unsafe { library.get::<Function>(name) }.is_ok(), "{client} looks for {name}");
        }
    }
}

#[test]
fn null_pointers_and_unknown_handles_are_refused() {
    if std::env::var_os(virtio_spec::local::SOCKET_VARIABLE).is_none() {
        // The library reads the environment, which a test with threads must not change: again in a process of its own.
        let folder = std::env::temp_dir().join(format!("nvml-rules-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let backend = backend::Backend::start(&folder);
        let again = Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "null_pointers_and_unknown_handles_are_refused", "--nocapture"])
            .env(virtio_spec::local::SOCKET_VARIABLE, &backend.socket)
            .status();
        drop(backend);
        std::fs::remove_dir_all(&folder).expect("the folder goes");
        return assert!(again.is_ok_and(|status| status.success()), "see above");
    }
    let library = library();
    assert_eq!(call(&library, "nvmlInit_v2", 0, 0), 0);
    let mut device = 0_usize;
    assert_eq!(call(&library, "nvmlDeviceGetHandleByIndex_v2", 0, (&raw mut device).expose_provenance()), 0);
    let mut page = [0_u64; 512];
    let page = page.as_mut_ptr().expose_provenance();
    for name in names().into_iter().filter(|name| *name != "nvmlShutdown") {
        let of_device =
            name.starts_with("nvmlDevice") && !name.contains("HandleBy") && !name.contains("GetCount");
        let result = call(&library, name, if of_device { device } else { 0 }, 0);
        assert!(matches!(result, INVALID_ARGUMENT | NOT_SUPPORTED), "{name} with null pointers: {result}");
        if of_device {
            let result = call(&library, name, 12345, page);
            assert!(matches!(result, INVALID_ARGUMENT | NOT_SUPPORTED), "{name} of no device: {result}");
        }
    }
    assert_eq!(call(&library, "nvmlInit_v2", 0, 0), 0, "initialisations are counted");
    assert_eq!(call(&library, "nvmlShutdown", 0, 0), 0);
    assert_eq!(call(&library, "nvmlDeviceGetCount_v2", page, 0), 0);
    assert_eq!(call(&library, "nvmlShutdown", 0, 0), 0);
    assert_eq!(call(&library, "nvmlDeviceGetCount_v2", page, 0), UNINITIALIZED);
}
