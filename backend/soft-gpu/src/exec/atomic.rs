//! Atomics: on device memory as the processor's own, on a block's shared memory as plain
//! read-modify-write, because a block is run by one thread at a time.

use super::FaultKind;
use super::alu::{Register, half};
use super::memory::{self, Refused};
use super::step::refusal;
use super::warp::{Env, Trouble, Warp, lanes_of};
use crate::ptx::ir::{Atomic, AtomicOp, Memory, WARP};

impl Warp {
    /// Executes an atomic; true if it left some lane's memory as it was, as one that waits for others does.
    pub(super) fn atomic(
        &mut self,
        env: &mut Env<'_, '_>,
        atomic: &Atomic,
        base: u32,
        active: u32,
    ) -> Result<bool, Trouble> {
        let mut rooms = [[0; WARP]; 3];
        let [room_a, room_b, room_c] = &mut rooms;
        let addresses = self.fetch(env, atomic.address.base, base, room_a);
        let values = self.fetch(env, atomic.value, base, room_b);
        let others = self.fetch(env, atomic.other, base, room_c);
        let mut out = [0; WARP];
        let mut unchanged = false;
        let (op, width) = (atomic.op, atomic.width);
        for lane in lanes_of(active) {
            let (memory, at) =
                Self::place(&atomic.address, addresses[lane]).map_err(|refused| refusal(&refused, lane))?;
            let (value, other) = (values[lane], others[lane]);
            let refuse = |kind| refusal(&Refused { kind, address: at }, lane);
            if at & u64::from(width - 1) != 0 {
                return Err(refuse(FaultKind::MisalignedAddress));
            }
            out[lane] = match memory {
                Memory::Global | Memory::Generic => {
                    let cell = env.global.cell(at, width, true).map_err(|refused| refusal(&refused, lane))?;
                    if op == AtomicOp::Add {
                        cell.add(value)
                    } else {
                        cell.update(|old| apply(op, width, old, value, other, true))
                    }
                }
                Memory::Shared => {
                    let shared = &mut env.block.shared;
                    let old = memory::read(shared, at, width);
                    let old = old.ok_or_else(|| refuse(FaultKind::IllegalAddress))?;
                    memory::write(shared, at, width, apply(op, width, old, value, other, false));
                    old
                }
                Memory::Local | Memory::Param => return Err(refuse(FaultKind::InvalidAddressSpace)),
            };
            unchanged |= match op {
                AtomicOp::CompareExchange => out[lane] != value,
                AtomicOp::Exchange => out[lane] == value,
                AtomicOp::Add | AtomicOp::Or => value == 0,
                _ => false,
            };
        }
        self.fill(base, atomic.to, active, &out);
        Ok(unchanged)
    }
}

/// The new value. Sums of singles in global memory flush subnormals, as PTX has it.
fn apply(op: AtomicOp, width: u8, old: u64, value: u64, other: u64, global: bool) -> u64 {
    let signed = |bits: u64| if width == 8 { bits.cast_signed() } else { i64::from(i32::get(bits)) };
    let pick = |take: bool| if take { value } else { old };
    match op {
        AtomicOp::Add => old.wrapping_add(value),
        AtomicOp::And => old & value,
        AtomicOp::Or => old | value,
        AtomicOp::Xor => old ^ value,
        AtomicOp::Exchange => value,
        AtomicOp::CompareExchange => {
            if old == value {
                other
            } else {
                old
            }
        }
        AtomicOp::MinSigned => pick(signed(value) < signed(old)),
        AtomicOp::MaxSigned => pick(signed(value) > signed(old)),
        AtomicOp::MinUnsigned => pick(value < old),
        AtomicOp::MaxUnsigned => pick(value > old),
        AtomicOp::Increment => {
            if old >= value {
                0
            } else {
                old + 1
            }
        }
        AtomicOp::Decrement => {
            if old == 0 || old > value {
                value
            } else {
                old - 1
            }
        }
        AtomicOp::AddF32 => {
            let flush = |v: f32| if global { super::alu::float::flush(v) } else { v };
            let sum = flush(f32::get(old)) + flush(f32::get(value));
            u64::from(super::alu::float::canonical(flush(sum)))
        }
        AtomicOp::AddF64 => (f64::get(old) + f64::get(value)).put(),
        AtomicOp::AddF16 => u64::from(half::atomic_add(u16::get(old), u16::get(value), false)),
        AtomicOp::AddBf16 => u64::from(half::atomic_add(u16::get(old), u16::get(value), true)),
        AtomicOp::AddF16x2 | AtomicOp::AddBf16x2 => {
            let brain = op == AtomicOp::AddBf16x2;
            let low = half::atomic_add(u16::get(old), u16::get(value), brain);
            let high = half::atomic_add(u16::get(old >> 16), u16::get(value >> 16), brain);
            u64::from(high) << 16 | u64::from(low)
        }
    }
}
