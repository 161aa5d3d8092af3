//! Exported symbols, and `cuGetProcAddress` with its version rules.
//!
//! This file has unsafe code: it calls addresses that were looked up.

use std::ffi::{CString, c_void};

use anyhow::{Context, Result, ensure};

use crate::driver::{Code, Driver, driver};
use crate::gpu::{initialized, version};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

area!("entry_points":
    every_symbol_of_driver_580_is_exported,
    symbols_are_functions_of_the_library,
    lookup_works_before_init,
    an_empty_name_is_answered,
    an_absent_symbol_in_the_second_form,
    an_absent_symbol_in_the_first_form,
    a_version_newer_than_the_driver,
    a_version_older_than_the_function,
    bad_flags_are_refused,
    the_status_place_is_optional,
    its_own_name_by_version,
    versions_choose_between_forms,
    per_thread_flag_chooses_forms,
    per_thread_flag_leaves_other_functions_alone,
    every_form_as_driver_580_gives_it,
    what_runtimes_ask_is_answered,
    a_found_function_works,
    an_unknown_export_table_is_refused,
);

/// What driver 580 exports.
const EXPORTS: &str = include_str!("exports-580.txt");

const DEFAULT: u64 = 0;
const LEGACY: u64 = 1;
const PER_THREAD: u64 = 2;

fn every_symbol_of_driver_580_is_exported() -> CaseResult {
    let cu = driver()?;
    let names: Vec<&str> = EXPORTS.lines().filter(|name| name.starts_with("cu")).collect();
    let missing: Vec<&&str> = names.iter().filter(|name| cu.symbol(name).is_none()).collect();
    if version()? < 13000 {
        // An older driver lacks what is younger than it; what everyone uses must be there all the same.
        ensure!(missing.len() < names.len() / 4, "{} of {} are missing", missing.len(), names.len());
        return skip(format!("an older driver, which lacks {} of {}", missing.len(), names.len()));
    }
    ensure!(missing.is_empty(), "{} of {} are missing: {missing:?}", missing.len(), names.len());
    pass()
}

fn symbols_are_functions_of_the_library() -> CaseResult {
    let cu = driver()?;
    let path = cu.path()?;
    ensure!(path.to_string_lossy().contains("cuda") || path.exists(), "cuInit comes from {}", path.display());
    let (init, count) = (cu.symbol("cuInit"), cu.symbol("cuDeviceGetCount"));
    ensure!(init.is_some() && init != count, "cuInit is {init:?}, cuDeviceGetCount is {count:?}");
    pass()
}

/// Asks the second form: the code, the function and the status.
fn lookup(cu: &Driver, name: &str, version: i32, flags: u64) -> Result<(Code, usize, u32)> {
    let name = CString::new(name)?;
    let (mut function, mut status) = (0, 77);
    let code = cu.cuGetProcAddress_v2(name.as_ptr(), &mut function, version, flags, &mut status);
    Ok((code, function, status))
}

/// The function that the second form finds; an error when it finds none.
fn found(cu: &Driver, name: &str, version: i32, flags: u64) -> Result<usize> {
    let (code, function, status) = lookup(cu, name, version, flags)?;
    code.ok().with_context(|| format!("{name} for {version}"))?;
    ensure!(function != 0 && status == 0, "{name} for {version}: function {function:#x}, status {status}");
    Ok(function)
}

fn lookup_works_before_init() -> CaseResult {
    let cu = driver()?;
    found(cu, "cuInit", 2000, DEFAULT)?;
    found(cu, "cuMemAlloc", 3020, DEFAULT)?;
    cu.cuDeviceGetCount(&mut 0).is(Code::NOT_INITIALIZED)?;
    pass()
}

fn an_empty_name_is_answered() -> CaseResult {
    // Asked first by the runtime of CUDA 12.4 and later, with version 0 and no place for the status.
    let cu = driver()?;
    let mut function = 7;
    let code = cu.cuGetProcAddress_v2(c"".as_ptr(), &mut function, 0, DEFAULT, std::ptr::null_mut());
    code.is_one_of(&[Code::SUCCESS, Code::NOT_FOUND, Code::INVALID_VALUE])?;
    ensure!(function == 0 || function == 7, "the function without a name is at {function:#x}");
    pass()
}

fn an_absent_symbol_in_the_second_form() -> CaseResult {
    let cu = initialized()?;
    let (code, function, status) = lookup(cu, "cuThereIsNoSuchFunction", 12000, DEFAULT)?;
    // Documented: success, no function, status "not found". Drivers also answered the code "not found".
    code.is_one_of(&[Code::SUCCESS, Code::NOT_FOUND])?;
    ensure!(function == 0 && status == 1, "function {function:#x}, status {status}");
    let (_, function, _) = lookup(cu, "malloc", 12000, DEFAULT)?;
    ensure!(function == 0, "malloc is found at {function:#x}");
    let (_, function, _) = lookup(cu, "cuMemAlloc_v2", 12000, DEFAULT)?;
    ensure!(function == 0, "a name with its version suffix is found at {function:#x}");
    pass()
}

fn an_absent_symbol_in_the_first_form() -> CaseResult {
    let cu = initialized()?;
    let mut function = 7;
    let code = cu.cuGetProcAddress(c"cuThereIsNoSuchFunction".as_ptr(), &mut function, 11030, DEFAULT);
    code.is(Code::NOT_FOUND)?;
    ensure!(function == 7 || function == 0, "a refused call wrote {function:#x}");
    let mut function = 0;
    cu.cuGetProcAddress(c"cuInit".as_ptr(), &mut function, 11030, DEFAULT).ok()?;
    ensure!(Some(function) == cu.symbol("cuInit"), "cuInit is found at {function:#x}");
    pass()
}

fn a_version_newer_than_the_driver() -> CaseResult {
    let cu = initialized()?;
    let newer = version()? + 1000;
    let (code, function, _) = lookup(cu, "cuInit", newer, DEFAULT)?;
    // Documented as refused; drivers answer the newest form that they have for a version of the next years.
    code.is_one_of(&[Code::INVALID_VALUE, Code::SUCCESS])?;
    ensure!(code == Code::SUCCESS || function == 0, "a refused call found {function:#x}");
    pass()
}

fn a_version_older_than_the_function() -> CaseResult {
    let cu = initialized()?;
    for (name, since) in
        [("cuLaunchKernelEx", 11080), ("cuLibraryLoadData", 12000), ("cuGetProcAddress", 11030)]
    {
        found(cu, name, since, DEFAULT)?;
        let (code, function, status) = lookup(cu, name, since - 1000, DEFAULT)?;
        code.is_one_of(&[Code::SUCCESS, Code::NOT_FOUND])?;
        ensure!(
            function == 0 && status == 2,
            "{name} before {since}: function {function:#x}, status {status}"
        );
    }
    pass()
}

fn bad_flags_are_refused() -> CaseResult {
    let cu = initialized()?;
    let (code, _, _) = lookup(cu, "cuInit", 12000, 1 << 40)?;
    code.is(Code::INVALID_VALUE)?;
    pass()
}

fn the_status_place_is_optional() -> CaseResult {
    let cu = initialized()?;
    let mut function = 0;
    cu.cuGetProcAddress_v2(c"cuInit".as_ptr(), &mut function, 12000, DEFAULT, std::ptr::null_mut()).ok()?;
    ensure!(Some(function) == cu.symbol("cuInit"), "cuInit is found at {function:#x}");
    pass()
}

fn its_own_name_by_version() -> CaseResult {
    let cu = initialized()?;
    let first = found(cu, "cuGetProcAddress", 11030, DEFAULT)?;
    let second = found(cu, "cuGetProcAddress", 12000, DEFAULT)?;
    ensure!(first != second, "the four- and the five-argument form are one function");
    // SAFETY: the address is that of the four-argument form, by the version that was asked.
    let four: extern "C" fn(*const i8, *mut usize, i32, u64) -> i32 =
        unsafe { std::mem::transmute(std::ptr::with_exposed_provenance::<c_void>(first)) };
    // SAFETY: the address is that of the five-argument form, by the version that was asked.
    let five: extern "C" fn(*const i8, *mut usize, i32, u64, *mut u32) -> i32 =
        unsafe { std::mem::transmute(std::ptr::with_exposed_provenance::<c_void>(second)) };
    let (mut function, mut status) = (0, 77);
    Code(four(c"cuThereIsNoSuchFunction".as_ptr(), &mut function, 11030, DEFAULT)).is(Code::NOT_FOUND)?;
    Code(five(c"cuInit".as_ptr(), &mut function, 12000, DEFAULT, &mut status)).ok()?;
    ensure!(Some(function) == cu.symbol("cuInit") && status == 0, "function {function:#x}, status {status}");
    pass()
}

/// A name, a version, and the exported symbol that it must lead to.
const FORMS: &[(&str, i32, &str)] = &[
    ("cuMemAlloc", 3020, "cuMemAlloc_v2"),
    ("cuMemAlloc", 12000, "cuMemAlloc_v2"),
    ("cuMemcpyHtoD", 3020, "cuMemcpyHtoD_v2"),
    ("cuMemGetInfo", 3020, "cuMemGetInfo_v2"),
    ("cuCtxCreate", 3020, "cuCtxCreate_v2"),
    ("cuCtxCreate", 11040, "cuCtxCreate_v3"),
    ("cuCtxCreate", 12040, "cuCtxCreate_v3"),
    ("cuCtxDestroy", 4000, "cuCtxDestroy_v2"),
    ("cuCtxDestroy", 2000, "cuCtxDestroy"),
    ("cuCtxPushCurrent", 4000, "cuCtxPushCurrent_v2"),
    ("cuStreamDestroy", 4000, "cuStreamDestroy_v2"),
    ("cuEventDestroy", 4000, "cuEventDestroy_v2"),
    ("cuDeviceGetUuid", 9020, "cuDeviceGetUuid"),
    ("cuDeviceGetUuid", 11040, "cuDeviceGetUuid_v2"),
    ("cuDevicePrimaryCtxRelease", 7000, "cuDevicePrimaryCtxRelease"),
    ("cuDevicePrimaryCtxRelease", 11000, "cuDevicePrimaryCtxRelease_v2"),
    ("cuLinkCreate", 6050, "cuLinkCreate_v2"),
    ("cuMemHostRegister", 4000, "cuMemHostRegister"),
    ("cuMemHostRegister", 6050, "cuMemHostRegister_v2"),
    ("cuStreamBeginCapture", 10000, "cuStreamBeginCapture"),
    ("cuStreamBeginCapture", 10010, "cuStreamBeginCapture_v2"),
    ("cuStreamGetCaptureInfo", 10010, "cuStreamGetCaptureInfo"),
    ("cuStreamGetCaptureInfo", 11030, "cuStreamGetCaptureInfo_v2"),
    ("cuStreamWaitValue32", 8000, "cuStreamWaitValue32"),
    ("cuStreamWaitValue32", 11070, "cuStreamWaitValue32_v2"),
    ("cuMemAdvise", 8000, "cuMemAdvise"),
    ("cuMemAdvise", 12020, "cuMemAdvise_v2"),
    ("cuGraphAddKernelNode", 10000, "cuGraphAddKernelNode"),
    ("cuGraphAddKernelNode", 12000, "cuGraphAddKernelNode_v2"),
    ("cuLaunchKernel", 4000, "cuLaunchKernel"),
    ("cuDeviceGetAttribute", 2000, "cuDeviceGetAttribute"),
];

/// The same for CUDA 12.5 to 13.0.
const YOUNG_FORMS: &[(&str, i32, &str)] = &[
    ("cuCtxCreate", 12050, "cuCtxCreate_v4"),
    ("cuStreamGetCtx", 12050, "cuStreamGetCtx_v2"),
    ("cuEventElapsedTime", 12080, "cuEventElapsedTime_v2"),
    ("cuEventElapsedTime", 12070, "cuEventElapsedTime"),
    ("cuCtxGetDevice", 13000, "cuCtxGetDevice_v2"),
    ("cuCtxGetDevice", 12090, "cuCtxGetDevice"),
    ("cuCtxSynchronize", 13000, "cuCtxSynchronize_v2"),
    ("cuCtxSynchronize", 12090, "cuCtxSynchronize"),
    ("cuMemcpyBatchAsync", 13000, "cuMemcpyBatchAsync_v2"),
];

/// Asks each form and compares it with the exported symbol.
fn check_forms(cu: &Driver, forms: &[(&str, i32, &str)], flags: u64) -> Result<()> {
    let mut wrong = Vec::new();
    for (name, version, symbol) in forms {
        let (code, function, status) = lookup(cu, name, *version, flags)?;
        let exported = cu.symbol(symbol).with_context(|| format!("{symbol} is not exported"))?;
        if code != Code::SUCCESS || status != 0 || function != exported {
            let instead = EXPORTS
                .lines()
                .find(|other| cu.symbol(other) == Some(function))
                .unwrap_or("another function");
            wrong.push(format!(
                "{name} {version} gives {code:?}, status {status}, {instead} instead of {symbol}"
            ));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

fn versions_choose_between_forms() -> CaseResult {
    let cu = initialized()?;
    check_forms(cu, FORMS, DEFAULT)?;
    check_forms(cu, FORMS, LEGACY)?;
    let version = version()?;
    let known: Vec<_> = YOUNG_FORMS.iter().filter(|(_, since, _)| *since <= version).copied().collect();
    check_forms(cu, &known, DEFAULT)?;
    pass()
}

fn per_thread_flag_chooses_forms() -> CaseResult {
    let cu = initialized()?;
    let forms = [
        ("cuMemcpyHtoD", 7000, "cuMemcpyHtoD_v2_ptds"),
        ("cuMemcpyHtoDAsync", 7000, "cuMemcpyHtoDAsync_v2_ptsz"),
        ("cuMemsetD32Async", 7000, "cuMemsetD32Async_ptsz"),
        ("cuMemcpy2D", 7000, "cuMemcpy2D_v2_ptds"),
        ("cuLaunchKernel", 7000, "cuLaunchKernel_ptsz"),
        ("cuLaunchKernelEx", 11080, "cuLaunchKernelEx_ptsz"),
        ("cuStreamSynchronize", 7000, "cuStreamSynchronize_ptsz"),
        ("cuStreamQuery", 7000, "cuStreamQuery_ptsz"),
        ("cuEventRecord", 7000, "cuEventRecord_ptsz"),
        ("cuStreamGetCaptureInfo", 11030, "cuStreamGetCaptureInfo_v2_ptsz"),
    ];
    check_forms(cu, &forms, PER_THREAD)?;
    pass()
}

fn per_thread_flag_leaves_other_functions_alone() -> CaseResult {
    let cu = initialized()?;
    let forms = [
        ("cuMemAlloc", 3020, "cuMemAlloc_v2"),
        ("cuInit", 2000, "cuInit"),
        ("cuModuleLoadData", 2000, "cuModuleLoadData"),
        ("cuStreamCreate", 2000, "cuStreamCreate"),
    ];
    check_forms(cu, &forms, PER_THREAD)?;
    pass()
}

/// What driver 580 answers for every name: name, flags (both when a star), and version:symbol where the
/// answer changes.
const FORMS_580: &str = include_str!("forms-580.txt");

/// What is wrong with the answer to one request, if anything.
fn wrong_form(
    cu: &Driver,
    name: &str,
    version: i32,
    flags: u64,
    symbol: Option<&str>,
) -> Result<Option<String>> {
    let (code, function, status) = lookup(cu, name, version, flags)?;
    let told = (code, function, status);
    let right = match symbol {
        Some(symbol) => {
            let exported = cu.symbol(symbol);
            code == Code::SUCCESS
                && status == 0
                && function != 0
                && exported.is_none_or(|exported| exported == function)
        }
        None => function == 0 && status != 0,
    };
    Ok((!right).then(|| format!("{name} {version} with flags {flags}: {told:x?} instead of {symbol:?}")))
}

fn every_form_as_driver_580_gives_it() -> CaseResult {
    let cu = initialized()?;
    if version()? != 13000 {
        return skip("the list is that of CUDA 13.0");
    }
    let mut wrong = Vec::new();
    for line in FORMS_580.lines() {
        let mut parts = line.split(' ');
        let (Some(name), Some(flags)) = (parts.next(), parts.next()) else {
            continue;
        };
        let flags = match flags {
            "*" => vec![DEFAULT, PER_THREAD],
            flags => vec![flags.parse()?],
        };
        for flags in flags {
            let mut before = None;
            for part in parts.clone() {
                let Some((since, symbol)) = part.split_once(':') else {
                    continue;
                };
                let since: i32 = since.parse()?;
                wrong.extend(wrong_form(cu, name, since - 10, flags, before)?);
                wrong.extend(wrong_form(cu, name, since, flags, Some(symbol))?);
                before = Some(symbol);
            }
            wrong.extend(wrong_form(cu, name, 13000, flags, before)?);
        }
    }
    let first: Vec<&String> = wrong.iter().take(12).collect();
    ensure!(wrong.is_empty(), "{} answers differ, the first are {first:#?}", wrong.len());
    pass()
}

fn what_runtimes_ask_is_answered() -> CaseResult {
    let cu = initialized()?;
    let version = version()?;
    let mut missing = Vec::new();
    let mut asked = 0;
    for line in include_str!("runtime-requests.txt").lines() {
        let mut parts = line.split(' ');
        let (Some(name), Some(since), Some(flags)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (since, flags): (i32, u64) = (since.parse()?, flags.parse()?);
        if since > version {
            continue;
        }
        asked += 1;
        let (code, function, status) = lookup(cu, name, since, flags)?;
        if code != Code::SUCCESS || function == 0 || status != 0 {
            missing.push(format!("{name} {since} {flags}"));
        }
    }
    ensure!(asked > 300, "{asked} requests were made");
    ensure!(
        missing.is_empty(),
        "{} of {asked} requests were not answered: {}",
        missing.len(),
        missing.join(", ")
    );
    pass()
}

fn a_found_function_works() -> CaseResult {
    let cu = initialized()?;
    let address = found(cu, "cuDeviceGetCount", 2000, DEFAULT)?;
    // SAFETY: the address is that of cuDeviceGetCount, whose signature this is.
    let function: extern "C" fn(*mut i32) -> i32 =
        unsafe { std::mem::transmute(std::ptr::with_exposed_provenance::<c_void>(address)) };
    let (mut told, mut expected) = (-1, -2);
    Code(function(&mut told)).ok()?;
    cu.cuDeviceGetCount(&mut expected).ok()?;
    ensure!(told == expected, "{told} devices by the found function, {expected} by the exported one");
    pass()
}

fn an_unknown_export_table_is_refused() -> CaseResult {
    let cu = initialized()?;
    let id = cudarc::driver::sys::CUuuid { bytes: [0x11; 16] };
    let mut table = c"untouched".as_ptr().cast();
    let code = cu.cuGetExportTable(&mut table, &id);
    ensure!(code != Code::SUCCESS, "an unknown export table was handed out");
    code.is_one_of(&[Code::INVALID_VALUE, Code::NOT_FOUND, Code::NOT_SUPPORTED])?;
    pass()
}
