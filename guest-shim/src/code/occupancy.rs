//! How many blocks of a function a multiprocessor takes: asked once for each shape, until something changes that decides
//! about it. Libraries ask before each launch, and an answer would wait for all that was posted before.

use virtio_spec::cuda::CUresult;

use super::function;
use crate::context;

/// Answers that are remembered of a function.
const MOST: usize = 64;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Threads of a block.
    pub(crate) block: i32,
    /// Bytes of dynamic shared memory of a block.
    pub(crate) shared_bytes: usize,
    /// `CUoccupancy_flags`.
    pub(crate) flags: u32,
}

/// Answers of the device about one function.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What [`function::changes`] was when they were asked for.
    since: u64,
    /// Context, shape, blocks.
    answers: Vec<(u64, Shape, i32)>,
}

impl Known {
    fn find(&self, since: u64, context: u64, shape: Shape) -> Option<i32> {
        let known = self.answers.iter().find(|known| (known.0, known.1) == (context, shape))?;
        (self.since == since).then_some(known.2)
    }

    fn insert(&mut self, since: u64, context: u64, shape: Shape, blocks: i32) {
        if self.since != since || self.answers.len() >= MOST {
            self.answers.clear();
            self.since = since;
        }
        self.answers.push((context, shape, blocks));
    }
}

/// Blocks that a multiprocessor of the current context's device takes at once; `ask` asks the device.
pub(crate) fn blocks(
    function: u64,
    shape: Shape,
    ask: impl FnOnce() -> Result<i32, CUresult>,
) -> Result<i32, CUresult> {
    let context = context::required()?;
    // Of what is not known the device says what is wrong with it.
    let Ok(found) = function::find(function) else { return ask() };
    // Read before the question: what changes meanwhile makes the answer an old one.
    let since = function::changes();
    if let Some(blocks) = function::lock(&found.occupancy).find(since, context, shape) {
        return Ok(blocks);
    }
    let blocks = ask()?;
    function::lock(&found.occupancy).insert(since, context, shape, blocks);
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_its_context_and_shape_until_something_changes() {
        let shape = Shape { block: 128, shared_bytes: 0, flags: 0 };
        let mut known = Known::default();
        known.insert(3, 7, shape, 16);
        assert_eq!(known.find(3, 7, shape), Some(16));
        assert_eq!(known.find(3, 8, shape), None, "another context");
        for other in
            [Shape { block: 129, ..shape }, Shape { shared_bytes: 1, ..shape }, Shape { flags: 1, ..shape }]
        {
            assert_eq!(known.find(3, 7, other), None, "{other:?}");
        }
        assert_eq!(known.find(4, 7, shape), None, "something changed");
        known.insert(4, 7, Shape { block: 64, ..shape }, 32);
        assert_eq!(known.find(4, 7, shape), None, "what was known before is gone");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut known = Known::default();
        for block in 0..1000 {
            known.insert(1, 1, Shape { block, shared_bytes: 0, flags: 0 }, 1);
            assert!(known.answers.len() <= MOST);
        }
    }
}
