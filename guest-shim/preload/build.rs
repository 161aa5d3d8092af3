//! Gives the library its name and its layout, and writes what it needs of the contracts: its exports from the call table,
//! and where things are in the driver's answer.

use std::fmt::Write as _;
use std::mem::offset_of;
use std::path::PathBuf;
use std::{env, fs};

use virtio_spec::device::{PROTOCOL_VERSION, State};
use virtio_spec::uapi::{Info, info_flags};
use virtio_spec::{calls, info};

/// GPUs whose records are kept from a process's start; with more, the first call asks again.
const KEPT_GPUS: u32 = 4;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=layout.ld");
    // Programs ask for this name; a library that was closed must stay, because exit handlers still call it.
    let mut arguments = vec![
        "-fuse-ld=bfd",
        "-Wl,-soname,libcuda.so.1",
        "-Wl,-z,nodelete",
        "-Wl,-z,now",
        "-Wl,-Bsymbolic-functions",
    ];
    let layout = layout();
    let directory = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // As it is shipped, and not as tests are built, with the standard library and its panics. Cargo tells a build script the
    // profile by this folder only: PROFILE/build/PACKAGE/out.
    if directory.ancestors().nth(3).is_some_and(|profile| profile.ends_with("preload")) {
        arguments.extend([
            "-nostartfiles",
            "-Wl,-z,noseparate-code",
            "-Wl,-z,norelro",
            "-Wl,-z,defs",
            "-Wl,--no-eh-frame-hdr",
        ]);
        arguments.push(&layout);
    }
    for argument in arguments {
        println!("cargo::rustc-cdylib-link-arg={argument}");
    }
    fs::write(directory.join("exports.rs"), exports()).expect("the output directory is writable");
    fs::write(directory.join("contract.rs"), contract()).expect("the output directory is writable");
}

fn layout() -> String {
    let sources = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    format!("-Wl,-T,{}", sources.join("layout.ld").display())
}

/// A jump for each symbol of the table, their names in the same order, and where the jumps are.
fn exports() -> String {
    let mut symbols = Vec::new();
    for call in calls::all() {
        symbols.push(call.name.to_owned());
        symbols.extend(call.per_thread.map(|kind| call.name.to_owned() + kind.suffix()));
    }
    let (mut jumps, mut places) = (String::new(), String::new());
    for (number, symbol) in symbols.iter().enumerate() {
        writeln!(jumps, "    {number} {symbol};").expect("a string grows");
        writeln!(places, "    \".long {symbol} - vcompute_places\",").expect("a string grows");
    }
    let count = symbols.len();
    let bytes: usize = symbols.iter().map(|symbol| symbol.len() + 1).sum();
    let names = symbols.join("\\0");
    format!(
        "/// Exported functions.\npub(super) const COUNT: usize = {count};\n\n\
         /// Their names in order, each with its end.\n\
         #[cfg_attr(panic = \"abort\", unsafe(link_section = \".rodata.late\"))]\n\
         pub(super) static NAMES: [u8; {bytes}] = *b\"{names}\\0\";\n\n\
         jumps! {{\n{jumps}}}\n\n\
         core::arch::global_asm!(\n    \".pushsection .rodata.late,\\\"a\\\",@progbits\",\n    \".balign 4\",\n    \
         \".hidden vcompute_places\",\n    \".globl vcompute_places\",\n    \"vcompute_places:\",\n{places}    \
         \".popsection\",\n);\n"
    )
}

/// Where things are in what the driver answers.
fn contract() -> String {
    let mut text = String::new();
    for (name, about, value) in [
        ("HEAD_BYTES", "Bytes in front of the device information.", size_of::<Info>()),
        ("VERSION_AT", "Where the version is.", offset_of!(Info, version)),
        ("STATE_AT", "Where the device's state is.", offset_of!(Info, state)),
        ("LENGTH_AT", "Where the number of bytes of device information is.", offset_of!(Info, info_bytes)),
        ("FLAGS_AT", "Where the flags are.", offset_of!(Info, flags)),
        (
            "KEPT_BYTES",
            "Most bytes of device information that are kept.",
            (info::RECORD_BYTES * (1 + KEPT_GPUS)) as usize,
        ),
    ] {
        writeln!(text, "/// {about}\npub(crate) const {name}: usize = {value};").expect("a string grows");
    }
    for (name, about, value) in [
        ("VERSION", "The version that is spoken here.", PROTOCOL_VERSION),
        ("SHIM_OFF", "The flag of the kernel parameter `vcompute.shim=off`.", info_flags::SHIM_OFF),
        ("STARTING", "The device has not said anything yet.", State::Starting as u32),
        ("READY", "The device has GPUs.", State::Ready as u32),
        ("NO_GPU", "The device has none.", State::NoGpu as u32),
        ("FAILED", "The device is gone.", State::Failed as u32),
    ] {
        writeln!(text, "/// {about}\npub(crate) const {name}: u32 = {value};").expect("a string grows");
    }
    text
}
