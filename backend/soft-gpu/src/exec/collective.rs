//! Warp-wide instructions: votes, shuffles, matches, reductions, `bar.warp.sync`.
//!
//! The `.sync` forms name the lanes that take part. Lanes that arrive early wait; when all that are named
//! and have not exited are there (at this or another instruction of the same operation), all go on.

use super::FaultKind;
use super::step::{Next, trouble};
use super::warp::{Env, Group, Trouble, Wait, Warp, bit, first_lane, lanes_of};
use crate::ptx::ir::{Lanes, Op, WARP, WarpInst, WarpOp};

impl Warp {
    pub(super) fn collective(
        &mut self,
        env: &mut Env<'_, '_>,
        inst: &WarpInst,
        group: Group,
        active: u32,
    ) -> Result<Next, Trouble> {
        let Some(members) = inst.members else {
            // Without `.sync`: the lanes that happen to be here.
            self.set_pc(group.mask, group.pc);
            self.combine(env, inst.op, active);
            return Ok(Next::Following);
        };
        let mut room = [0; WARP];
        let members = *self.fetch(env, members, group.base, &mut room);
        let mask_of = |lane: usize| u32::try_from(members[lane] & 0xffff_ffff).unwrap_or(0) | 1 << lane;
        // The usual case: everybody here, everybody named.
        let first = mask_of(usize::try_from(first_lane(active)).unwrap_or(0));
        let uniform = lanes_of(active).all(|lane| mask_of(lane) == first);
        self.set_pc(group.mask, group.pc);
        if uniform && first & self.alive == active {
            self.combine(env, inst.op, active);
            return Ok(Next::Following);
        }
        self.set_pc(group.mask & !active, group.pc + 1);
        for lane in lanes_of(active) {
            self.wait[lane] = Wait::Lanes(mask_of(lane));
        }
        self.waiting |= active;
        self.release_joined(env)?;
        Ok(Next::Choose)
    }

    /// Executes warp-wide instructions whose lanes have all arrived. Also called when lanes exit, which nobody
    /// waits for any longer.
    pub(super) fn release_joined(&mut self, env: &mut Env<'_, '_>) -> Result<(), Trouble> {
        let mut rest = self.waiting;
        while rest != 0 {
            let lane = usize::try_from(first_lane(rest)).unwrap_or(0) & 31;
            let wait = self.wait[lane];
            let same = lanes_of(rest).filter(|other| self.wait[*other] == wait).fold(0, |m, l| m | 1 << l);
            rest &= !same;
            let Wait::Lanes(mask) = wait else { continue };
            if mask & self.alive & !same != 0 {
                continue;
            }
            let operation = |lane: usize| match env.grid.image.code.get(self.pc[lane] as usize).map(|i| &i.op)
            {
                Some(Op::Warp(inst)) => Some(inst.op),
                _ => None,
            };
            let Some(op) = operation(lane) else { continue };
            if lanes_of(same).any(|other| operation(other) != Some(op)) {
                let detail = "lanes that wait for each other are at different warp instructions";
                return Err(trouble(FaultKind::IllegalInstruction, same, detail));
            }
            self.combine(env, op, same);
            for lane in lanes_of(same) {
                self.wait[lane] = Wait::Nothing;
                self.pc[lane] += 1;
            }
            self.waiting &= !same;
        }
        Ok(())
    }

    /// Computes and writes the results for `lanes`, each of which is at an instruction of the operation `op`.
    fn combine(&mut self, env: &Env<'_, '_>, op: WarpOp, lanes: u32) {
        if op == WarpOp::Join {
            return;
        }
        let mut inputs = [[0; WARP]; 3];
        let mut rest = lanes;
        let image = env.grid.image;
        let at = |warp: &Self, lane: usize| match image.code.get(warp.pc[lane] as usize).map(|i| &i.op) {
            Some(Op::Warp(inst)) => Some(inst),
            _ => None,
        };
        while rest != 0 {
            let lane = usize::try_from(first_lane(rest)).unwrap_or(0) & 31;
            let (pc, base) = (self.pc[lane], self.base[lane]);
            let same = lanes_of(rest)
                .filter(|l| self.pc[*l] == pc && self.base[*l] == base)
                .fold(0, |m, l| m | 1 << l);
            rest &= !same;
            let Some(inst) = at(self, lane) else { continue };
            for (input, source) in inputs.iter_mut().zip([inst.value, inst.lane, inst.clamp]) {
                let mut room = [0; WARP];
                let values = self.fetch(env, source, base, &mut room);
                for lane in lanes_of(same) {
                    input[lane] = values[lane];
                }
            }
        }
        let (values, predicates) = compute(op, lanes, &inputs);
        for lane in lanes_of(lanes) {
            if let Some(inst) = at(self, lane) {
                let base = self.base[lane];
                self.fill_lane(base, inst.to, lane, values[lane]);
                self.fill_lane(base, inst.to_predicate, lane, u64::from(bit(predicates, lane)));
            }
        }
    }
}

fn low(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap_or(0)
}

/// Results of a warp-wide operation of `lanes`: a value per lane, and a predicate per lane.
fn compute(op: WarpOp, lanes: u32, [value, source, clamp]: &[Lanes; 3]) -> (Lanes, u32) {
    let here = || lanes_of(lanes);
    let votes = here().filter(|lane| value[*lane] & 1 != 0).fold(0u32, |mask, lane| mask | 1 << lane);
    let everyone = |truth: bool| if truth { u32::MAX } else { 0 };
    let same = |result: u32| ([u64::from(result); WARP], 0);
    let fold = |f: fn(u32, u32) -> u32| same(here().map(|lane| low(value[lane])).reduce(f).unwrap_or(0));
    match op {
        WarpOp::Join => same(0),
        WarpOp::VoteAll => ([0; WARP], everyone(votes == lanes)),
        WarpOp::VoteAny => ([0; WARP], everyone(votes != 0)),
        WarpOp::VoteUniform => ([0; WARP], everyone(votes == lanes || votes == 0)),
        WarpOp::Ballot => same(votes),
        WarpOp::MatchAny => {
            let mut out = [0; WARP];
            for lane in here() {
                let equal = here().filter(|other| value[*other] == value[lane]);
                out[lane] = equal.fold(0, |mask, other| mask | 1 << other);
            }
            (out, 0)
        }
        WarpOp::MatchAll => {
            let first = usize::try_from(first_lane(lanes)).unwrap_or(0) & 31;
            let all = here().all(|lane| value[lane] == value[first]);
            ([if all { u64::from(lanes) } else { 0 }; WARP], everyone(all))
        }
        WarpOp::ShuffleUp | WarpOp::ShuffleDown | WarpOp::ShuffleXor | WarpOp::ShuffleIndex => {
            shuffle(op, lanes, value, source, clamp)
        }
        WarpOp::ReduceAdd => fold(u32::wrapping_add),
        WarpOp::ReduceMinUnsigned => fold(u32::min),
        WarpOp::ReduceMaxUnsigned => fold(u32::max),
        WarpOp::ReduceMinSigned => fold(|a, b| a.cast_signed().min(b.cast_signed()).cast_unsigned()),
        WarpOp::ReduceMaxSigned => fold(|a, b| a.cast_signed().max(b.cast_signed()).cast_unsigned()),
        WarpOp::ReduceAnd => fold(|a, b| a & b),
        WarpOp::ReduceOr => fold(|a, b| a | b),
        WarpOp::ReduceXor => fold(|a, b| a ^ b),
        WarpOp::Elect => {
            let leader = first_lane(lanes);
            ([u64::from(leader); WARP], 1 << leader)
        }
    }
}

fn shuffle(op: WarpOp, lanes: u32, value: &Lanes, source: &Lanes, clamp: &Lanes) -> (Lanes, u32) {
    let (mut out, mut valid) = ([0; WARP], 0);
    for lane in lanes_of(lanes) {
        let own = u32::try_from(lane).unwrap_or(0).cast_signed();
        let by = (low(source[lane]) & 31).cast_signed();
        let end = (low(clamp[lane]) & 31).cast_signed();
        let segment = (low(clamp[lane]) >> 8 & 31).cast_signed();
        let least = own & segment;
        let most = least | (end & !segment);
        let (from, inside) = match op {
            WarpOp::ShuffleUp => (own - by, own - by >= most),
            WarpOp::ShuffleDown => (own + by, own + by <= most),
            WarpOp::ShuffleXor => (own ^ by, own ^ by <= most),
            _ => {
                let from = least | (by & !segment);
                (from, from <= most)
            }
        };
        let from = if inside { usize::try_from(from).unwrap_or(lane) & 31 } else { lane };
        // From a lane that takes no part nothing defined can come: keep the own value.
        out[lane] = if bit(lanes, from) { value[from] } else { value[lane] };
        valid |= u32::from(inside) << lane;
    }
    (out, valid)
}
