//! Tests of the worker's mappings. (This file contains unsafe code: it reads and writes through them.)

use rustix::fs::MemfdFlags;
use vm_memory::Bytes as _;

use super::*;

/// Far from everything that a test process maps by itself.
const PLACE: u64 = 0x3000_0000_0000;

fn file(pages: u64) -> OwnedFd {
    let file = rustix::fs::memfd_create("memory-test", MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, pages * PAGE).unwrap();
    for page in 0..pages {
        let mark = u8::try_from(page).unwrap();
        rustix::io::pwrite(&file, &[mark], page * PAGE).unwrap();
    }
    file
}

const fn piece(file: u32, page: u64, pages: u64) -> Piece {
    Piece { file, reserved: 0, offset: page * PAGE, length: pages * PAGE }
}

const fn region(number: u32, address: u64, pages: u64) -> RegionInfo {
    RegionInfo { number, address, length: pages * PAGE, flags: RegionFlags { read_only: false } }
}

#[test]
fn pieces_of_region_0_lie_one_after_the_other() {
    let files = [file(4), file(2)];
    let pieces = [piece(0, 3, 1), piece(1, 1, 1), piece(0, 0, 2)];
    let memory = SessionMemory::map(4 * PAGE, &pieces, &files).unwrap();
    let marks: Vec<u8> =
        (0..4).map(|page| memory.guest_memory().read_obj(GuestAddress(page * PAGE)).unwrap()).collect();
    assert_eq!(marks, [3, 1, 0, 1]);
    memory.guest_memory().write_obj(9_u8, GuestAddress(PAGE + 1)).unwrap();
    let mut seen = [0];
    rustix::io::pread(&files[1], &mut seen, PAGE + 1).unwrap();
    assert_eq!(seen, [9], "a write reaches the file");
    assert_eq!(memory.len() as u64, 4 * PAGE);
}

#[test]
fn pieces_that_do_not_cover_the_region_are_refused() {
    let files = [file(4)];
    for pieces in [
        &[][..],
        &[piece(0, 0, 1)],
        &[piece(0, 0, 3)],
        &[piece(1, 0, 2)],
        &[piece(0, 0, 0), piece(0, 0, 2)],
        &[Piece { offset: 1, ..piece(0, 0, 2) }],
        &[Piece { length: u64::MAX, ..piece(0, 0, 2) }],
    ] {
        assert!(
            matches!(SessionMemory::map(2 * PAGE, pieces, &files), Err(MemoryError::Pieces)),
            "{pieces:?}"
        );
    }
}

#[test]
fn regions_lie_at_their_address_and_leave_it_when_removed() {
    let regions = Regions::default();
    let files = [file(2)];
    regions.insert(region(1, PLACE, 2), &[piece(0, 0, 2)], &files).unwrap();
    assert_eq!(regions.lookup(PLACE + 5, 2 * PAGE - 5), Some(RegionFlags { read_only: false }));
    assert_eq!(regions.lookup(PLACE + 5, 2 * PAGE), None);
    assert_eq!(regions.lookup(PLACE - 1, 2), None);
    assert_eq!(regions.lookup(PLACE, u64::MAX), None);
    // SAFETY: the region is mapped there.
    let mark =
        unsafe { ptr::with_exposed_provenance::<u8>(host_size(PLACE + PAGE).unwrap()).read_volatile() };
    assert_eq!(mark, 1);

    let again = regions.insert(region(1, PLACE + 8 * PAGE, 2), &[piece(0, 0, 2)], &files);
    assert!(matches!(again, Err(MemoryError::Number(1))));
    let over = regions.insert(region(2, PLACE + PAGE, 2), &[piece(0, 0, 2)], &files);
    assert!(matches!(over, Err(MemoryError::Taken(_))));

    regions.remove(1).unwrap();
    assert!(matches!(regions.remove(1), Err(MemoryError::NoRegion(1))));
    regions.insert(region(2, PLACE + PAGE, 2), &[piece(0, 0, 2)], &files).unwrap();
    assert_eq!(regions.lookup(PLACE, PAGE), None);
    assert!(regions.lookup(PLACE + PAGE, 2 * PAGE).is_some());
}

#[test]
fn addresses_outside_user_space_are_refused() {
    let regions = Regions::default();
    let files = [file(2)];
    for address in [0, PAGE, PLACE + 1, USER_END - PAGE, 0xffff_8000_0000_0000, u64::MAX - PAGE + 1] {
        let result = regions.insert(region(1, address, 2), &[piece(0, 0, 2)], &files);
        assert!(matches!(result, Err(MemoryError::Address(_))), "{address:#x}: {result:?}");
    }
}

#[test]
fn a_mapping_of_the_process_is_never_replaced() {
    let own = Box::new(0_u64);
    let address = (ptr::from_ref(&*own).expose_provenance() as u64) / PAGE * PAGE;
    let result = Regions::default().insert(region(1, address, 1), &[piece(0, 0, 1)], &[file(1)]);
    assert!(matches!(result, Err(MemoryError::Taken(_))), "{result:?}");
}

#[test]
fn a_held_region_stays() {
    let regions = Arc::new(Regions::default());
    regions.insert(region(7, PLACE + 0x1000_0000, 2), &[piece(0, 0, 2)], &[file(2)]).unwrap();
    let hold = regions.hold(PLACE + 0x1000_0000 + PAGE, PAGE).unwrap();
    assert!(matches!(regions.remove(7), Err(MemoryError::Held(7))));
    drop(hold);
    regions.remove(7).unwrap();
}

#[test]
fn the_window_is_reserved_and_given_back_to_the_reservation() {
    // The reservation is for the whole process; only this test makes it.
    reserve_window().unwrap();
    let address = window::PINNED_START + 16 * PAGE;
    let regions = Regions::default();
    for _ in 0..2 {
        regions.insert(region(1, address, 1), &[piece(0, 0, 1)], &[file(1)]).unwrap();
        regions.remove(1).unwrap();
    }
    assert!(matches!(reserve_window(), Err(MemoryError::Map(Errno::EXIST))));
    let across = regions.insert(region(1, window::PINNED_END - PAGE, 2), &[piece(0, 0, 2)], &[file(2)]);
    assert!(matches!(across, Err(MemoryError::Taken(_))), "{across:?}");
}
