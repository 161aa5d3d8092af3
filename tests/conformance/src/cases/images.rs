//! Large images: what a remoted driver is tempted not to send again.

use std::ffi::{CStr, CString};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::driver::Handle;
use crate::gpu::Gpu;
use crate::outcome::{CaseResult, pass};
use crate::probe::{Probe, command, watch};
use crate::registry::area;

area!("images":
    equal_ones_are_modules_of_their_own,
    one_byte_makes_another_image,
    a_process_after_another,
    processes_at_once,
    a_libraries_image_may_go,
    broken_ones_are_refused_each_time,
);

pub(crate) const PROBES: &[Probe] = &[Probe { name: "images_load", body: load_in_a_process }];

/// Bytes of comment around what counts.
const COMMENT: usize = 3 << 20;

/// PTX text of some MiB with a variable in its middle, where few would look: images that are told apart by it alone.
fn image(answer: u32) -> CString {
    image_of(answer, COMMENT)
}

fn image_of(answer: u32, bytes: usize) -> CString {
    let line = "// Nothing that a compiler reads, but enough of it to be a large image.\n";
    let mut text = String::from(".version 7.0\n.target sm_52\n.address_size 64\n");
    let fill = |text: &mut String, until: usize| {
        while text.len() < until {
            text.push_str(line);
        }
    };
    fill(&mut text, COMMENT / 2 + 5000);
    text.push_str(&format!(".visible .global .u32 answer = 0x{answer:08x};\n"));
    fill(&mut text, bytes);
    CString::new(text).unwrap_or_default()
}

fn answer(gpu: &Gpu, module: Handle) -> Result<u32> {
    let (mut address, mut size) = (0, 0);
    gpu.cu.cuModuleGetGlobal_v2(&mut address, &mut size, module, c"answer".as_ptr()).ok()?;
    ensure!(size == 4, "{size} bytes");
    gpu.read::<u32>(address, 1)?.first().copied().context("one number")
}

fn load(gpu: &Gpu, image: &CStr) -> Result<Handle> {
    let mut module = 0;
    gpu.cu.cuModuleLoadData(&mut module, image.as_ptr().cast()).ok()?;
    Ok(module)
}

fn equal_ones_are_modules_of_their_own() -> CaseResult {
    let gpu = Gpu::new()?;
    let text = image(42);
    let mut modules = Vec::new();
    for _ in 0..3 {
        modules.push(load(&gpu, &text)?);
    }
    let (mut address, mut size) = (0, 0);
    gpu.cu.cuModuleGetGlobal_v2(&mut address, &mut size, modules[0], c"answer".as_ptr()).ok()?;
    gpu.write(address, &[7_u32])?;
    gpu.cu.cuModuleUnload(modules[1]).ok()?;
    ensure!(answer(&gpu, modules[0])? == 7);
    ensure!(answer(&gpu, modules[2])? == 42, "a module's variable is another one's");
    pass()
}

/// The images have one length and are equal wherever a cheap look would go.
fn one_byte_makes_another_image() -> CaseResult {
    let gpu = Gpu::new()?;
    for _ in 0..2 {
        for number in [41, 42, 43] {
            let module = load(&gpu, &image(number))?;
            let found = answer(&gpu, module)?;
            ensure!(found == number, "{found} is another image's");
            gpu.cu.cuModuleUnload(module).ok()?;
        }
    }
    pass()
}

/// Loads the image with a number, and says what is in it.
fn load_in_a_process(arguments: &[String]) -> Result<String> {
    let number = arguments.first().context("a number")?.parse()?;
    let bytes = arguments.get(1).map_or(Ok(COMMENT), |bytes| bytes.parse())?;
    let gpu = Gpu::new()?;
    let module = load(&gpu, &image_of(number, bytes))?;
    Ok(answer(&gpu, module)?.to_string())
}

/// Requests that a process sent to load an image, if the library counts them.
fn requests(path: &Path) -> Option<u64> {
    let table = std::fs::read_to_string(path).ok()?;
    let line = table.lines().find_map(|line| line.strip_prefix("cuModuleLoadData\t"))?;
    line.split('\t').nth(1)?.parse().ok()
}

fn a_process_after_another() -> CaseResult {
    // A number of its own, so that no other case has loaded the same; and a length of its own, because of images that
    // look alike the last one is kept.
    let number = std::process::id().to_string();
    let length = (COMMENT + 100 * (1 + std::process::id() as usize % 10_000)).to_string();
    let folder = tempfile::tempdir()?;
    let mut counts = Vec::new();
    for process in ["first", "second", "third"] {
        let path = folder.path().join(process);
        let mut command = command("images_load", &[&number, &length])?;
        command.env("VCOMPUTE_TRACE", format!("counts:{}", path.display()));
        let text = watch(command)?.text()?;
        ensure!(text == number, "{text} is not the image's number");
        counts.extend(requests(&path));
    }
    if let [first, second, third] = counts[..] {
        ensure!(second < first && third < first, "{counts:?} requests: the image was sent again");
    } else {
        ensure!(counts.is_empty(), "{counts:?} requests in three processes");
    }
    pass()
}

fn processes_at_once() -> CaseResult {
    let numbers = [50, 51, 50, 51];
    let children: Vec<_> = numbers
        .into_iter()
        .map(|number: u32| {
            std::thread::spawn(move || watch(command("images_load", &[&number.to_string()])?)?.text())
        })
        .collect();
    for (number, child) in numbers.into_iter().zip(children) {
        let text = child.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        ensure!(text == number.to_string(), "{text} instead of {number}");
    }
    pass()
}

/// The image is overwritten as soon as the library is there, which then still makes kernels and variables of it.
fn a_libraries_image_may_go() -> CaseResult {
    let gpu = Gpu::new()?;
    for _ in 0..2 {
        let mut text = image(60).into_bytes_with_nul();
        let (none, nothing) = (std::ptr::null_mut(), std::ptr::null_mut());
        let mut library = 0;
        gpu.cu
            .cuLibraryLoadData(
                &mut library,
                text.as_ptr().cast(),
                none,
                nothing,
                0,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                0,
            )
            .ok()?;
        text.fill(b' ');
        drop(text);
        let (mut address, mut size) = (0, 0);
        gpu.cu.cuLibraryGetGlobal(&mut address, &mut size, library, c"answer".as_ptr()).ok()?;
        ensure!(gpu.read::<u32>(address, 1)? == [60]);
        gpu.cu.cuLibraryUnload(library).ok()?;
    }
    pass()
}

fn broken_ones_are_refused_each_time() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut text = image(70).into_bytes();
    text.extend_from_slice(b"\n.visible .entry broken() { nonsense; }\n\0");
    for _ in 0..3 {
        let mut module = 0;
        let code = gpu.cu.cuModuleLoadData(&mut module, text.as_ptr().cast());
        ensure!(code.ok().is_err(), "nonsense was loaded");
    }
    pass()
}
