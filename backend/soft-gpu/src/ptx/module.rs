//! What a compiled module consists of, as the driver layer sees it.

use super::ir::Code;

/// A compiled (and, after [`super::link`], linked) PTX module.
#[derive(Debug)]
pub struct Module {
    /// `.version`, major and minor.
    pub version: (u32, u32),
    /// The number in `.target sm_NN`.
    pub target: u32,
    /// Kernels and device functions, in source order.
    pub functions: Vec<Function>,
    /// Variables in global and constant memory, in source order.
    pub globals: Vec<Global>,
    pub(crate) shared: Vec<Shared>,
    pub(crate) symbols: Vec<Symbol>,
}

/// Whether a function is launched or called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionKind {
    /// `.entry`: a kernel.
    Entry,
    /// `.func`: called by kernels and functions.
    Device,
}

/// Who can refer to a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linkage {
    /// This module only.
    Local,
    /// All linked modules (`.visible`).
    Visible,
    /// As visible, and gives way to another definition (`.weak`, `.common`).
    Weak,
    /// Defined elsewhere (`.extern`, or a prototype without a body).
    Extern,
}

/// One kernel or function parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Bytes from the start of the parameter buffer.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// A kernel or device function.
#[derive(Debug)]
pub struct Function {
    /// Name in the source.
    pub name: String,
    /// Kernel or device function.
    pub kind: FunctionKind,
    /// Who can refer to it. After linking, never [`Linkage::Extern`].
    pub linkage: Linkage,
    /// Parameters in order; for kernels the layout of the launch's parameter bytes.
    pub params: Vec<Param>,
    /// Size of the parameter buffer.
    pub param_bytes: u32,
    /// Bytes of static shared memory of the kernel and all that it can call. Set by linking.
    pub static_shared: u32,
    /// Bytes of local memory of one thread in this function, callees excluded.
    pub local: u32,
    /// 32-bit registers per thread that a GPU would report (an estimate, at most 255).
    pub registers: u32,
    /// `.maxntid`.
    pub max_threads: Option<[u32; 3]>,
    /// `.reqntid`.
    pub required_threads: Option<[u32; 3]>,
    /// `.minnctapersm`.
    pub min_blocks: Option<u32>,
    /// Line of the definition.
    pub line: u32,
    pub(crate) code: Code,
    /// Where the shared variables that the kernel can reach lie. Set by linking.
    pub(crate) shared_layout: Vec<(usize, u32)>,
}

/// Memory that a variable lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// `.global`
    Global,
    /// `.const`
    Const,
}

/// A place in a variable's initial contents that holds an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Bytes from the start of the variable.
    pub offset: u64,
    /// Bytes that are written: 8, or fewer where only part of the address is asked for.
    pub width: u8,
    /// Right shift of the address before it is written (the mask operators of PTX).
    pub shift: u8,
    /// Symbol that is meant.
    pub(crate) symbol: u32,
    /// Added to its address.
    pub addend: i64,
}

/// A variable in global or constant memory. The driver layer allocates it.
#[derive(Debug)]
pub struct Global {
    /// Name in the source.
    pub name: String,
    /// Memory that it lives in.
    pub space: Space,
    /// Size in bytes.
    pub size: u64,
    /// Alignment in bytes.
    pub align: u64,
    /// Initial contents; what is beyond its length is zero.
    pub init: Vec<u8>,
    /// Addresses within the contents.
    pub relocations: Vec<Relocation>,
    /// `.attribute(.managed)`.
    pub managed: bool,
    /// Who can refer to it. After linking, never [`Linkage::Extern`].
    pub linkage: Linkage,
}

/// What a symbol of a module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SymbolKind {
    /// Named only: declared, or called before its declaration.
    Undefined,
    Function(usize),
    Global(usize),
    Shared(usize),
    /// A function of the device's run-time system.
    Builtin(Builtin),
}

/// Functions that the engine provides itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builtin {
    Printf,
    Malloc,
    Free,
    AssertFail,
}

impl Builtin {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "vprintf" => Self::Printf,
            "malloc" => Self::Malloc,
            "free" => Self::Free,
            "__assertfail" => Self::AssertFail,
            _ => return None,
        })
    }
}

/// A name that code or initial contents refer to.
#[derive(Clone, Debug)]
pub(crate) struct Symbol {
    pub(crate) name: String,
    pub(crate) kind: SymbolKind,
    pub(crate) linkage: Linkage,
}

/// A variable in shared memory.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) size: u64,
    pub(crate) align: u64,
    /// `.extern .shared`: begins where the static variables end.
    pub(crate) dynamic: bool,
}
