//! The developer chores.
fn main() {}
