//! Names of programs, and lists of them.

use crate::Malformed;

/// Bytes of a program's name as the kernel keeps it (`/proc/PID/comm`).
pub const NAME_BYTES: usize = 15;

/// A list of names, `name,name*,...`: each at most [`NAME_BYTES`] bytes; `*` at the end stands for any rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names<'a>(&'a str);

impl<'a> Names<'a> {
    /// Reads a list.
    ///
    /// # Errors
    /// If the text is none; a list has at least one name.
    pub fn parse(text: &'a [u8]) -> Result<Self, Malformed> {
        if !text.split(|&byte| byte == b',').all(is_name) {
            return Err(Malformed);
        }
        core::str::from_utf8(text).map(Self).map_err(|_| Malformed)
    }

    /// The list as text; empty if there are no names.
    #[must_use]
    pub const fn text(&self) -> &'a str {
        self.0
    }

    /// Whether one of the list's names fits `name`.
    #[must_use]
    pub fn contain(&self, name: &[u8]) -> bool {
        !self.0.is_empty()
            && self.0.as_bytes().split(|&byte| byte == b',').any(|listed| matches(listed, name))
    }
}

fn is_name(listed: &[u8]) -> bool {
    let stem = listed.strip_suffix(b"*").unwrap_or(listed);
    !listed.is_empty()
        && stem.len() <= NAME_BYTES
        && stem.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'*' | b','))
}

/// Whether a listed name, which may end in `*`, fits a program's name. Only the first [`NAME_BYTES`] bytes of both count.
#[must_use]
pub fn matches(listed: &[u8], name: &[u8]) -> bool {
    let name = name.get(..NAME_BYTES).unwrap_or(name);
    match listed.strip_suffix(b"*") {
        Some(stem) => name.starts_with(stem.get(..NAME_BYTES).unwrap_or(stem)),
        None => name == listed.get(..NAME_BYTES).unwrap_or(listed),
    }
}
