//! What programs ask for that is not there: each is named once in the log.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::{NAMES, hexadecimal};

/// One that was asked for.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Unknown {
    Table([u8; 16]),
    Slot { table: usize, slot: usize },
}

static SEEN: Mutex<Option<HashSet<Unknown>>> = Mutex::new(None);

fn is_new(unknown: Unknown) -> bool {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(unknown)
}

/// A program asked for a table that is not there.
pub(super) fn table_asked_for(identifier: [u8; 16]) {
    if is_new(Unknown::Table(identifier)) {
        say(format_args!("private table {} is not there", hexadecimal(identifier)));
    }
}

/// A program called a slot whose purpose is not known.
pub(super) fn slot_called(table: usize, slot: usize) {
    if is_new(Unknown::Slot { table, slot }) {
        let name = NAMES.get(table).copied().unwrap_or("?");
        say(format_args!("slot {slot} of the private table {name} is not supported"));
    }
}

/// Written where the environment asks for warnings.
fn say(line: std::fmt::Arguments<'_>) {
    let wanted = std::env::var("VCOMPUTE_LOG")
        .is_ok_and(|level| matches!(&*level, "warn" | "info" | "debug" | "trace"));
    if wanted {
        eprintln!("virtio-compute: {line}");
    }
}
