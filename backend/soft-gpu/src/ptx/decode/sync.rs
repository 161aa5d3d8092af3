//! Barriers, fences, warp-wide operations, and how threads end.

use super::{Modifiers, Result};
use crate::ptx::FunctionKind;
use crate::ptx::body::{Body, DISCARD};
use crate::ptx::ir::{Barrier, BarrierKind, NONE, Op, Source, WarpInst, WarpOp};
use crate::ptx::operand::Operand;
use crate::ptx::types::Type;

impl Body<'_, '_> {
    pub(super) fn sync(&mut self, name: &str, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        match name {
            "bar" | "barrier" => self.barrier(m, operands),
            "membar" | "fence" => self.fence(name, m),
            "vote" => self.vote(m, operands),
            "match" => self.matching(m, operands),
            "shfl" => self.shuffle(m, operands),
            "redux" => self.reduce(m, operands),
            "activemask" => {
                let ty = m.ty()?;
                m.check((ty == Type::B32).then_some(()))?;
                let to = self.target(operands, 0, ty)?;
                self.emit(Op::ActiveMask(to))
            }
            "elect" => {
                m.take("sync");
                m.finish()?;
                self.count(m, operands, 2)?;
                let (to, to_predicate) = self.result_and_predicate(operands)?;
                let members = Some(self.source(operands, 1, Type::B32)?);
                self.warp(WarpOp::Elect, members, Source::Value(0), to, to_predicate)
            }
            "nanosleep" => {
                let ty = m.ty()?;
                m.check((ty == Type::U32).then_some(()))?;
                self.source(operands, 0, ty)?;
                self.emit(Op::Sleep)
            }
            "ret" => {
                m.take("uni");
                m.finish()?;
                self.emit(if self.kind == FunctionKind::Entry { Op::Exit } else { Op::Return })
            }
            "exit" => {
                m.finish()?;
                self.emit(Op::Exit)
            }
            "trap" | "brkpt" => {
                m.finish()?;
                self.emit(Op::Trap)
            }
            // Without programmatic dependent launch the grid before has ended already.
            "griddepcontrol" => {
                m.take_one(&["wait", "launch_dependents"]);
                m.finish()?;
                self.emit(Op::Nothing)
            }
            _ => {
                m.take("mask");
                m.finish()?;
                self.emit(Op::Nothing)
            }
        }
    }

    fn warp(
        &mut self,
        op: WarpOp,
        members: Option<Source>,
        value: Source,
        to: u32,
        to_predicate: u32,
    ) -> Result<()> {
        let zero = Source::Value(0);
        self.emit(Op::Warp(Box::new(WarpInst {
            op,
            members,
            value,
            lane: zero,
            clamp: zero,
            to,
            to_predicate,
        })))
    }

    /// `d|p` or `d`.
    fn result_and_predicate(&self, operands: &[Operand]) -> Result<(u32, u32)> {
        match self.nth(operands, 0)? {
            Operand::Pair(d, p) => {
                let pair = [(**d).clone(), (**p).clone()];
                Ok((self.target(&pair, 0, Type::B32)?, self.target(&pair, 1, Type::Pred)?))
            }
            _ => Ok((self.target(operands, 0, Type::B32)?, DISCARD)),
        }
    }

    fn fence(&mut self, name: &str, m: &mut Modifiers<'_>) -> Result<()> {
        if m.list.iter().any(|part| part.starts_with("proxy") || part.starts_with("mbarrier")) {
            return m.unsupported();
        }
        if name == "fence" {
            m.take_one(&["sc", "acq_rel", "acquire", "release"]);
        }
        m.take_one(&["cta", "cluster", "gpu", "gl", "sys"]);
        m.finish()?;
        self.emit(Op::Fence)
    }

    fn barrier(&mut self, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        if m.take("warp") {
            m.take("sync");
            m.finish()?;
            self.count(m, operands, 1)?;
            let members = Some(self.source(operands, 0, Type::B32)?);
            return self.warp(WarpOp::Join, members, Source::Value(0), NONE, NONE);
        }
        m.take("cta");
        m.take("aligned");
        let (mut to, mut predicate, mut negate) = (NONE, Source::Value(0), false);
        let mut rest = operands;
        let kind = match m.take_one(&["sync", "arrive", "red"]) {
            Some("sync") => BarrierKind::Sync,
            Some("arrive") => BarrierKind::Arrive,
            Some(_) => {
                let kind = match m.take_one(&["popc", "and", "or"]) {
                    Some("popc") => BarrierKind::Count,
                    Some("and") => BarrierKind::All,
                    Some(_) => BarrierKind::Any,
                    None => return m.unsupported(),
                };
                let ty = m.ty()?;
                let wanted = if kind == BarrierKind::Count { Type::U32 } else { Type::Pred };
                m.check((ty == wanted).then_some(()))?;
                to = self.target(operands, 0, wanted)?;
                let last = operands.len().saturating_sub(1);
                match self.nth(operands, last)? {
                    Operand::Not(slot) => (predicate, negate) = (Source::Slot(*slot), true),
                    operand => predicate = self.value(operand, Type::Pred)?,
                }
                rest = operands.get(1..last).unwrap_or(&[]);
                kind
            }
            None => return m.unsupported(),
        };
        m.finish()?;
        if rest.is_empty() || rest.len() > 2 || kind == BarrierKind::Arrive && rest.len() != 2 {
            return self.error("a barrier takes its number and perhaps a number of threads");
        }
        let id = self.source(rest, 0, Type::U32)?;
        let threads = if rest.len() == 2 { Some(self.source(rest, 1, Type::U32)?) } else { None };
        self.emit(Op::Barrier(Box::new(Barrier { kind, id, threads, predicate, negate, to })))
    }

    fn vote(&mut self, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let sync = m.take("sync");
        let op = match m.take_one(&["all", "any", "uni", "ballot"]) {
            Some("all") => WarpOp::VoteAll,
            Some("any") => WarpOp::VoteAny,
            Some("uni") => WarpOp::VoteUniform,
            Some(_) => WarpOp::Ballot,
            None => return m.unsupported(),
        };
        let ty = m.ty()?;
        let wanted = if op == WarpOp::Ballot { Type::B32 } else { Type::Pred };
        m.check((ty == wanted).then_some(()))?;
        self.count(m, operands, if sync { 3 } else { 2 })?;
        let to = self.target(operands, 0, wanted)?;
        let value = self.predicate_source(operands, 1)?;
        let members = if sync { Some(self.source(operands, 2, Type::B32)?) } else { None };
        let (to, to_predicate) = if op == WarpOp::Ballot { (to, NONE) } else { (NONE, to) };
        self.warp(op, members, value, to, to_predicate)
    }

    fn matching(&mut self, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let all = m.take("all");
        let any = m.take("any");
        let sync = m.take("sync");
        let ty = m.ty()?;
        m.check((all != any && sync && matches!(ty, Type::B32 | Type::B64)).then_some(()))?;
        self.count(m, operands, 3)?;
        let (to, to_predicate) = self.result_and_predicate(operands)?;
        let value = self.source(operands, 1, ty)?;
        let members = Some(self.source(operands, 2, Type::B32)?);
        let op = if all { WarpOp::MatchAll } else { WarpOp::MatchAny };
        self.warp(op, members, value, to, to_predicate)
    }

    fn shuffle(&mut self, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let sync = m.take("sync");
        let op = match m.take_one(&["up", "down", "bfly", "idx"]) {
            Some("up") => WarpOp::ShuffleUp,
            Some("down") => WarpOp::ShuffleDown,
            Some("bfly") => WarpOp::ShuffleXor,
            Some(_) => WarpOp::ShuffleIndex,
            None => return m.unsupported(),
        };
        let ty = m.ty()?;
        m.check((ty.bits() == 32).then_some(()))?;
        self.count(m, operands, if sync { 5 } else { 4 })?;
        let (to, to_predicate) = self.result_and_predicate(operands)?;
        let value = self.source(operands, 1, ty)?;
        let lane = self.source(operands, 2, Type::B32)?;
        let clamp = self.source(operands, 3, Type::B32)?;
        let members = if sync { Some(self.source(operands, 4, Type::B32)?) } else { None };
        self.emit(Op::Warp(Box::new(WarpInst { op, members, value, lane, clamp, to, to_predicate })))
    }

    fn reduce(&mut self, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let sync = m.take("sync");
        let name = m.take_one(&["add", "min", "max", "and", "or", "xor"]);
        let ty = m.ty()?;
        let op = match (name, ty) {
            (Some("add"), Type::U32 | Type::S32) => Some(WarpOp::ReduceAdd),
            (Some("min"), Type::U32) => Some(WarpOp::ReduceMinUnsigned),
            (Some("min"), Type::S32) => Some(WarpOp::ReduceMinSigned),
            (Some("max"), Type::U32) => Some(WarpOp::ReduceMaxUnsigned),
            (Some("max"), Type::S32) => Some(WarpOp::ReduceMaxSigned),
            (Some("and"), Type::B32) => Some(WarpOp::ReduceAnd),
            (Some("or"), Type::B32) => Some(WarpOp::ReduceOr),
            (Some("xor"), Type::B32) => Some(WarpOp::ReduceXor),
            _ => None,
        };
        let op = m.check(op.filter(|_| sync))?;
        self.count(m, operands, 3)?;
        let to = self.target(operands, 0, ty)?;
        let value = self.source(operands, 1, ty)?;
        let members = Some(self.source(operands, 2, Type::B32)?);
        self.warp(op, members, value, to, NONE)
    }
}
