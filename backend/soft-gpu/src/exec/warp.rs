//! A warp: 32 lanes with a program counter each, run in groups that are at the same place.
//!
//! The group with the deepest call and, in it, the smallest program counter goes first, which brings
//! diverged lanes together again soonest. So that lanes that spin never keep the one that they wait for from
//! running, every other turn of a diverged warp belongs to one lane, in rotation.

use super::block::BlockState;
use super::launch::Grid;
use super::memory::Global;
use super::{Fault, FaultKind};
use crate::ptx::ir::{Lanes, NONE, Slot, Source, Special, WARP, header};

/// What a lane waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Nothing,
    /// A block barrier.
    Barrier(u8),
    /// The other lanes of this mask, at a warp-wide instruction.
    Lanes(u32),
}

/// Lanes that are at the same place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) mask: u32,
    pub(super) pc: u32,
    /// First slot of their frame.
    pub(super) base: u32,
}

/// Why a warp stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its turn is over.
    Turn,
    /// No lane can go on by itself, or all have exited.
    Blocked,
}

/// A fault before it is known which function it happened in.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) kind: FaultKind,
    pub(super) lane: u32,
    pub(super) detail: String,
}

/// What a warp needs of its surroundings to run.
pub(super) struct Env<'e, 'g> {
    pub(super) grid: &'e Grid<'g>,
    pub(super) global: &'e mut Global<'g>,
    pub(super) block: &'e mut BlockState,
}

/// State of a warp.
pub(super) struct Warp {
    pub(super) index: u32,
    /// Lanes that have not exited.
    pub(super) alive: u32,
    pub(super) pc: [u32; WARP],
    pub(super) base: [u32; WARP],
    pub(super) wait: [Wait; WARP],
    /// Lanes whose `wait` is not `Nothing`.
    pub(super) waiting: u32,
    pub(super) registers: Vec<Lanes>,
    pub(super) local: Vec<Vec<u8>>,
    pub(super) thread: [Lanes; 3],
    /// Instructions run so far.
    pub(super) steps: u64,
    /// Cost that groups may still have until others get a turn; unlimited while all lanes are together.
    pub(super) turn: i64,
    /// It did something that looks like waiting for others.
    pub(super) polled: bool,
    /// The lane whose turn it is although others come before it.
    favoured: Option<u32>,
    next_lane: u32,
}

/// Cost of a turn of one group while other lanes of the warp can run too.
const DIVERGED_TURN: i64 = 2048;
/// Extra cost of an instruction that a spinning loop contains.
pub(super) const POLL_COST: i64 = 64;

static ZERO: Lanes = [0; WARP];

pub(super) fn bit(mask: u32, lane: usize) -> bool {
    mask >> (lane & 31) & 1 != 0
}

/// The lanes in a mask, lowest first.
#[inline(always)]
pub(super) fn lanes_of(mask: u32) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        let lane = (rest != 0).then_some(rest.trailing_zeros() as usize)?;
        rest &= rest - 1;
        Some(lane & 31)
    })
}

pub(super) fn first_lane(mask: u32) -> u32 {
    mask.trailing_zeros().min(31)
}

impl Warp {
    pub(super) fn new(index: u32) -> Self {
        Self {
            index,
            alive: 0,
            pc: [0; WARP],
            base: [0; WARP],
            wait: [Wait::Nothing; WARP],
            waiting: 0,
            registers: Vec::new(),
            local: vec![Vec::new(); WARP],
            thread: [[0; WARP]; 3],
            steps: 0,
            turn: 0,
            polled: false,
            favoured: None,
            next_lane: 0,
        }
    }

    /// Puts all threads of the warp at the start of a kernel.
    pub(super) fn start(&mut self, threads: u32, pc: u32, slots: u32, local: u32) {
        self.alive = if threads >= 32 { u32::MAX } else { (1 << threads) - 1 };
        self.pc = [pc; WARP];
        self.base = [0; WARP];
        self.wait = [Wait::Nothing; WARP];
        self.waiting = 0;
        (self.turn, self.favoured) = (i64::MAX, None);
        self.next_lane = 0;
        let slots = usize::try_from(slots).unwrap_or(0);
        if self.registers.len() < slots {
            self.registers.resize(slots, ZERO);
        }
        let local = local.next_multiple_of(16);
        self.fill(0, header::RETURN_PC, u32::MAX, &[u64::MAX; WARP]);
        self.fill(0, header::LOCAL, u32::MAX, &ZERO);
        self.fill(0, header::LOCAL_END, u32::MAX, &[u64::from(local); WARP]);
        for lane in lanes_of(self.alive) {
            self.grow_local(lane, local);
        }
    }

    /// Makes sure that a lane's local memory reaches up to `end`.
    pub(super) fn grow_local(&mut self, lane: usize, end: u32) {
        let end = usize::try_from(end).unwrap_or(0);
        if let Some(memory) = self.local.get_mut(lane)
            && memory.len() < end
        {
            memory.resize(end, 0);
        }
    }

    fn runnable(&self) -> u32 {
        self.alive & !self.waiting
    }

    /// Lanes among `candidates` that are where `lane` is.
    fn together(&self, candidates: u32, lane: u32) -> Group {
        let index = usize::try_from(lane).unwrap_or(0) & 31;
        let (pc, base) = (self.pc[index], self.base[index]);
        let mut mask = 0;
        for (other, (its_pc, its_base)) in self.pc.iter().zip(&self.base).enumerate() {
            mask |= u32::from(*its_pc == pc && *its_base == base) << other;
        }
        Group { mask: mask & candidates, pc, base }
    }

    /// The group to run next and the code position at which it must look for others.
    fn select(&mut self) -> Option<(Group, u32)> {
        let runnable = self.runnable();
        if runnable == 0 {
            return None;
        }
        let all = self.together(runnable, first_lane(runnable));
        if all.mask == runnable {
            (self.turn, self.favoured) = (i64::MAX, None);
            return Some((all, u32::MAX));
        }
        let (group, limit) = self.foremost(runnable);
        if self.turn == i64::MAX {
            self.turn = DIVERGED_TURN;
        } else if self.turn <= 0 {
            self.turn = DIVERGED_TURN;
            self.favoured = match self.favoured {
                Some(_) => None,
                None => {
                    let others = (runnable & !group.mask).rotate_right(self.next_lane);
                    let lane = first_lane(others).wrapping_add(self.next_lane) & 31;
                    self.next_lane = (lane + 1) & 31;
                    Some(lane)
                }
            };
        }
        match self.favoured {
            Some(lane) if runnable >> lane & 1 != 0 => Some((self.together(runnable, lane), u32::MAX)),
            _ => Some((group, limit)),
        }
    }

    /// The group with the deepest call and the smallest program counter, and where the next one of its frame is.
    fn foremost(&self, runnable: u32) -> (Group, u32) {
        let key = |lane: &usize| (u32::MAX - self.base[*lane], self.pc[*lane]);
        let lane = lanes_of(runnable).min_by_key(key).unwrap_or(0);
        let group = self.together(runnable, u32::try_from(lane).unwrap_or(0));
        let others = lanes_of(runnable & !group.mask).filter(|lane| self.base[*lane] == group.base);
        let limit = others.map(|lane| self.pc[lane]).min();
        (group, limit.unwrap_or(u32::MAX))
    }

    /// Runs until nothing can go on or `fuel` is used up.
    pub(super) fn run(&mut self, env: &mut Env<'_, '_>, fuel: &mut i64) -> Result<Stop, Fault> {
        while let Some((group, limit)) = self.select() {
            if *fuel <= 0 {
                return Ok(Stop::Turn);
            }
            if let Err(trouble) = self.run_group(env, group, limit, fuel) {
                return Err(self.fault(env, trouble));
            }
        }
        Ok(Stop::Blocked)
    }

    pub(super) fn set_pc(&mut self, mask: u32, pc: u32) {
        for (lane, its) in self.pc.iter_mut().enumerate() {
            if bit(mask, lane) {
                *its = pc;
            }
        }
    }

    pub(super) fn set_base(&mut self, mask: u32, base: u32) {
        for (lane, its) in self.base.iter_mut().enumerate() {
            if bit(mask, lane) {
                *its = base;
            }
        }
    }

    /// A register of the frame at `base`.
    #[inline(always)]
    pub(super) fn slot(&self, base: u32, slot: Slot) -> &Lanes {
        match self.registers.get(base.wrapping_add(slot) as usize) {
            Some(lanes) => lanes,
            None => &ZERO,
        }
    }

    /// Writes a register in the active lanes.
    #[inline(always)]
    pub(super) fn fill(&mut self, base: u32, slot: Slot, active: u32, values: &Lanes) {
        if slot == NONE {
            return;
        }
        let Some(to) = self.registers.get_mut(base.wrapping_add(slot) as usize) else { return };
        if active == u32::MAX {
            *to = *values;
            return;
        }
        for (lane, (to, from)) in to.iter_mut().zip(values).enumerate() {
            if active >> lane & 1 != 0 {
                *to = *from;
            }
        }
    }

    /// Writes a register in one lane.
    pub(super) fn fill_lane(&mut self, base: u32, slot: Slot, lane: usize, value: u64) {
        if slot == NONE {
            return;
        }
        let register = self.registers.get_mut(base.wrapping_add(slot) as usize);
        if let Some(to) = register.and_then(|lanes| lanes.get_mut(lane)) {
            *to = value;
        }
    }

    /// Room for the result of an instruction of all lanes, and the operands that lie in other registers; `None`
    /// if one is no register or is the result's own.
    #[inline(always)]
    pub(super) fn in_place<const N: usize>(
        &mut self,
        base: u32,
        to: Slot,
        from: [Source; N],
    ) -> Option<(&mut Lanes, [&Lanes; N])> {
        if to == NONE {
            return None;
        }
        let at = |slot: Slot| base.wrapping_add(slot) as usize;
        let target = at(to);
        let mut slots = [0; N];
        for (slot, source) in slots.iter_mut().zip(from) {
            match source {
                Source::Slot(from) if from != to => *slot = at(from),
                _ => return None,
            }
        }
        let (below, rest) = self.registers.split_at_mut_checked(target)?;
        let (room, above) = rest.split_first_mut()?;
        let (below, above) = (&*below, &*above);
        let operand = |slot: usize| {
            let lanes = if slot < target { below.get(slot) } else { above.get(slot - target - 1) };
            lanes.unwrap_or(&ZERO)
        };
        Some((room, slots.map(operand)))
    }

    /// A value for all lanes of the frame at `base`.
    #[inline(always)]
    pub(super) fn fetch<'v>(
        &'v self,
        env: &Env<'_, '_>,
        source: Source,
        base: u32,
        room: &'v mut Lanes,
    ) -> &'v Lanes {
        match source {
            Source::Slot(slot) => self.slot(base, slot),
            Source::Value(value) => {
                *room = [value; WARP];
                room
            }
            Source::Symbol(symbol, addend) => {
                *room = [env.grid.symbol(symbol).wrapping_add_signed(i64::from(addend)); WARP];
                room
            }
            Source::Local(offset) => {
                *room = *self.slot(base, header::LOCAL);
                for value in room.iter_mut() {
                    *value += u64::from(offset);
                }
                room
            }
            Source::Special(special) => self.special(env, special, room),
        }
    }

    fn special<'v>(&'v self, env: &Env<'_, '_>, special: Special, room: &'v mut Lanes) -> &'v Lanes {
        let axis = |values: [u32; 3], axis: u8| values.get(usize::from(axis)).copied().map_or(0, u64::from);
        let by_lane = |room: &mut Lanes, f: fn(u32) -> u32| {
            for (lane, value) in (0u32..).zip(room.iter_mut()) {
                *value = u64::from(f(lane));
            }
        };
        let launch = env.grid.launch;
        let value = match special {
            Special::Thread(axis) => {
                return self.thread.get(usize::from(axis)).unwrap_or(&ZERO);
            }
            Special::Lane => {
                by_lane(room, |lane| lane);
                return room;
            }
            Special::MaskEq => {
                by_lane(room, |lane| 1 << lane);
                return room;
            }
            Special::MaskLe => {
                by_lane(room, |lane| u32::MAX >> (31 - lane));
                return room;
            }
            Special::MaskLt => {
                by_lane(room, |lane| (1 << lane) - 1);
                return room;
            }
            Special::MaskGe => {
                by_lane(room, |lane| u32::MAX << lane);
                return room;
            }
            Special::MaskGt => {
                by_lane(room, |lane| (u32::MAX << lane) << 1);
                return room;
            }
            Special::BlockDim(which) => axis(launch.block, which),
            Special::Block(which) => axis(env.block.index, which),
            Special::GridDim(which) => axis(launch.grid, which),
            Special::Warp => u64::from(self.index),
            Special::WarpCount => u64::from(env.block.warps),
            Special::Multiprocessor => env.block.linear % u64::from(launch.multiprocessors.max(1)),
            Special::MultiprocessorCount => u64::from(launch.multiprocessors.max(1)),
            Special::GridId => launch.grid_id,
            Special::Clock => env.grid.clock() & 0xffff_ffff,
            Special::ClockHigh => env.grid.clock() >> 32,
            Special::Clock64 => env.grid.clock(),
            Special::Timer => Grid::time(),
            Special::TimerLow => Grid::time() & 0xffff_ffff,
            Special::TimerHigh => Grid::time() >> 32,
            Special::DynamicShared => u64::from(launch.dynamic_shared),
            Special::TotalShared => u64::try_from(env.block.shared.len()).unwrap_or(0),
            Special::Zero => 0,
            Special::One => 1,
        };
        *room = [value; WARP];
        room
    }

    /// Lets lanes exit.
    pub(super) fn exit(&mut self, lanes: u32, env: &mut Env<'_, '_>) {
        self.alive &= !lanes;
        env.block.lanes_exited(self.index, self.alive);
    }

    fn fault(&self, env: &Env<'_, '_>, trouble: Trouble) -> Fault {
        let lane = usize::try_from(trouble.lane).unwrap_or(0) & 31;
        let pc = self.pc[lane];
        let image = env.grid.image;
        let function = image.function_of(pc).and_then(|index| image.module().functions.get(index));
        let at = |axis: usize| {
            let value = self.thread.get(axis).map_or(0, |lanes| lanes[lane]);
            u32::try_from(value).unwrap_or(u32::MAX)
        };
        Fault {
            kind: trouble.kind,
            function: function.map(|f| f.name.clone()).unwrap_or_default(),
            line: usize::try_from(pc).ok().and_then(|pc| image.code.get(pc)).map_or(0, |inst| inst.line),
            block: env.block.index,
            thread: [at(0), at(1), at(2)],
            detail: trouble.detail,
        }
    }
}
