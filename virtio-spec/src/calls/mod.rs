//! The table of CUDA driver calls: one row for each function that NVIDIA's `libcuda.so.1` exports.
//!
//! A group of rows is a trait in a module of its own; [`virtio_spec_macros`] says what the words of a row mean. The C
//! exports of the shim, the table behind `cuGetProcAddress`, the worker's dispatch, the names in logs and
//! `docs/call-coverage.md` are all made of these rows, by [`for_each_group!`](crate::for_each_group) and [`GROUPS`].
//! `docs/adding-a-call.md` shows how a call is added.

pub mod arrays;
pub mod batches;
pub mod contexts;
pub mod copies;
pub mod devices;
pub mod events;
pub mod functions;
pub mod graphs;
pub mod green_contexts;
pub mod interop;
pub mod launches;
pub mod managed;
pub mod memory;
pub mod memsets;
pub mod modules;
pub mod pools;
pub mod sharing;
pub mod streams;
pub mod tools;
pub mod virtual_memory;

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// The exported symbol.
    pub name: &'static str,
    /// The group's module, e.g. `memory`.
    pub group: &'static str,
    /// Number on the wire: the group in bits 8 and up, the row's number below. Never reused.
    pub opcode: u32,
    /// CUDA version (1000 × major + 10 × minor) from which `cuGetProcAddress` gives this symbol for [`Call::base_name`];
    /// 0 if it never does.
    pub since: u32,
    /// Who answers it.
    pub disposition: Disposition,
    /// Nobody waits for the result: errors surface at the thread's next synchronising call.
    pub posted: bool,
    /// What the call may wait for.
    pub blocks: Blocks,
    /// The second entry, whose null stream is the thread's own, if there is one.
    pub per_thread: Option<PerThread>,
    /// May be called before `cuInit`.
    pub before_init: bool,
    /// Fails with `CUDA_ERROR_INVALID_CONTEXT` when the thread has no current context.
    pub needs_context: bool,
}

impl Call {
    /// The name without its version: `cuMemAlloc` for `cuMemAlloc_v2`, as `cuGetProcAddress` is asked for it.
    #[must_use]
    pub fn base_name(&self) -> &'static str {
        match self.name.rsplit_once("_v") {
            Some((base, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => base,
            _ => self.name,
        }
    }
}

/// Who answers a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Both halves are generated.
    Wire,
    /// The shim answers from what it knows.
    Guest,
    /// The shim's half is written by hand.
    Custom,
    /// Exported and counted; `CUDA_ERROR_NOT_SUPPORTED`.
    Unsupported,
}

/// What a call may wait for in the host's driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// Nothing worth speaking of.
    No,
    /// The driver's own locks, or room in a queue.
    Driver,
    /// Work on the GPU.
    Gpu,
}

/// Which suffix the per-thread entry of a call has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerThread {
    /// `_ptsz`: the call takes a stream.
    Stream,
    /// `_ptds`: the call works on the default stream.
    Default,
}

impl PerThread {
    /// The suffix of the symbol.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Stream => "_ptsz",
            Self::Default => "_ptds",
        }
    }
}

/// Every group's rows.
pub static GROUPS: &[&[&Call]] = &[
    devices::CALLS,
    contexts::CALLS,
    memory::CALLS,
    copies::CALLS,
    memsets::CALLS,
    modules::CALLS,
    functions::CALLS,
    launches::CALLS,
    streams::CALLS,
    events::CALLS,
    arrays::CALLS,
    pools::CALLS,
    virtual_memory::CALLS,
    graphs::CALLS,
    sharing::CALLS,
    interop::CALLS,
    managed::CALLS,
    green_contexts::CALLS,
    tools::CALLS,
    batches::CALLS,
];

/// Every row of the table.
pub fn all() -> impl Iterator<Item = &'static Call> {
    GROUPS.iter().flat_map(|group| group.iter().copied())
}

/// Applies an emitter of `virtio_spec_macros` (or any macro that takes `module, number; rows`) to every group.
#[macro_export]
macro_rules! for_each_group {
    ($emit:path) => {
        $crate::devices_rows!($emit);
        $crate::contexts_rows!($emit);
        $crate::memory_rows!($emit);
        $crate::copies_rows!($emit);
        $crate::memsets_rows!($emit);
        $crate::modules_rows!($emit);
        $crate::functions_rows!($emit);
        $crate::launches_rows!($emit);
        $crate::streams_rows!($emit);
        $crate::events_rows!($emit);
        $crate::arrays_rows!($emit);
        $crate::pools_rows!($emit);
        $crate::virtual_memory_rows!($emit);
        $crate::graphs_rows!($emit);
        $crate::sharing_rows!($emit);
        $crate::interop_rows!($emit);
        $crate::managed_rows!($emit);
        $crate::green_contexts_rows!($emit);
        $crate::tools_rows!($emit);
        $crate::batches_rows!($emit);
    };
}

const _: () = assert_opcodes_are_unique();

/// A reused or out-of-range number does not compile.
const fn assert_opcodes_are_unique() {
    let mut group = 0;
    while group < GROUPS.len() {
        let rows = GROUPS[group];
        let mut row = 0;
        while row < rows.len() {
            assert!(rows[row].opcode & 0xff != 0, "numbers of a group start at 1");
            assert!(rows[row].opcode >> 8 == rows[0].opcode >> 8, "a row's number does not fit its group");
            let mut other = row + 1;
            while other < rows.len() {
                assert!(rows[row].opcode != rows[other].opcode, "a number is used twice");
                other += 1;
            }
            row += 1;
        }
        let mut other = group + 1;
        while other < GROUPS.len() {
            assert!(rows[0].opcode >> 8 != GROUPS[other][0].opcode >> 8, "a group's number is used twice");
            other += 1;
        }
        group += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_names_drop_the_version_only() {
        assert_eq!(memory::rows::cuMemAlloc_v2.base_name(), "cuMemAlloc");
        assert_eq!(memory::rows::cuMemHostAlloc.base_name(), "cuMemHostAlloc");
        assert_eq!(graphs::rows::cuGraphAddKernelNode_v2.base_name(), "cuGraphAddKernelNode");
    }

    #[test]
    fn no_symbol_stands_twice() {
        let mut names: Vec<_> = all().map(|call| call.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn versions_of_a_name_begin_at_different_times() {
        let mut starts: Vec<_> =
            all().filter(|call| call.since > 0).map(|call| (call.base_name(), call.since)).collect();
        starts.sort_unstable();
        let count = starts.len();
        starts.dedup();
        assert_eq!(starts.len(), count);
    }
}
