//! Floating-point arithmetic, comparisons and conversions: each instruction against the host's arithmetic.

use anyhow::ensure;

use crate::gpu::Gpu;
use crate::outcome::{CaseResult, pass};
use crate::registry::area;

use super::instruction::{
    EDGES, Out, Row, check, d, double, doubles, f, low, on_device, s, short, signed, single, singles, w, wide,
};

area!("floats":
    comparisons_and_selections,
    floats_of_32_bits,
    floats_of_64_bits,
    flushed_and_saturated_floats,
    least_and_greatest_floats,
    floats_to_integers,
    integers_to_floats,
    between_widths_of_floats,
    halves,
    approximations,
);

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
    let both: Vec<f32> = (0..400u16).map(|index| f32::from(index) * 0.015 - 3.0).collect();
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
