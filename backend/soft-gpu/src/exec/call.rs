//! Calls and returns, the stack, and the functions that the engine provides itself.
//!
//! Every lane has a stack of its own for local memory and for register frames. Arguments are copied between
//! the caller's and the callee's local memory, as the `.param` sequences of PTX describe it.

use super::FaultKind;
use super::image::Routine;
use super::printf;
use super::step::{Next, trouble};
use super::warp::{Env, Group, Trouble, Warp, lanes_of};
use crate::ptx::ir::{Argument, Call, NONE, Place, Slot, Source, Target, WARP, header};
use crate::ptx::module::{Builtin, SymbolKind};

/// Register slots of all frames of a warp together.
const STACK_SLOTS: u32 = 1 << 17;
/// `RETURN_PC` of a kernel's own frame.
const NO_CALLER: u64 = u64::MAX;

fn low(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap_or(0)
}

impl Warp {
    pub(super) fn call(
        &mut self,
        env: &mut Env<'_, '_>,
        call: &Call,
        group: Group,
        active: u32,
    ) -> Result<Next, Trouble> {
        let image = env.grid.image;
        let mut lanes = active;
        let function = match call.target {
            Target::Direct(symbol) => {
                let symbol = usize::try_from(symbol).ok().and_then(|i| image.module().symbols.get(i));
                match symbol.map(|symbol| symbol.kind) {
                    Some(SymbolKind::Function(function)) => function,
                    Some(SymbolKind::Builtin(builtin)) => {
                        self.builtin(env, builtin, call, group, active)?;
                        return Ok(Next::Following);
                    }
                    _ => return Err(trouble(FaultKind::InvalidPc, active, "call of an unknown function")),
                }
            }
            Target::Indirect(from) => {
                let mut room = [0; WARP];
                let targets = *self.fetch(env, from, group.base, &mut room);
                let first = lanes_of(active).next().map_or(0, |lane| targets[lane]);
                // One target at a time: the other lanes stay at the call.
                lanes = lanes_of(active).filter(|lane| targets[*lane] == first).fold(0, |m, l| m | 1 << l);
                match image.function_at(first) {
                    Some(function) => function,
                    None => {
                        let detail = format!("call of address {first:#x}");
                        return Err(trouble(FaultKind::InvalidPc, active, detail));
                    }
                }
            }
        };
        let Some(routine) = image.functions.get(function) else {
            return Err(trouble(FaultKind::InvalidPc, active, "call of an unknown function"));
        };
        // Lanes whose guard is false pass by; lanes with another target stay.
        self.set_pc(group.mask & !active, group.pc + 1);
        self.set_pc(active, group.pc);
        self.enter(env, call, routine, Group { mask: lanes, ..group })?;
        Ok(Next::Choose)
    }

    fn enter(
        &mut self,
        env: &mut Env<'_, '_>,
        call: &Call,
        routine: &Routine,
        group: Group,
    ) -> Result<(), Trouble> {
        let Group { mask, pc, base } = group;
        if call.arguments.len() != routine.params.len() || call.results.len() != routine.results.len() {
            let detail = "call with other parameters than the function has";
            return Err(trouble(FaultKind::IllegalInstruction, mask, detail));
        }
        let frame = base + call.frame;
        let end = frame.saturating_add(routine.slots);
        if end > STACK_SLOTS {
            return Err(trouble(FaultKind::StackOverflow, mask, "calls are nested too deeply"));
        }
        let slots = usize::try_from(end).unwrap_or(0);
        if self.registers.len() < slots {
            self.registers.resize(slots, [0; WARP]);
        }
        let local = *self.slot(base, header::LOCAL_END);
        let (mut start, mut stop) = ([0; WARP], [0; WARP]);
        for lane in lanes_of(mask) {
            let bottom = low(local[lane]).next_multiple_of(16);
            let top = bottom.saturating_add(routine.local.next_multiple_of(16));
            if top > env.grid.launch.limits.stack_bytes {
                return Err(trouble(FaultKind::StackOverflow, 1 << lane, "local memory is used up"));
            }
            self.grow_local(lane, top);
            (start[lane], stop[lane]) = (u64::from(bottom), u64::from(top));
        }
        for (argument, place) in call.arguments.iter().zip(&routine.params) {
            self.pass(env, (*argument, base), (*place, frame), &start, mask)?;
        }
        self.fill(frame, header::RETURN_PC, mask, &[u64::from(pc); WARP]);
        self.fill(frame, header::CALLER, mask, &[u64::from(base); WARP]);
        self.fill(frame, header::LOCAL, mask, &start);
        self.fill(frame, header::LOCAL_END, mask, &stop);
        self.set_base(mask, frame);
        self.set_pc(mask, routine.start);
        Ok(())
    }

    /// Copies an argument to its parameter; `start` is where the callee's local memory begins.
    fn pass(
        &mut self,
        env: &Env<'_, '_>,
        (argument, caller): (Argument, u32),
        (place, callee): (Place, u32),
        start: &[u64; WARP],
        mask: u32,
    ) -> Result<(), Trouble> {
        let base = *self.slot(caller, header::LOCAL);
        match (argument, place) {
            (Argument::Variable { offset, size }, Place::Variable { offset: to, size: room }) => {
                if size > room {
                    let detail = "argument larger than the parameter";
                    return Err(trouble(FaultKind::IllegalInstruction, mask, detail));
                }
                for lane in lanes_of(mask) {
                    let from = base[lane] + u64::from(offset);
                    self.copy_local(lane, from, start[lane] + u64::from(to), size);
                }
            }
            (Argument::Value(source), place) => {
                let mut room = [0; WARP];
                let values = *self.fetch(env, source, caller, &mut room);
                match place {
                    Place::Register(slot, bits) => {
                        self.fill(callee, slot, mask, &values.map(|value| value & bits));
                    }
                    Place::Variable { offset, size } => {
                        for lane in lanes_of(mask) {
                            self.store_local(lane, start[lane] + u64::from(offset), size, values[lane]);
                        }
                    }
                }
            }
            (Argument::Variable { offset, size }, Place::Register(slot, bits)) => {
                for lane in lanes_of(mask) {
                    let value = self.load_local(lane, base[lane] + u64::from(offset), size);
                    self.fill_lane(callee, slot, lane, value & bits);
                }
            }
        }
        Ok(())
    }

    pub(super) fn ret(&mut self, env: &mut Env<'_, '_>, group: Group, active: u32) -> Result<Next, Trouble> {
        let image = env.grid.image;
        let frame = group.base;
        let routine = image.function_of(group.pc).and_then(|index| image.functions.get(index));
        self.set_pc(group.mask & !active, group.pc + 1);
        let mut rest = active;
        while rest != 0 {
            let lane = lanes_of(rest).next().unwrap_or(0);
            let back = self.slot(frame, header::RETURN_PC)[lane];
            let caller = self.slot(frame, header::CALLER)[lane];
            let same = |warp: &Self, lane: usize| {
                warp.slot(frame, header::RETURN_PC)[lane] == back
                    && warp.slot(frame, header::CALLER)[lane] == caller
            };
            let lanes = lanes_of(rest).filter(|lane| same(self, *lane)).fold(0, |m, l| m | 1 << l);
            rest &= !lanes;
            if back == NO_CALLER {
                self.exit(lanes, env);
                self.release_joined(env)?;
                continue;
            }
            let (back, caller) = (low(back), low(caller));
            let inst = usize::try_from(back).ok().and_then(|pc| image.code.get(pc));
            if let (Some(crate::ptx::ir::Op::Call(call)), Some(routine)) =
                (inst.map(|inst| &inst.op), routine)
            {
                for (result, place) in call.results.iter().zip(&routine.results) {
                    self.give_back(*result, caller, *place, frame, lanes);
                }
            }
            self.set_base(lanes, caller);
            self.set_pc(lanes, back + 1);
        }
        Ok(Next::Choose)
    }

    /// Copies a result to where the caller wants it.
    fn give_back(&mut self, result: Argument, caller: u32, place: Place, callee: u32, mask: u32) {
        let from_base = *self.slot(callee, header::LOCAL);
        let to_base = *self.slot(caller, header::LOCAL);
        for lane in lanes_of(mask) {
            match (place, result) {
                (Place::Variable { offset, size }, Argument::Variable { offset: to, size: room }) => {
                    let from = from_base[lane] + u64::from(offset);
                    self.copy_local(lane, from, to_base[lane] + u64::from(to), size.min(room));
                }
                (Place::Variable { offset, size }, Argument::Value(Source::Slot(slot))) => {
                    let value = self.load_local(lane, from_base[lane] + u64::from(offset), size);
                    self.fill_lane(caller, slot, lane, value);
                }
                (Place::Register(slot, bits), Argument::Value(Source::Slot(to))) => {
                    let value = self.slot(callee, slot)[lane] & bits;
                    self.fill_lane(caller, to, lane, value);
                }
                (Place::Register(slot, _), Argument::Variable { offset, size }) => {
                    let value = self.slot(callee, slot)[lane];
                    self.store_local(lane, to_base[lane] + u64::from(offset), size, value);
                }
                _ => {}
            }
        }
    }

    fn copy_local(&mut self, lane: usize, from: u64, to: u64, size: u32) {
        let range = |start: u64| {
            let start = usize::try_from(start).ok()?;
            Some(start..start.checked_add(usize::try_from(size).ok()?)?)
        };
        if let (Some(local), Some(from), Some(to)) = (self.local.get_mut(lane), range(from), range(to))
            && from.end <= local.len()
            && to.end <= local.len()
        {
            local.copy_within(from, to.start);
        }
    }

    fn load_local(&self, lane: usize, at: u64, size: u32) -> u64 {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let bytes = self.local.get(lane).and_then(|local| local.get(start..)).unwrap_or(&[]);
        let mut value = [0; 8];
        let size = usize::try_from(size.min(8)).unwrap_or(0);
        for (to, from) in value.iter_mut().zip(bytes).take(size) {
            *to = *from;
        }
        u64::from_le_bytes(value)
    }

    fn store_local(&mut self, lane: usize, at: u64, size: u32, value: u64) {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let size = usize::try_from(size.min(8)).unwrap_or(0);
        if let Some(bytes) = self.local.get_mut(lane).and_then(|local| local.get_mut(start..)) {
            for (to, from) in bytes.iter_mut().zip(value.to_le_bytes()).take(size) {
                *to = from;
            }
        }
    }

    pub(super) fn alloca(
        &mut self,
        env: &Env<'_, '_>,
        to: Slot,
        (size, align): (Source, u32),
        base: u32,
        active: u32,
    ) -> Result<(), Trouble> {
        let mut room = [0; WARP];
        let sizes = *self.fetch(env, size, base, &mut room);
        let ends = *self.slot(base, header::LOCAL_END);
        for lane in lanes_of(active) {
            let start = ends[lane].next_multiple_of(u64::from(align.max(1)));
            let end = start.checked_add(sizes[lane]).map(|end| end.next_multiple_of(16));
            let end = end.filter(|end| *end <= u64::from(env.grid.launch.limits.stack_bytes));
            let Some(end) = end else {
                return Err(trouble(FaultKind::StackOverflow, 1 << lane, "local memory is used up"));
            };
            self.grow_local(lane, low(end));
            self.fill_lane(base, to, lane, start);
            self.fill_lane(base, header::LOCAL_END, lane, end);
        }
        Ok(())
    }

    /// Arguments of one lane's call of a built-in function.
    fn argument(&self, env: &Env<'_, '_>, call: &Call, index: usize, base: u32, lane: usize) -> u64 {
        match call.arguments.get(index) {
            Some(Argument::Variable { offset, size }) => {
                let local = self.slot(base, header::LOCAL)[lane];
                self.load_local(lane, local + u64::from(*offset), *size)
            }
            Some(Argument::Value(source)) => {
                let mut room = [0; WARP];
                self.fetch(env, *source, base, &mut room)[lane]
            }
            None => 0,
        }
    }

    fn builtin(
        &mut self,
        env: &mut Env<'_, '_>,
        builtin: Builtin,
        call: &Call,
        group: Group,
        active: u32,
    ) -> Result<(), Trouble> {
        let base = group.base;
        for lane in lanes_of(active) {
            let [first, second] = [0, 1].map(|index| self.argument(env, call, index, base, lane));
            let result = match builtin {
                Builtin::Printf => {
                    let text =
                        printf::format(|at, width| self.read_generic(env, at, width, lane), first, second)?;
                    env.global.device().print(&text.bytes);
                    u64::from(text.arguments)
                }
                Builtin::Malloc => env.global.device().malloc(first),
                Builtin::Free => {
                    if first != 0 && !env.global.device().free(first) {
                        return Err(trouble(
                            FaultKind::IllegalAddress,
                            1 << lane,
                            format!("free of {first:#x}"),
                        ));
                    }
                    0
                }
                Builtin::AssertFail => {
                    let line = self.argument(env, call, 2, base, lane);
                    let third = self.argument(env, call, 3, base, lane);
                    let mut text = |at: u64| {
                        printf::text(&mut |at, width| self.read_generic(env, at, width, lane), at)
                            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                            .unwrap_or_default()
                    };
                    let (message, file, function) = (text(first), text(second), text(third));
                    let detail = format!("{file}:{line}: assertion `{message}` failed");
                    let at = |axis: usize| self.thread.get(axis).map_or(0, |lanes| lanes[lane]);
                    let [x, y, z] = env.block.index;
                    let line = format!(
                        "{file}:{line}: {function}: block: [{x},{y},{z}], thread: [{},{},{}] Assertion `{message}` failed.\n",
                        at(0),
                        at(1),
                        at(2)
                    );
                    env.global.device().print(line.as_bytes());
                    return Err(trouble(FaultKind::Assert, 1 << lane, detail));
                }
            };
            match call.results.first() {
                Some(Argument::Variable { offset, size }) => {
                    let local = self.slot(base, header::LOCAL)[lane];
                    self.store_local(lane, local + u64::from(*offset), *size, result);
                }
                Some(Argument::Value(Source::Slot(slot))) if *slot != NONE => {
                    self.fill_lane(base, *slot, lane, result);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read_generic(&self, env: &mut Env<'_, '_>, at: u64, width: u8, lane: usize) -> Result<u64, Trouble> {
        match super::memory::generic(at) {
            Some((memory, offset)) => self.read_lane(env, memory, offset, width, false, lane),
            None => Err(trouble(FaultKind::IllegalAddress, 1 << lane, format!("address {at:#x}"))),
        }
    }
}
