//! What reads a program's images, as functions of bytes, for fuzzing. Each returns; how does not matter.

use crate::driver::image;
use crate::ptx::{self, Limits};

/// The PTX compiler and linker.
pub mod ptx_source {
    use super::*;

    /// Compiles and links a source.
    ///
    /// # Panics
    /// An error does not say where and why.
    pub fn fuzz_one(data: &[u8]) {
        let source = String::from_utf8_lossy(data);
        let lines = source.bytes().filter(|byte| *byte == b'\n').count();
        match ptx::parse(&source, &Limits { variable_bytes: 1 << 20, ..Limits::default() }) {
            Ok(module) => drop(ptx::link(vec![module])),
            Err(error) => {
                let line = usize::try_from(error.line).unwrap_or(usize::MAX);
                assert!((1..=lines + 1).contains(&line), "line {line} of {lines}: {error}");
                assert!(!error.message.is_empty(), "an error without a word");
            }
        }
    }
}

/// Containers of images: headers, entries, compressed texts.
pub mod container {
    use super::*;

    /// Reads an image.
    pub fn fuzz_one(data: &[u8]) {
        // What is no image is refused, which is as good.
        let _sources = image::parse(data);
    }

    /// A sound container with these texts, to begin with.
    #[must_use]
    pub fn pack(texts: &[&str]) -> Vec<u8> {
        image::pack(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }
}
