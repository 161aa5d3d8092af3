//! Executing instructions for one group of lanes.

use std::sync::atomic::{Ordering, fence};

use super::memory::{self, generic, load_order, offset_in, store_order};
use super::warp::{Env, Group, POLL_COST, Trouble, Wait, Warp, first_lane, lanes_of};
use super::{FaultKind, memory::Refused};
use crate::ptx::ir::{
    Address, Barrier, BarrierKind, Elements, Lanes, Load, Memory, NONE, Op, Slot, Source, Store, WARP, header,
};

/// What the group does after an instruction.
pub(super) enum Next {
    /// Goes on with the following instruction.
    Following,
    /// All of it goes on elsewhere, in the same frame.
    Jump(u32),
    /// Its lanes' places have been stored: choose again.
    Choose,
}

impl Warp {
    /// Runs a group until it meets others, splits, waits, ends, or its fuel or turn is used up.
    pub(super) fn run_group(
        &mut self,
        env: &mut Env<'_, '_>,
        group: Group,
        limit: u32,
        fuel: &mut i64,
    ) -> Result<(), Trouble> {
        let Group { mask, mut pc, base } = group;
        let image = env.grid.image;
        loop {
            // At `limit` others wait to be joined.
            if pc >= limit || *fuel <= 0 || self.turn <= 0 {
                self.set_pc(mask, pc);
                return Ok(());
            }
            let Some(inst) = image.code.get(pc as usize) else {
                self.set_pc(mask, pc);
                return Err(trouble(FaultKind::InvalidPc, mask, "no code there"));
            };
            *fuel -= 1;
            self.steps += 1;
            if self.turn != i64::MAX {
                self.turn -= 1;
            }
            let mut active = mask;
            if inst.guard != NONE {
                let guard = self.slot(base, inst.guard);
                let mut set = 0u32;
                for (lane, value) in guard.iter().enumerate() {
                    set |= u32::from(value & 1 != 0) << lane;
                }
                active &= if inst.guard_not { !set } else { set };
                if active == 0 {
                    pc += 1;
                    continue;
                }
            }
            let here = Group { mask, pc, base };
            match self.execute(env, &inst.op, here, active, fuel) {
                Ok(Next::Following) => pc += 1,
                Ok(Next::Jump(target)) => pc = target,
                Ok(Next::Choose) => return Ok(()),
                Err(trouble) => {
                    self.set_pc(mask, pc);
                    return Err(trouble);
                }
            }
        }
    }

    #[inline(always)]
    fn execute(
        &mut self,
        env: &mut Env<'_, '_>,
        op: &Op,
        group: Group,
        active: u32,
        fuel: &mut i64,
    ) -> Result<Next, Trouble> {
        let base = group.base;
        match op {
            Op::Unary { f, to, a, imm } => {
                if active == u32::MAX
                    && let Some((room, [a])) = self.in_place(base, *to, [*a])
                {
                    f(room, a, *imm);
                    return Ok(Next::Following);
                }
                let (mut out, mut room) = ([0; WARP], [0; WARP]);
                f(&mut out, self.fetch(env, *a, base, &mut room), *imm);
                self.fill(base, *to, active, &out);
            }
            Op::Binary { f, to, a, b, imm } => {
                if active == u32::MAX
                    && let Some((room, [a, b])) = self.in_place(base, *to, [*a, *b])
                {
                    f(room, a, b, *imm);
                    return Ok(Next::Following);
                }
                let (mut out, mut room_a, mut room_b) = ([0; WARP], [0; WARP], [0; WARP]);
                let a = self.fetch(env, *a, base, &mut room_a);
                f(&mut out, a, self.fetch(env, *b, base, &mut room_b), *imm);
                self.fill(base, *to, active, &out);
            }
            Op::Ternary { f, to, a, b, c, imm } => {
                if active == u32::MAX
                    && let Some((room, [a, b, c])) = self.in_place(base, *to, [*a, *b, *c])
                {
                    f(room, a, b, c, *imm);
                    return Ok(Next::Following);
                }
                let mut out = [0; WARP];
                let (mut room_a, mut room_b, mut room_c) = ([0; WARP], [0; WARP], [0; WARP]);
                let a = self.fetch(env, *a, base, &mut room_a);
                let b = self.fetch(env, *b, base, &mut room_b);
                f(&mut out, a, b, self.fetch(env, *c, base, &mut room_c), *imm);
                self.fill(base, *to, active, &out);
            }
            Op::Branch(target) => {
                if active == group.mask {
                    return Ok(Next::Jump(*target));
                }
                self.set_pc(active, *target);
                self.set_pc(group.mask & !active, group.pc + 1);
                return Ok(Next::Choose);
            }
            Op::Load(load) => self.load(env, load, base, active, fuel)?,
            Op::Store(store) => self.store(env, store, base, active)?,
            Op::View(inst) => self.view(env, inst, base, active)?,
            Op::Atomic(atomic) => {
                if self.atomic(env, atomic, base, active)? {
                    self.spend(POLL_COST, fuel);
                }
            }
            Op::Pack { to, bits, from } => self.pack(env, (*to, *bits), from, base, active),
            Op::Unpack { to, bits, from } => self.unpack(env, to, (*bits, *from), base, active),
            Op::Barrier(barrier) => return self.barrier(env, barrier, group, active),
            Op::Warp(inst) => return self.collective(env, inst, group, active),
            Op::Call(call) => return self.call(env, call, group, active),
            Op::Return => return self.ret(env, group, active),
            Op::Exit => {
                self.set_pc(group.mask & !active, group.pc + 1);
                self.exit(active, env);
                self.release_joined(env)?;
                return Ok(Next::Choose);
            }
            Op::Trap => return Err(trouble(FaultKind::Trap, active, "trap")),
            Op::BranchTable { index, targets } => {
                let mut room = [0; WARP];
                let indices = *self.fetch(env, *index, base, &mut room);
                self.set_pc(group.mask & !active, group.pc + 1);
                for lane in lanes_of(active) {
                    let index = indices[lane] & 0xffff_ffff;
                    let target = usize::try_from(index).ok().and_then(|index| targets.get(index));
                    match target {
                        Some(target) => self.pc[lane] = *target,
                        None => return Err(trouble(FaultKind::InvalidPc, 1 << lane, "jump table index")),
                    }
                }
                return Ok(Next::Choose);
            }
            Op::ActiveMask(to) => {
                self.fill(base, *to, active, &[u64::from(active); WARP]);
            }
            Op::Fence => fence(Ordering::SeqCst),
            Op::Sleep => self.spend(16 * POLL_COST, fuel),
            Op::Alloca { to, size, align } => self.alloca(env, *to, (*size, *align), base, active)?,
            Op::StackSave(to) => {
                let end = *self.slot(base, header::LOCAL_END);
                self.fill(base, *to, active, &end);
            }
            Op::StackRestore(from) => {
                let mut room = [0; WARP];
                let end = *self.fetch(env, *from, base, &mut room);
                for lane in lanes_of(active) {
                    // Only down to where the frame's own variables are, never up.
                    let now = self.slot(base, header::LOCAL_END)[lane];
                    if end[lane] <= now && end[lane] >= self.slot(base, header::LOCAL)[lane] {
                        self.fill_lane(base, header::LOCAL_END, lane, end[lane]);
                    }
                }
            }
            Op::Nothing => {}
        }
        Ok(Next::Following)
    }

    /// Charges what looks like waiting, so that a spinning loop ends its turn soon.
    pub(super) fn spend(&mut self, cost: i64, fuel: &mut i64) {
        self.polled = true;
        *fuel -= cost;
        if self.turn != i64::MAX {
            self.turn -= cost;
        }
    }

    /// Where an access goes, for one lane.
    #[inline(always)]
    pub(super) fn place(address: &Address, base: u64) -> Result<(Memory, u64), Refused> {
        let at = base.wrapping_add_signed(address.offset);
        match address.memory {
            Memory::Global => Ok((Memory::Global, at)),
            Memory::Generic => generic(at).ok_or(Refused { kind: FaultKind::IllegalAddress, address: at }),
            memory => Ok((memory, offset_in(memory, at))),
        }
    }

    fn load(
        &mut self,
        env: &mut Env<'_, '_>,
        load: &Load,
        base: u32,
        active: u32,
        fuel: &mut i64,
    ) -> Result<(), Trouble> {
        if load.polls {
            self.spend(POLL_COST, fuel);
        }
        let step = u64::from(load.width);
        let whole = step * u64::from(load.to.count);
        let mut room = [0; WARP];
        let addresses = *self.fetch(env, load.address.base, base, &mut room);
        for (element, slot) in (0u64..).zip(load.to.iter()) {
            let mut out = [0; WARP];
            for lane in lanes_of(active) {
                let (memory, at) =
                    Self::place(&load.address, addresses[lane]).map_err(|refused| refusal(&refused, lane))?;
                if at & (whole - 1) != 0 {
                    let refused = Refused { kind: FaultKind::MisalignedAddress, address: at };
                    return Err(refusal(&refused, lane));
                }
                let at = at + element * step;
                let value = self.read_lane(env, memory, at, load.width, load.polls, lane)?;
                out[lane] = if load.signed { extend(value, load.width) & load.mask } else { value };
            }
            self.fill(base, slot, active, &out);
        }
        Ok(())
    }

    /// Reads one element for one lane.
    #[inline(always)]
    pub(super) fn read_lane(
        &self,
        env: &mut Env<'_, '_>,
        memory: Memory,
        at: u64,
        width: u8,
        polls: bool,
        lane: usize,
    ) -> Result<u64, Trouble> {
        let value = match memory {
            Memory::Global | Memory::Generic => {
                return match env.global.cell(at, width, false) {
                    Ok(cell) => Ok(cell.load(load_order(polls))),
                    Err(refused) => Err(refusal(&refused, lane)),
                };
            }
            Memory::Shared => memory::read(&env.block.shared, at, width),
            Memory::Local => self.local.get(lane).and_then(|local| memory::read(local, at, width)),
            Memory::Param => memory::read(env.grid.launch.params, at, width),
        };
        value.ok_or_else(|| refusal(&Refused { kind: FaultKind::IllegalAddress, address: at }, lane))
    }

    /// Writes one element for one lane.
    #[inline(always)]
    pub(super) fn write_lane(
        &mut self,
        env: &mut Env<'_, '_>,
        (memory, at): (Memory, u64),
        width: u8,
        value: u64,
        orders: bool,
        lane: usize,
    ) -> Result<(), Trouble> {
        let done = match memory {
            Memory::Global | Memory::Generic => {
                return match env.global.cell(at, width, true) {
                    Ok(cell) => {
                        cell.store(value, store_order(orders));
                        Ok(())
                    }
                    Err(refused) => Err(refusal(&refused, lane)),
                };
            }
            Memory::Shared => memory::write(&mut env.block.shared, at, width, value),
            Memory::Local => {
                self.local.get_mut(lane).is_some_and(|local| memory::write(local, at, width, value))
            }
            Memory::Param => false,
        };
        if done {
            Ok(())
        } else {
            Err(refusal(&Refused { kind: FaultKind::IllegalAddress, address: at }, lane))
        }
    }

    fn store(&mut self, env: &mut Env<'_, '_>, store: &Store, base: u32, active: u32) -> Result<(), Trouble> {
        let mut room = [0; WARP];
        let addresses = *self.fetch(env, store.address.base, base, &mut room);
        let step = u64::from(store.width);
        let whole = step * u64::from(store.from.count);
        for (element, source) in (0u64..).zip(store.from.iter()) {
            let mut room = [0; WARP];
            let values = *self.fetch(env, source, base, &mut room);
            for lane in lanes_of(active) {
                let (memory, at) = Self::place(&store.address, addresses[lane])
                    .map_err(|refused| refusal(&refused, lane))?;
                if at & (whole - 1) != 0 {
                    let refused = Refused { kind: FaultKind::MisalignedAddress, address: at };
                    return Err(refusal(&refused, lane));
                }
                let at = (memory, at + element * step);
                self.write_lane(env, at, store.width, values[lane], store.orders, lane)?;
            }
        }
        Ok(())
    }

    fn pack(
        &mut self,
        env: &Env<'_, '_>,
        (to, bits): (Slot, u8),
        from: &Elements<Source>,
        base: u32,
        active: u32,
    ) {
        let mut out = [0u64; WARP];
        let mask = u64::MAX >> (64 - bits.clamp(1, 64));
        for (index, source) in (0u32..).zip(from.iter()) {
            let mut room = [0; WARP];
            let values = self.fetch(env, source, base, &mut room);
            let shift = index * u32::from(bits);
            for (out, value) in out.iter_mut().zip(values) {
                *out |= (value & mask).checked_shl(shift).unwrap_or(0);
            }
        }
        self.fill(base, to, active, &out);
    }

    fn unpack(
        &mut self,
        env: &Env<'_, '_>,
        to: &Elements<Slot>,
        (bits, from): (u8, Source),
        base: u32,
        active: u32,
    ) {
        let mut room = [0; WARP];
        let values = *self.fetch(env, from, base, &mut room);
        let mask = u64::MAX >> (64 - bits.clamp(1, 64));
        for (index, slot) in (0u32..).zip(to.iter()) {
            let shift = index * u32::from(bits);
            let part: Lanes = values.map(|value| value.checked_shr(shift).unwrap_or(0) & mask);
            self.fill(base, slot, active, &part);
        }
    }

    fn barrier(
        &mut self,
        env: &mut Env<'_, '_>,
        barrier: &Barrier,
        group: Group,
        active: u32,
    ) -> Result<Next, Trouble> {
        let mut room = [0; WARP];
        let ids = *self.fetch(env, barrier.id, group.base, &mut room);
        let mut room = [0; WARP];
        let predicates = *self.fetch(env, barrier.predicate, group.base, &mut room);
        let mut room = [0; WARP];
        let counts = barrier.threads.map(|threads| *self.fetch(env, threads, group.base, &mut room));
        self.set_pc(group.mask & !active, group.pc + 1);
        // Lanes that do not wait go on; the others stay here until they are released.
        self.set_pc(active, if barrier.kind == BarrierKind::Arrive { group.pc + 1 } else { group.pc });
        for lane in lanes_of(active) {
            let Some(id) = u8::try_from(ids[lane] & 0xffff_ffff).ok().filter(|id| *id < 16) else {
                return Err(trouble(FaultKind::IllegalInstruction, 1 << lane, "there are 16 barriers"));
            };
            let threads = counts.map(|counts| u32::try_from(counts[lane] & 0xffff_ffff).unwrap_or(0));
            if threads.is_some_and(|threads| threads == 0 || threads % 32 != 0 || threads > 1024) {
                let detail = "a barrier's thread count is a multiple of 32";
                return Err(trouble(FaultKind::IllegalInstruction, 1 << lane, detail));
            }
            let vote = (predicates[lane] & 1 != 0) != barrier.negate;
            env.block.arrive(usize::from(id), self.index, lane, threads, vote);
            if barrier.kind != BarrierKind::Arrive {
                self.wait[lane] = Wait::Barrier(id);
                self.waiting |= 1 << lane;
            }
        }
        Ok(Next::Choose)
    }

    /// Lets the lanes that wait at a barrier go on, with the result of its votes.
    pub(super) fn leave_barrier(&mut self, id: u8, env: &Env<'_, '_>, votes: Votes) {
        for lane in lanes_of(self.waiting) {
            if self.wait[lane] != Wait::Barrier(id) {
                continue;
            }
            self.wait[lane] = Wait::Nothing;
            self.waiting &= !(1 << lane);
            if let Some(Op::Barrier(barrier)) = env.grid.image.code.get(self.pc[lane] as usize).map(|i| &i.op)
            {
                let result = match barrier.kind {
                    BarrierKind::Count => u64::from(votes.count),
                    BarrierKind::All => u64::from(votes.all),
                    _ => u64::from(votes.any),
                };
                self.fill_lane(self.base[lane], barrier.to, lane, result);
            }
            self.pc[lane] += 1;
        }
    }
}

/// Predicates that threads brought to a barrier.
#[derive(Clone, Copy, Debug)]
pub(super) struct Votes {
    pub(super) count: u32,
    pub(super) all: bool,
    pub(super) any: bool,
}

/// Sign-extends from `width` bytes.
fn extend(value: u64, width: u8) -> u64 {
    let unused = 64 - 8 * u32::from(width);
    (value.cast_signed() << unused >> unused).cast_unsigned()
}

pub(super) fn trouble(kind: FaultKind, lanes: u32, detail: impl Into<String>) -> Trouble {
    Trouble { kind, lane: first_lane(lanes), detail: detail.into() }
}

#[cold]
pub(super) fn refusal(refused: &Refused, lane: usize) -> Trouble {
    trouble(refused.kind, 1 << (lane & 31), format!("address {:#x}", refused.address))
}
