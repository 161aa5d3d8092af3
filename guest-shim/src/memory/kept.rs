//! Small blocks of device memory that were freed, kept for the next allocation of the same size, which then does not ask
//! the device. Nor does freeing one while the GPU is known to have nothing to do; otherwise it waits for the GPU, as
//! `cuMemFree` does.
//!
//! CUDA's driver cuts such blocks from larger ones, too, so a kernel cannot tell: what it reads and writes of a block that
//! was freed is the program's own in either case, and the amount of free memory does not change with it. A call that names
//! a block that is kept has it freed first, so that the driver says what is wrong with the call. A block that other
//! processes may have been given is not kept. What is kept is bounded, and given back when the device has no more memory.
//!
//! Unsafe code: calls through the C exports.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_spec::cuda::CUdeviceptr;

use super::{Kind, Range};
use crate::calls::outcome;
use crate::context;
use crate::exports::contexts::wire_cuCtxSynchronize;
use crate::exports::memory::wire_cuMemFree_v2;

/// Greatest block that is kept, in bytes: CUDA cuts smaller ones from blocks of 2 MiB.
const MOST_OF_ONE: u64 = 1 << 20;
/// Bytes of all that are kept.
const MOST: u64 = 16 << 20;
/// Blocks that are kept: a search stays short.
const MOST_BLOCKS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    address: u64,
    length: u64,
    context: u64,
}

#[derive(Debug)]
struct Kept {
    blocks: Vec<Block>,
    bytes: u64,
    /// Blocks in use that may be kept, and their contexts: those of `cuMemAlloc`.
    eligible: BTreeMap<u64, u64>,
}

/// How many blocks are kept.
static ANY: AtomicUsize = AtomicUsize::new(0);
static KEPT: Mutex<Kept> = Mutex::new(Kept { blocks: Vec::new(), bytes: 0, eligible: BTreeMap::new() });

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    fn take(&mut self, length: u64, context: u64) -> Option<u64> {
        let fits = |block: &Block| block.length == length && block.context == context;
        let place = self.blocks.iter().rposition(fits)?;
        Some(self.remove(place).address)
    }

    fn remove(&mut self, place: usize) -> Block {
        let block = self.blocks.swap_remove(place);
        self.bytes -= block.length;
        ANY.store(self.blocks.len(), Ordering::Release);
        block
    }

    /// Removes what is kept of a context.
    fn remove_of(&mut self, context: u64) -> Vec<Block> {
        let gone: Vec<Block> = self.blocks.extract_if(.., |block| block.context == context).collect();
        self.bytes -= gone.iter().map(|block| block.length).sum::<u64>();
        ANY.store(self.blocks.len(), Ordering::Release);
        gone
    }

    fn takes(&self, block: Block) -> bool {
        block.length <= MOST_OF_ONE
            && self.bytes + block.length <= MOST
            && self.blocks.len() < MOST_BLOCKS
            && self.eligible.get(&block.address) == Some(&block.context)
    }

    fn put(&mut self, block: Block) -> bool {
        let takes = self.takes(block);
        if takes {
            self.eligible.remove(&block.address);
            self.bytes += block.length;
            self.blocks.push(block);
            ANY.store(self.blocks.len(), Ordering::Release);
        }
        takes
    }
}

/// A block of `length` bytes of the current context, if one is kept and nothing speaks against it.
pub(crate) fn take(length: u64) -> Option<u64> {
    if length > MOST_OF_ONE {
        return None;
    }
    let context = context::required().ok()?;
    // An allocation may be forbidden while a stream captures, and fails after an error that stays.
    if !context::is_quiet(context) {
        return None;
    }
    let mut kept = kept();
    let address = kept.take(length, context)?;
    kept.eligible.insert(address, context);
    Some(address)
}

/// `cuMemAlloc` has made a block.
pub(crate) fn allocated(address: u64, length: u64, context: u64) {
    if length <= MOST_OF_ONE {
        kept().eligible.insert(address, context);
    }
}

/// Keeps a block that the program has freed, once the GPU does not use it any more; false if it must be freed.
pub(crate) fn put(range: &Range) -> bool {
    let block = Block { address: range.start, length: range.length, context: range.context };
    if range.kind != Kind::Device || range.synchronous || !kept().takes(block) {
        return false;
    }
    if !context::is_quiet(range.context) {
        return false;
    }
    // SAFETY: no pointers.
    let wait = || outcome(context::synchronise(range.context, || unsafe { wire_cuCtxSynchronize() }));
    // An error is what freeing says, too.
    context::with(range.context, wait).is_ok() && kept().put(block)
}

/// A block is not to be kept: it is gone, or another process may be given it.
pub(crate) fn exclude(address: u64) {
    kept().eligible.remove(&address);
}

/// A call names an address that is no allocation of the program's: if it lies in a block that is kept, the block is freed,
/// so that the driver does not take it for one. The calling thread holds no lane.
pub(crate) fn surrender(address: u64) {
    if ANY.load(Ordering::Acquire) == 0 {
        return;
    }
    let found = {
        let mut kept = kept();
        let holds = |block: &Block| (block.address..block.address + block.length).contains(&address);
        let place = kept.blocks.iter().position(holds);
        place.map(|place| kept.remove(place))
    };
    if let Some(block) = found {
        // SAFETY: no pointers of the process.
        let free = || outcome(unsafe { wire_cuMemFree_v2(CUdeviceptr(block.address)) });
        // What cannot be freed is gone with its context.
        let _result = context::with(block.context, free);
    }
}

/// Gives everything back that is kept of the current context; whether that was anything.
pub(crate) fn give_back() -> bool {
    let Some(context) = context::current() else { return false };
    let gone = kept().remove_of(context);
    for block in &gone {
        // SAFETY: no pointers of the process. What cannot be freed is gone with its context.
        let _result = unsafe { wire_cuMemFree_v2(CUdeviceptr(block.address)) };
    }
    !gone.is_empty()
}

/// Forgets what was kept of a context that is gone.
pub(super) fn forget_context(context: u64) {
    let mut kept = kept();
    kept.remove_of(context);
    kept.eligible.retain(|_, other| *other != context);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is kept, and the blocks may be.
    fn eligible(blocks: impl IntoIterator<Item = u64>) -> Kept {
        let eligible = blocks.into_iter().map(|address| (address, 1)).collect();
        Kept { blocks: Vec::new(), bytes: 0, eligible }
    }

    const fn block(address: u64, length: u64) -> Block {
        Block { address, length, context: 1 }
    }

    #[test]
    fn only_the_same_size_of_the_same_context_is_found() {
        let mut kept = eligible([0x1000, 0x2000]);
        assert!(kept.put(block(0x1000, 512)) && kept.put(block(0x2000, 4096)));
        assert_eq!(kept.take(512, 2), None);
        assert_eq!(kept.take(511, 1), None);
        assert_eq!(kept.take(512, 1), Some(0x1000));
        assert_eq!(kept.take(512, 1), None);
        assert_eq!((kept.bytes, kept.blocks.len()), (4096, 1));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut kept = eligible((0..=MOST / MOST_OF_ONE).map(|number| number * MOST_OF_ONE));
        assert!(!kept.put(block(0, MOST_OF_ONE + 1)));
        for number in 0..MOST / MOST_OF_ONE {
            assert!(kept.put(block(number * MOST_OF_ONE, MOST_OF_ONE)));
        }
        assert!(!kept.put(block(MOST, 1)), "no more bytes");
        let mut kept = eligible(0..100);
        assert_eq!((0..100).filter(|number| kept.put(block(*number, 1))).count(), MOST_BLOCKS);
    }

    #[test]
    fn only_blocks_of_the_program_s_own_are_kept() {
        let mut kept = eligible([0x1000]);
        assert!(!kept.put(block(0x3000, 512)));
        assert!(!kept.put(Block { context: 2, ..block(0x1000, 512) }));
        assert!(kept.put(block(0x1000, 512)));
        assert!(!kept.put(block(0x1000, 512)), "it was freed already");
    }
}
