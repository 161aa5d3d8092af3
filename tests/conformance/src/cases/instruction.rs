//! One instruction on many inputs, on the device and on the host: what the arithmetic cases are made of.
//!
//! Results are exact unless a row names its tolerance, which is the bound that the PTX manual gives.

use anyhow::{Result, ensure};

use crate::gpu::{Gpu, arguments, threads};
use crate::outcome::{CaseResult, pass};

use super::kernels;

/// Where the body of an instruction leaves its result.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Out {
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
pub(crate) type Row = (&'static str, Out, fn(u64, u64, u64) -> u64);

/// Words at the edges of every width, and some between.
pub(crate) const EDGES: &[u64] = &[
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
pub(crate) fn singles() -> Vec<u64> {
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
pub(crate) fn doubles() -> Vec<u64> {
    let more = [1.0e-310f64, -1.0e-310, 1.0e300, -1.0e300, f64::MAX, f64::MIN_POSITIVE, 0.1, 4_294_967_295.5];
    singles()
        .into_iter()
        .map(|bits| f64::from(f32::from_bits(low(bits))))
        .chain(more)
        .map(f64::to_bits)
        .collect()
}

#[allow(clippy::cast_possible_truncation, reason = "the low half is what is meant")]
pub(crate) fn low(value: u64) -> u32 {
    value as u32
}

#[allow(clippy::cast_possible_truncation, reason = "the low quarter is what is meant")]
pub(crate) fn short(value: u64) -> u16 {
    value as u16
}

pub(crate) fn signed(value: u64) -> i32 {
    low(value).cast_signed()
}

pub(crate) fn wide(value: u64) -> i64 {
    value.cast_signed()
}

pub(crate) fn single(value: u64) -> f32 {
    f32::from_bits(low(value))
}

pub(crate) fn double(value: u64) -> f64 {
    f64::from_bits(value)
}

/// 32 bits as a result.
pub(crate) fn w(value: u32) -> u64 {
    u64::from(value)
}

/// Signed 32 bits as a result.
pub(crate) fn s(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

/// A single as a result; what is no number has one form.
pub(crate) fn f(value: f32) -> u64 {
    if value.is_nan() { 0x7FFF_FFFF } else { u64::from(value.to_bits()) }
}

/// A double as a result; what is no number has one form for comparison.
pub(crate) fn d(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

/// Every pair of the values, with a third input that varies.
pub(crate) fn triples(values: &[u64]) -> (Vec<u64>, Vec<u64>, Vec<u64>) {
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
pub(crate) fn on_device(
    gpu: &Gpu,
    body: &str,
    out: Out,
    inputs: &(Vec<u64>, Vec<u64>, Vec<u64>),
) -> Result<Vec<u64>> {
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
pub(crate) fn check(rows: &[Row], values: &[u64]) -> CaseResult {
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
pub(crate) fn canonical(out: Out, bits: u64) -> u64 {
    match out {
        Out::D => d(double(bits)),
        Out::F => f(single(bits)),
        _ => bits,
    }
}
