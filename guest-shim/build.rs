//! Gives the library its name, and writes the table of its entry points from the call table.

use std::fmt::Write as _;
use std::{env, fs, path::PathBuf};

use virtio_spec::calls;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Programs ask for this name; a library that was closed must stay, because exit handlers still call it.
    for argument in ["-soname,libcuda.so.1", "-z,nodelete", "-z,now", "-z,relro"] {
        println!("cargo::rustc-cdylib-link-arg=-Wl,{argument}");
    }

    let directory = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // The unwinder becomes a part of the library: another library to load would cost every process of a guest more than
    // all the rest. Rust asks for it by this name.
    fs::write(directory.join("libgcc_s.so"), "INPUT ( -lgcc_eh )\n")
        .expect("the output directory is writable");
    for kind in ["cdylib", "tests"] {
        println!("cargo::rustc-link-arg-{kind}=-L{}", directory.display());
    }

    let mut declarations = String::new();
    let mut entries = String::new();
    for call in calls::all() {
        let name = call.name;
        let per_thread = call.per_thread.map(|kind| format!("{name}{}", kind.suffix()));
        writeln!(declarations, "    fn {name}();").expect("a string grows");
        let second = match &per_thread {
            Some(per_thread) => {
                writeln!(declarations, "    fn {per_thread}();").expect("a string grows");
                format!("Some({per_thread})")
            }
            None => "None".to_owned(),
        };
        writeln!(
            entries,
            "    Entry {{ #[cfg(test)] symbol: {name:?}, name: {:?}, since: {}, legacy: {name}, per_thread: {second} }},",
            call.base_name(),
            call.since,
        )
        .expect("a string grows");
    }
    let text = format!(
        "unsafe extern \"C\" {{\n{declarations}}}\n\n/// Every entry point, by the call table.\npub(super) static ENTRIES: &[Entry] = &[\n{entries}];\n"
    );
    fs::write(directory.join("entries.rs"), text).expect("the output directory is writable");
}
