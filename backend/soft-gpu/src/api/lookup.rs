//! `cuGetProcAddress`: which symbol a name means for a version of CUDA.
//!
//! The versions are those of the table of calls; the addresses are this driver's.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::collections::HashMap;
use std::ffi::{c_char, c_void};
use std::sync::LazyLock;

use virtio_spec::calls::{self, Call};
use virtio_spec::cuda::{CUdriverProcAddressQueryResult, CUresult, CUuuid};

use super::entry::{In, Out, Text, exports};
use crate::driver::Result;
use crate::driver::attributes::DRIVER_VERSION;

/// An exported function.
#[derive(Debug)]
pub(in crate::api) struct Entry {
    pub(in crate::api) name: &'static str,
    pub(in crate::api) address: *const (),
}

// SAFETY: the address of a function, which is the same for all threads.
unsafe impl Sync for Entry {}

exports! {
    free cuGetProcAddress(name: *const c_char, place: *mut *mut c_void, version: i32, flags: u64) = first_form;
    free cuGetProcAddress_v2(
        name: *const c_char, place: *mut *mut c_void, version: i32, flags: u64,
        status: *mut CUdriverProcAddressQueryResult,
    ) = second_form;
    init cuGetExportTable(table: *mut *const c_void, id: *const CUuuid) = export_table;
}

/// Every exported function.
pub(in crate::api) fn entries() -> impl Iterator<Item = &'static Entry> {
    [
        ENTRIES,
        super::arrays::ENTRIES,
        super::batch_copies::ENTRIES,
        super::captures::ENTRIES,
        super::contexts::ENTRIES,
        super::copies::ENTRIES,
        super::devices::ENTRIES,
        super::functions::ENTRIES,
        super::graph_conditions::ENTRIES,
        super::graph_execs::ENTRIES,
        super::graph_lists::ENTRIES,
        super::graph_memory::ENTRIES,
        super::graph_nodes::ENTRIES,
        super::graph_operations::ENTRIES,
        super::graph_params::ENTRIES,
        super::graphs::ENTRIES,
        super::launches::ENTRIES,
        super::managed::ENTRIES,
        super::stream_attributes::ENTRIES,
        super::stream_values::ENTRIES,
        super::memory::ENTRIES,
        super::modules::ENTRIES,
        super::pools::ENTRIES,
        super::shareable::ENTRIES,
        super::sharing::ENTRIES,
        super::streams::ENTRIES,
        super::tensor_maps::ENTRIES,
        super::unsupported::ENTRIES,
        super::user_objects::ENTRIES,
        super::virtual_memory::ENTRIES,
    ]
    .into_iter()
    .flatten()
}

/// Addresses by name.
static ADDRESSES: LazyLock<HashMap<&str, usize>> =
    LazyLock::new(|| entries().map(|entry| (entry.name, entry.address.expose_provenance())).collect());

/// Rows by the name without its version.
static ROWS: LazyLock<HashMap<&str, Vec<&Call>>> = LazyLock::new(|| {
    let mut rows: HashMap<&str, Vec<&Call>> = HashMap::new();
    for call in calls::all().filter(|call| call.since > 0) {
        rows.entry(call.base_name()).or_default().push(call);
    }
    rows
});

/// What a name leads to.
enum Found {
    Address(usize),
    Nothing,
    OnlyInNewerVersions,
}

const PER_THREAD: u64 = 2;

/// CUDA version of the first per-thread forms.
const FIRST_PER_THREAD: u32 = 7000;

fn find(name: &str, version: u32, flags: u64) -> Found {
    let Some(rows) = ROWS.get(name) else { return Found::Nothing };
    let own = flags & PER_THREAD != 0;
    // Where a name has per-thread forms, there is nothing before them for a program that asks for those.
    if own && version < FIRST_PER_THREAD && rows.iter().any(|row| row.per_thread.is_some()) {
        return Found::OnlyInNewerVersions;
    }
    let row = rows.iter().filter(|row| row.since <= version).max_by_key(|row| row.since);
    let Some(row) = row else { return Found::OnlyInNewerVersions };
    let suffix = row.per_thread.filter(|_| own).map(|form| form.suffix()).unwrap_or_default();
    match ADDRESSES.get(format!("{}{suffix}", row.name).as_str()) {
        Some(address) => Found::Address(*address),
        None => Found::Nothing,
    }
}

fn ask(name: &Text, version: i32, flags: u64) -> Result<Found> {
    let name = std::str::from_utf8(name.bytes()?).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
    if flags > PER_THREAD || version > DRIVER_VERSION {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let version = u32::try_from(version).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
    Ok(find(name, version, flags))
}

fn pointer(address: usize) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(address)
}

fn first_form(name: Text, place: Out<*mut c_void>, version: i32, flags: u64) -> Result<()> {
    place.check()?;
    match ask(&name, version, flags)? {
        Found::Address(address) => place.put(pointer(address)),
        _ => Err(CUresult::ERROR_NOT_FOUND),
    }
}

fn second_form(
    name: Text,
    place: Out<*mut c_void>,
    version: i32,
    flags: u64,
    status: Out<CUdriverProcAddressQueryResult>,
) -> Result<()> {
    place.check()?;
    let (address, told) = match ask(&name, version, flags)? {
        Found::Address(address) => (address, 0),
        Found::Nothing => (0, 1),
        Found::OnlyInNewerVersions => (0, 2),
    };
    status.put_if_wanted(CUdriverProcAddressQueryResult(told));
    place.put(pointer(address))
}

/// NVIDIA's private tables: this driver has none.
fn export_table(_: &crate::driver::Driver, table: Out<*const c_void>, id: In<CUuuid>) -> Result<()> {
    table.check()?;
    id.get()?;
    Err(CUresult::ERROR_NOT_FOUND)
}
