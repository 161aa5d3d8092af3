//! `cuGetProcAddress`: which entry point a name means for a CUDA version.
//!
//! Unsafe code: the C exports as plain functions.

use crate::early;

#[allow(clashing_extern_declarations, reason = "all functions by one type, which nobody calls")]
mod table {
    use super::{Entry, Form};

    include!(concat!(env!("OUT_DIR"), "/entries.rs"));

    /// Every row of the call table.
    pub(super) fn entries() -> &'static [Entry] {
        ENTRIES
    }
}

/// One row of the call table and its entry points.
struct Entry {
    /// The name without a version.
    name: &'static str,
    /// CUDA version from which the name means this symbol; 0 = never.
    since: u32,
    /// The plain entry.
    legacy: Form,
    /// The entry whose null stream is the thread's own.
    per_thread: Option<Form>,
}

/// An entry point.
#[derive(Clone, Copy)]
struct Form {
    /// The exported symbol.
    symbol: &'static str,
    /// What answers.
    function: Function,
}

impl Form {
    /// The entry point that a program finds by the symbol; without `libcuda.so.1`, what answers.
    fn found(self) -> Function {
        early::jump(self.symbol).unwrap_or(self.function)
    }
}

pub(crate) type Function = unsafe extern "C" fn();

/// The rows of a name.
fn rows(name: &str) -> impl Iterator<Item = &'static Entry> {
    table::entries().iter().filter(move |entry| entry.name == name && entry.since != 0)
}

/// What was found for a name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// The entry point.
    Function(Function),
    /// No such name.
    Nothing,
    /// The name is of a later version.
    Later,
}

/// Flag that asks for the per-thread entry.
pub(crate) const PER_THREAD: u64 = 2;
/// CUDA version of the first per-thread entries.
const PER_THREAD_SINCE: u32 = 7000;
/// Flags that are known.
pub(crate) const FLAGS: u64 = 1 | PER_THREAD;

/// Finds what `name` means for `version`: the newest symbol of the name that is not newer. A symbol's own version or suffix
/// is no part of a name, as the real driver has it.
pub(crate) fn find(name: &str, version: u32, flags: u64) -> Found {
    let named = || rows(name);
    if named().next().is_none() {
        return Found::Nothing;
    }
    // A name that has per-thread forms has no other meaning with the flag.
    let per_thread = flags & PER_THREAD != 0 && named().any(|entry| entry.per_thread.is_some());
    let forms = named().filter_map(|entry| match entry.per_thread {
        Some(form) if per_thread => Some((entry.since.max(PER_THREAD_SINCE), form)),
        None if per_thread => None,
        _ => Some((entry.since, entry.legacy)),
    });
    match forms.filter(|(since, _)| *since <= version).max_by_key(|(since, _)| *since) {
        Some((_, form)) => Found::Function(form.found()),
        None => Found::Later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(name: &str, version: u32, flags: u64) -> Option<String> {
        let Found::Function(function) = find(name, version, flags) else { return None };
        let same = |other: Function| std::ptr::fn_addr_eq(other, function);
        table::entries().iter().find_map(|entry| {
            if entry.per_thread.is_some_and(|form| same(form.function)) {
                Some(format!("{} (thread)", entry.legacy.symbol))
            } else {
                same(entry.legacy.function).then(|| entry.legacy.symbol.to_owned())
            }
        })
    }

    #[test]
    fn the_version_decides() {
        assert_eq!(symbol("cuGetProcAddress", 11030, 0).as_deref(), Some("cuGetProcAddress"));
        assert_eq!(symbol("cuGetProcAddress", 12000, 0).as_deref(), Some("cuGetProcAddress_v2"));
        assert_eq!(symbol("cuCtxGetDevice", 12090, 0).as_deref(), Some("cuCtxGetDevice"));
        assert_eq!(symbol("cuCtxGetDevice", 13000, 0).as_deref(), Some("cuCtxGetDevice_v2"));
        assert_eq!(symbol("cuMemAlloc", 13000, 0).as_deref(), Some("cuMemAlloc_v2"));
        assert_eq!(symbol("cuEventElapsedTime", 12070, 0).as_deref(), Some("cuEventElapsedTime"));
        assert_eq!(symbol("cuEventElapsedTime", 12080, 0).as_deref(), Some("cuEventElapsedTime_v2"));
        assert_eq!(symbol("cuCtxCreate", 12050, 0).as_deref(), Some("cuCtxCreate_v4"));
    }

    #[test]
    fn flags_choose_the_per_thread_entry_where_there_is_one() {
        assert_eq!(symbol("cuMemcpyHtoD", 12000, PER_THREAD).as_deref(), Some("cuMemcpyHtoD_v2 (thread)"));
        assert_eq!(symbol("cuMemAlloc", 12000, PER_THREAD).as_deref(), Some("cuMemAlloc_v2"));
        assert_eq!(symbol("cuMemcpyHtoD", 6050, PER_THREAD), None);
        assert_eq!(symbol("cuMemcpyHtoD", 6050, 0).as_deref(), Some("cuMemcpyHtoD_v2"));
    }

    #[test]
    fn unknown_and_later_names_are_told_apart() {
        assert!(matches!(find("", 0, 0), Found::Nothing));
        assert!(matches!(find("cuNoSuchThing", 13000, 0), Found::Nothing));
        assert!(matches!(find("cuMemAlloc_v2", 13000, 0), Found::Nothing));
        assert!(matches!(find("cuLaunchKernel_ptsz", 13000, 0), Found::Nothing));
        assert!(matches!(find("cuLibraryLoadData", 11000, 0), Found::Later));
    }
}
