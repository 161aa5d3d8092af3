//! Arithmetic: each instruction on many inputs, against the same arithmetic on the host.
//!
//! Results are exact unless a row names its tolerance, which is the bound that the PTX manual gives.

use anyhow::{Result, ensure};

use crate::gpu::{Gpu, arguments, threads};
use crate::outcome::{CaseResult, pass};
use crate::registry::area;

use super::kernels;

area!("numbers":
    integers_of_32_bits,
    integers_of_64_bits,
    bits_of_words,
    shifts_beyond_the_width,
    division_by_zero_does_no_harm,
    comparisons_and_selections,
    floats_of_32_bits,
    floats_of_64_bits,
    flushed_and_saturated_floats,
    least_and_greatest_floats,
    floats_to_integers,
    integers_to_floats,
    between_widths_of_floats,
    narrow_integers,
    halves,
    approximations,
);

/// Where the body of an instruction leaves its result.
#[derive(Debug, Clone, Copy)]
enum Out {
    /// `%w`, 32 bits.
    W,
    /// `%l`, 64 bits.
    L,
    /// `%f`.
    F,
    /// `%d`.
    D,
    /// `%h`, 16 bits.
    H,
    /// `%p`.
    P,
}

impl Out {
    /// The instruction that makes 64 bits of the result.
    fn end(self) -> &'static str {
        match self {
            Self::W => "cvt.u64.u32 %l, %w;",
            Self::L => "",
            Self::F => "mov.b32 %w, %f; cvt.u64.u32 %l, %w;",
            Self::D => "mov.b64 %l, %d;",
            Self::H => "cvt.u64.u16 %l, %h;",
            Self::P => "selp.u64 %l, 1, 0, %p;",
        }
    }
}

/// One instruction: its text, where its result is, and what the host computes.
type Row = (&'static str, Out, fn(u64, u64, u64) -> u64);

/// Words at the edges of every width, and some between.
const EDGES: &[u64] = &[
    0,
    1,
    2,
    3,
    7,
    31,
    32,
    33,
    63,
    64,
    100,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x1_0000,
    0x1234_5678,
    0x7FFF_FFFF,
    0x8000_0000,
    0x8000_0001,
    0xDEAD_BEEF,
    0xFFFF_FFFE,
    0xFFFF_FFFF,
    0x1_0000_0000,
    0x1234_5678_9ABC_DEF0,
    0x7FFF_FFFF_FFFF_FFFF,
    0x8000_0000_0000_0000,
    0x8000_0000_8000_0000,
    0xFEDC_BA98_7654_3210,
    0xFFFF_FFFF_FFFF_FFFF,
];

/// Single-precision numbers at the edges: zeros, denormals, ones, halves, large, infinities, no numbers.
fn singles() -> Vec<u64> {
    let values = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        1.5,
        2.5,
        -2.5,
        3.0,
        0.1,
        -7.3,
        1.0e-40,
        -1.0e-40,
        1.0e-20,
        1.0e20,
        255.5,
        -129.0,
        65_536.5,
        2_147_483_600.0,
        -2_147_483_600.0,
        4.2e9,
        -4.2e9,
        9.3e18,
        -9.3e18,
        1.8e19,
        f32::MIN_POSITIVE,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    values.iter().map(|value: &f32| u64::from(value.to_bits())).collect()
}

/// The same in double precision.
fn doubles() -> Vec<u64> {
    let more = [1.0e-310f64, -1.0e-310, 1.0e300, -1.0e300, f64::MAX, f64::MIN_POSITIVE, 0.1, 4_294_967_295.5];
    singles()
        .into_iter()
        .map(|bits| f64::from(f32::from_bits(low(bits))))
        .chain(more)
        .map(f64::to_bits)
        .collect()
}

#[allow(clippy::cast_possible_truncation, reason = "the low half is what is meant")]
fn low(value: u64) -> u32 {
    value as u32
}

#[allow(clippy::cast_possible_truncation, reason = "the low quarter is what is meant")]
fn short(value: u64) -> u16 {
    value as u16
}

fn signed(value: u64) -> i32 {
    low(value).cast_signed()
}

fn wide(value: u64) -> i64 {
    value.cast_signed()
}

fn single(value: u64) -> f32 {
    f32::from_bits(low(value))
}

fn double(value: u64) -> f64 {
    f64::from_bits(value)
}

/// 32 bits as a result.
fn w(value: u32) -> u64 {
    u64::from(value)
}

/// Signed 32 bits as a result.
fn s(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

/// A single as a result; what is no number has one form.
fn f(value: f32) -> u64 {
    if value.is_nan() { 0x7FFF_FFFF } else { u64::from(value.to_bits()) }
}

/// A double as a result; what is no number has one form for comparison.
fn d(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

/// Every pair of the values, with a third input that varies.
fn triples(values: &[u64]) -> (Vec<u64>, Vec<u64>, Vec<u64>) {
    let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
    for (i, first) in values.iter().enumerate() {
        for (j, second) in values.iter().enumerate() {
            a.push(*first);
            b.push(*second);
            c.push(values[(i * 7 + j * 3 + 5) % values.len()]);
        }
    }
    (a, b, c)
}

/// Runs an instruction on the device for all inputs.
fn on_device(gpu: &Gpu, body: &str, out: Out, inputs: &(Vec<u64>, Vec<u64>, Vec<u64>)) -> Result<Vec<u64>> {
    let text = kernels::INSTRUCTION
        .replace("    BODY\n", &format!("    {body}\n"))
        .replace("    END\n", &format!("    {}\n", out.end()));
    let kernel = gpu.kernel(&text, "instruction")?;
    let count = inputs.0.len();
    let (a, b, c) = (gpu.upload(&inputs.0)?, gpu.upload(&inputs.1)?, gpu.upload(&inputs.2)?);
    let place = gpu.upload(&vec![0x5555_5555_5555_5555u64; count])?;
    gpu.run(kernel, threads(count), arguments![a, b, c, place, u32::try_from(count)?])?;
    let told = gpu.read(place, count)?;
    for pointer in [a, b, c, place] {
        gpu.cu.cuMemFree_v2(pointer).ok()?;
    }
    Ok(told)
}

/// Runs all rows and reports every one that differs, with its first difference.
fn check(rows: &[Row], values: &[u64]) -> CaseResult {
    let gpu = Gpu::new()?;
    let inputs = triples(values);
    let mut wrong = Vec::new();
    for (body, out, host) in rows {
        let told = match on_device(&gpu, body, *out, &inputs) {
            Ok(told) => told,
            Err(error) => {
                wrong.push(format!("{body} {error:#}"));
                continue;
            }
        };
        let expected =
            inputs.0.iter().zip(&inputs.1).zip(&inputs.2).map(|((a, b), c)| (*a, *b, *c, host(*a, *b, *c)));
        for ((a, b, c, expected), told) in expected.zip(told) {
            let told = canonical(*out, told);
            if told != canonical(*out, expected) {
                wrong.push(format!("{body} of {a:#x}, {b:#x}, {c:#x} is {told:#x} instead of {expected:#x}"));
                break;
            }
        }
    }
    ensure!(wrong.is_empty(), "{} of {} instructions: {}", wrong.len(), rows.len(), wrong.join("; "));
    pass()
}

/// One form of what is no number: PTX leaves the payload of doubles open.
fn canonical(out: Out, bits: u64) -> u64 {
    match out {
        Out::D => d(double(bits)),
        Out::F => f(single(bits)),
        _ => bits,
    }
}

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

fn comparisons_and_selections() -> CaseResult {
    let floats = singles();
    check(
        &[
            ("setp.lt.s32 %p, %wa, %wb;", Out::P, |a, b, _| u64::from(signed(a) < signed(b))),
            ("setp.lo.u32 %p, %wa, %wb;", Out::P, |a, b, _| u64::from(low(a) < low(b))),
            ("setp.hs.u64 %p, %la, %lb;", Out::P, |a, b, _| u64::from(a >= b)),
            ("setp.lt.f32 %p, %fa, %fb;", Out::P, |a, b, _| u64::from(single(a) < single(b))),
            ("setp.ltu.f32 %p, %fa, %fb;", Out::P, |a, b, _| {
                u64::from(single(a) < single(b) || single(a).is_nan() || single(b).is_nan())
            }),
            ("setp.ne.f32 %p, %fa, %fb;", Out::P, |a, b, _| {
                u64::from(single(a) != single(b) && !single(a).is_nan() && !single(b).is_nan())
            }),
            ("setp.neu.f32 %p, %fa, %fb;", Out::P, |a, b, _| u64::from(single(a) != single(b))),
            ("setp.num.f32 %p, %fa, %fb;", Out::P, |a, b, _| {
                u64::from(!single(a).is_nan() && !single(b).is_nan())
            }),
            ("setp.nan.f32 %p, %fa, %fb;", Out::P, |a, b, _| {
                u64::from(single(a).is_nan() || single(b).is_nan())
            }),
            ("setp.gt.s32 %q, %wa, %wc; setp.eq.and.u32 %p, %wa, %wb, %q;", Out::P, |a, b, c| {
                u64::from(low(a) == low(b) && signed(a) > signed(c))
            }),
            (
                "set.lt.u32.s32 %w, %wa, %wb;",
                Out::W,
                |a, b, _| if signed(a) < signed(b) { 0xFFFF_FFFF } else { 0 },
            ),
            ("setp.lt.s32 %p, %wa, %wb; selp.b32 %w, %wa, %wc, %p;", Out::W, |a, b, c| {
                w(if signed(a) < signed(b) { low(a) } else { low(c) })
            }),
            ("slct.b32.s32 %w, %wa, %wb, %wc;", Out::W, |a, b, c| {
                w(if signed(c) >= 0 { low(a) } else { low(b) })
            }),
            ("testp.finite.f32 %p, %fa;", Out::P, |a, _, _| u64::from(single(a).is_finite())),
            ("testp.subnormal.f32 %p, %fa;", Out::P, |a, _, _| u64::from(single(a).is_subnormal())),
            ("copysign.f32 %f, %fa, %fb;", Out::F, |a, b, _| f(single(b).copysign(single(a)))),
            ("setp.lt.u32 %p, %wa, %wb; @%p mov.u32 %w, 5; @!%p mov.u32 %w, 9;", Out::W, |a, b, _| {
                if low(a) < low(b) { 5 } else { 9 }
            }),
        ],
        &floats,
    )
}

fn floats_of_32_bits() -> CaseResult {
    check(
        &[
            ("add.rn.f32 %f, %fa, %fb;", Out::F, |a, b, _| f(single(a) + single(b))),
            ("sub.rn.f32 %f, %fa, %fb;", Out::F, |a, b, _| f(single(a) - single(b))),
            ("mul.rn.f32 %f, %fa, %fb;", Out::F, |a, b, _| f(single(a) * single(b))),
            ("div.rn.f32 %f, %fa, %fb;", Out::F, |a, b, _| f(single(a) / single(b))),
            ("fma.rn.f32 %f, %fa, %fb, %fc;", Out::F, |a, b, c| f(single(a).mul_add(single(b), single(c)))),
            ("mul.rn.f32 %f, %fa, %fb; add.rn.f32 %f, %f, %fc;", Out::F, |a, b, c| {
                f(single(a) * single(b) + single(c))
            }),
            ("sqrt.rn.f32 %f, %fa;", Out::F, |a, _, _| f(single(a).sqrt())),
            ("rcp.rn.f32 %f, %fa;", Out::F, |a, _, _| f(1.0 / single(a))),
            ("abs.f32 %f, %fa;", Out::F, |a, _, _| f(single(a).abs())),
            ("neg.f32 %f, %fa;", Out::F, |a, _, _| f(-single(a))),
            ("mov.f32 %f, 0f40490FDB; mul.rn.f32 %f, %f, %fa;", Out::F, |a, _, _| {
                f(std::f32::consts::PI * single(a))
            }),
        ],
        &singles(),
    )
}

fn floats_of_64_bits() -> CaseResult {
    check(
        &[
            ("add.rn.f64 %d, %da, %db;", Out::D, |a, b, _| d(double(a) + double(b))),
            ("sub.rn.f64 %d, %da, %db;", Out::D, |a, b, _| d(double(a) - double(b))),
            ("mul.rn.f64 %d, %da, %db;", Out::D, |a, b, _| d(double(a) * double(b))),
            ("div.rn.f64 %d, %da, %db;", Out::D, |a, b, _| d(double(a) / double(b))),
            ("fma.rn.f64 %d, %da, %db, %dc;", Out::D, |a, b, c| d(double(a).mul_add(double(b), double(c)))),
            ("sqrt.rn.f64 %d, %da;", Out::D, |a, _, _| d(double(a).sqrt())),
            ("rcp.rn.f64 %d, %da;", Out::D, |a, _, _| d(1.0 / double(a))),
            ("setp.lt.f64 %p, %da, %db;", Out::P, |a, b, _| u64::from(double(a) < double(b))),
            ("setp.geu.f64 %p, %da, %db;", Out::P, |a, b, _| {
                u64::from(double(a) >= double(b) || double(a).is_nan() || double(b).is_nan())
            }),
        ],
        &doubles(),
    )
}

/// A single whose denormals are flushed to zero of their sign.
fn flushed(value: f32) -> f32 {
    if value.is_subnormal() { 0.0f32.copysign(value) } else { value }
}

/// A single between zero and one; what is no number is zero.
fn saturated(value: f32) -> f32 {
    if value.is_nan() || value <= 0.0 { 0.0 } else { value.min(1.0) }
}

fn flushed_and_saturated_floats() -> CaseResult {
    check(
        &[
            ("add.rn.ftz.f32 %f, %fa, %fb;", Out::F, |a, b, _| {
                f(flushed(flushed(single(a)) + flushed(single(b))))
            }),
            ("mul.rn.ftz.f32 %f, %fa, %fb;", Out::F, |a, b, _| {
                f(flushed(flushed(single(a)) * flushed(single(b))))
            }),
            ("add.rn.sat.f32 %f, %fa, %fb;", Out::F, |a, b, _| f(saturated(single(a) + single(b)))),
            ("mul.rn.sat.f32 %f, %fa, %fb;", Out::F, |a, b, _| f(saturated(single(a) * single(b)))),
            ("abs.ftz.f32 %f, %fa;", Out::F, |a, _, _| f(flushed(single(a)).abs())),
            ("setp.eq.ftz.f32 %p, %fa, %fb;", Out::P, |a, b, _| {
                u64::from(flushed(single(a)) == flushed(single(b)))
            }),
        ],
        &singles(),
    )
}

fn least_and_greatest_floats() -> CaseResult {
    check(
        &[
            // The other number when one is none; minus zero is less than zero.
            ("min.f32 %f, %fa, %fb;", Out::F, |a, b, _| {
                let (a, b) = (single(a), single(b));
                f(if a.is_nan() {
                    b
                } else if b.is_nan() {
                    a
                } else if a == b {
                    if a.is_sign_negative() { a } else { b }
                } else {
                    a.min(b)
                })
            }),
            ("max.f32 %f, %fa, %fb;", Out::F, |a, b, _| {
                let (a, b) = (single(a), single(b));
                f(if a.is_nan() {
                    b
                } else if b.is_nan() {
                    a
                } else if a == b {
                    if a.is_sign_negative() { b } else { a }
                } else {
                    a.max(b)
                })
            }),
        ],
        &singles(),
    )
}

fn floats_to_integers() -> CaseResult {
    #[allow(clippy::cast_possible_truncation, reason = "Rust's conversion saturates as PTX's does")]
    let rows: &[Row] = &[
        ("cvt.rzi.s32.f32 %w, %fa;", Out::W, |a, _, _| s(single(a) as i32)),
        ("cvt.rzi.u32.f32 %w, %fa;", Out::W, |a, _, _| {
            #[allow(clippy::cast_sign_loss, reason = "negative numbers become zero, as PTX says")]
            let value = single(a) as u32;
            w(value)
        }),
        ("cvt.rni.s32.f32 %w, %fa;", Out::W, |a, _, _| s(single(a).round_ties_even() as i32)),
        ("cvt.rmi.s32.f32 %w, %fa;", Out::W, |a, _, _| s(single(a).floor() as i32)),
        ("cvt.rpi.s32.f32 %w, %fa;", Out::W, |a, _, _| s(single(a).ceil() as i32)),
        ("cvt.rni.f32.f32 %f, %fa;", Out::F, |a, _, _| f(single(a).round_ties_even())),
        ("cvt.rzi.f32.f32 %f, %fa;", Out::F, |a, _, _| f(single(a).trunc())),
    ];
    check(rows, &singles())?;
    #[allow(clippy::cast_possible_truncation, reason = "Rust's conversion saturates as PTX's does")]
    let rows: &[Row] = &[
        ("setp.nan.f64 %p, %da, %da; cvt.rzi.s64.f64 %l, %da; selp.b64 %l, 0, %l, %p;", Out::L, |a, _, _| {
            (double(a) as i64).cast_unsigned()
        }),
        ("setp.nan.f64 %p, %da, %da; cvt.rzi.s32.f64 %w, %da; selp.b32 %w, 0, %w, %p;", Out::W, |a, _, _| {
            s(double(a) as i32)
        }),
    ];
    check(rows, &doubles())
}

fn integers_to_floats() -> CaseResult {
    #[allow(clippy::cast_precision_loss, reason = "the rounding is what is compared")]
    let rows: &[Row] = &[
        ("cvt.rn.f32.s32 %f, %wa;", Out::F, |a, _, _| f(signed(a) as f32)),
        ("cvt.rn.f32.u32 %f, %wa;", Out::F, |a, _, _| f(low(a) as f32)),
        ("cvt.rn.f32.u64 %f, %la;", Out::F, |a, _, _| f(a as f32)),
        ("cvt.rn.f64.s64 %d, %la;", Out::D, |a, _, _| d(wide(a) as f64)),
        ("cvt.rn.f64.u64 %d, %la;", Out::D, |a, _, _| d(a as f64)),
        ("cvt.rn.f64.u32 %d, %wa;", Out::D, |a, _, _| d(f64::from(low(a)))),
    ];
    check(rows, EDGES)
}

fn between_widths_of_floats() -> CaseResult {
    #[allow(clippy::cast_possible_truncation, reason = "the rounding is what is compared")]
    let rows: &[Row] = &[
        ("cvt.rn.f32.f64 %f, %da;", Out::F, |a, _, _| f(double(a) as f32)),
        ("cvt.rn.f32.f64 %f, %da; cvt.f64.f32 %d, %f;", Out::D, |a, _, _| d(f64::from(double(a) as f32))),
    ];
    check(rows, &doubles())
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

/// The single that a half stands for.
fn from_half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (bits >> 15, (bits >> 10) & 31, bits & 1023);
    let size = match exponent {
        0 => f32::from(fraction) * 2.0f32.powi(-24),
        31 if fraction == 0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + f32::from(fraction) / 1024.0) * 2.0f32.powi(i32::from(exponent) - 15),
    };
    if sign == 1 { -size } else { size }
}

fn halves() -> CaseResult {
    let every: Vec<u64> =
        (0..=0xFFFFu64).step_by(331).chain([0x7BFF, 0x7C00, 0xFC00, 1, 0x8001, 0x3C00]).collect();
    check(
        &[
            ("cvt.f32.f16 %f, %ha;", Out::F, |a, _, _| f(from_half(short(a)))),
            // There and back: what is no number has many forms, so it is set aside.
            (
                "cvt.f32.f16 %f, %ha; setp.nan.f32 %p, %f, %f; cvt.rn.f16.f32 %h, %f; @%p mov.b16 %h, 0;",
                Out::H,
                |a, _, _| {
                    if from_half(short(a)).is_nan() { 0 } else { u64::from(short(a)) }
                },
            ),
            (
                "fma.rn.f16 %h, %ha, %hb, %ha; cvt.f32.f16 %f, %h; abs.f32 %f, %f; setp.le.f32 %p, %f, 0f47800000; setp.nan.f32 %q, %f, %f; or.pred %p, %p, %q; setp.gt.f32 %q, %f, 0f47800000; or.pred %p, %p, %q;",
                Out::P,
                |_, _, _| 1,
            ),
        ],
        &every,
    )
}

/// An approximation: its text, the exact function, and the bound of the manual: absolute and relative error.
type Approximation = (&'static str, fn(f64) -> f64, f64, f64);

fn approximations() -> CaseResult {
    let gpu = Gpu::new()?;
    let positive: Vec<f32> = (1..400u16).map(|index| f32::from(index) * 0.037).collect();
    let both: Vec<f32> = (0..400u16).map(|index| f32::from(index) * 0.0157 - 3.14).collect();
    let groups: [(&[f32], &[Approximation]); 2] = [
        (
            &positive,
            &[
                ("rcp.approx.f32 %f, %fa;", |x| 1.0 / x, 0.0, 2.4e-7),
                ("sqrt.approx.f32 %f, %fa;", f64::sqrt, 0.0, 4.0e-7),
                ("rsqrt.approx.f32 %f, %fa;", |x| 1.0 / x.sqrt(), 0.0, 4.0e-7),
                ("lg2.approx.f32 %f, %fa;", f64::log2, 3.0e-7, 4.0e-7),
                ("mov.f32 %f, 0f40400000; div.approx.f32 %f, %f, %fa;", |x| 3.0 / x, 0.0, 3.0e-7),
                ("mov.f32 %f, 0f40400000; div.full.f32 %f, %f, %fa;", |x| 3.0 / x, 0.0, 3.0e-7),
            ],
        ),
        (
            &both,
            &[
                ("ex2.approx.f32 %f, %fa;", f64::exp2, 0.0, 4.0e-7),
                ("sin.approx.f32 %f, %fa;", f64::sin, 6.0e-7, 0.0),
                ("cos.approx.f32 %f, %fa;", f64::cos, 6.0e-7, 0.0),
            ],
        ),
    ];
    let mut wrong = Vec::new();
    for (values, rows) in groups {
        let bits: Vec<u64> = values.iter().map(|value| u64::from(value.to_bits())).collect();
        let inputs = (bits.clone(), bits.clone(), bits.clone());
        for (body, exact, absolute, relative) in rows {
            let told = match on_device(&gpu, body, Out::F, &inputs) {
                Ok(told) => told,
                Err(error) => {
                    wrong.push(format!("{body} {error:#}"));
                    continue;
                }
            };
            for (value, told) in values.iter().zip(told) {
                let (told, exact) = (f64::from(single(told)), exact(f64::from(*value)));
                let bound = absolute + relative * exact.abs();
                if (told - exact).abs() > bound || told.is_nan() {
                    wrong.push(format!("{body} of {value} is {told} instead of {exact} ± {bound:e}"));
                    break;
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    pass()
}
