//! Integer arithmetic, bits and shifts: each instruction against the host's arithmetic.

use anyhow::ensure;

use crate::gpu::Gpu;
use crate::outcome::{CaseResult, pass};
use crate::registry::area;

use super::instruction::{EDGES, Out, check, low, on_device, s, short, signed, triples, w, wide};

area!("integers":
    integers_of_32_bits,
    integers_of_64_bits,
    bits_of_words,
    shifts_beyond_the_width,
    division_by_zero_does_no_harm,
    narrow_integers,
);

fn integers_of_32_bits() -> CaseResult {
    check(
        &[
            ("add.s32 %w, %wa, %wb;", Out::W, |a, b, _| w(low(a).wrapping_add(low(b)))),
            ("sub.s32 %w, %wa, %wb;", Out::W, |a, b, _| w(low(a).wrapping_sub(low(b)))),
            ("mul.lo.s32 %w, %wa, %wb;", Out::W, |a, b, _| w(low(a).wrapping_mul(low(b)))),
            ("mul.hi.u32 %w, %wa, %wb;", Out::W, |a, b, _| (w(low(a)) * w(low(b))) >> 32),
            ("mul.hi.s32 %w, %wa, %wb;", Out::W, |a, b, _| {
                w(low(((i64::from(signed(a)) * i64::from(signed(b))) >> 32).cast_unsigned()))
            }),
            ("mul.wide.u32 %l, %wa, %wb;", Out::L, |a, b, _| w(low(a)) * w(low(b))),
            ("mul.wide.s32 %l, %wa, %wb;", Out::L, |a, b, _| {
                (i64::from(signed(a)) * i64::from(signed(b))).cast_unsigned()
            }),
            ("mad.lo.s32 %w, %wa, %wb, %wc;", Out::W, |a, b, c| {
                w(low(a).wrapping_mul(low(b)).wrapping_add(low(c)))
            }),
            ("mad.wide.u32 %l, %wa, %wb, %lc;", Out::L, |a, b, c| (w(low(a)) * w(low(b))).wrapping_add(c)),
            ("mul24.lo.u32 %w, %wa, %wb;", Out::W, |a, b, _| w(low((a & 0xFF_FFFF) * (b & 0xFF_FFFF)))),
            ("sad.u32 %w, %wa, %wb, %wc;", Out::W, |a, b, c| w(low(a).abs_diff(low(b)).wrapping_add(low(c)))),
            ("sad.s32 %w, %wa, %wb, %wc;", Out::W, |a, b, c| {
                w(signed(a).abs_diff(signed(b)).wrapping_add(low(c)))
            }),
            ("min.u32 %w, %wa, %wb;", Out::W, |a, b, _| w(low(a).min(low(b)))),
            ("max.u32 %w, %wa, %wb;", Out::W, |a, b, _| w(low(a).max(low(b)))),
            ("min.s32 %w, %wa, %wb;", Out::W, |a, b, _| s(signed(a).min(signed(b)))),
            ("max.s32 %w, %wa, %wb;", Out::W, |a, b, _| s(signed(a).max(signed(b)))),
            ("abs.s32 %w, %wa;", Out::W, |a, _, _| s(signed(a).wrapping_abs())),
            ("neg.s32 %w, %wa;", Out::W, |a, _, _| s(signed(a).wrapping_neg())),
            ("add.sat.s32 %w, %wa, %wb;", Out::W, |a, b, _| s(signed(a).saturating_add(signed(b)))),
            ("sub.sat.s32 %w, %wa, %wb;", Out::W, |a, b, _| s(signed(a).saturating_sub(signed(b)))),
            ("or.b32 %t1, %wb, 1; div.u32 %w, %wa, %t1;", Out::W, |a, b, _| w(low(a) / (low(b) | 1))),
            ("or.b32 %t1, %wb, 1; rem.u32 %w, %wa, %t1;", Out::W, |a, b, _| w(low(a) % (low(b) | 1))),
            ("or.b32 %t1, %wb, 1; div.s32 %w, %wa, %t1;", Out::W, |a, b, _| {
                s(signed(a).wrapping_div(signed(b) | 1))
            }),
            ("or.b32 %t1, %wb, 1; rem.s32 %w, %wa, %t1;", Out::W, |a, b, _| {
                s(signed(a).wrapping_rem(signed(b) | 1))
            }),
            ("add.cc.u32 %t1, %wa, %wb; addc.u32 %w, %wc, 0;", Out::W, |a, b, c| {
                w(low(c).wrapping_add(u32::from(low(a).checked_add(low(b)).is_none())))
            }),
            ("sub.cc.u32 %t1, %wa, %wb; subc.u32 %w, %wc, 0;", Out::W, |a, b, c| {
                w(low(c).wrapping_sub(u32::from(low(a) < low(b))))
            }),
            ("dp4a.u32.u32 %w, %wa, %wb, %wc;", Out::W, |a, b, c| {
                let sum = low(a)
                    .to_le_bytes()
                    .iter()
                    .zip(low(b).to_le_bytes())
                    .fold(0, |sum, (x, y)| sum + u32::from(*x) * u32::from(y));
                w(sum.wrapping_add(low(c)))
            }),
        ],
        EDGES,
    )
}

fn integers_of_64_bits() -> CaseResult {
    check(
        &[
            ("add.s64 %l, %la, %lb;", Out::L, |a, b, _| a.wrapping_add(b)),
            ("sub.s64 %l, %la, %lb;", Out::L, |a, b, _| a.wrapping_sub(b)),
            ("mul.lo.s64 %l, %la, %lb;", Out::L, |a, b, _| a.wrapping_mul(b)),
            ("mul.hi.u64 %l, %la, %lb;", Out::L, |a, b, _| {
                u64::try_from((u128::from(a) * u128::from(b)) >> 64).unwrap_or(0)
            }),
            ("mul.hi.s64 %l, %la, %lb;", Out::L, |a, b, _| {
                i64::try_from((i128::from(wide(a)) * i128::from(wide(b))) >> 64).unwrap_or(0).cast_unsigned()
            }),
            ("mad.lo.s64 %l, %la, %lb, %lc;", Out::L, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
            ("min.s64 %l, %la, %lb;", Out::L, |a, b, _| wide(a).min(wide(b)).cast_unsigned()),
            ("max.u64 %l, %la, %lb;", Out::L, |a, b, _| a.max(b)),
            ("abs.s64 %l, %la;", Out::L, |a, _, _| wide(a).wrapping_abs().cast_unsigned()),
            ("neg.s64 %l, %la;", Out::L, |a, _, _| a.wrapping_neg()),
            ("or.b64 %l, %lb, 1; div.u64 %l, %la, %l;", Out::L, |a, b, _| a / (b | 1)),
            ("or.b64 %l, %lb, 1; rem.u64 %l, %la, %l;", Out::L, |a, b, _| a % (b | 1)),
            ("or.b64 %l, %lb, 1; div.s64 %l, %la, %l;", Out::L, |a, b, _| {
                wide(a).wrapping_div(wide(b) | 1).cast_unsigned()
            }),
            ("or.b64 %l, %lb, 1; rem.s64 %l, %la, %l;", Out::L, |a, b, _| {
                wide(a).wrapping_rem(wide(b) | 1).cast_unsigned()
            }),
        ],
        EDGES,
    )
}

fn bits_of_words() -> CaseResult {
    check(
        &[
            ("and.b32 %w, %wa, %wb;", Out::W, |a, b, _| w(low(a) & low(b))),
            ("or.b64 %l, %la, %lb;", Out::L, |a, b, _| a | b),
            ("xor.b32 %w, %wa, %wb;", Out::W, |a, b, _| w(low(a) ^ low(b))),
            ("not.b64 %l, %la;", Out::L, |a, _, _| !a),
            ("cnot.b32 %w, %wa;", Out::W, |a, _, _| w(u32::from(low(a) == 0))),
            ("popc.b32 %w, %wa;", Out::W, |a, _, _| w(low(a).count_ones())),
            ("popc.b64 %w, %la;", Out::W, |a, _, _| w(a.count_ones())),
            ("clz.b32 %w, %wa;", Out::W, |a, _, _| w(low(a).leading_zeros())),
            ("clz.b64 %w, %la;", Out::W, |a, _, _| w(a.leading_zeros())),
            ("brev.b32 %w, %wa;", Out::W, |a, _, _| w(low(a).reverse_bits())),
            ("brev.b64 %l, %la;", Out::L, |a, _, _| a.reverse_bits()),
            ("bfind.u32 %w, %wa;", Out::W, |a, _, _| w(31u32.wrapping_sub(low(a).leading_zeros()))),
            ("bfind.s32 %w, %wa;", Out::W, |a, _, _| {
                let value = if signed(a) < 0 { !low(a) } else { low(a) };
                w(31u32.wrapping_sub(value.leading_zeros()))
            }),
            ("bfind.shiftamt.u32 %w, %wa;", Out::W, |a, _, _| {
                w(if low(a) == 0 { u32::MAX } else { low(a).leading_zeros() })
            }),
            ("bfe.u32 %w, %wa, %wb, %wc;", Out::W, |a, b, c| {
                let (at, length) = (low(b) & 0xFF, low(c) & 0xFF);
                let moved = if at > 31 { 0 } else { low(a) >> at };
                w(if length == 0 {
                    0
                } else if length > 31 {
                    moved
                } else {
                    moved & ((1 << length) - 1)
                })
            }),
            ("bfe.s32 %w, %wa, %wb, %wc;", Out::W, |a, b, c| {
                let (at, length) = (low(b) & 0xFF, low(c) & 0xFF);
                if length == 0 {
                    return 0;
                }
                let sign = (signed(a) >> (at + length - 1).min(31)) & 1;
                let mut result = if sign == 1 { u32::MAX } else { 0 };
                for bit in 0..length.min(32) {
                    if at + bit < 32 {
                        result = (result & !(1 << bit)) | ((low(a) >> (at + bit)) & 1) << bit;
                    }
                }
                w(result)
            }),
            ("bfi.b32 %w, %wa, %wb, 5, 9;", Out::W, |a, b, _| {
                w((low(b) & !(0x1FF << 5)) | (low(a) & 0x1FF) << 5)
            }),
            ("lop3.b32 %w, %wa, %wb, %wc, 0x96;", Out::W, |a, b, c| w(low(a) ^ low(b) ^ low(c))),
            ("lop3.b32 %w, %wa, %wb, %wc, 0xE8;", Out::W, |a, b, c| {
                w((low(a) & low(b)) | (low(a) & low(c)) | (low(b) & low(c)))
            }),
            (
                "lop3.b32 %w, %wa, %wb, %wc, 0xCA;",
                Out::W,
                |a, b, c| w((low(a) & low(b)) | (!low(a) & low(c))),
            ),
            ("prmt.b32 %w, %wa, %wb, 0x5410;", Out::W, |a, b, _| w((low(a) & 0xFFFF) | low(b) << 16)),
            ("prmt.b32 %w, %wa, %wb, 0x0123;", Out::W, |a, _, _| w(low(a).swap_bytes())),
            ("prmt.b32 %w, %wa, %wb, %wc;", Out::W, |a, b, c| {
                let bytes = (w(low(a)) | w(low(b)) << 32).to_le_bytes();
                let mut result = [0u8; 4];
                for (index, place) in (0u32..).zip(&mut result) {
                    let selector = low(c) >> (4 * index) & 0xF;
                    let byte = bytes[usize::try_from(selector & 7).unwrap_or(0)];
                    *place = if selector & 8 == 0 {
                        byte
                    } else if byte & 0x80 == 0 {
                        0
                    } else {
                        0xFF
                    };
                }
                w(u32::from_le_bytes(result))
            }),
            ("shf.l.wrap.b32 %w, %wa, %wb, %wc;", Out::W, |a, b, c| {
                w(low(((w(low(b)) << 32 | w(low(a))) << (low(c) & 31)) >> 32))
            }),
            ("shf.r.clamp.b32 %w, %wa, %wb, %wc;", Out::W, |a, b, c| {
                w(low((w(low(b)) << 32 | w(low(a))) >> low(c).min(32)))
            }),
        ],
        EDGES,
    )
}

fn shifts_beyond_the_width() -> CaseResult {
    check(
        &[
            ("shl.b32 %w, %wa, %wb;", Out::W, |a, b, _| w(low(a).checked_shl(low(b)).unwrap_or(0))),
            ("shr.u32 %w, %wa, %wb;", Out::W, |a, b, _| w(low(a).checked_shr(low(b)).unwrap_or(0))),
            ("shr.s32 %w, %wa, %wb;", Out::W, |a, b, _| s(signed(a) >> low(b).min(31))),
            ("shl.b64 %l, %la, %wb;", Out::L, |a, b, _| a.checked_shl(low(b)).unwrap_or(0)),
            ("shr.u64 %l, %la, %wb;", Out::L, |a, b, _| a.checked_shr(low(b)).unwrap_or(0)),
            ("shr.s64 %l, %la, %wb;", Out::L, |a, b, _| (wide(a) >> low(b).min(63)).cast_unsigned()),
            ("shl.b16 %h, %ha, %wb;", Out::H, |a, b, _| u64::from(short(a).checked_shl(low(b)).unwrap_or(0))),
        ],
        EDGES,
    )
}

fn division_by_zero_does_no_harm() -> CaseResult {
    let gpu = Gpu::new()?;
    let inputs = triples(&[0, 1, 5, 0x8000_0000, 0xFFFF_FFFF]);
    for (body, out) in [
        ("div.u32 %w, %wa, %wb;", Out::W),
        ("rem.u32 %w, %wa, %wb;", Out::W),
        ("div.s32 %w, %wa, %wb;", Out::W),
        ("rem.s64 %l, %la, %lb;", Out::L),
    ] {
        // The quotient is unspecified; the other lanes' quotients and the context are not.
        let told = on_device(&gpu, body, out, &inputs)?;
        for ((a, b), told) in inputs.0.iter().zip(&inputs.1).zip(&told) {
            if body.starts_with("div.u32") && *b != 0 {
                ensure!(*told == a / b, "{a} / {b} is {told}");
            }
        }
        gpu.cu.cuCtxSynchronize().ok()?;
    }
    pass()
}

fn narrow_integers() -> CaseResult {
    check(
        &[
            ("add.s16 %h, %ha, %hb;", Out::H, |a, b, _| u64::from(short(a).wrapping_add(short(b)))),
            ("mul.lo.u16 %h, %ha, %hb;", Out::H, |a, b, _| u64::from(short(a).wrapping_mul(short(b)))),
            ("mul.wide.u16 %w, %ha, %hb;", Out::W, |a, b, _| u64::from(short(a)) * u64::from(short(b))),
            ("max.s16 %h, %ha, %hb;", Out::H, |a, b, _| {
                u64::from(short(a).cast_signed().max(short(b).cast_signed()).cast_unsigned())
            }),
            ("cvt.s32.s8 %w, %wa;", Out::W, |a, _, _| s(i32::from(low(a).to_le_bytes()[0].cast_signed()))),
            ("cvt.s32.s16 %w, %ha;", Out::W, |a, _, _| s(i32::from(short(a).cast_signed()))),
            ("cvt.s64.s32 %l, %wa;", Out::L, |a, _, _| i64::from(signed(a)).cast_unsigned()),
            ("cvt.sat.u8.s32 %w, %wa;", Out::W, |a, _, _| s(signed(a).clamp(0, 255))),
            ("cvt.sat.s16.s32 %h, %wa; cvt.s32.s16 %w, %h;", Out::W, |a, _, _| {
                s(signed(a).clamp(-32768, 32767))
            }),
            ("cvt.sat.u32.s64 %w, %la;", Out::W, |a, _, _| {
                u64::try_from(wide(a)).map_or(0, |value| value.min(0xFFFF_FFFF))
            }),
            ("mov.b64 {%t1, %t2}, %la; mov.b64 %l, {%t2, %t1};", Out::L, |a, _, _| a.rotate_left(32)),
            ("mov.b32 {%ha, %hb}, %wa; mov.b32 %w, {%hb, %ha};", Out::W, |a, _, _| w(low(a).rotate_left(16))),
        ],
        EDGES,
    )
}
