//! What the preloaded library does in which process, as one line of text.
//!
//! People write `/etc/virtio-compute/shim.toml`; `vcompute-guest` compiles it to the target of the symbolic link
//! [`LINK`], which every process reads with one `readlink`: no descriptor, no second file, and `ls -l` shows it.
//!
//! ```text
//! vcompute-shim-1 mode=all deadline=1000 level=off target=stderr never=backup-*,mydaemon always=ollama
//! ```
//!
//! The words are separated by single spaces. All but the first may be absent; words that are not known are passed over,
//! so that an older library reads a newer policy. Anything else that is not as it should be makes the whole text
//! [`Malformed`], and then everything is as by default.
//!
//! The reader runs in every process of a system, so it neither allocates nor panics.
#![no_std]
#![forbid(unsafe_code)]

mod names;

use core::fmt;

pub use names::{NAME_BYTES, Names, matches};

/// The symbolic link whose target is the policy.
pub const LINK: &str = "/etc/virtio-compute/shim.policy";
/// Most bytes of a policy.
pub const MAX_BYTES: usize = 1023;
/// The first word.
pub const VERSION: &str = "vcompute-shim-1";
/// The greatest deadline, and that by default, in milliseconds.
pub const MAX_DEADLINE_MS: u16 = 1000;

/// The text is not a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("expected `vcompute-shim-1 key=value ...`, at most 1,023 bytes")
    }
}

impl core::error::Error for Malformed {}

/// Makes an enumeration whose values have names in the text.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $value:ident = $text:literal),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$meaning])* $value),*
        }

        impl $name {
            /// All values.
            pub const ALL: &[Self] = &[$(Self::$value),*];

            /// The value's name in the text.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $text),*
                }
            }

            /// The value with a name.
            ///
            /// # Errors
            /// If none has it.
            pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
                Self::ALL.iter().copied().find(|value| value.name().as_bytes() == text).ok_or(Malformed)
            }
        }
    };
}

words!(
    /// Which processes look for the GPU before they call CUDA.
    Mode {
        /// Every application process.
        All = "all",
        /// Those of [`Policy::always`].
        Listed = "listed",
        /// None.
        Off = "off",
    }
);

words!(
    /// How much is logged.
    Level {
        /// Nothing.
        Off = "off",
        /// What has to be repaired.
        Error = "error",
        /// What is not as it should be.
        Warn = "warn",
        /// What became of the GPU's discovery.
        Info = "info",
        /// Why a process was left alone.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
);

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Standard error.
    Stderr,
    /// The system's log, `/dev/log`.
    Syslog,
    /// A file, from the first CUDA call on: an absolute path of printable ASCII characters.
    File(&'a str),
}

impl<'a> Target<'a> {
    /// A target as the text names it.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &'a [u8]) -> Result<Self, Malformed> {
        match text {
            b"stderr" => Ok(Self::Stderr),
            b"syslog" => Ok(Self::Syslog),
            _ => {
                let path = text.strip_prefix(b"file:").ok_or(Malformed)?;
                let printable = path.iter().all(u8::is_ascii_graphic);
                let path = core::str::from_utf8(path).map_err(|_| Malformed)?;
                if printable && path.starts_with('/') { Ok(Self::File(path)) } else { Err(Malformed) }
            }
        }
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stderr => formatter.write_str("stderr"),
            Self::Syslog => formatter.write_str("syslog"),
            Self::File(path) => write!(formatter, "file:{path}"),
        }
    }
}

/// What the library does in which process. Its text is what [`fmt::Display`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy<'a> {
    /// Which processes look for the GPU early.
    pub mode: Mode,
    /// How long that may take: 1 to [`MAX_DEADLINE_MS`].
    pub deadline_ms: u16,
    /// How much is logged.
    pub level: Level,
    /// Where log lines go.
    pub target: Target<'a>,
    /// Processes that do not, besides those that the library never touches.
    pub never: Names<'a>,
    /// Processes that do even if [`Policy::never`] names them or [`Policy::mode`] is [`Mode::Listed`].
    pub always: Names<'a>,
    /// Words that were passed over.
    pub unknown: usize,
}

impl Default for Policy<'_> {
    fn default() -> Self {
        Self {
            mode: Mode::All,
            deadline_ms: MAX_DEADLINE_MS,
            level: Level::Off,
            target: Target::Stderr,
            never: Names::default(),
            always: Names::default(),
            unknown: 0,
        }
    }
}

impl<'a> Policy<'a> {
    /// Reads a policy.
    ///
    /// # Errors
    /// If the text is not one.
    pub fn parse(text: &'a [u8]) -> Result<Self, Malformed> {
        if text.len() > MAX_BYTES {
            return Err(Malformed);
        }
        let mut words = text.split(|&byte| byte == b' ');
        if words.next() != Some(VERSION.as_bytes()) {
            return Err(Malformed);
        }
        let mut policy = Self::default();
        let mut seen = Seen::default();
        for word in words {
            policy.take(word, &mut seen)?;
        }
        Ok(policy)
    }

    fn take(&mut self, word: &'a [u8], seen: &mut Seen) -> Result<(), Malformed> {
        if word.is_empty() || !word.iter().all(u8::is_ascii_graphic) {
            return Err(Malformed);
        }
        let place = word.iter().position(|&byte| byte == b'=').unwrap_or(word.len());
        let (key, value) = word.split_at_checked(place).ok_or(Malformed)?;
        let value = value.strip_prefix(b"=").unwrap_or_default();
        let once = |seen: &mut bool| if core::mem::replace(seen, true) { Err(Malformed) } else { Ok(()) };
        match key {
            b"mode" => once(&mut seen.mode).and_then(|()| Mode::parse(value).map(|mode| self.mode = mode)),
            b"deadline" => once(&mut seen.deadline)
                .and_then(|()| deadline(value).map(|deadline| self.deadline_ms = deadline)),
            b"level" => {
                once(&mut seen.level).and_then(|()| Level::parse(value).map(|level| self.level = level))
            }
            b"target" => {
                once(&mut seen.target).and_then(|()| Target::parse(value).map(|target| self.target = target))
            }
            b"never" => {
                once(&mut seen.never).and_then(|()| Names::parse(value).map(|names| self.never = names))
            }
            b"always" => {
                once(&mut seen.always).and_then(|()| Names::parse(value).map(|names| self.always = names))
            }
            _ => {
                self.unknown = self.unknown.saturating_add(1);
                Ok(())
            }
        }
    }

    /// Whether a process with this name looks for the GPU early.
    #[must_use]
    pub fn wants(&self, name: &[u8]) -> bool {
        match self.mode {
            Mode::Off => false,
            Mode::Listed => self.always.contain(name),
            Mode::All => self.always.contain(name) || !self.never.contain(name),
        }
    }
}

/// Which words a text has had.
#[derive(Debug, Default)]
struct Seen {
    mode: bool,
    deadline: bool,
    level: bool,
    target: bool,
    never: bool,
    always: bool,
}

/// A deadline in milliseconds: digits, 1 to [`MAX_DEADLINE_MS`].
///
/// # Errors
/// If the text is none.
pub fn deadline(text: &[u8]) -> Result<u16, Malformed> {
    if text.is_empty() || text.len() > 4 || !text.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    let number = text.iter().fold(0_u16, |sum, digit| {
        sum.saturating_mul(10).saturating_add(u16::from(digit.saturating_sub(b'0')))
    });
    if (1..=MAX_DEADLINE_MS).contains(&number) { Ok(number) } else { Err(Malformed) }
}

impl fmt::Display for Policy<'_> {
    /// Everything that is not as by default.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = Policy::default();
        formatter.write_str(VERSION)?;
        if self.mode != default.mode {
            write!(formatter, " mode={}", self.mode.name())?;
        }
        if self.deadline_ms != default.deadline_ms {
            write!(formatter, " deadline={}", self.deadline_ms)?;
        }
        if self.level != default.level {
            write!(formatter, " level={}", self.level.name())?;
        }
        if self.target != default.target {
            write!(formatter, " target={}", self.target)?;
        }
        for (key, names) in [("never", self.never), ("always", self.always)] {
            if !names.text().is_empty() {
                write!(formatter, " {key}={}", names.text())?;
            }
        }
        Ok(())
    }
}
