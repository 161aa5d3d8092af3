//! How the library is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Its functions are its own, also in a process that has another libcuda whose symbols come first.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-Bsymbolic");
    // Threads of streams may still be in it when a program closes it.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
