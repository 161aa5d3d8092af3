//! The vhost-user backend.
fn main() {}
