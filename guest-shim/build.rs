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

/// The table of entry points, without a pointer in it: the loader would have to write each into every process.
fn entries() -> String {
    let (mut names, mut rows, mut places, mut symbols) =
        (String::new(), String::new(), String::new(), String::new());
    let mut count = 0;
    for call in calls::all() {
        let base = call.base_name();
        let start = names.len();
        names.push_str(base);
        writeln!(rows, "    Row {{ name: {start}, length: {}, since: {} }},", base.len(), call.since)
            .expect("a string grows");
        writeln!(symbols, "    {:?},", call.name).expect("a string grows");
        let second =
            call.per_thread.map_or("entry_points".to_owned(), |kind| call.name.to_owned() + kind.suffix());
        writeln!(places, "    \".long {} - entry_points, {second} - entry_points\",", call.name)
            .expect("a string grows");
        count += 1;
    }
    format!(
        "/// Names of all rows, one after the other.\nstatic NAMES: &str = {names:?};\n\n\
         /// Every row of the call table.\nstatic ROWS: [Row; {count}] = [\n{rows}];\n\n\
         /// The exported symbols.\n#[cfg(test)]\nstatic SYMBOLS: [&str; {count}] = [\n{symbols}];\n\n\
         // Each row's two entries, as distances from the table's start; one without has the distance 0.\n\
         std::arch::global_asm!(\n    \".pushsection .rodata.entry_points,\\\"a\\\",@progbits\",\n    \".balign 4\",\n    \
         \".hidden entry_points\",\n    \".globl entry_points\",\n    \"entry_points:\",\n{places}    \".popsection\",\n);\n\n\
         unsafe extern \"C\" {{\n    #[link_name = \"entry_points\"]\n    safe static PLACES: [[i32; 2]; {count}];\n}}\n"
    )
}
