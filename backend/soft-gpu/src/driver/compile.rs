//! From PTX text to code, with the compiler's words on failure.

use virtio_spec::cuda::CUresult;

use super::attributes::{MAX_PTX_VERSION, SM};
use super::image::Sources;
use crate::ptx::{self, FunctionKind, Limits, Param};

/// Why there is no code, for the program and for its log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) result: CUresult,
    pub(crate) log: String,
}

impl Failure {
    fn at(result: CUresult, line: u32, message: &str) -> Self {
        let log = format!(
            "ptxas application ptx input, line {line}; error   : {message}\n\
             ptxas fatal   : Ptx assembly aborted due to errors\n"
        );
        Self { result, log }
    }
}

/// Compiles and links the parts of one program.
pub(crate) fn compile(sources: &Sources) -> Result<ptx::Module, Failure> {
    let modules = sources.0.iter().map(|source| parse(source)).collect::<Result<Vec<_>, _>>()?;
    ptx::link(modules).map_err(|error| Failure {
        result: CUresult::ERROR_INVALID_PTX,
        log: format!("error   : {error}\nptxas fatal   : Ptx assembly aborted due to errors\n"),
    })
}

/// Compiles one part.
pub(crate) fn parse(source: &str) -> Result<ptx::Module, Failure> {
    if let Some(version) = declared_version(source)
        && version > MAX_PTX_VERSION
    {
        let message = format!(
            "Unsupported .version {}.{}; current version is '{}.{}'",
            version / 10,
            version % 10,
            MAX_PTX_VERSION / 10,
            MAX_PTX_VERSION % 10
        );
        return Err(Failure::at(CUresult::ERROR_UNSUPPORTED_PTX_VERSION, 1, &message));
    }
    let module = ptx::parse(source, &Limits::default())
        .map_err(|error| Failure::at(CUresult::ERROR_INVALID_PTX, error.line, &error.message))?;
    if module.target > SM {
        let message = format!(
            "SM version specified by .target is higher than the device's: {} and {SM}",
            module.target
        );
        return Err(Failure::at(CUresult::ERROR_INVALID_PTX, 1, &message));
    }
    Ok(module)
}

/// Ten times major plus minor of the `.version` directive, read before the parser looks at what follows it.
fn declared_version(source: &str) -> Option<u32> {
    let line = source.lines().map(str::trim).find_map(|line| line.strip_prefix(".version"))?;
    let (major, minor) = line.split_whitespace().next()?.split_once('.')?;
    let minor: String = minor.chars().take_while(char::is_ascii_digit).collect();
    major.parse::<u32>().ok()?.checked_mul(10)?.checked_add(minor.parse().ok()?)
}

/// What the driver needs to know of a kernel, whether it is loaded or not.
#[derive(Clone, Debug)]
pub(crate) struct KernelInfo {
    /// Index in the module.
    pub(crate) index: usize,
    pub(crate) name: std::ffi::CString,
    pub(crate) params: Vec<Param>,
    /// Bytes of the parameter buffer.
    pub(crate) param_bytes: usize,
    /// Bytes of static shared memory.
    pub(crate) static_shared: u32,
    /// Bytes of local memory of each thread.
    pub(crate) local: u32,
    /// 32-bit registers of each thread.
    pub(crate) registers: u32,
    /// Threads of a block at most.
    pub(crate) max_threads: u32,
    /// Threads of a block in x, y, z, if the kernel requires them.
    pub(crate) required: Option<[u32; 3]>,
    /// Number of the `.target`.
    pub(crate) target: u32,
    /// Bytes of constant memory of its module.
    pub(crate) constant: u32,
}

/// The kernels of a module.
pub(crate) fn kernels(module: &ptx::Module) -> Vec<KernelInfo> {
    let constant = module.globals.iter().filter(|global| global.space == ptx::Space::Const);
    let constant = u32::try_from(constant.map(|global| global.size).sum::<u64>()).unwrap_or(u32::MAX);
    let product = |threads: [u32; 3]| threads.iter().fold(1_u32, |sum, &count| sum.saturating_mul(count));
    let functions = module.functions.iter().enumerate();
    functions
        .filter(|(_, function)| function.kind == FunctionKind::Entry)
        .filter_map(|(index, function)| {
            Some(KernelInfo {
                index,
                name: std::ffi::CString::new(function.name.as_str()).ok()?,
                params: function.params.clone(),
                param_bytes: function.param_bytes as usize,
                static_shared: function.static_shared,
                local: function.local,
                registers: function.registers.max(1),
                max_threads: function
                    .required_threads
                    .or(function.max_threads)
                    .map_or(1024, |threads| product(threads).min(1024)),
                required: function.required_threads,
                target: module.target,
                constant,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_the_future_is_told_apart() {
        let failure = parse(".version 99.7\n.target sm_90\n").unwrap_err();
        assert_eq!(failure.result, CUresult::ERROR_UNSUPPORTED_PTX_VERSION);
        assert!(failure.log.contains("99.7"), "{}", failure.log);
    }

    #[test]
    fn text_that_is_not_ptx_is_invalid() {
        let failure = parse("this is not PTX").unwrap_err();
        assert_eq!(failure.result, CUresult::ERROR_INVALID_PTX);
        assert!(failure.log.contains("line 1"), "{}", failure.log);
    }
}
