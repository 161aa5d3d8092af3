//! Gives the library its name.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Programs ask for this name; a library that was closed must stay, because threads may be inside it.
    for argument in ["-soname,libnvidia-ml.so.1", "-z,nodelete", "-z,now", "-z,relro", "-Bsymbolic-functions"]
    {
        println!("cargo::rustc-cdylib-link-arg=-Wl,{argument}");
    }
}
