//! How Ollama and llama.cpp look for devices: the files, functions and order of calls as recorded, in every generation.
//!
//! Any answer that a native driver would not give makes them compute on the CPU without a word. Ollama up to 0.12.3
//! opens every `libcuda.so*` itself and makes a context at each refresh; from 0.12.4 on it starts a program that it
//! kills as soon as that has told the devices, and asks the management library; from 0.30 on a small probe comes first.
//!
//! This file has unsafe code: it opens libraries by their paths and calls what it finds in them.

use std::ffi::{CStr, CString, c_char, c_void};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libloading::os::unix::{Library, RTLD_LAZY};

use crate::driver::{MemoryAccess, MemoryLocation, MemoryProperties, driver};
use crate::gpu::Gpu;
use crate::outcome::{CaseResult, pass, skip};
use crate::probe::{Probe, ask, command};
use crate::registry::area;
use crate::runner::slow_factor;

area!("discovery":
    ollama_finds_the_library_by_path,
    ollama_refreshes_with_a_context_each_time,
    ollama_sees_the_device_by_uuid_in_the_second_pass,
    ollama_asks_the_management_library,
    ollama_kills_its_probes,
    a_probe_finds_the_library_by_name,
    a_library_that_was_closed_opens_again,
    llama_maps_a_pool_of_memory,
);

/// The helper programs of this area.
pub(crate) const PROBES: &[Probe] = &[
    Probe { name: "discovery-server", body: server },
    Probe { name: "discovery-refresh", body: refresh },
    Probe { name: "discovery-native", body: native },
    Probe { name: "discovery-management", body: management },
    Probe { name: "discovery-endless", body: endless },
    Probe { name: "discovery-reopen", body: reopen },
];

/// Where Ollama looks after the folders of `LD_LIBRARY_PATH`.
const PLACES: &[&str] = &[
    "/usr/local/cuda*/targets/*/lib/libcuda.so*",
    "/usr/lib/*-linux-gnu/nvidia/current/libcuda.so*",
    "/usr/lib/*-linux-gnu/libcuda.so*",
    "/usr/lib/wsl/lib/libcuda.so*",
    "/usr/lib/wsl/drivers/*/libcuda.so*",
    "/opt/cuda/lib*/libcuda.so*",
    "/usr/local/cuda/lib*/libcuda.so*",
    "/usr/lib*/libcuda.so*",
    "/usr/local/lib*/libcuda.so*",
];

/// Its own limits for a refresh and for the native probe.
const REFRESH: Duration = Duration::from_secs(3);
const NATIVE_PROBE: Duration = Duration::from_secs(15);

/// `CU_DEVICE_ATTRIBUTE_…`
const INTEGRATED: i32 = 18;
const MAJOR: i32 = 75;
const MINOR: i32 = 76;
const VIRTUAL_MEMORY: i32 = 102;

type Init = extern "C" fn(u32) -> i32;
type OneNumber = extern "C" fn(*mut i32) -> i32;
type DeviceGet = extern "C" fn(*mut i32, i32) -> i32;
type GetAttribute = extern "C" fn(*mut i32, i32, i32) -> i32;
type GetUuid = extern "C" fn(*mut [u8; 16], i32) -> i32;
type GetText = extern "C" fn(*mut c_char, i32, i32) -> i32;
type TotalMem = extern "C" fn(*mut usize, i32) -> i32;
type CtxCreate = extern "C" fn(*mut *mut c_void, *const c_void, i32, u32, i32) -> i32;
type MemGetInfo = extern "C" fn(*mut usize, *mut usize) -> i32;
type CtxDestroy = extern "C" fn(*mut c_void) -> i32;

/// What a device says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Described {
    name: String,
    uuid: String,
    capability: (i32, i32),
}

/// A CUDA library that was opened as these programs open it.
struct Opened(Library);

impl Opened {
    fn at(path: &Path) -> Result<Self> {
        // SAFETY: the library is a CUDA driver, whose start-up code has no preconditions.
        let library = unsafe { Library::open(Some(path), RTLD_LAZY) };
        library.map(Self).with_context(|| format!("dlopen {}", path.display()))
    }

    fn function<T: Copy>(&self, name: &CStr) -> Result<T> {
        // SAFETY: the types above are those of the functions' documentation.
        let symbol = unsafe { self.0.get::<T>(name.to_bytes_with_nul()) };
        Ok(*symbol.with_context(|| format!("dlsym {}", name.to_string_lossy()))?)
    }

    /// The calls with which all of them begin.
    fn start(&self) -> Result<i32> {
        let (mut version, mut count) = (0, 0);
        called("cuInit", self.function::<Init>(c"cuInit")?(0))?;
        called("cuDriverGetVersion", self.function::<OneNumber>(c"cuDriverGetVersion")?(&raw mut version))?;
        ensure!(version >= 12_000, "the driver's version is {version}");
        called("cuDeviceGetCount", self.function::<OneNumber>(c"cuDeviceGetCount")?(&raw mut count))?;
        ensure!(count >= 1, "{count} devices");
        Ok(count)
    }

    fn device(&self, ordinal: i32) -> Result<i32> {
        let mut device = -1;
        called("cuDeviceGet", self.function::<DeviceGet>(c"cuDeviceGet")?(&raw mut device, ordinal))?;
        Ok(device)
    }

    fn attribute(&self, device: i32, attribute: i32) -> Result<i32> {
        let mut value = -1;
        let get = self.function::<GetAttribute>(c"cuDeviceGetAttribute")?;
        called("cuDeviceGetAttribute", get(&raw mut value, attribute, device))?;
        Ok(value)
    }

    fn text(&self, name: &CStr, device: i32) -> Result<String> {
        let mut text = [0u8; 256];
        let get = self.function::<GetText>(name)?;
        called(&name.to_string_lossy(), get(text.as_mut_ptr().cast(), 256, device))?;
        let text = CStr::from_bytes_until_nul(&text).context("a text without an end")?;
        Ok(text.to_str().context("a text in UTF-8")?.to_owned())
    }

    fn describe(&self, device: i32) -> Result<Described> {
        let capability = (self.attribute(device, MAJOR)?, self.attribute(device, MINOR)?);
        ensure!(capability.0 >= 5, "the compute capability is {capability:?}");
        let mut uuid = [0; 16];
        called("cuDeviceGetUuid", self.function::<GetUuid>(c"cuDeviceGetUuid")?(&raw mut uuid, device))?;
        ensure!(uuid != [0; 16], "the UUID is all zeros");
        let name = self.text(c"cuDeviceGetName", device)?;
        ensure!(!name.is_empty(), "the device has no name");
        Ok(Described { name, uuid: uuid_text(uuid), capability })
    }

    /// A context made and destroyed for one question, as the server does at each refresh.
    fn memory(&self, device: i32) -> Result<(usize, usize)> {
        let (mut context, mut free, mut total) = (std::ptr::null_mut(), 0, 0);
        let create = self.function::<CtxCreate>(c"cuCtxCreate_v3")?;
        called("cuCtxCreate_v3", create(&raw mut context, std::ptr::null(), 0, 0, device))?;
        let info = self.function::<MemGetInfo>(c"cuMemGetInfo_v2")?(&raw mut free, &raw mut total);
        called("cuMemGetInfo_v2", info)?;
        // By its old name, as they look it up.
        called("cuCtxDestroy", self.function::<CtxDestroy>(c"cuCtxDestroy")?(context))?;
        ensure!(0 < free && free <= total, "{free} of {total} bytes are free");
        Ok((free, total))
    }
}

fn called(name: &str, code: i32) -> Result<()> {
    ensure!(code == 0, "{name}: error {code}");
    Ok(())
}

/// `GPU-01234567-89ab-cdef-0123-456789abcdef`
fn uuid_text(uuid: [u8; 16]) -> String {
    let mut text = String::from("GPU");
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 0 | 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Every file that a pattern stands for; a `*` is any text within a name.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for folder in &found {
            if !part.contains('*') {
                next.extend([folder.join(part)].into_iter().filter(|path| path.exists()));
                continue;
            }
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            let mut names: Vec<_> = names.filter(|name| fits(name, part)).collect();
            names.sort();
            next.extend(names.iter().map(|name| folder.join(name)));
        }
        found = next;
    }
    found
}

/// Whether a name fits a pattern with one star.
fn fits(name: &str, pattern: &str) -> bool {
    let (start, end) = pattern.split_once('*').unwrap_or((pattern, ""));
    name.strip_prefix(start).is_some_and(|rest| rest.ends_with(end))
}

/// The libraries that Ollama's server tries, in its order: links resolved, each file once.
fn candidates() -> Vec<PathBuf> {
    let variable = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = variable.split(':').filter(|folder| folder.starts_with('/'));
    let patterns =
        folders.map(|folder| format!("{folder}/libcuda.so*")).chain(PLACES.iter().map(|&place| place.into()));
    let mut found: Vec<PathBuf> = Vec::new();
    for path in patterns.flat_map(|pattern| matching(&pattern)) {
        if let Ok(path) = std::fs::canonicalize(path)
            && !found.contains(&path)
        {
            found.push(path);
        }
    }
    found
}

fn first_candidate() -> Result<PathBuf> {
    candidates().into_iter().next().context("no libcuda.so* where Ollama looks")
}

/// Ollama up to 0.12.3: the first library that is found, and what it says of each device.
fn server(_arguments: &[String]) -> Result<String> {
    let begin = Instant::now();
    let library = Opened::at(&first_candidate()?)?;
    // All ten, before anything is called: one that is missing and the library is passed over.
    for name in [
        c"cuInit",
        c"cuDriverGetVersion",
        c"cuDeviceGetCount",
        c"cuDeviceGet",
        c"cuDeviceGetAttribute",
        c"cuDeviceGetUuid",
        c"cuDeviceGetName",
        c"cuCtxCreate_v3",
        c"cuMemGetInfo_v2",
        c"cuCtxDestroy",
    ] {
        library.function::<*const c_void>(name)?;
    }
    let mut lines = Vec::new();
    for ordinal in 0..library.start()? {
        let device = library.device(ordinal)?;
        let Described { name, uuid, capability: (major, minor) } = library.describe(device)?;
        let (_, total) = library.memory(device)?;
        lines.push(format!("{uuid} {major}.{minor} {total} {name}"));
    }
    within(begin, 2 * REFRESH)?;
    Ok(lines.join("\n"))
}

fn within(begin: Instant, limit: Duration) -> Result<()> {
    let (took, limit) = (begin.elapsed(), limit * slow_factor());
    ensure!(took <= limit, "it took {took:?}, and Ollama waits for {limit:?}");
    Ok(())
}

fn ollama_finds_the_library_by_path() -> CaseResult {
    // The server is told where to look by the variable only: the folder has links to the library.
    let expected = std::fs::canonicalize(driver()?.path()?)?;
    let found = first_candidate()?;
    let folders = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    if !folders.is_empty() {
        ensure!(found == expected, "{} is found instead of {}", found.display(), expected.display());
    }
    let told = ask("discovery-server", &[], &[])?;
    ensure!(told.lines().count() >= 1, "the server says {told:?}");
    pass()
}

fn refresh(_arguments: &[String]) -> Result<String> {
    let library = Opened::at(&first_candidate()?)?;
    library.start()?;
    let device = library.device(0)?;
    let (first, total) = library.memory(device)?;
    for _ in 0..10 {
        let begin = Instant::now();
        let (free, again) = library.memory(device)?;
        ensure!(again == total, "the device had {total} bytes and has {again}");
        // Others may use the device: only what ten contexts would hold is a leak.
        ensure!(free + (512 << 20) >= first.min(total / 2), "{first} bytes were free, now {free}");
        within(begin, REFRESH)?;
    }
    Ok("well".into())
}

fn ollama_refreshes_with_a_context_each_time() -> CaseResult {
    ensure!(ask("discovery-refresh", &[], &[])? == "well");
    pass()
}

/// Ollama's native probe since 0.30: by the name, without a context.
fn native(_arguments: &[String]) -> Result<String> {
    let begin = Instant::now();
    let library = Opened::at(Path::new("libcuda.so.1")).or_else(|_| Opened::at(Path::new("libcuda.so")))?;
    let count = library.start()?;
    let mut lines = Vec::new();
    for ordinal in 0..count {
        let device = library.device(ordinal)?;
        let Described { name, uuid, capability: (major, minor) } = library.describe(device)?;
        let integrated = library.attribute(device, INTEGRATED)?;
        ensure!(matches!(integrated, 0 | 1), "integrated: {integrated}");
        let mut total = 0;
        called(
            "cuDeviceTotalMem_v2",
            library.function::<TotalMem>(c"cuDeviceTotalMem_v2")?(&raw mut total, device),
        )?;
        ensure!(total > 0, "a device without memory is dropped");
        let bus = library.text(c"cuDeviceGetPCIBusId", device)?;
        ensure!(bus.len() == 12 && bus.matches(':').count() == 2, "the device's place is {bus:?}");
        lines.push(format!("{uuid} {major}.{minor} {total} {name}"));
    }
    within(begin, NATIVE_PROBE)?;
    Ok(lines.join("\n"))
}

fn a_probe_finds_the_library_by_name() -> CaseResult {
    let by_path = ask("discovery-server", &[], &[])?;
    let by_name = ask("discovery-native", &[], &[])?;
    let identity = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| {
                let mut words: Vec<_> = line.split(' ').collect();
                // Total memory is asked for by different calls, which may count differently.
                words.remove(2);
                words.join(" ")
            })
            .collect()
    };
    ensure!(identity(&by_path) == identity(&by_name), "by path:\n{by_path}\nby name:\n{by_name}");
    pass()
}

fn ollama_sees_the_device_by_uuid_in_the_second_pass() -> CaseResult {
    let all = ask("discovery-native", &[], &[])?;
    let last = all.lines().last().context("no device")?;
    let uuid = last.split(' ').next().context("no UUID")?;
    let variables = [("CUDA_VISIBLE_DEVICES", uuid), ("GGML_CUDA_INIT", "1")];
    for probe in ["discovery-native", "discovery-server"] {
        let seen = ask(probe, &[], &variables)?;
        let uuids: Vec<_> = seen.lines().filter_map(|line| line.split(' ').next()).collect();
        ensure!(uuids == [uuid], "{probe} with {uuid} sees {seen:?}");
    }
    pass()
}

/// `nvmlMemory_t`.
#[repr(C)]
#[derive(Default)]
struct ManagedMemory {
    total: u64,
    free: u64,
    used: u64,
}

type Plain = extern "C" fn() -> u32;
type SystemText = extern "C" fn(*mut c_char, u32) -> u32;
type HandleByUuid = extern "C" fn(*const c_char, *mut *mut c_void) -> u32;
type HandleText = extern "C" fn(*mut c_void, *mut c_char, u32) -> u32;
type HandleMemory = extern "C" fn(*mut c_void, *mut ManagedMemory) -> u32;
type ErrorText = extern "C" fn(u32) -> *const c_char;

const MANAGEMENT: &str = "libnvidia-ml.so.1";

/// `NVML_ERROR_NOT_SUPPORTED`
const NOT_SUPPORTED: u32 = 3;

fn management(arguments: &[String]) -> Result<String> {
    let uuid = CString::new(arguments.first().context("a UUID is given")?.as_str())?;
    let library = Opened::at(Path::new(MANAGEMENT))?;
    let managed = |name: &str, code: u32| called(name, i32::try_from(code).unwrap_or(i32::MAX));
    managed("nvmlInit_v2", library.function::<Plain>(c"nvmlInit_v2")?())?;
    let (mut text, mut handle, mut memory) = ([0u8; 96], std::ptr::null_mut(), ManagedMemory::default());
    let version = library.function::<SystemText>(c"nvmlSystemGetDriverVersion")?;
    managed("nvmlSystemGetDriverVersion", version(text.as_mut_ptr().cast(), 80))?;
    let version = CStr::from_bytes_until_nul(&text)?.to_str()?.to_owned();
    // It is compared with 550 and 570.
    let major: u32 = version.split('.').next().unwrap_or_default().parse().context("the driver's version")?;
    ensure!(major > 0, "the driver's version is {version}");
    let by_uuid = library.function::<HandleByUuid>(c"nvmlDeviceGetHandleByUUID")?;
    managed("nvmlDeviceGetHandleByUUID", by_uuid(uuid.as_ptr(), &raw mut handle))?;
    let info = library.function::<HandleMemory>(c"nvmlDeviceGetMemoryInfo")?(handle, &raw mut memory);
    if info != NOT_SUPPORTED {
        managed("nvmlDeviceGetMemoryInfo", info)?;
        let ManagedMemory { total, free, used } = memory;
        ensure!(total > 0 && free <= total && used <= total, "{free} free, {used} used, {total} in all");
    }
    let name = library.function::<HandleText>(c"nvmlDeviceGetName")?;
    managed("nvmlDeviceGetName", name(handle, text.as_mut_ptr().cast(), 96))?;
    let name = CStr::from_bytes_until_nul(&text)?.to_str()?.to_owned();
    let unknown = by_uuid(c"GPU-00000000-0000-0000-0000-000000000000".as_ptr(), &raw mut handle);
    ensure!(unknown != 0, "a device that does not exist was found");
    ensure!(
        !library.function::<ErrorText>(c"nvmlErrorString")?(unknown).is_null(),
        "an error without a text"
    );
    managed("nvmlShutdown", library.function::<Plain>(c"nvmlShutdown")?())?;
    Ok(if info == NOT_SUPPORTED { format!("{name}\nno memory") } else { name })
}

fn ollama_asks_the_management_library() -> CaseResult {
    if Opened::at(Path::new(MANAGEMENT)).is_err() {
        return skip(format!("no {MANAGEMENT} beside this libcuda"));
    }
    let all = ask("discovery-native", &[], &[])?;
    for line in all.lines() {
        let mut words = line.splitn(4, ' ');
        let uuid = words.next().context("no UUID")?;
        let name = words.nth(2).context("no name")?;
        let managed = ask("discovery-management", &[uuid], &[])?;
        let (managed, without) =
            managed.split_once('\n').map_or((&*managed, false), |(name, _)| (name, true));
        ensure!(managed == name, "CUDA says {name:?}, the management library {managed:?}");
        if without {
            return skip("the management library does not tell memory here: Ollama asks CUDA then");
        }
    }
    pass()
}

/// Tells the devices and goes on holding a context, until it is killed.
fn endless(_arguments: &[String]) -> Result<String> {
    let library = Opened::at(Path::new("libcuda.so.1"))?;
    library.start()?;
    let (mut context, device) = (std::ptr::null_mut(), library.device(0)?);
    let create = library.function::<CtxCreate>(c"cuCtxCreate_v3")?;
    called("cuCtxCreate_v3", create(&raw mut context, std::ptr::null(), 0, 0, device))?;
    let mut out = std::io::stdout();
    writeln!(out, "system_info: {}", library.describe(device)?.name)?;
    out.flush()?;
    loop {
        // Busy with the driver when the signal comes.
        let (mut free, mut total) = (0, 0);
        let info = library.function::<MemGetInfo>(c"cuMemGetInfo_v2")?(&raw mut free, &raw mut total);
        called("cuMemGetInfo_v2", info)?;
    }
}

fn ollama_kills_its_probes() -> CaseResult {
    for round in 0..3 {
        let mut child = command("discovery-endless", &[])?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the probe")?;
        let output = child.stdout.take().context("the probe's output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        child.kill().context("SIGKILL")?;
        child.wait()?;
        ensure!(line.starts_with("system_info: "), "round {round}: the probe says {line:?}");
        // The next one follows at once.
        let seen = ask("discovery-native", &[], &[])?;
        ensure!(seen.contains(line.trim_start_matches("system_info: ").trim()), "round {round}: {seen:?}");
    }
    pass()
}

/// Opens and closes the library a few times, as programs do that try several.
fn reopen(_arguments: &[String]) -> Result<String> {
    let path = first_candidate()?;
    for round in 0..4 {
        let library = Opened::at(&path)?;
        if round > 0 {
            library.start()?;
            library.describe(library.device(0)?)?;
        }
        library.0.close().context("dlclose")?;
    }
    Ok("well".into())
}

fn a_library_that_was_closed_opens_again() -> CaseResult {
    ensure!(ask("discovery-reopen", &[], &[])? == "well");
    pass()
}

/// llama.cpp's pool: 32 GiB of addresses, of which parts are mapped side by side as they are needed.
fn llama_maps_a_pool_of_memory() -> CaseResult {
    const RESERVED: usize = 32 << 30;
    const RECOMMENDED: u32 = 1;
    const READ_WRITE: u32 = 3;
    let gpu = Gpu::new()?;
    let device = Opened::at(Path::new("libcuda.so.1"))?;
    if device.attribute(0, VIRTUAL_MEMORY)? == 0 {
        return skip("the device has no virtual memory management");
    }
    let location = MemoryLocation { kind: 1, id: 0 };
    let win32 = std::ptr::null_mut();
    let properties = MemoryProperties { kind: 1, handle_types: 0, location, win32, flags: [0; 8] };
    let (mut granularity, mut pool) = (0, 0);
    gpu.cu.cuMemGetAllocationGranularity(&mut granularity, &properties, RECOMMENDED).ok()?;
    gpu.cu.cuMemAddressReserve(&mut pool, RESERVED, 0, 0, 0).ok()?;
    let mut used = 0;
    for part in 1..=3 {
        let (bytes, mut handle) = (part * granularity, 0);
        let place = pool + u64::try_from(used)?;
        gpu.cu.cuMemCreate(&mut handle, bytes, &properties, 0).ok()?;
        gpu.cu.cuMemMap(place, bytes, 0, handle, 0).ok()?;
        gpu.cu.cuMemRelease(handle).ok()?;
        gpu.cu.cuMemSetAccess(place, bytes, &MemoryAccess { location, flags: READ_WRITE }, 1).ok()?;
        used += bytes;
        // All that is mapped so far is one range.
        gpu.cu.cuMemsetD8_v2(pool, u8::try_from(part)?, used).ok()?;
        let last = gpu.read::<u8>(pool + u64::try_from(used)? - 4, 4)?;
        ensure!(last == [u8::try_from(part)?; 4], "part {part} reads {last:?}");
    }
    gpu.cu.cuMemUnmap(pool, used).ok()?;
    gpu.cu.cuMemAddressFree(pool, RESERVED).ok()?;
    pass()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text_within_a_name() {
        assert!(fits("libcuda.so.1", "libcuda.so*"));
        assert!(fits("x86_64-linux-gnu", "*-linux-gnu"));
        assert!(!fits("libcudart.so", "libcuda.so*"));
        assert!(fits("plain", "plain"));
    }

    #[test]
    fn a_uuid_has_five_groups() {
        let uuid: [u8; 16] = std::array::from_fn(|index| u8::try_from(index).unwrap_or(0));
        assert_eq!(uuid_text(uuid), "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f");
    }
}
