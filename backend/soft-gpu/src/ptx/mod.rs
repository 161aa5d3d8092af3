//! PTX assembly: text in, linked register-machine code out.
//!
//! Read in this order: `module` (what a module consists of), `lexer`, `parser` (declarations),
//! `signature`, `body` and `operand` (functions), `decode` (one file per family of instructions), `ir` (what the decoder
//! produces and [`crate::exec`] runs), `link`.
//!
//! Nothing in here executes anything, and nothing trusts its input: every table has a limit
//! ([`Limits`]), nesting is bounded, and whatever is not understood is a [`CompileError`] that names
//! the instruction and its line. There is no "best effort": code that parses means what PTX says.

mod body;
mod constant;
mod decode;
pub(crate) mod ir;
mod labels;
mod lexer;
mod link;
pub(crate) mod module;
mod operand;
mod parser;
mod signature;
#[cfg(test)]
mod tests;
pub(crate) mod types;

pub use module::{Function, FunctionKind, Global, Linkage, Module, Param, Relocation, Space};

/// Bounds on what one source may make the parser hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of source text.
    pub source_bytes: usize,
    /// Instructions in one module.
    pub instructions: usize,
    /// Functions, variables and labels in one module.
    pub symbols: usize,
    /// Nesting of `{}` in bodies and initialisers.
    pub nesting: usize,
    /// Distinct registers that one function really uses (declared and unused ones cost nothing).
    pub registers: usize,
    /// Bytes of all `.global` and `.const` variables together, initialised or not.
    pub variable_bytes: u64,
    /// Bytes of parameters of one function (CUDA 12.1 and later: 32,764).
    pub param_bytes: u64,
    /// Bytes of `.local` variables of one function.
    pub local_bytes: u64,
    /// Bytes of `.shared` variables of one variable or function.
    pub shared_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            source_bytes: 256 << 20,
            instructions: 8 << 20,
            symbols: 1 << 20,
            nesting: 64,
            registers: 1 << 18,
            variable_bytes: 16 << 30,
            param_bytes: 32_764,
            local_bytes: 512 << 10,
            shared_bytes: 228 << 10,
        }
    }
}

/// Why a source was refused; the text is meant for the JIT's error log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct CompileError {
    /// Line of the source, from 1.
    pub line: u32,
    /// What was expected or is not supported, naming the instruction.
    pub message: String,
}

/// Why modules could not be linked; the text is meant for the linker's error log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Two definitions of one visible symbol.
    #[error("symbol '{0}' is defined more than once")]
    Duplicate(String),
    /// A symbol is used and defined nowhere.
    #[error("undefined reference to '{0}'")]
    Undefined(String),
    /// A declaration and the definition disagree about what the symbol is.
    #[error("symbol '{0}' is declared as one kind of thing and defined as another")]
    Mismatch(String),
    /// Variables of one kernel exceed what a block can have.
    #[error("kernel '{0}' uses more shared memory than the device has")]
    SharedTooLarge(String),
}

/// Compiles one PTX source. `source` may end in NUL bytes, as drivers are given it.
///
/// # Errors
/// The first thing that is malformed, unsupported or over a limit, with its line.
pub fn parse(source: &str, limits: &Limits) -> Result<Module, CompileError> {
    parser::Parser::new(source, *limits)?.run()
}

/// Links modules into one in which every reference is resolved. Also needed for a single module:
/// this is where a kernel's shared memory is laid out.
///
/// # Errors
/// Duplicate or missing symbols, or shared memory over the device's limit.
pub fn link(modules: Vec<Module>) -> Result<Module, LinkError> {
    link::link(modules)
}
