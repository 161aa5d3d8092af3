//! What is said for one process: `VCOMPUTE_SHIM`, `VCOMPUTE_SHIM_NEVER`, `VCOMPUTE_SHIM_ALWAYS`,
//! `VCOMPUTE_SHIM_DEADLINE_MS`, `VCOMPUTE_LOG`, `VCOMPUTE_LOG_TARGET`; docs/preload.md says what they mean.
//!
//! Unsafe code: the environment as C hands it over.

use core::ffi::{CStr, c_char};

use shim_policy::{Level, Malformed, Mode, Names, Target, deadline};

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// What the environment says. The texts are the environment's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    pub(crate) mode: Option<Mode>,
    pub(crate) deadline_ms: Option<u16>,
    pub(crate) level: Option<Level>,
    pub(crate) target: Option<Target<'static>>,
    pub(crate) never: Names<'static>,
    pub(crate) always: Names<'static>,
    /// A local socket, to which a connection could have to wait.
    pub(crate) has_socket: bool,
    /// A value that was passed over because it is none.
    pub(crate) is_malformed: bool,
}

impl Environment {
    /// Reads an environment.
    ///
    /// # Safety
    /// `variables` is null or an environment as C has it, which does not change while the result is used.
    #[must_use]
    pub unsafe fn of(variables: *const *const c_char) -> Self {
        let mut environment = Self::default();
        if variables.is_null() {
            return environment;
        }
        let mut place = variables;
        loop {
            // SAFETY: the list ends with a null pointer, at which the loop ends too.
            let variable = unsafe { place.read() };
            if variable.is_null() {
                return environment;
            }
            // SAFETY: each entry is a string.
            let text: &'static CStr = unsafe { CStr::from_ptr(variable) };
            environment.take(text.to_bytes());
            place = place.wrapping_add(1);
        }
    }

    /// Reads the process's environment, as `getenv` would.
    #[must_use]
    pub fn now() -> Self {
        // SAFETY: the C library's variable, which is there from the start.
        let variables = unsafe { environ };
        // SAFETY: the process's environment. A program that changes it while another thread makes its first CUDA call is
        // as wrong with any library that reads a variable.
        unsafe { Self::of(variables) }
    }

    fn take(&mut self, variable: &'static [u8]) {
        let Some(rest) = variable.strip_prefix(b"VCOMPUTE_") else { return };
        let Some(place) = rest.iter().position(|&byte| byte == b'=') else { return };
        let (key, value) = (rest.get(..place).unwrap_or_default(), rest.get(place..).unwrap_or_default());
        let value = value.strip_prefix(b"=").unwrap_or_default();
        if value.is_empty() {
            return;
        }
        if key == b"SOCKET" {
            self.has_socket = true;
            return;
        }
        let taken = match key {
            b"SHIM" => Mode::parse(value).map(|mode| self.mode = Some(mode)),
            b"SHIM_DEADLINE_MS" => deadline(value).map(|limit| self.deadline_ms = Some(limit)),
            b"SHIM_NEVER" => Names::parse(value).map(|names| self.never = names),
            b"SHIM_ALWAYS" => Names::parse(value).map(|names| self.always = names),
            b"LOG" => Level::parse(value).map(|level| self.level = Some(level)),
            b"LOG_TARGET" => Target::parse(value).map(|target| self.target = Some(target)),
            _ => Ok(()),
        };
        self.is_malformed |= taken == Err(Malformed);
    }

    /// Whether early init goes on, as far as the environment is concerned.
    #[must_use]
    pub fn allows(&self, name: &[u8]) -> bool {
        let is_named = self.never.contain(name) && !self.always.contain(name);
        self.mode != Some(Mode::Off) && !self.has_socket && !is_named
    }
}

#[cfg(test)]
mod tests {
    use virtio_spec::local::SOCKET_VARIABLE;

    use super::*;

    fn of(variables: &[&'static str]) -> Environment {
        let mut environment = Environment::default();
        for variable in variables {
            environment.take(variable.as_bytes());
        }
        environment
    }

    #[test]
    fn variables_are_read() {
        let environment = of(&[
            "PATH=/bin",
            "VCOMPUTE_SHIM=listed",
            "VCOMPUTE_SHIM_DEADLINE_MS=20",
            "VCOMPUTE_SHIM_NEVER=a,b*",
            "VCOMPUTE_SHIM_ALWAYS=bc",
            "VCOMPUTE_LOG=info",
            "VCOMPUTE_LOG_TARGET=file:/x",
            "VCOMPUTE_ELSE=1",
            "VCOMPUTE_",
        ]);
        assert_eq!(environment.mode, Some(Mode::Listed));
        assert_eq!(environment.deadline_ms, Some(20));
        assert_eq!(environment.level, Some(Level::Info));
        assert_eq!(environment.target, Some(Target::File("/x")));
        assert!(!environment.is_malformed);
        assert!(!environment.allows(b"a"));
        assert!(!environment.allows(b"bb"));
        assert!(environment.allows(b"bc"), "`always` goes before `never`");
    }

    #[test]
    fn what_is_wrong_is_passed_over() {
        let environment = of(&["VCOMPUTE_SHIM=some", "VCOMPUTE_SHIM_DEADLINE_MS=0", "VCOMPUTE_LOG="]);
        assert_eq!(environment, Environment { is_malformed: true, ..Environment::default() });
    }

    #[test]
    fn a_local_socket_is_for_later() {
        let text: &'static str = Box::leak(format!("{SOCKET_VARIABLE}=/socket").into_boxed_str());
        assert!(!of(&[text]).allows(b"python3"));
        assert!(!of(&["VCOMPUTE_SHIM=off"]).allows(b"python3"));
        // SAFETY: no environment at all.
        assert_eq!(unsafe { Environment::of(std::ptr::null()) }, Environment::default());
    }
}
