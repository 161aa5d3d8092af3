//! Where a device's multiprocessors lie: cuBLASLt plans clusters by it, and does not look whether the table is there.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use virtio_spec::cuda::CUresult;
use virtio_spec::requests::{ProcessorLayout, opcode};

use super::answered;
use super::table::{Slot, Table};
use crate::calls::give;
use crate::wire::Request;
use crate::{context, device};

/// The lists of a device.
type Lists = [Vec<u8>; 2];

/// What was asked for, by the device's ordinal.
static KNOWN: Mutex<Option<HashMap<i32, Lists>>> = Mutex::new(None);

/// A list that is handed out has a multiple of this many bytes: its reader may look at whole words.
const ROUND: usize = 512;
/// Room for the answer: two lists of at most 1,024 bytes.
const ROOM: u32 = 4096;

fn ask() -> Result<Lists, CUresult> {
    let request = Request::start(opcode::PROCESSOR_LAYOUT, context::required()?)?;
    let mut response = request.with_room(ROOM).answer()?;
    let count = response.take::<ProcessorLayout>()?.count as usize;
    let mut list = || response.take_slice(count).map(<[u8]>::to_vec);
    Ok([list()?, list()?])
}

fn lists() -> Result<Lists, CUresult> {
    let device = device::number(context::current_context()?.device);
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(lists) = known.as_ref().and_then(|known| known.get(&device)) {
        return Ok(lists.clone());
    }
    drop(known);
    let lists = ask()?;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.get_or_insert_default().insert(device, lists.clone());
    Ok(lists)
}

/// A copy of a list that [`free`] gives back.
fn copy(list: &[u8]) -> Result<*mut u8, CUresult> {
    let room = list.len().next_multiple_of(ROUND);
    // SAFETY: asks for memory.
    let place = unsafe { libc::calloc(1, room) }.cast::<u8>();
    if place.is_null() {
        return Err(CUresult::ERROR_OUT_OF_MEMORY);
    }
    // SAFETY: the memory has at least as many bytes.
    unsafe { std::ptr::copy_nonoverlapping(list.as_ptr(), place, list.len()) };
    Ok(place)
}

/// Slot 4: two lists with a byte for each multiprocessor of the current context's device.
unsafe extern "C" fn make(first: *mut *mut u8, second: *mut *mut u8) -> CUresult {
    answered("processors[4]", || {
        let lists = lists()?;
        for (place, list) in [first, second].into_iter().zip(&lists) {
            // SAFETY: the caller's places for addresses.
            unsafe { give(place, copy(list)?) }?;
        }
        Ok(())
    })
}

/// Slot 13: frees the two lists.
unsafe extern "C" fn free(first: *mut u8, second: *mut u8) -> CUresult {
    answered("processors[13]", || {
        for list in [first, second] {
            // SAFETY: from `make`, and freed once.
            unsafe { libc::free(list.cast()) };
        }
        Ok(())
    })
}

/// The processors' table.
pub(super) fn table<const TABLE: usize>() -> Table {
    Table::sized::<TABLE>(17, &[(4, make as *const () as Slot), (13, free as *const () as Slot)])
}
