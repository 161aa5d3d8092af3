//! A panic is caught with the unwinder that is a part of the library, and with the library's own answers to it.

#[path = "../src/glibc.rs"]
#[allow(unused, reason = "symbols for the linker; its own tests are the library's")]
mod glibc;

use std::panic::{catch_unwind, set_hook};

struct Counted<'a>(&'a std::cell::Cell<u32>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[inline(never)]
fn descend(depth: u32, drops: &std::cell::Cell<u32>) -> u32 {
    let _counted = Counted(drops);
    assert!(depth > 0, "the bottom");
    descend(depth - 1, drops).wrapping_add(1)
}

fn main() {
    set_hook(Box::new(|_| {}));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                let drops = std::cell::Cell::new(0);
                let caught = catch_unwind(std::panic::AssertUnwindSafe(|| descend(9, &drops)));
                assert!(caught.is_err());
                assert_eq!(drops.get(), 10, "every frame is cleaned up");
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("the thread ends");
    }
}
