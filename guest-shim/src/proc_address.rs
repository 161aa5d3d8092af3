//! `cuGetProcAddress`: which entry point a name means for a CUDA version.
//!
//! Unsafe code: the table names the C exports as plain functions.

include!(concat!(env!("OUT_DIR"), "/entries.rs"));

/// One row of the call table and its entry points.
pub(crate) struct Entry {
    /// The exported symbol.
    #[cfg(test)]
    pub(crate) symbol: &'static str,
    /// The name without its version.
    pub(crate) name: &'static str,
    /// CUDA version from which the name means this symbol; 0 = never.
    pub(crate) since: u32,
    /// The plain entry.
    pub(crate) legacy: unsafe extern "C" fn(),
    /// The entry whose null stream is the thread's own.
    pub(crate) per_thread: Option<unsafe extern "C" fn()>,
}

/// What was found for a name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// The entry point.
    Function(unsafe extern "C" fn()),
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
    let named = || ENTRIES.iter().filter(|entry| entry.since > 0 && entry.name == name);
    if named().next().is_none() {
        return Found::Nothing;
    }
    // A name that has per-thread forms has no other meaning with the flag.
    let per_thread = flags & PER_THREAD != 0 && named().any(|entry| entry.per_thread.is_some());
    let forms = named().filter_map(|entry| match entry.per_thread {
        Some(function) if per_thread => Some((entry.since.max(PER_THREAD_SINCE), function)),
        None if per_thread => None,
        _ => Some((entry.since, entry.legacy)),
    });
    match forms.filter(|(since, _)| *since <= version).max_by_key(|(since, _)| *since) {
        Some((_, function)) => Found::Function(function),
        None => Found::Later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(name: &str, version: u32, flags: u64) -> Option<String> {
        let Found::Function(function) = find(name, version, flags) else { return None };
        let same = |other: unsafe extern "C" fn()| std::ptr::fn_addr_eq(other, function);
        ENTRIES.iter().find_map(|entry| {
            if entry.per_thread.is_some_and(same) {
                Some(format!("{} (thread)", entry.symbol))
            } else {
                same(entry.legacy).then(|| entry.symbol.to_owned())
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
