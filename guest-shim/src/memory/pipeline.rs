//! The way of a copy's pieces through chunks of memory that both sides reach: the device takes one chunk while the next one
//! is filled, or is emptied while the device fills the next.
//!
//! To the device, a piece is copied into a free chunk and sent; once the device has it, the chunk is free. From the device, a
//! piece is asked for in a free chunk; once the device has put it there it is copied out, and the chunk is free. Copying is
//! the calling thread's or, where there is one, the helper's.
//!
//! Unsafe code: copies between the application's memory and chunks.

use std::collections::VecDeque;

use virtio_spec::cuda::CUresult;

use super::bulk::{Direction, Rows};
use super::copy::{End, pointer};
use super::helper::Lease;
use super::staged::Piece;

/// Memory in which pieces are on their way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    /// The first byte.
    pub(super) memory: *mut u8,
    /// Bytes of one.
    pub(super) bytes: u64,
    pub(super) count: u64,
}

/// The device's side of a copy.
pub(super) trait Device {
    /// A piece that is under way.
    type Pending;

    /// Has the device take a piece from a chunk, or put it there; the chunk's first byte is that many after the first one's.
    fn send(&mut self, piece: Piece, offset: u64) -> Result<Self::Pending, CUresult>;

    /// Waits until it has done so.
    fn receive(&mut self, pending: Self::Pending) -> Result<(), CUresult>;
}

/// A copy that is under way. Once it has failed, nothing more is begun.
pub(super) struct Pipeline<'a, D: Device> {
    device: &'a mut D,
    process: &'a End,
    direction: Direction,
    chunks: Chunks,
    /// Chunks that nobody uses.
    free: Vec<u64>,
    /// Pieces that the device has not done yet, in its order, and their chunks.
    sent: VecDeque<(u64, Piece, D::Pending)>,
    helper: Option<Lease>,
    /// What the helper copies.
    helped: Option<(u64, Piece)>,
    outcome: Result<(), CUresult>,
}

impl<'a, D: Device> Pipeline<'a, D> {
    pub(super) fn new(
        device: &'a mut D,
        process: &'a End,
        direction: Direction,
        chunks: Chunks,
        helper: Option<Lease>,
    ) -> Self {
        Self {
            device,
            process,
            direction,
            chunks,
            free: (0..chunks.count).rev().collect(),
            sent: VecDeque::new(),
            helper,
            helped: None,
            outcome: Ok(()),
        }
    }

    /// Copies pieces, each of which fits a chunk. When it returns nobody uses the chunks or the process's memory any more.
    ///
    /// # Safety
    /// The process's end is readable ([`Direction::ToDevice`]) or writable over all pieces, and nobody else uses the chunks.
    pub(super) unsafe fn run(mut self, pieces: impl Iterator<Item = Piece>) -> Result<(), CUresult> {
        for piece in pieces {
            let chunk = loop {
                self.take_back();
                if let Some(chunk) = self.free.pop() {
                    break chunk;
                }
                // SAFETY: the caller's promises.
                unsafe { self.advance() };
            };
            if self.outcome.is_err() {
                break;
            }
            match self.direction {
                // SAFETY: the caller's promises; the chunk is free.
                Direction::ToDevice => unsafe { self.copy(chunk, piece) },
                Direction::ToProcess => self.send(chunk, piece),
            }
        }
        // What is under way uses the chunks, so it is waited for whatever happened.
        // SAFETY: the caller's promises.
        while unsafe { self.advance() } {}
        self.outcome
    }

    /// Waits for what is under way and goes on with it; false if nothing is.
    ///
    /// # Safety
    /// As for [`Pipeline::run`].
    unsafe fn advance(&mut self) -> bool {
        if let Some((chunk, piece, pending)) = self.sent.pop_front() {
            let received = self.device.receive(pending);
            self.outcome = self.outcome.and(received);
            match self.direction {
                Direction::ToDevice => self.free.push(chunk),
                // SAFETY: the caller's promises; the device has filled the chunk.
                Direction::ToProcess => unsafe { self.copy(chunk, piece) },
            }
            return true;
        }
        if self.helped.is_none() {
            return false;
        }
        self.helper.iter().for_each(Lease::wait);
        self.take_back();
        true
    }

    /// Copies a piece, or has the helper do it.
    ///
    /// # Safety
    /// As for [`Pipeline::run`]; nobody else uses the chunk.
    unsafe fn copy(&mut self, chunk: u64, piece: Piece) {
        if self.outcome.is_err() {
            self.free.push(chunk);
            return;
        }
        self.take_back();
        let rows = self.rows(chunk, piece);
        match &self.helper {
            Some(helper) if self.helped.is_none() => {
                // SAFETY: the caller's promises; until the helper is free, `helped` keeps the chunk, and the helper is waited
                // for before `run` returns.
                unsafe { helper.give(rows) };
                self.helped = Some((chunk, piece));
            }
            _ => {
                // SAFETY: the caller's promises.
                unsafe { rows.copy() };
                self.copied(chunk, piece);
            }
        }
    }

    /// Goes on with what the helper has copied, if it has.
    fn take_back(&mut self) {
        if self.helper.as_ref().is_some_and(Lease::is_free)
            && let Some((chunk, piece)) = self.helped.take()
        {
            self.copied(chunk, piece);
        }
    }

    /// Goes on with a piece that has been copied.
    fn copied(&mut self, chunk: u64, piece: Piece) {
        match self.direction {
            Direction::ToDevice if self.outcome.is_ok() => self.send(chunk, piece),
            _ => self.free.push(chunk),
        }
    }

    fn send(&mut self, chunk: u64, piece: Piece) {
        match self.device.send(piece, chunk * self.chunks.bytes) {
            Ok(pending) => self.sent.push_back((chunk, piece, pending)),
            Err(error) => {
                self.outcome = Err(error);
                self.free.push(chunk);
            }
        }
    }

    /// The rows of a piece, which lie in the chunk without gaps.
    fn rows(&self, chunk: u64, piece: Piece) -> Rows {
        let (width, count, pitch) = (size(piece.width), size(piece.rows), size(self.process.pitch));
        let in_process = pointer(piece.address(self.process));
        let in_chunk = self.chunks.memory.wrapping_add(size(chunk * self.chunks.bytes));
        let (from, from_pitch, to, to_pitch) = match self.direction {
            Direction::ToDevice => (in_process, pitch, in_chunk, width),
            Direction::ToProcess => (in_chunk, width, in_process, pitch),
        };
        Rows { from: from.cast_const(), from_pitch, to, to_pitch, width, count, direction: self.direction }
    }
}

/// What is as large as memory fits its numbers.
fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::copy::{Claim, Shape};
    use super::super::helper;
    use super::super::staged::pieces;
    use super::*;

    /// A device whose memory is a vector, and which does what it is sent when that is waited for.
    struct Memory {
        bytes: Vec<u8>,
        pitch: usize,
        chunks: Chunks,
        direction: Direction,
        /// Pieces until one fails.
        left: usize,
        under_way: usize,
    }

    impl Device for Memory {
        type Pending = (Piece, u64);

        fn send(&mut self, piece: Piece, offset: u64) -> Result<(Piece, u64), CUresult> {
            self.under_way += 1;
            assert!(self.under_way as u64 <= self.chunks.count);
            Ok((piece, offset))
        }

        fn receive(&mut self, (piece, offset): (Piece, u64)) -> Result<(), CUresult> {
            self.under_way -= 1;
            self.left = self.left.checked_sub(1).ok_or(CUresult::ERROR_INVALID_VALUE)?;
            let end = End { pitch: self.pitch as u64, ..End::linear(0, Claim::Device) };
            let (start, width) = (size(piece.address(&end)), size(piece.width));
            for row in 0..size(piece.rows) {
                let chunk = self.chunks.memory.wrapping_add(size(offset) + row * width);
                let own = self.bytes[start + row * self.pitch..][..width].as_mut_ptr();
                let (from, to) = match self.direction {
                    Direction::ToDevice => (chunk, own),
                    Direction::ToProcess => (own, chunk),
                };
                // SAFETY: a row of the vector, and one in a chunk.
                unsafe { std::ptr::copy_nonoverlapping(from, to, width) };
            }
            Ok(())
        }
    }

    /// Copies a box between a vector and a device's; what both hold afterwards.
    fn copy(
        shape: Shape,
        direction: Direction,
        helped: bool,
        pieces_left: usize,
    ) -> (Result<(), CUresult>, Vec<u8>, Vec<u8>) {
        const BYTES: usize = 70_000;
        let bytes = size((shape.width + 3) * shape.height);
        let pattern: Vec<u8> = (0..=250_u8).cycle().take(bytes).collect();
        let mut staging = vec![0_u8; 4 * BYTES];
        let chunks = Chunks { memory: staging.as_mut_ptr(), bytes: BYTES as u64, count: 4 };
        let (of_process, of_device) = match direction {
            Direction::ToDevice => (pattern, vec![255; bytes]),
            Direction::ToProcess => (vec![255; bytes], pattern),
        };
        let mut process = of_process;
        let address = process.as_mut_ptr().expose_provenance() as u64;
        let end = End { pitch: shape.width + 3, ..End::linear(address, Claim::Host) };
        let pitch = size(shape.width + 3);
        let mut device =
            Memory { bytes: of_device, pitch, chunks, direction, left: pieces_left, under_way: 0 };
        let helper = helped.then(helper::tests::forced);
        let pipeline = Pipeline::new(&mut device, &end, direction, chunks, helper);
        // SAFETY: the vectors hold the box and the chunks, and live until it returns.
        let outcome = unsafe { pipeline.run(pieces(shape, BYTES as u64)) };
        assert_eq!(device.under_way, 0, "everything was waited for");
        (outcome, process, device.bytes)
    }

    #[test]
    fn every_piece_arrives_whoever_copies() {
        let shapes = [
            Shape::linear(1),
            Shape::linear(70_000),
            Shape::linear(2_000_001),
            Shape { width: 30_000, height: 41, depth: 1 },
            Shape { width: 150_001, height: 5, depth: 1 },
        ];
        for shape in shapes {
            for direction in [Direction::ToDevice, Direction::ToProcess] {
                for helped in [false, true] {
                    let (outcome, process, device) = copy(shape, direction, helped, usize::MAX);
                    assert_eq!(outcome, Ok(()));
                    let width = size(shape.width);
                    let target = if direction == Direction::ToDevice { &device } else { &process };
                    let rows = process.chunks(width + 3).zip(device.chunks(width + 3));
                    assert!(rows.clone().all(|(one, other)| one[..width] == other[..width]), "{shape:?}");
                    let gaps = target.chunks(width + 3).flat_map(|row| &row[width..]);
                    assert!(gaps.into_iter().all(|byte| *byte == 255), "{shape:?} {direction:?}");
                }
            }
        }
    }

    #[test]
    fn a_failure_ends_it_and_everything_is_waited_for() {
        for direction in [Direction::ToDevice, Direction::ToProcess] {
            for helped in [false, true] {
                for left in [0, 1, 5, 28] {
                    let (outcome, ..) = copy(Shape::linear(2_000_001), direction, helped, left);
                    assert_eq!(outcome, Err(CUresult::ERROR_INVALID_VALUE), "{direction:?} {helped} {left}");
                }
            }
        }
    }
}
