//! Memory of the process that graphs copy from or to and that cannot be shared with the device: pinned memory in its place,
//! which the graph's nodes name.
//!
//! A block of the process's addresses has a block of pinned memory. Only those bytes are looked at that nodes name: what
//! else lies in the block need not even be there. A node's memory lies in one block, so that what one node of a graph writes
//! and another reads is the same memory; where that cannot be, because an earlier node has named a part of it in a smaller
//! block, and one of the two writes it, the node is refused.

use std::ops::Range;

use virtio_spec::cuda::CUresult;

use super::compare::changes;
use super::place;
use crate::context;
use crate::memory::{self, pinned};

/// `CU_STREAM_CAPTURE_MODE_RELAXED`.
const RELAXED: u32 = 2;
/// Blocks begin and end at multiples of this, so that neighbours (a thread's stack, a program's variables) are in one.
const BLOCK: u64 = 1 << 20;

/// Bytes of a block that nodes name, from its start.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    bytes: Range<usize>,
    /// Whether a node writes them.
    written: bool,
}

struct Block {
    /// First address in the process.
    start: u64,
    /// Where the device has it.
    shadow: u64,
    context: u64,
    /// What was last known to be the same on both sides.
    known: Vec<u8>,
    named: Vec<Named>,
}

pub(super) struct Shadows {
    blocks: Vec<Block>,
}

/// Adds bytes to a list without overlaps; those that touch become one. Returns what was not in it before.
fn name(list: &mut Vec<Named>, new: Range<usize>, written: bool) -> Vec<Range<usize>> {
    let mut fresh = Vec::new();
    let mut whole = Named { bytes: new.clone(), written };
    let mut touched: Vec<_> =
        list.extract_if(.., |old| old.bytes.start <= new.end && new.start <= old.bytes.end).collect();
    touched.sort_by_key(|old| old.bytes.start);
    let mut at = new.start;
    for old in touched {
        if at < old.bytes.start.min(new.end) {
            fresh.push(at..old.bytes.start.min(new.end));
        }
        at = at.max(old.bytes.end);
        whole.bytes = whole.bytes.start.min(old.bytes.start)..whole.bytes.end.max(old.bytes.end);
        whole.written |= old.written;
    }
    if at < new.end {
        fresh.push(at..new.end);
    }
    list.push(whole);
    fresh
}

impl Block {
    fn end(&self) -> u64 {
        self.start + self.known.len() as u64
    }

    /// From where to where an address range lies in the block, as far as it does.
    fn inside(&self, start: u64, end: u64) -> Option<Range<usize>> {
        let (first, last) = (start.max(self.start), end.min(self.end()));
        let offset = |address: u64| usize::try_from(address - self.start).ok();
        if first < last { Some(offset(first)?..offset(last)?) } else { None }
    }

    /// Whether nodes name some of these bytes and either they or the new one write them.
    fn is_used(&self, start: u64, end: u64, written: bool) -> bool {
        self.inside(start, end).is_some_and(|bytes| {
            let touches = |named: &Named| named.bytes.start < bytes.end && bytes.start < named.bytes.end;
            self.named.iter().any(|named| touches(named) && (written || named.written))
        })
    }

    /// Nodes name bytes from now on: both sides are as the program has them.
    fn add(&mut self, bytes: Range<usize>, written: bool) -> Result<(), CUresult> {
        for fresh in name(&mut self.named, bytes, written) {
            let known = &mut self.known[fresh.clone()];
            if !place::read_if_there(self.start + fresh.start as u64, known) {
                return Err(CUresult::ERROR_INVALID_VALUE);
            }
            // SAFETY: pinned memory of the block, which lasts as long as the block.
            unsafe { place::write(self.shadow + fresh.start as u64, known) };
        }
        Ok(())
    }

    fn push(&mut self) {
        let (start, shadow, known) = (self.start, self.shadow, &mut self.known);
        self.named.retain(|named| {
            let mut now = vec![0; named.bytes.len()];
            let at = named.bytes.start as u64;
            if !place::read_if_there(start + at, &mut now) {
                // The program has given the memory up, so no graph can use it any more.
                return false;
            }
            let known = &mut known[named.bytes.clone()];
            for run in changes(known, &now) {
                // SAFETY: pinned memory of the block, which lasts as long as the block.
                unsafe { place::write(shadow + at + run.start as u64, &now[run]) };
            }
            known.copy_from_slice(&now);
            true
        });
    }

    fn pull(&mut self) {
        for named in self.named.iter().filter(|named| named.written) {
            let mut now = vec![0; named.bytes.len()];
            let at = named.bytes.start as u64;
            // SAFETY: pinned memory of the block, which lasts as long as the block.
            unsafe { place::read(self.shadow + at, &mut now) };
            let known = &mut self.known[named.bytes.clone()];
            let runs: Vec<_> = changes(known, &now).collect();
            place::write_if_there(self.start + at, &now, &runs);
            known.copy_from_slice(&now);
        }
    }
}

impl Shadows {
    pub(super) const NONE: Self = Self { blocks: Vec::new() };

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(super) fn add(&mut self, address: u64, length: u64, written: bool) -> Result<u64, CUresult> {
        let end = address.checked_add(length).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let around = |block: &Block| block.start <= address && end <= block.end();
        let found = match self.blocks.iter().position(around) {
            Some(found) => found,
            None => {
                let start = address & !(BLOCK - 1);
                let last = end.checked_next_multiple_of(BLOCK).ok_or(CUresult::ERROR_INVALID_VALUE)?;
                let bytes = usize::try_from(last - start).map_err(|_| CUresult::ERROR_OUT_OF_MEMORY)?;
                // No call of the program's: a capture may forbid such calls, and would end at one.
                let mode = context::exchange_capture_mode(RELAXED);
                let shadow = pinned::allocate(last - start, 0);
                context::exchange_capture_mode(mode);
                let shadow = shadow?;
                let context = memory::find(shadow).map_or(0, |range| range.context);
                self.blocks.push(Block { start, shadow, context, known: vec![0; bytes], named: Vec::new() });
                self.blocks.len() - 1
            }
        };
        let others = self.blocks.iter().enumerate().filter(|(index, _)| *index != found);
        if others.map(|(_, block)| block).any(|block| block.is_used(address, end, written)) {
            return Err(CUresult::ERROR_NOT_SUPPORTED);
        }
        let block = &mut self.blocks[found];
        let bytes = block.inside(address, end).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let shadow = block.shadow + bytes.start as u64;
        block.add(bytes, written)?;
        Ok(shadow)
    }

    /// The program's own address for one in a shadow.
    pub(super) fn as_given(&self, address: u64) -> u64 {
        let offset = |block: &Block| {
            let offset = address.checked_sub(block.shadow)?;
            (offset < block.known.len() as u64).then_some(block.start + offset)
        };
        self.blocks.iter().find_map(offset).unwrap_or(address)
    }

    pub(super) fn push(&mut self) {
        self.blocks.iter_mut().for_each(Block::push);
    }

    pub(super) fn pull(&mut self) {
        self.blocks.iter_mut().for_each(Block::pull);
    }

    pub(super) fn drop_all(&mut self) {
        for block in self.blocks.drain(..) {
            // A context that is gone took it along.
            let _ = pinned::free(block.shadow, || Ok(()));
        }
    }

    pub(super) fn forget_context(&mut self, context: u64) {
        self.blocks.retain(|block| block.context != context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_bytes_are_told_once() {
        let mut list = Vec::new();
        let mut told = |bytes, written| -> Vec<_> {
            name(&mut list, bytes, written).iter().map(|fresh| (fresh.start, fresh.end)).collect()
        };
        assert_eq!(told(10..20, false), [(10, 20)]);
        assert_eq!(told(12..18, true), []);
        assert_eq!(told(40..50, false), [(40, 50)]);
        assert_eq!(told(15..45, false), [(20, 40)]);
        assert_eq!(told(0..60, false), [(0, 10), (50, 60)]);
        assert_eq!(list, [Named { bytes: 0..60, written: true }]);
    }

    #[test]
    fn changed_bytes_go_over_and_others_stay() {
        let mut program = [1_u8, 2, 3, 4];
        let mut device = [0_u8; 4];
        let address = |bytes: &mut [u8; 4]| bytes.as_mut_ptr().expose_provenance() as u64;
        let mut block = Block {
            start: address(&mut program),
            shadow: address(&mut device),
            context: 0,
            known: vec![0; 4],
            named: Vec::new(),
        };
        block.add(0..4, true).expect("the memory is there");
        assert_eq!(device, program);
        (program[0], device[3]) = (10, 40);
        block.push();
        assert_eq!((program, device), ([10, 2, 3, 4], [10, 2, 3, 40]));
        block.pull();
        assert_eq!((program, device), ([10, 2, 3, 40], [10, 2, 3, 40]));
    }
}
