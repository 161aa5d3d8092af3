//! Gives the library its name, and writes the table of its entry points from the call table.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use virtio_spec::calls;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Programs ask for this name; a library that was closed must stay, because exit handlers still call it. Its own
    // calls mean its own functions, whatever else a process has loaded, and need not be looked up when it is loaded.
    for argument in ["-soname,libvcompute.so", "-z,nodelete", "-z,now", "-z,relro", "-Bsymbolic-functions"] {
        println!("cargo::rustc-cdylib-link-arg=-Wl,{argument}");
    }

    // What every process pays (docs/benchmarks/preload.md): start files would only add code that runs in each, and each
    // part of the file that is mapped by itself costs more than the pages in it. This linker makes two of them, and keeps
    // what the loader has written read-only all the same.
    for argument in ["-nostartfiles", "-fuse-ld=bfd", "-Wl,-z,noseparate-code"] {
        println!("cargo::rustc-cdylib-link-arg={argument}");
    }

    let directory = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // The unwinder becomes a part of the library: another library to load would cost every process of a guest more than
    // all the rest. Rust asks for it by this name.
    fs::write(directory.join("libgcc_s.so"), "INPUT ( -lgcc_eh )\n")
        .expect("the output directory is writable");
    for kind in ["cdylib", "tests"] {
        println!("cargo::rustc-link-arg-{kind}=-L{}", directory.display());
    }

    fs::write(directory.join("entries.rs"), entries()).expect("the output directory is writable");
}

/// The table of entry points.
fn entries() -> String {
    let (mut rows, mut functions) = (String::new(), String::new());
    for call in calls::all() {
        let mut form = |symbol: &str| {
            writeln!(functions, "    fn {symbol}();").expect("a string grows");
            format!("Form {{ symbol: {symbol:?}, function: {symbol} }}")
        };
        let legacy = form(call.name);
        let per_thread = call.per_thread.map(|kind| form(&(call.name.to_owned() + kind.suffix())));
        let per_thread = per_thread.map_or("None".to_owned(), |form| format!("Some({form})"));
        let (name, since) = (call.base_name(), call.since);
        writeln!(
            rows,
            "    Entry {{ name: {name:?}, since: {since}, legacy: {legacy}, per_thread: {per_thread} }},"
        )
        .expect("a string grows");
    }
    format!(
        "unsafe extern \"C\" {{\n{functions}}}\n\n/// Every row of the call table.\nstatic ENTRIES: &[Entry] = &[\n{rows}];\n"
    )
}
