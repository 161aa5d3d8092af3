//! `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER`: asked of probes with another environment.
//!
//! This file has unsafe code: it sets a variable in a process of one thread.

use anyhow::{Context, Result, bail, ensure};

use crate::driver::{Code, driver};
use crate::outcome::{CaseResult, Outcome, pass, skip};
use crate::probe::{Probe, ask};
use crate::registry::area;

area!("visible":
    everything_without_the_variable,
    the_first_ordinal,
    ordinals_end_at_the_first_bad_one,
    a_bad_first_ordinal_hides_all,
    an_empty_value_hides_all,
    a_word_hides_all,
    a_whole_uuid,
    the_beginning_of_a_uuid,
    an_unknown_uuid_hides_all,
    a_repeated_ordinal_hides_all,
    ordinals_choose_and_reorder,
    device_order_is_accepted,
    the_variable_is_read_at_init,
);

/// The helper programs of this area.
pub(crate) const PROBES: &[Probe] = &[
    Probe { name: "visible-uuids", body: visible_uuids },
    Probe { name: "visible-after-load", body: visible_after_load },
];

const VARIABLE: &str = "CUDA_VISIBLE_DEVICES";

/// The UUIDs of the visible devices, in order; "none" where initialization says that there is none,
/// and "refused" where it does not accept the environment.
fn visible_uuids(_arguments: &[String]) -> Result<String> {
    let cu = driver()?;
    match cu.cuInit(0) {
        Code::NO_DEVICE => return Ok("none".to_owned()),
        Code::INVALID_DEVICE => return Ok("refused".to_owned()),
        code => code.ok()?,
    }
    let mut count = -1;
    cu.cuDeviceGetCount(&mut count).ok()?;
    let mut uuids = Vec::new();
    for ordinal in 0..count {
        let (mut device, mut uuid) = (-1, cudarc::driver::sys::CUuuid { bytes: [0; 16] });
        cu.cuDeviceGet(&mut device, ordinal).ok()?;
        cu.cuDeviceGetUuid_v2(&mut uuid, device).ok()?;
        uuids.push(uuid_text(&uuid));
    }
    Ok(if uuids.is_empty() { "none".to_owned() } else { uuids.join(" ") })
}

/// Sets the variable after the library was loaded and before it is initialized.
fn visible_after_load(arguments: &[String]) -> Result<String> {
    driver()?;
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var(VARIABLE, "-1") };
    visible_uuids(arguments)
}

/// A UUID as NVIDIA's tools write it.
#[allow(clippy::cast_sign_loss, reason = "C's plain char; the bytes have no sign")]
fn uuid_text(uuid: &cudarc::driver::sys::CUuuid) -> String {
    let hex: String = uuid.bytes.iter().map(|byte| format!("{:02x}", *byte as u8)).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    format!("GPU-{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// The devices when nothing is hidden.
fn everything() -> Result<Vec<String>> {
    let mut command = crate::probe::command("visible-uuids", &[])?;
    command.env_remove(VARIABLE);
    let text = crate::probe::watch(command)?.text()?;
    if text == "none" {
        bail!("there is no device");
    }
    Ok(text.split(' ').map(str::to_owned).collect())
}

/// What is visible under this value of the variable.
fn seen_under(value: &str) -> Result<String> {
    ask("visible-uuids", &[], &[(VARIABLE, value)])
}

/// The first device's UUID.
fn first() -> Result<String> {
    everything()?.into_iter().next().context("no device")
}

fn expect_none(value: &str) -> Result<()> {
    let seen = seen_under(value)?;
    ensure!(seen == "none", "{VARIABLE}={value:?} leaves {seen:?}");
    Ok(())
}

fn expect_first(value: &str) -> Result<()> {
    let (seen, first) = (seen_under(value)?, first()?);
    ensure!(seen == first, "{VARIABLE}={value:?} leaves {seen:?} instead of {first:?}");
    Ok(())
}

fn everything_without_the_variable() -> CaseResult {
    let uuids = everything()?;
    for uuid in &uuids {
        ensure!(uuids.iter().filter(|other| *other == uuid).count() == 1, "{uuid} is there twice");
    }
    pass()
}

fn the_first_ordinal() -> CaseResult {
    expect_first("0")?;
    pass()
}

fn ordinals_end_at_the_first_bad_one() -> CaseResult {
    expect_first("0,99,0")?;
    expect_first("0,-1,0")?;
    pass()
}

fn a_bad_first_ordinal_hides_all() -> CaseResult {
    expect_none("-1")?;
    expect_none("99")?;
    expect_none("99,0")?;
    pass()
}

fn an_empty_value_hides_all() -> CaseResult {
    expect_none("")?;
    pass()
}

fn a_word_hides_all() -> CaseResult {
    expect_none("none")?;
    expect_none("NoDevFiles")?;
    pass()
}

fn a_whole_uuid() -> CaseResult {
    expect_first(&first()?)?;
    pass()
}

fn the_beginning_of_a_uuid() -> CaseResult {
    let uuids = everything()?;
    let first = uuids.first().context("no device")?;
    let start = first.get(..12).context("a short UUID")?;
    if uuids.iter().filter(|uuid| uuid.starts_with(start)).count() > 1 {
        return skip("two devices' UUIDs begin alike");
    }
    expect_first(start)?;
    pass()
}

fn an_unknown_uuid_hides_all() -> CaseResult {
    expect_none("GPU-00000000-1111-2222-3333-444444444444")?;
    expect_none("GPU-zzzz")?;
    pass()
}

fn a_repeated_ordinal_hides_all() -> CaseResult {
    // Documented nowhere. Driver 580 refuses initialization with "invalid device"; older ones saw no device.
    let seen = seen_under("0,0")?;
    ensure!(seen == "none" || seen == "refused", "{VARIABLE}=0,0 leaves {seen:?}");
    pass()
}

fn ordinals_choose_and_reorder() -> CaseResult {
    let uuids = everything()?;
    let [first, second, ..] = uuids.as_slice() else {
        return Ok(Outcome::Skip("there is one device".to_owned()));
    };
    let seen = seen_under("1,0")?;
    ensure!(seen == format!("{second} {first}"), "{VARIABLE}=1,0 leaves {seen:?}");
    let seen = seen_under("1")?;
    ensure!(seen == *second, "{VARIABLE}=1 leaves {seen:?}");
    pass()
}

fn device_order_is_accepted() -> CaseResult {
    let mut plain = everything()?;
    plain.sort();
    for order in ["PCI_BUS_ID", "FASTEST_FIRST"] {
        let seen = ask("visible-uuids", &[], &[("CUDA_DEVICE_ORDER", order)])?;
        let mut seen: Vec<String> = seen.split(' ').map(str::to_owned).collect();
        seen.sort();
        // The order may change, the devices may not. The runner's own variable stays in force.
        ensure!(seen.iter().all(|uuid| plain.contains(uuid)), "CUDA_DEVICE_ORDER={order} shows {seen:?}");
        ensure!(!seen.is_empty(), "CUDA_DEVICE_ORDER={order} shows nothing");
    }
    // Documented are two words; driver 580 refuses initialization with any other.
    let seen = ask("visible-uuids", &[], &[("CUDA_DEVICE_ORDER", "nonsense")])?;
    ensure!(seen == "refused" || plain.iter().all(|uuid| seen.contains(uuid)), "a wrong word shows {seen:?}");
    pass()
}

fn the_variable_is_read_at_init() -> CaseResult {
    let mut command = crate::probe::command("visible-after-load", &[])?;
    command.env_remove(VARIABLE);
    let seen = crate::probe::watch(command)?.text()?;
    // A library whose constructor initializes early (as a preloaded one may) has read it by then.
    if seen != "none"
        && std::env::var_os("LD_PRELOAD").is_none()
        && !std::path::Path::new("/etc/ld.so.preload").exists()
    {
        bail!("a value set before cuInit was not read: {seen}");
    }
    pass()
}
