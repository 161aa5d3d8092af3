//! What is said for the system, and for this process where that says otherwise.

use core::ffi::CStr;

use shim_policy::{MAX_BYTES, Mode, Policy};

use crate::environment::Environment;
use crate::{paths, system};

/// Room for the policy's text and one byte more, by which a longer one is known.
pub struct Text([u8; MAX_BYTES + 1]);

impl Default for Text {
    fn default() -> Self {
        Self::new()
    }
}

impl Text {
    /// Room that is empty.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; MAX_BYTES + 1])
    }

    /// Reads the link; nothing if there is none.
    fn read(&mut self, link: &CStr) -> Option<&[u8]> {
        let length = system::read_link(link, &mut self.0);
        self.0.get(..usize::try_from(length).ok()?)
    }
}

/// The policy for this process.
#[derive(Debug)]
pub struct Settings<'a> {
    /// The policy, where the environment says nothing else.
    pub policy: Policy<'a>,
    environment: Environment,
    is_malformed: bool,
}

impl<'a> Settings<'a> {
    /// One system call: the link.
    #[must_use]
    pub fn read(text: &'a mut Text, environment: &Environment) -> Self {
        Self::of(text.read(paths::policy()), environment)
    }

    fn of(text: Option<&'a [u8]>, environment: &Environment) -> Self {
        let read = text.map_or(Ok(Policy::default()), Policy::parse);
        let mut policy = read.unwrap_or_default();
        policy.mode = environment.mode.unwrap_or(policy.mode);
        policy.deadline_ms = environment.deadline_ms.unwrap_or(policy.deadline_ms);
        policy.level = environment.level.unwrap_or(policy.level);
        policy.target = environment.target.unwrap_or(policy.target);
        Self { policy, environment: *environment, is_malformed: read.is_err() }
    }

    /// Whether this process looks for the GPU early.
    #[must_use]
    pub fn wants(&self, name: &[u8]) -> bool {
        let is_named = self.environment.always.contain(name);
        self.policy.wants(name) || self.policy.mode != Mode::Off && is_named
    }

    /// What an administrator should repair.
    #[must_use]
    pub const fn problem(&self) -> Option<&'static str> {
        if self.is_malformed {
            Some(
                "/etc/virtio-compute/shim.policy is no policy; as by default (vcompute-guest apply writes it)",
            )
        } else if self.environment.is_malformed {
            Some("a VCOMPUTE_ variable has a value that is none; passed over")
        } else if self.policy.unknown > 0 {
            Some("the policy has words that this version does not know; passed over")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use shim_policy::{Level, Names};

    use super::*;

    fn names(text: &'static str) -> Names<'static> {
        Names::parse(text.as_bytes()).expect("a list")
    }

    #[test]
    fn the_process_goes_before_the_system() {
        let environment =
            Environment { mode: Some(Mode::Listed), always: names("a"), ..Environment::default() };
        let settings =
            Settings::of(Some(b"vcompute-shim-1 mode=off deadline=5 level=info always=b"), &environment);
        assert!(settings.wants(b"a"));
        assert!(settings.wants(b"b"));
        assert!(!settings.wants(b"c"));
        assert_eq!((settings.policy.deadline_ms, settings.policy.level), (5, Level::Info));
        assert_eq!(settings.problem(), None);
    }

    #[test]
    fn off_is_off() {
        let environment = Environment { always: names("a"), ..Environment::default() };
        assert!(!Settings::of(Some(b"vcompute-shim-1 mode=off always=a"), &environment).wants(b"a"));
    }

    #[test]
    fn a_broken_policy_is_the_default() {
        for text in [&b""[..], b"mode=off", b"vcompute-shim-1 mode=", &[b'x'; MAX_BYTES + 1]] {
            let settings = Settings::of(Some(text), &Environment::default());
            assert!(settings.wants(b"python3"));
            assert!(settings.problem().is_some());
        }
        assert_eq!(Settings::of(None, &Environment::default()).problem(), None, "none is as good as any");
    }
}
