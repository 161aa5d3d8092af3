//! Warps, barriers, divergence, calls, and the kinds of memory that threads have.

use anyhow::ensure;

use crate::gpu::{Gpu, arguments, shape, threads};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

use super::kernels;

area!("warps":
    shuffles_exchange_words,
    votes_and_matches,
    votes_inside_a_branch,
    loops_of_different_lengths,
    a_block_sums_through_barriers,
    barriers_that_vote,
    named_barriers_hand_over,
    a_spin_lock_among_lanes,
    private_arrays,
    recursion_to_different_depths,
    calls_through_a_table,
    generic_addresses,
    loads_and_stores_of_every_width,
);

fn shuffles_exchange_words() -> CaseResult {
    let gpu = Gpu::new()?;
    let shuffles = gpu.kernel(kernels::WARP, "shuffles")?;
    let out = gpu.upload(&[0u32; 8 * 64])?;
    gpu.run(shuffles, shape(1, 64), arguments![out])?;
    let back: Vec<u32> = gpu.read(out, 8 * 64)?;
    for (thread, told) in (0u32..).zip(back.chunks(8)) {
        let (lane, base) = (thread % 32, thread / 32 * 32);
        let at = |other: u32| (base + other) * 10;
        let up = lane >= 3;
        let down = lane + 4 <= 31;
        let group = lane / 8 * 8;
        let group_down = lane % 8 + 2 <= 7;
        let flags = u32::from(up) | u32::from(down) << 1 | 1 << 2 | u32::from(group_down) << 3;
        let expected = [
            at(5),
            if up { at(lane - 3) } else { at(lane) },
            if down { at(lane + 4) } else { at(lane) },
            at(lane ^ 17),
            at(group + 3),
            if group_down { at(lane + 2) } else { at(lane) },
            flags,
            lane,
        ];
        ensure!(told == expected, "thread {thread}: {told:?} instead of {expected:?}");
    }
    pass()
}

fn votes_and_matches() -> CaseResult {
    let gpu = Gpu::new()?;
    let votes = gpu.kernel(kernels::WARP, "votes")?;
    // Warps of different minds: mixed, all odd and equal, all even, one odd among evens.
    let mut words: Vec<u32> = (0..32).map(|lane| lane * lane % 7).collect();
    words.extend([9; 32]);
    words.extend((0..32).map(|lane| lane * 2));
    words.extend((0..32).map(|lane| if lane == 20 { 1 } else { 4 }));
    let (input, out) = (gpu.upload(&words)?, gpu.upload(&[0u32; 4 * 128])?);
    gpu.run(votes, shape(1, 128), arguments![input, out])?;
    let back: Vec<u32> = gpu.read(out, 4 * 128)?;
    for (thread, told) in back.chunks(4).enumerate() {
        let warp = &words[thread / 32 * 32..thread / 32 * 32 + 32];
        let mask = |test: &dyn Fn(u32) -> bool| {
            warp.iter().enumerate().fold(0u32, |mask, (lane, word)| mask | u32::from(test(*word)) << lane)
        };
        let ballot = mask(&|word| word & 1 == 1);
        let (any, all) = (ballot != 0, ballot == u32::MAX);
        let equal = mask(&|word| word == words[thread]);
        let flags = u32::from(any) | u32::from(all) << 1 | u32::from(all || !any) << 2;
        let expected = [ballot, flags, equal, if equal == u32::MAX { u32::MAX } else { 0 }];
        ensure!(told == expected, "thread {thread}: {told:x?} instead of {expected:x?}");
    }
    pass()
}

fn votes_inside_a_branch() -> CaseResult {
    let gpu = Gpu::new()?;
    let votes = gpu.kernel(kernels::WARP, "divided_votes")?;
    let out = gpu.upload(&[0u32; 64])?;
    gpu.run(votes, shape(1, 32), arguments![out])?;
    let back: Vec<u32> = gpu.read(out, 64)?;
    for (lane, told) in back.chunks(2).enumerate() {
        let half = if lane % 2 == 0 { 0x5555_0000 } else { 0xAAAA_0000u32 };
        ensure!(told == [half, 0xFFFF_0000], "lane {lane}: {told:x?}");
    }
    pass()
}

fn loops_of_different_lengths() -> CaseResult {
    let gpu = Gpu::new()?;
    let collatz = gpu.kernel(kernels::WARP, "collatz")?;
    let count = 2000usize;
    let out = gpu.upload(&vec![0u32; count])?;
    gpu.run(collatz, threads(count), arguments![out, u32::try_from(count)?])?;
    let back: Vec<u32> = gpu.read(out, count)?;
    for (index, told) in (1u64..).zip(back) {
        let (mut number, mut steps) = (index, 0);
        while number > 1 {
            number = if number % 2 == 0 { number / 2 } else { 3 * number + 1 };
            steps += 1;
        }
        ensure!(told == steps, "{index}: {told} steps instead of {steps}");
    }
    pass()
}

fn a_block_sums_through_barriers() -> CaseResult {
    let gpu = Gpu::new()?;
    let sum = gpu.kernel(kernels::WARP, "block_sum")?;
    let blocks = 37usize;
    let words: Vec<u32> = (0u32..).take(256 * blocks).map(|index| index.wrapping_mul(0x9E37_79B9)).collect();
    let (input, out) = (gpu.upload(&words)?, gpu.upload(&vec![0u32; blocks])?);
    gpu.run(sum, shape(u32::try_from(blocks)?, 256), arguments![input, out])?;
    let expected: Vec<u32> =
        words.chunks(256).map(|block| block.iter().fold(0u32, |sum, word| sum.wrapping_add(*word))).collect();
    ensure!(gpu.read::<u32>(out, blocks)? == expected, "the sums are wrong");
    pass()
}

fn barriers_that_vote() -> CaseResult {
    let gpu = Gpu::new()?;
    let votes = gpu.kernel(kernels::WARP, "barrier_votes")?;
    for (count, odd) in [(96u32, 31u32), (64, 0), (128, 128)] {
        let length = usize::try_from(count)?;
        let words: Vec<u32> = (0..count).map(|index| u32::from(index < odd)).collect();
        let (input, out) = (gpu.upload(&words)?, gpu.upload(&vec![9u32; 4 * length])?);
        gpu.run(votes, shape(1, count), arguments![input, out])?;
        let expected = [odd, u32::from(odd > 0), u32::from(odd == count), 0];
        for told in gpu.read::<u32>(out, 4 * length)?.chunks(4) {
            ensure!(told == expected, "{odd} of {count}: {told:?} instead of {expected:?}");
        }
    }
    pass()
}

fn named_barriers_hand_over() -> CaseResult {
    let gpu = Gpu::new()?;
    let barriers = gpu.kernel(kernels::WARP, "named_barriers")?;
    let out = gpu.upload(&[0u32; 64])?;
    gpu.run(barriers, shape(1, 128), arguments![out])?;
    let expected: Vec<u32> = (0..64).map(|index| 10_000 + 5 * (63 - index)).collect();
    ensure!(gpu.read::<u32>(out, 64)? == expected, "{:?}", gpu.read::<u32>(out, 64)?);
    pass()
}

fn a_spin_lock_among_lanes() -> CaseResult {
    let gpu = Gpu::new()?;
    if gpu.attribute(75)? < 7 {
        return skip("lanes progress independently since compute capability 7.0");
    }
    let lock = gpu.kernel(kernels::WARP, "spin_lock")?;
    let cells = gpu.upload(&[0u32, 0])?;
    gpu.run(lock, shape(3, 96), arguments![cells, cells + 4])?;
    ensure!(gpu.read::<u32>(cells, 2)? == [0, 288], "lock and counter are {:?}", gpu.read::<u32>(cells, 2)?);
    pass()
}

fn private_arrays() -> CaseResult {
    let gpu = Gpu::new()?;
    let local = gpu.kernel(kernels::WARP, "local_array")?;
    let out = gpu.upload(&[0u32; 640])?;
    gpu.run(local, shape(5, 128), arguments![out])?;
    for (thread, told) in (0u32..).zip(gpu.read::<u32>(out, 640)?) {
        let mut array = [0u32; 16];
        for index in 0..16u32 {
            array[usize::try_from((index + thread) & 15)?] = index.wrapping_mul(thread);
        }
        let expected = array.iter().fold(0u32, |sum, word| sum.wrapping_mul(31).wrapping_add(*word));
        ensure!(told == expected, "thread {thread}: {told} instead of {expected}");
    }
    pass()
}

fn recursion_to_different_depths() -> CaseResult {
    let gpu = Gpu::new()?;
    let recursion = gpu.kernel(kernels::WARP, "recursion")?;
    let out = gpu.upload(&[0u32; 64])?;
    gpu.run(recursion, shape(1, 64), arguments![out])?;
    let numbers = [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89u32];
    let expected: Vec<u32> = (0..64).map(|thread| numbers[thread % 12]).collect();
    ensure!(gpu.read::<u32>(out, 64)? == expected, "{:?}", gpu.read::<u32>(out, 64)?);
    pass()
}

fn calls_through_a_table() -> CaseResult {
    let gpu = Gpu::new()?;
    let indirect = gpu.kernel(kernels::WARP, "indirect")?;
    let out = gpu.upload(&[0u32; 64])?;
    gpu.run(indirect, shape(1, 64), arguments![out])?;
    let expected: Vec<u32> =
        (0..64u32).map(|thread| if thread % 2 == 0 { thread + 7 } else { thread * 9 }).collect();
    ensure!(gpu.read::<u32>(out, 64)? == expected, "{:?}", gpu.read::<u32>(out, 64)?);
    pass()
}

fn generic_addresses() -> CaseResult {
    let gpu = Gpu::new()?;
    let kernel = gpu.kernel(kernels::WARP, "generic_addresses")?;
    let (cell, out) = (gpu.upload(&[333u32])?, gpu.upload(&[0u32; 4])?);
    gpu.run(kernel, shape(1, 1), arguments![cell, out])?;
    ensure!(gpu.read::<u32>(out, 4)? == [333, 111, 222, 7], "{:?}", gpu.read::<u32>(out, 4)?);
    pass()
}

fn loads_and_stores_of_every_width() -> CaseResult {
    let gpu = Gpu::new()?;
    let widths = gpu.kernel(kernels::WARP, "widths")?;
    let mut bytes: Vec<u8> = (0..64u8).map(|index| 0x80 | index).collect();
    bytes[1] = 0xFF;
    let (input, out) = (gpu.upload(&bytes)?, gpu.upload(&[0u8; 64])?);
    gpu.run(widths, shape(1, 1), arguments![input, out])?;
    let mut expected = Vec::new();
    expected.extend_from_slice(&[0x80, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0x82, 0x83, 0xFF, 0xFF]);
    expected.extend_from_slice(&[0x86, 0x87, 0x84, 0x85, 0x8B, 0x8A, 0x89, 0x88]);
    expected.extend_from_slice(&bytes[32..36]);
    expected.extend_from_slice(&bytes[36..40]);
    expected.extend_from_slice(&bytes[40..44]);
    expected.extend_from_slice(&bytes[24..32]);
    expected.extend_from_slice(&bytes[16..24]);
    let back: Vec<u8> = gpu.read(out, 48)?;
    ensure!(back == expected, "{back:x?} instead of {expected:x?}");
    pass()
}
