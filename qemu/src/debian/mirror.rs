//! Where this machine gets Debian from, read from its own apt configuration.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const DEFAULT_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Suites that only Debian's own archive has, so that a third party's repository is not mistaken for it.
const CODENAMES: &[&str] =
    &["bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable"];

/// A Debian archive: its address, and the keys that sign it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The archive's base address, as apt takes it.
    pub uri: String,
    /// The keyring that apt checks the archive against.
    pub keyring: PathBuf,
}

impl Mirror {
    /// The first Debian archive in `/etc/apt`.
    pub fn of_this_machine() -> Result<Self> {
        Self::from_apt_directory(Path::new("/etc/apt"))
    }

    fn from_apt_directory(apt: &Path) -> Result<Self> {
        let mut files = vec![apt.join("sources.list")];
        if let Ok(entries) = fs::read_dir(apt.join("sources.list.d")) {
            let mut found: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            found.sort();
            files.extend(found);
        }
        files
            .iter()
            .filter_map(|file| {
                let text = fs::read_to_string(file).ok()?;
                match file.extension()?.to_str()? {
                    "list" => text.lines().find_map(parse_line),
                    "sources" => text.split("\n\n").find_map(parse_stanza),
                    _ => None,
                }
            })
            .next()
            .with_context(|| {
                format!(
                    "no Debian archive is configured in {}: add one (a `deb … trixie main` line and Debian's keyring) \
                     or run this on Debian",
                    apt.display()
                )
            })
    }
}

/// `deb [options] URI suite components…`
fn parse_line(line: &str) -> Option<Mirror> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    let components: Vec<_> = words.collect();
    let keyring = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    mirror(uri, &[suite], &components, keyring)
}

/// One stanza of a deb822 file.
fn parse_stanza(stanza: &str) -> Option<Mirror> {
    let field = |name: &str| {
        stanza.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    if field("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no")) {
        return None;
    }
    if !field("Types")?.split_whitespace().any(|kind| kind == "deb") {
        return None;
    }
    let suites: Vec<_> = field("Suites")?.split_whitespace().collect();
    let components: Vec<_> = field("Components")?.split_whitespace().collect();
    mirror(field("URIs")?.split_whitespace().next()?, &suites, &components, field("Signed-By"))
}

fn mirror(uri: &str, suites: &[&str], components: &[&str], keyring: Option<&str>) -> Option<Mirror> {
    let last = uri.trim_end_matches('/').rsplit('/').next()?;
    let is_debian = matches!(last, "debian" | "debian.list")
        && suites.iter().any(|suite| CODENAMES.contains(suite))
        && components.contains(&"main");
    is_debian.then(|| Mirror {
        uri: uri.to_owned(),
        keyring: keyring
            .filter(|path| path.starts_with('/'))
            .map_or_else(|| PathBuf::from(DEFAULT_KEYRING), PathBuf::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deb822_stanza_is_read() {
        let stanza = "Types: deb\n# URIs: http://snapshot.example/debian\nURIs: http://mirror.example/debian\n\
                      Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /keys/debian.gpg";

        let mirror = parse_stanza(stanza).expect("a Debian archive");

        assert_eq!(mirror.uri, "http://mirror.example/debian");
        assert_eq!(mirror.keyring, Path::new("/keys/debian.gpg"));
    }

    #[test]
    fn a_one_line_entry_is_read_with_and_without_options() {
        let plain = parse_line("deb http://mirror.example/debian/ trixie main contrib").expect("plain");
        let signed = parse_line("deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian sid main")
            .expect("signed");

        assert_eq!(plain.keyring, Path::new(DEFAULT_KEYRING));
        assert_eq!(signed.keyring, Path::new("/k.gpg"));
    }

    #[test]
    fn security_archives_third_parties_and_sources_are_passed_over() {
        for line in [
            "deb http://mirror.example/debian-security bookworm-security main",
            "deb http://third.example/linux/debian bookworm stable",
            "deb http://third.example bookworm main",
            "deb-src http://mirror.example/debian bookworm main",
            "# deb http://mirror.example/debian bookworm main",
        ] {
            assert_eq!(parse_line(line), None, "{line}");
        }
        assert_eq!(
            parse_stanza("Types: deb\nURIs: http://x/debian\nSuites: sid\nComponents: main\nEnabled: no"),
            None
        );
    }
}
