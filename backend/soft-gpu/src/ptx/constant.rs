//! Constant expressions and initial contents of variables.

use super::lexer::{Number, Token};
use super::module::Relocation;
use super::parser::{Parser, Variable};
use super::types::Type;
use super::{CompileError, Global};

impl<'a> Parser<'a> {
    /// An integer constant expression.
    pub(crate) fn constant(&mut self) -> Result<u64, CompileError> {
        match self.constant_number()? {
            Number::Int(value) => Ok(value),
            _ => self.lexer.error("expected an integer"),
        }
    }

    /// A constant expression: an integer one, or a single floating-point number.
    pub(crate) fn constant_number(&mut self) -> Result<Number, CompileError> {
        self.binary(0, 0)
    }

    fn binary(&mut self, least: u8, depth: usize) -> Result<Number, CompileError> {
        let mut left = self.unary(depth)?;
        while let Token::Punct(operator) = self.lexer.peek() {
            let rank = match operator {
                b'|' => 1,
                b'^' => 2,
                b'&' => 3,
                b'+' | b'-' => 5,
                b'*' | b'/' | b'%' => 6,
                _ => break,
            };
            if rank <= least {
                break;
            }
            self.lexer.next()?;
            let right = self.binary(rank, depth + 1)?;
            let (Number::Int(a), Number::Int(b)) = (left, right) else {
                return self.lexer.error("only integers can be calculated with");
            };
            let value = match operator {
                b'|' => Some(a | b),
                b'^' => Some(a ^ b),
                b'&' => Some(a & b),
                b'+' => Some(a.wrapping_add(b)),
                b'-' => Some(a.wrapping_sub(b)),
                b'*' => Some(a.wrapping_mul(b)),
                b'/' => a.checked_div(b),
                _ => a.checked_rem(b),
            };
            match value {
                Some(value) => left = Number::Int(value),
                None => return self.lexer.error("division by zero in a constant"),
            }
        }
        Ok(left)
    }

    fn unary(&mut self, depth: usize) -> Result<Number, CompileError> {
        if depth > self.limits.nesting {
            return self.lexer.error("expression is nested too deeply");
        }
        let token = self.lexer.peek();
        match token {
            Token::Number(number) => {
                self.lexer.next()?;
                Ok(number)
            }
            Token::Word("WARP_SZ") => {
                self.lexer.next()?;
                Ok(Number::Int(32))
            }
            Token::Punct(b'(') => {
                self.lexer.next()?;
                if matches!(self.lexer.peek(), Token::Word(".s64" | ".u64")) {
                    self.lexer.next()?;
                    self.lexer.expect(b')')?;
                    return self.unary(depth + 1);
                }
                let value = self.binary(0, depth + 1)?;
                self.lexer.expect(b')')?;
                Ok(value)
            }
            Token::Punct(operator @ (b'-' | b'+' | b'~' | b'!')) => {
                self.lexer.next()?;
                match (operator, self.unary(depth + 1)?) {
                    (b'+', number) => Ok(number),
                    (b'-', Number::Int(v)) => Ok(Number::Int(v.wrapping_neg())),
                    (b'-', Number::F32(v)) => Ok(Number::F32(v ^ 0x8000_0000)),
                    (b'-', Number::F64(v)) => Ok(Number::F64(v ^ 1 << 63)),
                    (b'~', Number::Int(v)) => Ok(Number::Int(!v)),
                    (b'!', Number::Int(v)) => Ok(Number::Int(u64::from(v == 0))),
                    _ => self.lexer.error("operator does not apply to a floating-point number"),
                }
            }
            found => self.lexer.error(format!("expected a constant, found {found}")),
        }
    }

    /// The part of a declaration after `=`.
    pub(crate) fn initialiser(
        &mut self,
        variable: &Variable<'a>,
        global: &mut Global,
    ) -> Result<(), CompileError> {
        let mut dimensions = variable.dimensions.clone();
        if variable.vector > 1 {
            dimensions.push(variable.vector);
        }
        let end = self.fill(variable, &dimensions, 0, 0, global)?;
        if variable.open {
            global.size = end;
        }
        while global.init.last() == Some(&0) {
            global.init.pop();
        }
        Ok(())
    }

    /// Reads one value or braced list for an array with `dimensions`, from byte `at`; returns where it ends.
    fn fill(
        &mut self,
        variable: &Variable<'a>,
        dimensions: &[u64],
        at: u64,
        depth: usize,
        global: &mut Global,
    ) -> Result<u64, CompileError> {
        if depth > self.limits.nesting {
            return self.lexer.error("initialiser is nested too deeply");
        }
        if !self.lexer.eat(b'{')? {
            return self.value(variable, at, global);
        }
        let inner = dimensions.get(1..).unwrap_or(&[]);
        let stride = inner.iter().try_fold(variable.element(), |size, n| size.checked_mul(*n));
        let limit = dimensions.first().copied().unwrap_or(1);
        let open = depth == 0 && variable.open;
        let mut end = at;
        let mut index = 0u64;
        while !self.lexer.eat(b'}')? {
            if index > 0 {
                self.lexer.expect(b',')?;
                if self.lexer.eat(b'}')? {
                    break;
                }
            }
            let nested = self.lexer.peek() == Token::Punct(b'{');
            if nested {
                let start = stride.and_then(|s| s.checked_mul(index)).and_then(|o| o.checked_add(at));
                let Some(start) = start.filter(|_| open || index < limit) else {
                    return self.lexer.error("too many initial values");
                };
                self.fill(variable, inner, start, depth + 1, global)?;
                index += 1;
                end = start.saturating_add(stride.unwrap_or(0));
            } else {
                // Without braces the elements follow each other whatever the dimensions.
                if !open && end.saturating_sub(at) >= limit.saturating_mul(stride.unwrap_or(u64::MAX)) {
                    return self.lexer.error("too many initial values");
                }
                end = self.value(variable, end, global)?;
                index += 1;
            }
        }
        Ok(end)
    }

    fn value(&mut self, variable: &Variable<'a>, at: u64, global: &mut Global) -> Result<u64, CompileError> {
        let width = variable.element();
        let end = at.saturating_add(width);
        let fits = variable.open || variable.size().is_some_and(|size| end <= size);
        let Some(range) = usize::try_from(at).ok().zip(usize::try_from(end).ok()).filter(|_| fits) else {
            return self.lexer.error("too many initial values");
        };
        if range.1 > self.limits.source_bytes {
            return self.lexer.error("initial contents are too large");
        }
        if global.init.len() < range.1 {
            global.init.resize(range.1, 0);
        }
        let bits = match self.lexer.peek() {
            Token::Word(word) if word != "WARP_SZ" => {
                self.relocation(u8::try_from(width).unwrap_or(8), 0, at, global)?;
                return Ok(end);
            }
            _ => {
                let number = self.constant_number()?;
                if let (Number::Int(mask), Token::Punct(b'(')) = (number, self.lexer.peek()) {
                    // `0xFF00(symbol)`: one byte or more of an address.
                    let shift = mask.trailing_zeros();
                    let ones = (mask >> shift.min(63)).trailing_ones();
                    let bytes = ones / 8;
                    if mask == 0 || shift % 8 != 0 || ones % 8 != 0 || mask.count_ones() != ones {
                        return self.lexer.error("an address mask must select whole bytes");
                    }
                    self.lexer.expect(b'(')?;
                    let width = u8::try_from(u64::from(bytes).min(width)).unwrap_or(8);
                    self.relocation(width, u8::try_from(shift).unwrap_or(0), at, global)?;
                    self.lexer.expect(b')')?;
                    return Ok(end);
                }
                match immediate(variable.ty, number) {
                    Some(bits) => bits,
                    None => return self.lexer.error("initial value does not fit the type"),
                }
            }
        };
        if let Some(room) = global.init.get_mut(range.0..range.1) {
            let bytes = bits.to_le_bytes();
            let length = room.len();
            room.copy_from_slice(bytes.get(..length).unwrap_or(&bytes));
        }
        Ok(end)
    }

    /// `symbol`, `symbol+4`, `generic(symbol)+4`.
    fn relocation(&mut self, width: u8, shift: u8, at: u64, global: &mut Global) -> Result<(), CompileError> {
        let name = self.lexer.word("a symbol")?;
        let symbol = if name == "generic" {
            self.lexer.expect(b'(')?;
            let name = self.lexer.word("a symbol")?;
            self.lexer.expect(b')')?;
            self.symbol(name)?
        } else {
            self.symbol(name)?
        };
        let addend = match self.lexer.peek() {
            Token::Punct(b'+' | b'-') => self.constant()?.cast_signed(),
            _ => 0,
        };
        global.relocations.push(Relocation { offset: at, width, shift, symbol, addend });
        Ok(())
    }
}

/// The bits of a literal as a value of a type, or `None` if PTX does not allow it there.
pub(crate) fn immediate(ty: Type, number: Number) -> Option<u64> {
    Some(match (ty, number) {
        (Type::F32, Number::F32(bits)) => u64::from(bits),
        #[allow(clippy::cast_possible_truncation, reason = "a double literal for a single is rounded")]
        (Type::F32, Number::F64(bits)) => u64::from((f64::from_bits(bits) as f32).to_bits()),
        (Type::F64, Number::F64(bits)) => bits,
        (Type::F64, Number::F32(bits)) => f64::from(f32::from_bits(bits)).to_bits(),
        (Type::F32 | Type::F64, Number::Int(_)) => return None,
        (_, Number::Int(value)) => value & ty.mask(),
        (Type::B32 | Type::U32 | Type::S32, Number::F32(bits)) => u64::from(bits),
        (Type::B64 | Type::U64 | Type::S64, Number::F64(bits)) => bits,
        _ => return None,
    })
}
