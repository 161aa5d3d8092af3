//! A block: its shared memory, its barriers, its warps taking turns.

use super::launch::Grid;
use super::memory::Global;
use super::step::Votes;
use super::warp::{Env, Stop, Warp, lanes_of};
use super::{Fault, FaultKind};

/// Cost of one warp's turn.
const WARP_TURN: i64 = 16_384;
/// Turns after which a block looks up whether the launch goes on.
const TURNS: u32 = 8;

/// One of a block's sixteen barriers.
#[derive(Clone, Debug, Default)]
struct BarrierState {
    /// Lanes of each warp that have arrived.
    arrived: Vec<u32>,
    /// Arrivals of lanes that had arrived already.
    again: u32,
    /// Threads that are waited for; all when `None`.
    threads: Option<u32>,
    any_arrived: bool,
    count: u32,
    all: bool,
}

/// What the warps of a block share.
pub(super) struct BlockState {
    pub(super) index: [u32; 3],
    pub(super) linear: u64,
    pub(super) warps: u32,
    pub(super) shared: Vec<u8>,
    barriers: Vec<BarrierState>,
    alive: Vec<u32>,
    /// A barrier may have become complete.
    changed: bool,
}

impl BlockState {
    /// A lane arrives at a barrier.
    pub(super) fn arrive(&mut self, id: usize, warp: u32, lane: usize, threads: Option<u32>, vote: bool) {
        let warps = self.alive.len();
        let Some(barrier) = self.barriers.get_mut(id) else { return };
        if !barrier.any_arrived {
            barrier.arrived.clear();
            barrier.arrived.resize(warps, 0);
            (barrier.any_arrived, barrier.count, barrier.all, barrier.again) = (true, 0, true, 0);
        }
        barrier.threads = threads;
        if let Some(arrived) = usize::try_from(warp).ok().and_then(|warp| barrier.arrived.get_mut(warp)) {
            barrier.again += *arrived >> lane & 1;
            *arrived |= 1 << lane;
        }
        barrier.count += u32::from(vote);
        barrier.all &= vote;
        self.changed = true;
    }

    /// Lanes of a warp have exited; the barriers do not wait for them any longer.
    pub(super) fn lanes_exited(&mut self, warp: u32, alive: u32) {
        if let Some(lanes) = usize::try_from(warp).ok().and_then(|warp| self.alive.get_mut(warp)) {
            *lanes = alive;
        }
        self.changed = true;
    }

    /// Takes a barrier that is complete, with what was voted.
    fn take_complete(&mut self) -> Option<(u8, Votes)> {
        for (id, barrier) in (0u8..).zip(&mut self.barriers) {
            if !barrier.any_arrived {
                continue;
            }
            let lanes = || barrier.arrived.iter().zip(&self.alive);
            let complete = match barrier.threads {
                None => lanes().all(|(arrived, alive)| alive & !arrived == 0),
                Some(threads) => {
                    // A warp whose remaining lanes are all there counts whole, as it does on a GPU.
                    let count = |(arrived, alive): (&u32, &u32)| match (*arrived, alive & !arrived) {
                        (0, _) => 0,
                        (_, 0) => 32,
                        (arrived, _) => arrived.count_ones(),
                    };
                    lanes().map(count).sum::<u32>() + barrier.again >= threads
                }
            };
            if complete {
                barrier.any_arrived = false;
                let votes = Votes { count: barrier.count, all: barrier.all, any: barrier.count != 0 };
                return Some((id, votes));
            }
        }
        None
    }
}

/// How far a block has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Finished,
    /// Its slice is over; it did something that looks like waiting for other blocks.
    Waiting,
    /// Its slice is over.
    Busy,
}

/// A block that is being run.
pub(super) struct Block {
    state: BlockState,
    warps: Vec<Warp>,
    /// Warp instructions so far that have not been charged.
    steps: u64,
}

impl Block {
    pub(super) fn new() -> Self {
        let state = BlockState {
            index: [0; 3],
            linear: 0,
            warps: 0,
            shared: Vec::new(),
            barriers: vec![BarrierState::default(); 16],
            alive: Vec::new(),
            changed: false,
        };
        Self { state, warps: Vec::new(), steps: 0 }
    }

    /// Puts the block at its start, reusing its memory.
    pub(super) fn start(&mut self, grid: &Grid<'_>, linear: u64) {
        let launch = grid.launch;
        let [x, y, _] = launch.grid.map(u64::from);
        let part = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        self.state.index = [part(linear % x), part(linear / x % y), part(linear / x / y)];
        self.state.linear = linear;
        let [width, height, depth] = launch.block.map(u64::from);
        let threads = width * height * depth;
        self.state.warps = part(threads.div_ceil(32));
        let warps = usize::try_from(self.state.warps).unwrap_or(0);
        while self.warps.len() < warps {
            let index = part(u64::try_from(self.warps.len()).unwrap_or(0));
            let mut warp = Warp::new(index);
            for lane in 0..32u64 {
                let thread = u64::from(index) * 32 + lane;
                let at = usize::try_from(lane).unwrap_or(0) & 31;
                warp.thread[0][at] = thread % width;
                warp.thread[1][at] = thread / width % height;
                warp.thread[2][at] = thread / width / height;
            }
            self.warps.push(warp);
        }
        self.state.shared.clear();
        self.state.shared.resize(grid.shared_bytes, 0);
        self.state.alive.clear();
        for barrier in &mut self.state.barriers {
            barrier.any_arrived = false;
        }
        for warp in &mut self.warps {
            let begun = u64::from(warp.index) * 32;
            warp.start(part(threads.saturating_sub(begun).min(32)), grid.entry_pc, grid.slots, grid.local);
            self.state.alive.push(warp.alive);
        }
        self.state.changed = false;
    }

    /// Instructions since this was last asked.
    pub(super) fn take_steps(&mut self) -> u64 {
        std::mem::take(&mut self.steps)
    }

    /// Runs the warps in turn until all have exited or the slice is over.
    pub(super) fn run<'g>(&mut self, grid: &Grid<'g>, global: &mut Global<'g>) -> Result<Progress, Fault> {
        let mut polled = false;
        for _ in 0..TURNS {
            let (mut alive, mut ran) = (false, false);
            for warp in &mut self.warps {
                if warp.alive == 0 {
                    continue;
                }
                if warp.alive & !warp.waiting == 0 {
                    alive = true;
                    continue;
                }
                let before = warp.steps;
                let mut fuel = WARP_TURN;
                let mut env = Env { grid, global: &mut *global, block: &mut self.state };
                let stop = warp.run(&mut env, &mut fuel);
                self.steps += warp.steps - before;
                ran = true;
                polled |= stop? == Stop::Turn && std::mem::take(&mut warp.polled);
                alive |= warp.alive != 0;
            }
            let released = self.release(grid, global);
            if !alive {
                return Ok(Progress::Finished);
            }
            if !ran && !released {
                return Err(self.stuck());
            }
            if polled {
                return Ok(Progress::Waiting);
            }
        }
        Ok(Progress::Busy)
    }

    /// Lets the threads of complete barriers go on.
    fn release<'g>(&mut self, grid: &Grid<'g>, global: &mut Global<'g>) -> bool {
        let mut released = false;
        while std::mem::take(&mut self.state.changed) {
            while let Some((id, votes)) = self.state.take_complete() {
                for warp in &mut self.warps {
                    let env = Env { grid, global: &mut *global, block: &mut self.state };
                    warp.leave_barrier(id, &env, votes);
                }
                released = true;
            }
        }
        released
    }

    /// No thread can go on and none ever will: what would hang a GPU.
    fn stuck(&self) -> Fault {
        let warp = self.warps.iter().find(|warp| warp.alive != 0);
        let lane = warp.and_then(|warp| lanes_of(warp.alive).next()).unwrap_or(0);
        let at = |axis: usize| {
            let value = warp.and_then(|warp| warp.thread.get(axis)).map_or(0, |lanes| lanes[lane]);
            u32::try_from(value).unwrap_or(u32::MAX)
        };
        Fault {
            kind: FaultKind::Timeout,
            function: String::new(),
            line: 0,
            block: self.state.index,
            thread: [at(0), at(1), at(2)],
            detail: "every thread of the block waits for another one".into(),
        }
    }
}
