//! What the guest's libraries may ask of a guest, checked on the files that are shipped.
//!
//! One of them is loaded into every process, so whatever it needs, every process of every supported guest must have, and
//! whatever it exports, every process may stumble over.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::artifacts::Artifacts;
use crate::counts::Counts;
use crate::process;

/// The oldest C library of supported guests, as in the names of its symbols' versions.
const GLIBC: (u32, u32) = (2, 28);
/// Libraries that every process has loaded anyway.
const LIBRARIES: [&str; 2] = ["libc.so.6", "ld-linux-x86-64.so.2"];
/// Most symbols that are looked up, places that the loader writes, and mappings, in each process that starts
/// (docs/benchmarks/preload.md).
const MOST_IMPORTS: usize = 10;
const MOST_RELOCATIONS: usize = 20;
const MOST_MAPPINGS: usize = 2;

/// Checks both halves of the guest's CUDA library.
pub(crate) fn check(artifacts: &Artifacts) -> Result<Counts> {
    let [(preload, preload_name), (engine, engine_name)] = artifacts.guest_libraries();
    let preload = File::read(&preload, preload_name)?;
    ensure!(preload.imports <= MOST_IMPORTS, "{} symbols are looked up in every process", preload.imports);
    let relocations = preload.relocations;
    ensure!(relocations <= MOST_RELOCATIONS, "{relocations} places are written in every process");
    ensure!(preload.mappings <= MOST_MAPPINGS, "{} parts are mapped in every process", preload.mappings);
    ensure!(!preload.ends, "something of it runs at the end of every process");
    let foreign: Vec<_> = preload.exports.iter().filter(|name| !name.starts_with("cu")).collect();
    ensure!(foreign.is_empty(), "it exports {foreign:?}");

    let engine = File::read(&engine, engine_name)?;
    let expected: BTreeSet<_> = preload.exports.iter().filter(|name| !name.starts_with("cudbg")).collect();
    ensure!(expected.len() > 600, "there are {} functions only", expected.len());
    let answered: BTreeSet<_> = engine.exports.iter().filter(|name| *name != "vcompute_start").collect();
    let odd: Vec<_> = expected.symmetric_difference(&answered).collect();
    ensure!(odd.is_empty(), "these are in one half only: {odd:?}");
    ensure!(engine.exports.len() == answered.len() + 1, "vcompute_start is missing");
    let mut counts = Counts::one(true);
    counts += Counts::one(true);
    Ok(counts)
}

/// What a library's file says of itself.
struct File {
    imports: usize,
    exports: Vec<String>,
    relocations: usize,
    mappings: usize,
    /// Whether it has functions that run when a process ends.
    ends: bool,
}

impl File {
    /// Reads a library, and checks what holds for all that are shipped.
    fn read(library: &Path, name: &str) -> Result<Self> {
        let dynamic = read(library, &["--dynamic"])?;
        let bracketed = |tag: &str| -> Vec<String> {
            let rows = dynamic.iter().filter(|line| line.contains(tag));
            rows.filter_map(|line| Some(line.split_once('[')?.1.trim_end_matches(']').to_owned())).collect()
        };
        ensure!(bracketed("(SONAME)") == [name], "its name is {:?}", bracketed("(SONAME)"));
        let needed = bracketed("(NEEDED)");
        let foreign: Vec<_> = needed.iter().filter(|name| !LIBRARIES.contains(&name.as_str())).collect();
        ensure!(foreign.is_empty(), "{name} needs {foreign:?}");
        ensure!(
            !dynamic.iter().any(|line| line.contains("TEXTREL")),
            "its code is written when it is loaded"
        );

        let symbols = read(library, &["--dyn-syms"])?;
        let symbols: Vec<Symbol<'_>> = symbols.iter().filter_map(|line| Symbol::of(line)).collect();
        let (imports, exports): (Vec<_>, Vec<_>) = symbols.iter().partition(|symbol| symbol.is_import);
        let newer: Vec<_> = imports.iter().filter(|symbol| !symbol.is_old_enough()).collect();
        ensure!(newer.is_empty(), "glibc {}.{} does not have {newer:?}", GLIBC.0, GLIBC.1);
        let sections = read(library, &["--section-headers"])?;
        ensure!(
            !sections.iter().any(|line| line.contains(" .debug")),
            "{name} carries debugging information"
        );
        let relocations = read(library, &["--relocs"])?;
        let programs = read(library, &["--program-headers"])?;
        let file = Self {
            imports: imports.len(),
            exports: exports.iter().map(|symbol| symbol.name.to_owned()).collect(),
            relocations: relocations.iter().filter(|line| line.contains(" R_X86_64_")).count(),
            mappings: programs.iter().filter(|line| line.trim_start().starts_with("LOAD ")).count(),
            ends: dynamic.iter().any(|line| line.contains("(FINI")),
        };
        log::info!(
            "  {name}: {} imports, {} exports, {} relocations, {} mappings",
            file.imports,
            file.exports.len(),
            file.relocations,
            file.mappings
        );
        Ok(file)
    }
}

/// A line of `readelf --dyn-syms`.
#[derive(Debug, PartialEq, Eq)]
struct Symbol<'a> {
    name: &'a str,
    version: Option<&'a str>,
    is_import: bool,
}

impl<'a> Symbol<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        words.next()?.strip_suffix(':')?.parse::<u32>().ok()?;
        let mut words = words.skip(5);
        let is_import = words.next()? == "UND";
        let name = words.next()?;
        let (name, version) =
            name.split_once('@').map_or((name, None), |(name, version)| (name, Some(version)));
        Some(Self { name, version, is_import })
    }

    /// Whether the oldest C library has it. A name without a version is one that may be missing.
    fn is_old_enough(&self) -> bool {
        let Some(version) = self.version else { return true };
        let Some(numbers) = version.strip_prefix("GLIBC_") else { return false };
        let mut numbers = numbers.split('.').map(|number| number.parse::<u32>().unwrap_or(u32::MAX));
        (numbers.next().unwrap_or(u32::MAX), numbers.next().unwrap_or(0)) <= GLIBC
    }
}

fn read(library: &Path, what: &[&str]) -> Result<Vec<String>> {
    let mut command = Command::new("readelf");
    command.arg("--wide").args(what).arg(library).env("LC_ALL", "C");
    let log = library.with_extension("readelf.log");
    let finished = process::run(&mut command, &log, Duration::from_secs(60), |_| false)?;
    finished.expect_success("readelf").with_context(|| format!("read {}", library.display()))?;
    std::fs::remove_file(log)?;
    Ok(finished.lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_read() {
        let import =
            Symbol::of("    64: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND close@GLIBC_2.2.5 (2)");
        assert_eq!(import, Some(Symbol { name: "close", version: Some("GLIBC_2.2.5"), is_import: true }));
        let export = Symbol::of("   114: 000000000004cd90   192 FUNC    GLOBAL DEFAULT   13 cuInit");
        assert_eq!(export, Some(Symbol { name: "cuInit", version: None, is_import: false }));
        assert_eq!(Symbol::of("   Num:    Value          Size Type    Bind   Vis      Ndx Name"), None);
        assert_eq!(Symbol::of("     0: 0000000000000000     0 NOTYPE  LOCAL  DEFAULT  UND "), None);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let of = |version| Symbol { name: "", version, is_import: true };
        assert!(of(Some("GLIBC_2.2.5")).is_old_enough());
        assert!(of(Some("GLIBC_2.28")).is_old_enough());
        assert!(!of(Some("GLIBC_2.30")).is_old_enough());
        assert!(!of(Some("GLIBC_ABI_DT_RELR")).is_old_enough());
        assert!(!of(Some("GCC_3.0")).is_old_enough());
        assert!(of(None).is_old_enough());
    }
}
