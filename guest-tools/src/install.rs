//! `install`: everything that a guest needs, the preload last, and nothing left half done.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::driver::{self, Plan};
use crate::layout::{self, Libraries, Library};
use crate::output::{agrees, say, warn};
use crate::record::{self, Changes};
use crate::rescue;
use crate::system::System;
use crate::trial::Trial;
use crate::{config, elf, library, preload, uninstall};

/// What `install` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The CUDA library, and beside it what it loads [default: libcuda.so.1 beside this program]
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
    /// The driver's sources [default: driver/ beside this program]
    #[arg(long, value_name = "DIRECTORY")]
    driver: Option<PathBuf>,
    /// A module that is built already, instead of DKMS
    #[arg(long, value_name = "FILE", conflicts_with = "driver")]
    module: Option<PathBuf>,
    /// Leave the driver as it is
    #[arg(long, conflicts_with_all = ["driver", "module"])]
    no_driver: bool,
    /// Do not load the library into every process; programs that ask for CUDA find it all the same
    #[arg(long)]
    no_preload: bool,
    /// Move another vendor's libcuda and libnvidia-ml aside; `uninstall` puts it back
    #[arg(long)]
    replace_other_libcuda: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// What is installed from where.
struct Sources {
    libraries: Vec<library::Given>,
    probe: Option<Vec<u8>>,
    smi: Option<Vec<u8>>,
    driver: Plan,
}

/// Installs.
pub(crate) fn run(system: &System, arguments: &Arguments) -> Result<()> {
    let libraries = Libraries::of(system).with_context(|| {
        format!("{} is no x86-64 system with glibc (no libc.so.6)", system.top().display())
    })?;
    if !arguments.no_preload && system.is_live() && !cfg!(target_feature = "crt-static") {
        bail!(
            "this vcompute-guest needs the dynamic linker itself, so it could not repair this system; use the static one, \
               or --no-preload"
        );
    }
    let sources = find_sources(system, &libraries, arguments)?;
    let others = library::others(system, &libraries, &sources.libraries)?;
    if !others.is_empty() && !arguments.replace_other_libcuda {
        bail!(
            "there is another vendor's library: {}. With --replace-other-libcuda it is moved aside, and `uninstall` puts it back",
            others.iter().map(|other| format!("/{other}")).collect::<Vec<_>>().join(", ")
        );
    }
    announce(&libraries, &sources, &others, arguments);
    if !arguments.yes && !agrees("Go on?") {
        bail!("nothing was changed (without a terminal, say --yes)");
    }
    let _lock = system.lock()?;
    let mut changes = Changes::of(system)?;
    let is_first = changes.record.version.is_empty();
    changes.record.version = layout::VERSION.to_owned();
    changes.save()?;

    if let Some(flaw) = rescue::flaw(system)? {
        // Programs complain of it, or do not start; the line comes back as the last step.
        rescue::strike(system)?;
        say(format_args!("  damaged         {flaw}"));
    }
    if let Err(error) = try_libraries(&mut changes, &libraries, &sources.libraries, arguments.no_preload) {
        if is_first {
            uninstall::undo(&mut changes, false)?;
        }
        return Err(error.context("nothing was installed"));
    }
    tools(&mut changes, &sources)?;
    for other in &others {
        changes.keep(other)?;
        say(format_args!("  moved aside     /{other}"));
    }
    let new = library::place(&mut changes, &libraries, &sources.libraries)?;
    library::update_cache(&mut changes, new)?;
    for (library, _) in &sources.libraries {
        told(&format!("/{}", libraries.file(library)), new);
    }
    if rescue::is_listed(system)? {
        still_starts(&mut changes)?;
    }
    configure(&mut changes)?;
    let new = driver::install(&mut changes, &sources.driver).context(
        "the library is in place, but the driver is not; programs find no GPU. Run `install` again when this is mended",
    )?;
    drop_outdated(&mut changes, &libraries, &sources.libraries)?;
    if !matches!(sources.driver, Plan::None) {
        told("the driver", new);
        driver::start(system);
    }

    if arguments.no_preload {
        if rescue::strike(system)? {
            say(format_args!("  taken out of    /{}", layout::PRELOAD_LIST));
        }
    } else {
        preload_everywhere(&mut changes, &libraries)?;
    }
    say(format_args!(
        "Done. `vcompute-guest doctor` looks whether CUDA works; `vcompute-guest uninstall` undoes all of this."
    ));
    Ok(())
}

fn find_sources(system: &System, libraries: &Libraries, arguments: &Arguments) -> Result<Sources> {
    let this = env::current_exe().context("find this program")?;
    let here = this.parent().unwrap_or(Path::new("/"));
    let named = arguments.library.as_deref();
    let beside = named.map_or(here, |file| file.parent().unwrap_or(Path::new("/")));
    let mut given = vec![find_library(system, libraries, &layout::CUDA, named, beside)?];
    if given.iter().any(|(_, contents)| library::needs_engine(contents)) {
        given.insert(0, find_library(system, libraries, &layout::ENGINE, None, beside)?);
    }

    // A package without management is whole; what an earlier one has installed stays.
    let management =
        [beside.join(layout::MANAGEMENT.soname), system.path(&libraries.file(&layout::MANAGEMENT))];
    if management.iter().any(|file| file.is_file()) {
        given.push(find_library(system, libraries, &layout::MANAGEMENT, None, beside)?);
    }

    let optional = |name: &str| {
        let file = here.join(name);
        file.is_file().then(|| fs::read(&file)).transpose().with_context(|| format!("read {name}"))
    };
    let (probe, smi) = (optional("vcompute-probe")?, optional("vcompute-smi")?);
    let driver = if arguments.no_driver {
        Plan::None
    } else {
        let installed = system.path(&format!("{}-{}", layout::DRIVER_SOURCE, layout::VERSION));
        let found = [here.join("driver"), installed].into_iter().find(|directory| directory.is_dir());
        let source = arguments.driver.clone().or(found);
        Plan::of(system, source.as_deref(), arguments.module.as_deref())?
    };
    Ok(Sources { libraries: given, probe, smi, driver })
}

/// Finds a library, by name or beside the others or as it was installed, and looks whether it is whole and ours.
fn find_library(
    system: &System,
    libraries: &Libraries,
    library: &'static Library,
    named: Option<&Path>,
    beside: &Path,
) -> Result<library::Given> {
    let file = match named {
        Some(named) => named.to_owned(),
        None => [beside.join(library.soname), system.path(&libraries.file(library))]
            .into_iter()
            .find(|file| file.is_file())
            .with_context(|| {
                format!(
                    "there is no {} in {}; --library names libcuda.so.1, and the others lie beside it",
                    library.soname,
                    beside.display()
                )
            })?,
    };
    let contents = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    elf::check(&contents, library.soname)
        .with_context(|| format!("{} cannot be installed", file.display()))?;
    ensure!(elf::is_ours(&contents), "{} is another vendor's library", file.display());
    Ok((library, contents))
}

fn announce(libraries: &Libraries, sources: &Sources, others: &[String], arguments: &Arguments) {
    say(format_args!("virtio-compute {}:", layout::VERSION));
    for (library, _) in sources.libraries.iter().rev() {
        say(format_args!("  library         /{}", libraries.file(library)));
    }
    say(format_args!("  driver          {}", sources.driver.describe()));
    if arguments.no_preload {
        say(format_args!("  preload         no"));
    } else {
        say(format_args!("  preload         {} in /{}", libraries.preload_entry(), layout::PRELOAD_LIST));
    }
    for other in others {
        say(format_args!("  moves aside     /{other}"));
    }
}

fn told(what: &str, new: bool) {
    say(format_args!("  {}  {what}", if new { "installed     " } else { "as it was     " }));
}

/// Puts the libraries beside their places and starts programs with all of them, before anything uses them.
fn try_libraries(
    changes: &mut Changes<'_>,
    libraries: &Libraries,
    given: &[library::Given],
    optional: bool,
) -> Result<()> {
    let mut candidates = Vec::new();
    // Management programs alone load that library: it is not tried in others.
    let everywhere = given.iter().filter(|(library, _)| library.soname != layout::MANAGEMENT.soname);
    for (library, contents) in everywhere {
        let candidate = format!("{}/virtio-compute/candidate-{}", libraries.directory, library.soname);
        changes.write(&candidate, contents, 0o644)?;
        candidates.push(candidate);
    }
    let all: Vec<_> = candidates.iter().map(|candidate| format!("/{candidate}")).collect();
    let outcome = match Trial::of(changes.system) {
        Ok(trial) => trial
            .run(Some(&all.join(":")))
            .map(|()| {
                say(format_args!("  tried           {} programs, with the library preloaded", trial.count()))
            })
            .context("with the library preloaded, a program does not run as before"),
        Err(error) if optional => {
            warn(format_args!("{error:#}"));
            Ok(())
        }
        Err(error) => Err(error),
    };
    for candidate in &candidates {
        record::remove_if_there(&changes.system.path_to_write(candidate)?)?;
        changes.record.files.remove(candidate);
    }
    changes.save()?;
    outcome
}

/// This program, so that it is there when it is needed, the probe, and the program that shows the GPUs.
fn tools(changes: &mut Changes<'_>, sources: &Sources) -> Result<()> {
    let this = fs::read("/proc/self/exe").context("read this program")?;
    changes.write(layout::PROGRAM, &this, 0o755)?;
    if let Some(probe) = &sources.probe {
        changes.write(layout::PROBE, probe, 0o755)?;
    }
    if let Some(smi) = &sources.smi {
        changes.write(layout::SMI, smi, 0o755)?;
        if !changes.system.has(layout::OTHER_SMI) && changes.system.program("nvidia-smi").is_none() {
            changes.link(layout::OTHER_SMI, layout::SMI_NAME)?;
        }
    }
    Ok(())
}

fn configure(changes: &mut Changes<'_>) -> Result<()> {
    if !changes.system.has(layout::CONFIG) {
        changes.write(layout::CONFIG, config::DEFAULT.as_bytes(), 0o644)?;
    }
    let policy = config::of(changes.system)?;
    changes.link(layout::POLICY, &policy)?;
    if changes.system.path("etc/initramfs-tools").is_dir() {
        changes.write(layout::INITRAMFS_HOOK, include_bytes!("initramfs-hook.sh"), 0o755)?;
        changes.write(layout::INITRAMFS_CHECK, include_bytes!("initramfs-check.sh"), 0o755)?;
    }
    Ok(())
}

/// `apply`: the policy of the file as it is now.
pub(crate) fn apply(system: &System) -> Result<()> {
    let policy = config::of(system)?;
    let _lock = system.lock()?;
    let mut changes = Changes::of(system)?;
    let new = changes.link(layout::POLICY, &policy)?;
    say(format_args!("/{} {} {policy}", layout::POLICY, if new { "is now" } else { "was already" }));
    Ok(())
}

/// Removes what an older version had and this one has not.
fn drop_outdated(changes: &mut Changes<'_>, libraries: &Libraries, given: &[library::Given]) -> Result<()> {
    let installed: Vec<_> = given.iter().map(|(library, _)| libraries.file(library)).collect();
    let is_gone = |file: &String| changes.record.libraries.contains_key(file) && !installed.contains(file);
    let outdated: Vec<_> =
        changes.record.files.iter().filter(|file| is_outdated(file) || is_gone(file)).cloned().collect();
    for file in outdated {
        record::remove_if_there(&changes.system.path_to_write(&file)?)?;
        changes.record.files.remove(&file);
        changes.record.libraries.remove(&file);
    }
    changes.save()
}

/// Another version's library or sources.
fn is_outdated(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or_default();
    let library = library::named(name)
        .is_some_and(|library| !library.links.contains(&name) && !library.file.ends_with(name));
    let source = file
        .strip_prefix(layout::DRIVER_SOURCE)
        .is_some_and(|rest| !rest.starts_with(&format!("-{}/", layout::VERSION)));
    library || source
}

/// The library was preloaded before and has been replaced: a process must start with the new one too.
fn still_starts(changes: &mut Changes<'_>) -> Result<()> {
    let outcome = Trial::of(changes.system).map(drop);
    if outcome.is_err() {
        rescue::strike(changes.system)?;
    }
    outcome.with_context(|| format!("the library was taken out of /{} again", layout::PRELOAD_LIST))
}

/// The last step. Whatever goes wrong after the line is there, it is taken away again at once.
fn preload_everywhere(changes: &mut Changes<'_>, libraries: &Libraries) -> Result<()> {
    let system = changes.system;
    let entry = libraries.preload_entry();
    let trial = Trial::of(system)?;
    let old = system.text(layout::PRELOAD_LIST)?;
    let text = old.clone().unwrap_or_default();
    // Another form of our own entry makes way.
    let new =
        preload::with(&preload::without(&text, |known| rescue::is_ours(known) && known != entry), &entry);
    if old.is_none() {
        changes.record.preload_list = true;
        changes.save()?;
    }
    if new == text {
        told(&format!("{entry} in /{}", layout::PRELOAD_LIST), false);
        return Ok(());
    }
    rescue::write_list(system, &new)?;
    if let Err(error) = trial.run(None) {
        rescue::strike(system)?;
        trial.run(None).context("even without the library a program does not run as before")?;
        return Err(error.context(format!(
            "with the library in /{} a program does not run as before; it was taken out again",
            layout::PRELOAD_LIST
        )));
    }
    say(format_args!("  preloaded       {} programs started afresh run as before", trial.count()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_are_outdated_and_nothing_else() {
        for file in [
            "usr/lib/x86_64-linux-gnu/libcuda.so.0.0.1",
            "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.0.0.1",
            "usr/src/virtio-compute-0.0.1/main.c",
        ] {
            assert!(is_outdated(file), "{file}");
        }
        let current = [
            format!("usr/lib/x86_64-linux-gnu/{}", layout::CUDA.file),
            format!("usr/lib/x86_64-linux-gnu/{}", layout::ENGINE.file),
            format!("{}-{}/main.c", layout::DRIVER_SOURCE, layout::VERSION),
            format!("usr/lib/x86_64-linux-gnu/{}", layout::MANAGEMENT.file),
            "usr/lib/x86_64-linux-gnu/libnvidia-ml.so".to_owned(),
            "usr/lib/x86_64-linux-gnu/libcuda.so.1".to_owned(),
            "usr/lib/x86_64-linux-gnu/libcuda.so".to_owned(),
            layout::CONFIG.to_owned(),
        ];
        for file in current {
            assert!(!is_outdated(&file), "{file}");
        }
    }
}
