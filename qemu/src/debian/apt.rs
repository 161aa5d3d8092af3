//! A private apt: its own configuration, lists, cache and (empty) package database, all under one directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::Mirror;

/// One package file as apt resolved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Package name.
    pub name: String,
    /// Full Debian version, epoch included.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
}

impl Package {
    /// The file name under which apt keeps it (an epoch's colon is escaped).
    pub fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.architecture)
    }
}

/// apt over one suite (and its backports), as if nothing were installed.
#[derive(Debug)]
pub struct Apt {
    directory: PathBuf,
    archives: PathBuf,
    default_release: String,
}

impl Apt {
    /// Prepares apt for `suites`; the last one is where packages come from by preference. `base` is shared by all suites
    /// (downloads are kept once).
    pub fn new(base: &Path, suites: &[&str]) -> Result<Self> {
        let default_release = suites.last().context("apt needs a suite")?;
        let directory = base.join("apt").join(default_release);
        let archives = base.join("archives");
        for each in [directory.join("lists/partial"), directory.join("empty"), archives.join("partial")] {
            fs::create_dir_all(&each).with_context(|| format!("create {}", each.display()))?;
        }
        let apt = Self { directory, archives, default_release: (*default_release).to_owned() };
        apt.write_configuration(suites)?;
        Ok(apt)
    }

    fn write_configuration(&self, suites: &[&str]) -> Result<()> {
        let mirror = Mirror::of_this_machine()?;
        let sources: String = suites
            .iter()
            .map(|suite| {
                format!("deb [signed-by={}] {} {suite} main\n", mirror.keyring.display(), mirror.uri)
            })
            .collect();
        fs::write(self.directory.join("sources.list"), sources)?;
        fs::write(self.directory.join("status"), "")?;

        // Of the machine's own settings only how to download is kept (proxies, time limits); hooks are not.
        let dump = Command::new("apt-config").arg("dump").output().context("run apt-config (package apt)")?;
        let downloads: String = String::from_utf8_lossy(&dump.stdout)
            .lines()
            .filter(|line| line.starts_with("Acquire::"))
            .map(|line| format!("{line}\n"))
            .collect();
        let here = self.directory.display();
        let configuration = format!(
            "{downloads}\
             APT::Architecture \"amd64\";\n\
             APT::Architectures {{ \"amd64\"; }};\n\
             APT::Install-Recommends \"false\";\n\
             APT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::Retries \"3\";\n\
             Dir::Etc::main \"/dev/null\";\n\
             Dir::Etc::parts \"{here}/empty\";\n\
             Dir::Etc::sourcelist \"{here}/sources.list\";\n\
             Dir::Etc::sourceparts \"{here}/empty\";\n\
             Dir::Etc::preferences \"/dev/null\";\n\
             Dir::Etc::preferencesparts \"{here}/empty\";\n\
             Dir::State \"{here}\";\n\
             Dir::State::lists \"{here}/lists\";\n\
             Dir::State::status \"{here}/status\";\n\
             Dir::Cache \"{here}\";\n\
             Dir::Cache::archives \"{archives}\";\n",
            archives = self.archives.display(),
        );
        fs::write(self.directory.join("apt.conf"), configuration)?;
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.directory.join("apt.conf"))
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }

    /// Runs apt-get and returns what it printed; on failure the error holds its messages.
    fn apt_get(&self, arguments: &[&str]) -> Result<String> {
        let output = self
            .command("apt-get")
            .args(["--quiet", "--yes"])
            .args(arguments)
            .output()
            .context("run apt-get (this needs Debian's apt)")?;
        let messages = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("apt-get {} failed:\n{messages}", arguments.join(" "));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Fetches the package lists. apt checks their signatures; unsigned or wrongly signed ones are an error.
    pub fn update(&self) -> Result<()> {
        let begin = Instant::now();
        self.apt_get(&["--error-on=any", "update"]).with_context(|| {
            format!("fetch Debian's package lists for {} (network and keyring needed)", self.default_release)
        })?;
        log::info!(
            "package lists of {} fetched in {:.1} s",
            self.default_release,
            begin.elapsed().as_secs_f32()
        );
        Ok(())
    }

    /// `packages` and everything that they depend on.
    pub fn resolve(&self, packages: &[&str]) -> Result<Vec<Package>> {
        let mut arguments = vec!["--simulate", "--target-release", &self.default_release, "install"];
        arguments.extend(packages);
        let found: Vec<_> = self.apt_get(&arguments)?.lines().filter_map(parse_simulated).collect();
        if found.is_empty() {
            bail!("apt found nothing to fetch for {}", packages.join(" "));
        }
        Ok(found)
    }

    /// Downloads exactly these packages (those already there are not fetched again); returns their files.
    pub fn download(&self, packages: &[Package]) -> Result<Vec<PathBuf>> {
        let files: Vec<_> = packages.iter().map(|package| self.archives.join(package.file_name())).collect();
        let missing: Vec<_> = packages.iter().zip(&files).filter(|(_, file)| !file.exists()).collect();
        if missing.is_empty() {
            return Ok(files);
        }
        let begin = Instant::now();
        log::info!("downloading {} Debian packages …", missing.len());
        let partial = self.archives.join("partial-files");
        fs::create_dir_all(&partial)?;
        let output = self
            .command("apt-get")
            .current_dir(&partial)
            .args(["--quiet", "download"])
            .args(missing.iter().map(|(package, _)| format!("{}={}", package.name, package.version)))
            .output()
            .context("run apt-get download")?;
        if !output.status.success() {
            bail!("apt-get download failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        for (package, file) in missing {
            fs::rename(partial.join(package.file_name()), file)
                .with_context(|| format!("apt-get did not leave {}", package.file_name()))?;
        }
        log::info!("downloaded in {:.1} s", begin.elapsed().as_secs_f32());
        Ok(files)
    }
}

/// `Inst NAME [OLD] (VERSION ORIGIN [ARCH]) …`
fn parse_simulated(line: &str) -> Option<Package> {
    let rest = line.strip_prefix("Inst ")?;
    let (name, rest) = rest.split_once(' ')?;
    let inside = rest.split_once('(')?.1.split_once(')')?.0;
    let version = inside.split_whitespace().next()?;
    let architecture = inside.rsplit_once('[')?.1.strip_suffix(']')?;
    Some(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: architecture.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_install_names_the_package_file() {
        let line = "Inst zlib1g (1:1.3.dfsg-1+b1 Debian:13.1/stable [amd64]) [other:amd64 ]";

        let package = parse_simulated(line).expect("a package");

        assert_eq!(package.file_name(), "zlib1g_1%3a1.3.dfsg-1+b1_amd64.deb");
    }

    #[test]
    fn other_lines_of_a_simulation_are_passed_over() {
        assert_eq!(parse_simulated("Conf zlib1g (1:1.3 Debian:13.1/stable [amd64])"), None);
        assert_eq!(parse_simulated("Inst broken"), None);
    }
}
