//! Private tables: what NVIDIA's runtime and libraries ask `cuGetExportTable` for.
//!
//! They are not documented. `docs/adr/0009` says why they are here and how each is known; every function says who calls
//! it. Whatever is not known answers an error and is named in the log once, so that a program fails as it would with a
//! driver that lacks it, never with a wrong result.
//!
//! All of it is answered in the guest: the hot ones are called more often than kernels are launched.
//!
//! Read in this order: `table`, `runtime`, `storage`, `contexts`, `functions`, `processors`, `integrity` (with `md2`), `unknown`.
//!
//! Unsafe code: the callers' pointers.

mod contexts;
mod functions;
mod integrity;
mod md2;
mod processors;
mod runtime;
pub(crate) mod storage;
mod table;
mod unknown;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use virtio_spec::cuda::CUresult;

use crate::calls::give;
use crate::{device, entry, process, trace};
use table::{Slot, Table};

/// The tables' names in the log, by number.
const NAMES: [&str; 9] = [
    "runtime",
    "hooks",
    "thread-storage",
    "context-storage",
    "context-checks",
    "integrity",
    "tools-contexts",
    "tools-modules",
    "processors",
];

/// The tables' identifiers, by number, in memory order.
const IDENTIFIERS: [u128; 9] = [
    0x6bd5_fb6c_5bf4_e74a_8987_d939_12fd_9df9,
    0xa094_798c_2e74_2e74_93f2_0800_200c_0a66,
    0x42d8_5a81_23f6_cb47_8298_f6e7_8a3a_ecdc,
    0xc693_336e_1121_df11_a8c3_68f3_55d8_9593,
    0x263e_8860_7cd2_6143_92f6_bbd5_006d_fa7e,
    0xd408_2055_bde6_704b_8d34_ba12_3c66_e1f2,
    0x2131_8c60_9714_3248_8ca6_41ff_7324_c8f2,
    0x6e16_3fbe_b958_444d_835c_e182_aff1_991e,
    0x1734_dc26_800d_4745_8726_c0f1_e7dd_8bca,
];

const RUNTIME: usize = 0;
const INTEGRITY: usize = 5;

/// The tables, made when one is asked for, so that a process that needs none pays nothing.
fn tables() -> &'static [Table; 9] {
    static TABLES: OnceLock<[Table; 9]> = OnceLock::new();
    TABLES.get_or_init(|| {
        [
            runtime::table::<RUNTIME>(),
            runtime::hooks_table::<1>(),
            contexts::thread_table::<2>(),
            storage::table(),
            contexts::check_table::<4>(),
            Table::sized::<INTEGRITY>(
                3,
                &[
                    (1, integrity_check as *const () as Slot),
                    (2, enable_integrity_check as *const () as Slot),
                ],
            ),
            contexts::tools_table::<6>(),
            functions::table::<7>(),
            processors::table::<8>(),
        ]
    })
}

/// The table with an identifier.
pub(crate) fn find(identifier: [u8; 16]) -> Option<*const std::ffi::c_void> {
    let wanted = u128::from_be_bytes(identifier);
    let Some(number) = IDENTIFIERS.iter().position(|&known| known == wanted) else {
        unknown::table_asked_for(identifier);
        return None;
    };
    tables().get(number).map(Table::address)
}

/// Slot 1 of the integrity check, three times for each runtime: see `integrity`.
unsafe extern "C" fn integrity_check(version: u32, time: u64, place: *mut [u64; 2]) -> CUresult {
    answered("integrity[1]", || {
        // SAFETY: asks for the calling thread only.
        let thread = unsafe { libc::pthread_self() };
        #[allow(clippy::cast_possible_truncation, reason = "its low half")]
        let thread = thread as u32;
        let address = |table: usize| tables().get(table).map_or(0, |table| table.address().addr() as u64);
        let question = integrity::Question {
            driver_version: device::devices()?.version(),
            version,
            process: std::process::id(),
            thread,
            runtime_table: address(RUNTIME),
            integrity_table: address(INTEGRITY),
            function: (integrity_check as *const ()).addr() as u64,
            time,
        };
        let answer = integrity::answer(&question, &integrity::identities()?);
        // SAFETY: the caller's place for the answer.
        unsafe { give(place, answer) }
    })
}

/// Slot 2 of the integrity check: never called by a runtime that was measured.
extern "C" fn enable_integrity_check(_enabled: i32) -> CUresult {
    CUresult::SUCCESS
}

/// A slot's body behind the checks that every call passes.
fn answered(name: &'static str, body: impl FnOnce() -> Result<(), CUresult>) -> CUresult {
    if let Err(error) = process::check_initialised() {
        return error;
    }
    let guarded =
        || catch_unwind(AssertUnwindSafe(|| entry::status(body()))).unwrap_or(CUresult::ERROR_UNKNOWN);
    trace::call(name, guarded)
}

/// An identifier as it is written.
fn hexadecimal(identifier: [u8; 16]) -> String {
    let mut text = String::new();
    for (place, byte) in identifier.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // A string takes everything.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_the_sizes_of_driver_580_and_no_empty_slot() {
        let sizes = [104, 56, 24, 0, 120, 24, 744, 792, 136];
        for (number, bytes) in sizes.into_iter().enumerate() {
            let table = &tables()[number];
            if bytes == 0 {
                continue;
            }
            assert_eq!(table.slot(0).map(|slot| slot.addr()), Some(bytes), "table {}", NAMES[number]);
            for slot in 1..bytes / size_of::<Slot>() {
                let empty = table.slot(slot).is_none_or(|function| function.is_null());
                assert_eq!(empty, (number, slot) == (RUNTIME, 10), "slot {slot} of {}", NAMES[number]);
            }
            assert_eq!(table.slot(bytes / size_of::<Slot>()), None);
        }
    }

    #[test]
    fn an_identifier_is_its_bytes_in_memory_order() {
        let identifier = IDENTIFIERS[RUNTIME].to_be_bytes();
        assert_eq!(hexadecimal(identifier), "6bd5fb6c-5bf4-e74a-8987-d93912fd9df9");
        assert_eq!(find(identifier), Some(tables()[RUNTIME].address()));
        assert_eq!(find([0; 16]), None);
    }
}
