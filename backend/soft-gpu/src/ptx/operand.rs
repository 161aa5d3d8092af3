//! Operands: identifiers, constants, addresses, vectors, and what they mean.

use super::body::{Body, Name};
use super::ir::{Elements, Slot, Source, Special};
use super::lexer::{Number, Token};
use super::module::SymbolKind;
use super::types::Type;
use super::{CompileError, Space};

type Result<T> = std::result::Result<T, CompileError>;

/// The memory of a variable that an operand names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    KernelParam,
    FunctionParam,
    Local,
    Shared,
    Global,
    Const,
    Function,
    /// Declared elsewhere; not known before linking.
    Unknown,
}

/// An operand as written.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Register(Slot, Type),
    Special(Special, u8),
    Number(Number),
    /// Address of a variable or function.
    Variable(Home, Source),
    /// `[base + offset]`
    Address(Box<Operand>, i64),
    /// `[object, coordinates]`
    Sampled(Box<Operand>, Vec<Operand>),
    Vector(Vec<Operand>),
    /// `!p`
    Not(Slot),
    /// `_`
    Discard,
    /// `d|p`
    Pair(Box<Operand>, Box<Operand>),
}

impl<'a> Body<'_, 'a> {
    pub(super) fn find(&self, name: &str) -> Option<&Name> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name))
    }

    /// What an identifier stands for as an operand.
    pub(super) fn lookup(&mut self, name: &'a str) -> Result<Operand> {
        if let Some(found) = self.find(name).cloned() {
            return self.meaning(name, found);
        }
        // One of `%r<100>`.
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = name.get(prefix.len()..).unwrap_or("");
        if !digits.is_empty() && (digits == "0" || !digits.starts_with('0')) {
            let scope = self.scopes.iter().rposition(|scope| scope.contains_key(prefix));
            if let Some(scope) = scope
                && let Some(Name::Registers { count, ty }) =
                    self.scopes.get(scope).and_then(|s| s.get(prefix))
                && digits.parse::<u64>().is_ok_and(|index| index < *count)
            {
                let ty = *ty;
                let slot = self.take_slot()?;
                if let Some(scope) = self.scopes.get_mut(scope) {
                    scope.insert(name, Name::Register(slot, ty));
                }
                return Ok(Operand::Register(slot, ty));
            }
        }
        if let Some((special, bits)) = special(name) {
            return Ok(Operand::Special(special, bits));
        }
        if name == "WARP_SZ" {
            return Ok(Operand::Number(Number::Int(32)));
        }
        match self.parser.names.get(name).copied() {
            Some(symbol) => self.meaning(name, Name::Symbol(symbol)),
            None => self.error(format!("{} is not declared", Token::Word(name))),
        }
    }

    fn meaning(&mut self, name: &str, found: Name) -> Result<Operand> {
        Ok(match found {
            Name::Register(slot, ty) => Operand::Register(slot, ty),
            Name::Param { offset } => Operand::Variable(Home::KernelParam, Source::Value(offset.into())),
            Name::Local { offset, param, .. } => {
                let home = if param { Home::FunctionParam } else { Home::Local };
                Operand::Variable(home, Source::Local(offset))
            }
            Name::Symbol(symbol) => {
                let index = usize::try_from(symbol).unwrap_or(usize::MAX);
                let kind = self.parser.module.symbols.get(index).map(|s| s.kind);
                let home = match kind {
                    Some(SymbolKind::Shared(_)) => Home::Shared,
                    Some(SymbolKind::Global(global)) => match self.parser.module.globals.get(global) {
                        Some(global) if global.space == Space::Const => Home::Const,
                        _ => Home::Global,
                    },
                    Some(SymbolKind::Function(_) | SymbolKind::Builtin(_)) => Home::Function,
                    _ => Home::Unknown,
                };
                Operand::Variable(home, self.used(symbol))
            }
            Name::Registers { .. } | Name::Targets(_) | Name::Prototype => {
                return self.error(format!("{} cannot be used as an operand", Token::Word(name)));
            }
        })
    }

    /// One operand.
    pub(crate) fn operand(&mut self) -> Result<Operand> {
        self.nested_operand(0)
    }

    fn nested_operand(&mut self, depth: usize) -> Result<Operand> {
        let operand = match self.parser.lexer.peek() {
            Token::Punct(b'{') if depth == 0 => {
                self.parser.lexer.next()?;
                let mut items = Vec::new();
                loop {
                    items.push(self.nested_operand(1)?);
                    if self.parser.lexer.eat(b'}')? {
                        break;
                    }
                    if items.len() >= 8 {
                        return self.error("a vector has at most eight elements");
                    }
                    self.parser.lexer.expect(b',')?;
                }
                Operand::Vector(items)
            }
            Token::Punct(b'[') if depth == 0 => {
                self.parser.lexer.next()?;
                let base = match self.parser.lexer.peek() {
                    Token::Word(word) => {
                        self.parser.lexer.next()?;
                        self.lookup(word)?
                    }
                    _ => Operand::Number(self.parser.constant_number()?),
                };
                if self.parser.lexer.eat(b',')? {
                    let coordinates = match self.nested_operand(0)? {
                        Operand::Vector(list) => list,
                        one => vec![one],
                    };
                    self.parser.lexer.expect(b']')?;
                    return Ok(Operand::Sampled(Box::new(base), coordinates));
                }
                let offset = match self.parser.lexer.peek() {
                    Token::Punct(b'+') => {
                        self.parser.lexer.next()?;
                        self.parser.constant()?.cast_signed()
                    }
                    Token::Punct(b'-') => self.parser.constant()?.cast_signed(),
                    _ => 0,
                };
                self.parser.lexer.expect(b']')?;
                Operand::Address(Box::new(base), offset)
            }
            Token::Punct(b'!') => {
                self.parser.lexer.next()?;
                let name = self.parser.lexer.word("a predicate")?;
                match self.lookup(name)? {
                    Operand::Register(slot, Type::Pred) => Operand::Not(slot),
                    _ => return self.error(format!("{} is not a predicate", Token::Word(name))),
                }
            }
            Token::Word("_") => {
                self.parser.lexer.next()?;
                Operand::Discard
            }
            Token::Word(word) => {
                self.parser.lexer.next()?;
                let found = self.lookup(word)?;
                match (found, self.parser.lexer.peek()) {
                    (Operand::Variable(home, Source::Symbol(symbol, _)), Token::Punct(b'+' | b'-')) => {
                        let addend = self.parser.constant()?.cast_signed();
                        match i32::try_from(addend) {
                            Ok(addend) => Operand::Variable(home, Source::Symbol(symbol, addend)),
                            Err(_) => return self.error("offset from a symbol is too large"),
                        }
                    }
                    (Operand::Variable(home, Source::Local(offset)), Token::Punct(b'+')) => {
                        let addend = self.parser.constant()?;
                        let sum = u64::from(offset).saturating_add(addend);
                        Operand::Variable(home, Source::Local(u32::try_from(sum).unwrap_or(u32::MAX)))
                    }
                    (found, _) => found,
                }
            }
            _ => Operand::Number(self.parser.constant_number()?),
        };
        if depth == 0 && self.parser.lexer.eat(b'|')? {
            let second = self.nested_operand(1)?;
            return Ok(Operand::Pair(Box::new(operand), Box::new(second)));
        }
        Ok(operand)
    }

    /// A vector of registers or values.
    pub(crate) fn elements<T: Copy>(&self, list: &[T]) -> Result<Elements<T>> {
        match Elements::new(list) {
            Some(elements) => Ok(elements),
            None => self.error("a vector has one to eight elements"),
        }
    }

    /// The source of an operand that is read as a value of type `ty`.
    pub(crate) fn value(&self, operand: &Operand, ty: Type) -> Result<Source> {
        match operand {
            Operand::Register(slot, have) => {
                if have.bits() < ty.bits() || (*have == Type::Pred) != (ty == Type::Pred) {
                    return self.error(format!("operand is {have:?}, {ty:?} is needed"));
                }
                Ok(Source::Slot(*slot))
            }
            Operand::Special(special, bits) if *bits >= ty.bits() && ty != Type::Pred => {
                Ok(Source::Special(*special))
            }
            Operand::Special(special, 32) if ty.bits() == 64 => Ok(Source::Special(*special)),
            Operand::Number(Number::Int(value)) if ty == Type::Pred => {
                Ok(Source::Value(u64::from(*value != 0)))
            }
            Operand::Number(number) => match super::constant::immediate(ty, *number) {
                Some(bits) => Ok(Source::Value(bits)),
                None => self.error(format!("constant does not fit an operand of type {ty:?}")),
            },
            Operand::Variable(_, source) if ty.bits() >= 32 && !ty.is_float() => Ok(*source),
            _ => self.error(format!("operand does not fit an operand of type {ty:?}")),
        }
    }
}

/// A special register and its bits.
fn special(name: &str) -> Option<(Special, u8)> {
    let name = name.strip_prefix('%')?;
    let dimension = |base: &str, make: fn(u8) -> Special| {
        let axis = name.strip_prefix(base)?;
        let axis = match axis {
            ".x" => 0,
            ".y" => 1,
            ".z" => 2,
            _ => return None,
        };
        Some((make(axis), 32))
    };
    let axis = dimension("tid", Special::Thread)
        .or_else(|| dimension("ntid", Special::BlockDim))
        .or_else(|| dimension("ctaid", Special::Block))
        .or_else(|| dimension("nctaid", Special::GridDim))
        // Without clusters every block is a cluster of its own.
        .or_else(|| dimension("clusterid", Special::Block))
        .or_else(|| dimension("nclusterid", Special::GridDim))
        .or_else(|| dimension("cluster_ctaid", |_| Special::Zero))
        .or_else(|| dimension("cluster_nctaid", |_| Special::One));
    axis.or(match name {
        "laneid" => Some((Special::Lane, 32)),
        "warpid" => Some((Special::Warp, 32)),
        "nwarpid" => Some((Special::WarpCount, 32)),
        "smid" => Some((Special::Multiprocessor, 32)),
        "nsmid" => Some((Special::MultiprocessorCount, 32)),
        "gridid" => Some((Special::GridId, 64)),
        "lanemask_eq" => Some((Special::MaskEq, 32)),
        "lanemask_le" => Some((Special::MaskLe, 32)),
        "lanemask_lt" => Some((Special::MaskLt, 32)),
        "lanemask_ge" => Some((Special::MaskGe, 32)),
        "lanemask_gt" => Some((Special::MaskGt, 32)),
        "clock" => Some((Special::Clock, 32)),
        "clock_hi" => Some((Special::ClockHigh, 32)),
        "clock64" => Some((Special::Clock64, 64)),
        "globaltimer" => Some((Special::Timer, 64)),
        "globaltimer_lo" => Some((Special::TimerLow, 32)),
        "globaltimer_hi" => Some((Special::TimerHigh, 32)),
        "dynamic_smem_size" => Some((Special::DynamicShared, 32)),
        "total_smem_size" | "aggr_smem_size" => Some((Special::TotalShared, 32)),
        "cluster_ctarank" | "is_explicit_cluster" => Some((Special::Zero, 32)),
        "cluster_nctarank" => Some((Special::One, 32)),
        _ => None,
    })
}
