//! Fuzzing without a fuzzer: seeded, bounded, on the stable compiler, as part of the ordinary tests.
//!
//! A target is a function `fuzz_one(data: &[u8])` that takes any bytes and returns; a panic is a finding. The targets
//! are beside the code that they try (`vhost_user_compute::fuzz`, `soft_gpu::fuzz`), so that a coverage-guided fuzzer
//! can call the same functions. Here, [`run`] calls them with the findings of earlier runs (`corpus/`), then with sound
//! inputs, damaged in many ways, for [`SECONDS`] seconds each, or `FUZZ_SECONDS`. Each run is the same as the last unless
//! `FUZZ_SEED` says otherwise; how far it comes depends on the machine.
//!
//! A finding is written to the temporary folder, reduced, and named in the failure. Put it into `corpus/<target>/` with
//! the fix.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long each target is tried.
pub const SECONDS: u64 = 3;

/// Bytes of an input, at most.
const MOST: usize = 16 << 10;

/// Tries of the reduction of a finding.
const REDUCTIONS: usize = 2000;

/// Numbers that are the same in every run (SplitMix64).
pub struct Random(u64);

impl Random {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, 0 if there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() >> 33).unwrap_or(0) % bound.max(1)
    }
}

/// Tries a target.
///
/// # Panics
/// The target does; the message says with what.
pub fn run(name: &str, sound: &[Vec<u8>], fuzz_one: impl Fn(&[u8])) {
    let tried = |data: &[u8]| catch_unwind(AssertUnwindSafe(|| fuzz_one(data))).is_ok();
    for (path, data) in corpus(name) {
        assert!(tried(&data), "{} is found again", path.display());
    }
    for data in sound.iter().chain([&Vec::new()]) {
        assert!(tried(data), "{name}: a sound input fails");
    }
    let mut random = Random::new(number("FUZZ_SEED").unwrap_or(1));
    let end = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(SECONDS));
    let mut count = 0_u64;
    while Instant::now() < end {
        let data = damaged(sound, &mut random);
        if !tried(&data) {
            let (path, bytes) = keep(name, reduced(data, &tried));
            panic!("{name}: input {count} fails; reduced to {bytes} bytes in {}", path.display());
        }
        count += 1;
    }
    assert!(count > 0, "{name}: no input was tried");
    eprintln!("{name}: {count} inputs");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.into_iter().filter_map(|path| fs::read(&path).ok().map(|data| (path, data))).collect()
}

/// A sound input with some damage, or noise.
fn damaged(sound: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut data = match sound.get(random.below(sound.len() + 1)) {
        Some(sound) => sound.clone(),
        None => (0..random.below(256)).map(|_| byte(random)).collect(),
    };
    for _ in 0..=random.below(6) {
        damage(&mut data, sound, random);
    }
    data.truncate(MOST);
    data
}

fn byte(random: &mut Random) -> u8 {
    random.number().to_le_bytes()[7]
}

fn damage(data: &mut Vec<u8>, sound: &[Vec<u8>], random: &mut Random) {
    const EDGES: [u64; 10] =
        [0, 1, 4095, 4096, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 63, u64::MAX - 7, u64::MAX];
    let at = random.below(data.len());
    let length = 1 + random.below(16);
    let end = (at + length).min(data.len());
    match random.below(9) {
        0 => data.truncate(at),
        1 if at < data.len() => data[at] ^= 1 << random.below(8),
        2 if at < data.len() => data[at] = byte(random),
        3 => drop(data.drain(at..end)),
        4 => drop(data.splice(at..at, (0..length).map(|_| byte(random)))),
        5 => {
            let part = data[at..end].to_vec();
            let to = random.below(data.len());
            drop(data.splice(to..to, part));
        }
        6 => {
            let width = 1 << random.below(4);
            let number = EDGES[random.below(EDGES.len())].to_le_bytes();
            let at = at / width * width;
            if let Some(place) = data.get_mut(at..at + width) {
                place.copy_from_slice(&number[..width]);
            }
        }
        7 => {
            if let Some(other) = sound.get(random.below(sound.len())) {
                let from = random.below(other.len());
                data.truncate(at);
                data.extend_from_slice(&other[from..]);
            }
        }
        _ if at < data.len() => data[at] = data[at].wrapping_add(if random.below(2) == 0 { 1 } else { 255 }),
        _ => data.push(byte(random)),
    }
}

/// A shorter input that fails too.
fn reduced(mut data: Vec<u8>, tried: &impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut tries = 0;
    let mut step = data.len() / 2;
    while step > 0 && tries < REDUCTIONS {
        let mut at = 0;
        while at + step <= data.len() && tries < REDUCTIONS {
            let mut shorter = data.clone();
            shorter.drain(at..at + step);
            tries += 1;
            if tried(&shorter) {
                at += step;
            } else {
                data = shorter;
            }
        }
        step /= 2;
    }
    data
}

fn keep(name: &str, data: Vec<u8>) -> (PathBuf, usize) {
    let path = std::env::temp_dir().join(format!("fuzz-{name}-{:016x}", fingerprint(&data)));
    // Without a temporary folder, the seed still leads to it.
    let _written = fs::write(&path, &data);
    (path, data.len())
}

fn fingerprint(data: &[u8]) -> u64 {
    data.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_reduced_to_what_it_needs() {
        let tried = |data: &[u8]| !data.contains(&7);
        let data: Vec<u8> = (0..=255).collect();
        assert_eq!(reduced(data, &tried), [7]);
    }

    #[test]
    fn damage_is_the_same_for_the_same_seed() {
        let sound = [b"a sound input".to_vec()];
        let inputs = |seed| -> Vec<Vec<u8>> {
            let mut random = Random::new(seed);
            (0..200).map(|_| damaged(&sound, &mut random)).collect()
        };
        assert_eq!(inputs(5), inputs(5));
        assert_ne!(inputs(5), inputs(6));
    }
}
