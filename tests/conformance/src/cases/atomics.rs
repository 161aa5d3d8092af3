//! Atomic operations on global and shared memory, of every type, by all threads at once.

use anyhow::{Result, ensure};

use crate::gpu::{Gpu, arguments, threads};
use crate::outcome::{CaseResult, pass};
use crate::registry::area;

use super::kernels;

area!("atomics":
    sums_of_words,
    sums_of_floats,
    least_and_greatest,
    bits,
    wrapping_counters,
    exchanges_lose_nothing,
    compare_and_swap_elects_one,
    reductions_without_a_result,
    generic_addresses_and_scopes,
);

/// How many threads take part: not a whole number of warps.
const COUNT: usize = 5000;

/// Applies an operation from all threads; returns the cell, and what each thread saw before.
fn apply(gpu: &Gpu, operation: &str, kind: &str, first: u64, values: &[u64]) -> Result<(u64, Vec<u64>)> {
    let wide = kind.ends_with("64");
    let text = kernels::ATOMIC
        .replace("OPERATION", operation)
        .replace("TYPE", kind)
        .replace("BYTES", if wide { "8" } else { "4" });
    let kernel = gpu.kernel(&text, "atomic")?;
    let cell = gpu.upload(&[first])?;
    let count = u32::try_from(values.len())?;
    let old = gpu.alloc(8 * values.len())?;
    if wide {
        let input = gpu.upload(values)?;
        gpu.run(kernel, threads(values.len()), arguments![cell, input, old, count])?;
        Ok((gpu.read::<u64>(cell, 1)?[0], gpu.read::<u64>(old, values.len())?))
    } else {
        let low = |value: u64| u32::try_from(value & 0xFFFF_FFFF).unwrap_or(0);
        let words: Vec<u32> = values.iter().map(|value| low(*value)).collect();
        let input = gpu.upload(&words)?;
        gpu.run(kernel, threads(values.len()), arguments![cell, input, old, count])?;
        let seen = gpu.read::<u32>(old, values.len())?.into_iter().map(u64::from).collect();
        Ok((u64::from(gpu.read::<u32>(cell, 1)?[0]), seen))
    }
}

/// Numbers that differ, and exceed 32 bits.
fn numbers() -> Vec<u64> {
    (1u64..).take(COUNT).map(|index| index.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect()
}

fn low(value: u64) -> u64 {
    value & 0xFFFF_FFFF
}

fn sums_of_words() -> CaseResult {
    let gpu = Gpu::new()?;
    let values = numbers();
    let sum = values.iter().fold(0u64, |sum, value| sum.wrapping_add(*value));
    for kind in ["u32", "s32"] {
        let (cell, _) =
            apply(&gpu, &format!("atom.global.add.{kind} %old, [%cell], %value;"), kind, 0, &values)?;
        ensure!(cell == low(sum), "the sum of {kind} is {cell:#x} instead of {:#x}", low(sum));
    }
    let (cell, _) = apply(&gpu, "atom.global.add.u64 %old, [%cell], %value;", "u64", 0, &values)?;
    ensure!(cell == sum, "the sum of u64 is {cell:#x} instead of {sum:#x}");
    // Each thread's old value is one that the cell had: with ones, every number once.
    let (cell, mut seen) = apply(&gpu, "atom.global.add.u32 %old, [%cell], %value;", "u32", 0, &[1; COUNT])?;
    seen.sort_unstable();
    ensure!(cell == 5000 && seen == (0..5000).collect::<Vec<u64>>(), "tickets were lost or given twice");
    pass()
}

fn sums_of_floats() -> CaseResult {
    let gpu = Gpu::new()?;
    // Whole numbers of which every partial sum is exact.
    let floats: Vec<u64> =
        (0u16..).take(COUNT).map(|index| u64::from((f32::from(index % 100) - 20.0).to_bits())).collect();
    let expected: f32 = (0u16..).take(COUNT).map(|index| f32::from(index % 100) - 20.0).sum();
    let (cell, _) = apply(&gpu, "atom.global.add.f32 %old, [%cell], %value;", "f32", 0, &floats)?;
    ensure!(cell == u64::from(expected.to_bits()), "the sum is {cell:#x} instead of {expected}");
    let doubles: Vec<u64> = (0u16..).take(COUNT).map(|index| (f64::from(index) * 0.25).to_bits()).collect();
    let expected: f64 = (0u16..).take(COUNT).map(|index| f64::from(index) * 0.25).sum();
    let (cell, _) = apply(&gpu, "atom.global.add.f64 %old, [%cell], %value;", "f64", 0, &doubles)?;
    ensure!(cell == expected.to_bits(), "the sum is {} instead of {expected}", f64::from_bits(cell));
    pass()
}

fn least_and_greatest() -> CaseResult {
    let gpu = Gpu::new()?;
    let values = numbers();
    let signed = |value: &u64| {
        i32::from_le_bytes([
            value.to_le_bytes()[0],
            value.to_le_bytes()[1],
            value.to_le_bytes()[2],
            value.to_le_bytes()[3],
        ])
    };
    let wide = |value: &u64| i64::from_le_bytes(value.to_le_bytes());
    let least = |kind: &str| -> u64 {
        match kind {
            "u32" => values.iter().map(|value| low(*value)).min().unwrap_or(0),
            "s32" => values.iter().copied().min_by_key(signed).map_or(0, low),
            "u64" => values.iter().copied().min().unwrap_or(0),
            _ => values.iter().copied().min_by_key(wide).unwrap_or(0),
        }
    };
    let greatest = |kind: &str| -> u64 {
        match kind {
            "u32" => values.iter().map(|value| low(*value)).max().unwrap_or(0),
            "s32" => values.iter().copied().max_by_key(signed).map_or(0, low),
            "u64" => values.iter().copied().max().unwrap_or(0),
            _ => values.iter().copied().max_by_key(wide).unwrap_or(0),
        }
    };
    for kind in ["u32", "s32", "u64", "s64"] {
        // A first value between the extremes.
        let (cell, _) =
            apply(&gpu, &format!("atom.global.min.{kind} %old, [%cell], %value;"), kind, 77_777, &values)?;
        ensure!(
            cell == least(kind).min(if kind.starts_with('u') { 77_777 } else { u64::MAX }),
            "min.{kind}: {cell:#x}"
        );
        let (cell, _) =
            apply(&gpu, &format!("atom.global.max.{kind} %old, [%cell], %value;"), kind, 77_777, &values)?;
        ensure!(cell == greatest(kind), "max.{kind}: {cell:#x} instead of {:#x}", greatest(kind));
    }
    pass()
}

fn bits() -> CaseResult {
    let gpu = Gpu::new()?;
    let values = numbers();
    for (kind, keep) in [("b32", 0xFFFF_FFFFu64), ("b64", u64::MAX)] {
        let masked: Vec<u64> = values.iter().map(|value| value & keep).collect();
        let single: Vec<u64> = masked.iter().map(|value| 1u64 << (value % 31)).collect();
        let (cell, _) =
            apply(&gpu, &format!("atom.global.xor.{kind} %old, [%cell], %value;"), kind, 0, &masked)?;
        ensure!(cell == masked.iter().fold(0, |all, value| all ^ value), "xor.{kind}: {cell:#x}");
        let (cell, _) =
            apply(&gpu, &format!("atom.global.or.{kind} %old, [%cell], %value;"), kind, 0, &single)?;
        ensure!(cell == single.iter().fold(0, |all, value| all | value), "or.{kind}: {cell:#x}");
        let cleared: Vec<u64> = single.iter().take(40).map(|value| !value & keep).collect();
        let (cell, _) =
            apply(&gpu, &format!("atom.global.and.{kind} %old, [%cell], %value;"), kind, keep, &cleared)?;
        ensure!(cell == cleared.iter().fold(keep, |all, value| all & value), "and.{kind}: {cell:#x}");
    }
    pass()
}

fn wrapping_counters() -> CaseResult {
    let gpu = Gpu::new()?;
    // Up to 6, then back to 0: 5000 steps of a cycle of seven.
    let (cell, seen) = apply(&gpu, "atom.global.inc.u32 %old, [%cell], %value;", "u32", 0, &[6; COUNT])?;
    ensure!(cell == 5000 % 7, "after 5000 steps the counter is {cell}");
    ensure!(seen.iter().all(|value| *value <= 6), "the counter exceeded its bound");
    // Down to 0, then back to 6.
    let (cell, _) = apply(&gpu, "atom.global.dec.u32 %old, [%cell], %value;", "u32", 0, &[6; COUNT])?;
    ensure!(cell == 5, "after 5000 steps the counter is {cell}");
    let (cell, _) = apply(&gpu, "atom.global.dec.u32 %old, [%cell], %value;", "u32", 1000, &[6; 1])?;
    ensure!(cell == 6, "a counter above its bound became {cell}");
    pass()
}

fn exchanges_lose_nothing() -> CaseResult {
    let gpu = Gpu::new()?;
    for (kind, keep) in [("b32", 0xFFFF_FFFFu64), ("b64", u64::MAX)] {
        let values: Vec<u64> = numbers().iter().map(|value| value & keep).collect();
        let (cell, mut seen) =
            apply(&gpu, &format!("atom.global.exch.{kind} %old, [%cell], %value;"), kind, 5, &values)?;
        seen.push(cell);
        seen.sort_unstable();
        let mut expected = values.clone();
        expected.push(5);
        expected.sort_unstable();
        ensure!(seen == expected, "exch.{kind} lost or doubled a value");
    }
    pass()
}

fn compare_and_swap_elects_one() -> CaseResult {
    let gpu = Gpu::new()?;
    for (kind, keep) in [("b32", 0xFFFF_FFFFu64), ("b64", u64::MAX)] {
        let values: Vec<u64> = numbers().iter().map(|value| value & keep).collect();
        let (cell, seen) =
            apply(&gpu, &format!("atom.global.cas.{kind} %old, [%cell], 0, %value;"), kind, 0, &values)?;
        let winners: Vec<usize> = (0..COUNT).filter(|index| seen[*index] == 0).collect();
        ensure!(winners.len() == 1, "cas.{kind} was won by {} threads", winners.len());
        ensure!(values[winners[0]] == cell, "cas.{kind} left {cell:#x}");
        ensure!(
            seen.iter().all(|value| *value == 0 || *value == cell),
            "cas.{kind} showed what was never there"
        );
    }
    pass()
}

fn reductions_without_a_result() -> CaseResult {
    let gpu = Gpu::new()?;
    let values = numbers();
    let sum = values.iter().fold(0u64, |sum, value| sum.wrapping_add(*value));
    let body = "red.global.add.u64 [%cell], %value; mov.u64 %old, 0;";
    let (cell, _) = apply(&gpu, body, "u64", 3, &values)?;
    ensure!(cell == sum.wrapping_add(3), "red.add.u64: {cell:#x}");
    let body = "red.global.max.u32 [%cell], %value; mov.u32 %old, 0;";
    let (cell, _) = apply(&gpu, body, "u32", 3, &values)?;
    ensure!(cell == values.iter().map(|value| low(*value)).max().unwrap_or(0), "red.max.u32: {cell:#x}");
    pass()
}

fn generic_addresses_and_scopes() -> CaseResult {
    let gpu = Gpu::new()?;
    let body = "cvta.global.u64 %rd4, %cell; atom.add.u32 %old, [%rd4], %value;";
    let (cell, _) = apply(&gpu, body, "u32", 0, &[3; COUNT])?;
    ensure!(cell == 15_000, "a generic address: {cell}");
    for scope in ["cta", "gpu", "sys"] {
        // A block's scope orders only its own threads, but on the hardware every addition arrives.
        let count = if scope == "cta" { 100 } else { COUNT };
        let body = format!("atom.{scope}.global.add.u32 %old, [%cell], %value;");
        let (cell, _) = apply(&gpu, &body, "u32", 0, &vec![3; count])?;
        ensure!(cell == 3 * u64::try_from(count)?, "scope {scope}: {cell}");
    }
    pass()
}
