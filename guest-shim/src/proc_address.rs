//! `cuGetProcAddress`: which entry point a name means for a CUDA version.
//!
//! The table has no pointers, which the loader would have to write into every process that loads the library, whether it
//! uses CUDA or not.
//!
//! Unsafe code: the C exports as plain functions, at the distances that the linker has written.

include!(concat!(env!("OUT_DIR"), "/entries.rs"));

/// One row of the call table, without pointers.
struct Row {
    /// Where in [`NAMES`] its name without the version begins.
    name: u16,
    /// Bytes of the name.
    length: u8,
    /// CUDA version from which the name means this symbol; 0 = never.
    since: u16,
}

/// One row of the call table and its entry points.
#[derive(Clone, Copy)]
struct Entry {
    /// The exported symbol.
    #[cfg(test)]
    symbol: &'static str,
    /// CUDA version from which the name means this symbol.
    since: u32,
    /// The plain entry.
    legacy: Function,
    /// The entry whose null stream is the thread's own.
    per_thread: Option<Function>,
}

type Function = unsafe extern "C" fn();

/// The function at a distance from the table of places; none at 0.
fn function(distance: i32) -> Option<Function> {
    if distance == 0 {
        return None;
    }
    let place = (&raw const PLACES).cast::<()>().wrapping_byte_offset(isize::try_from(distance).ok()?);
    // SAFETY: the linker has written the distance of one of the library's exports.
    Some(unsafe { std::mem::transmute::<*const (), Function>(place) })
}

/// The rows of a name, or of all names.
fn rows(name: Option<&str>) -> impl Iterator<Item = Entry> {
    let number = 0..;
    number.zip(&ROWS).zip(&PLACES).filter_map(
        move |((_number, row), [legacy, per_thread]): ((usize, _), _)| {
            let start = usize::from(row.name);
            let own = NAMES.get(start..start + usize::from(row.length))?;
            if name.is_some_and(|name| name != own || row.since == 0) {
                return None;
            }
            Some(Entry {
                #[cfg(test)]
                symbol: SYMBOLS[_number],
                since: u32::from(row.since),
                legacy: function(*legacy)?,
                per_thread: function(*per_thread),
            })
        },
    )
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
    let named = || rows(Some(name));
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
        let same = |other: Function| std::ptr::fn_addr_eq(other, function);
        rows(None).find_map(|entry| {
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
