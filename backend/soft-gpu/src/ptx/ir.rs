//! What a function body is decoded into: instructions of a register machine that works on whole warps.
//!
//! Every register is a *slot* of 32 lanes with 64 bits each; a value of fewer bits is kept
//! zero-extended. Pure arithmetic is a function pointer over whole warps, picked when decoding, so that
//! executing one costs one indirect call and a loop that the compiler vectorises.

/// Lanes of a warp.
pub(crate) const WARP: usize = 32;
/// One register of a warp.
pub(crate) type Lanes = [u64; WARP];
/// Index of a register within its function's frame.
pub(crate) type Slot = u32;
/// No register: a discarded result or an absent guard.
pub(crate) const NONE: Slot = u32::MAX;

/// Slots at the start of every frame that the engine uses itself.
pub(crate) mod header {
    /// Where the caller goes on, `u64::MAX` in a kernel.
    pub(crate) const RETURN_PC: u32 = 0;
    /// The caller's frame base.
    pub(crate) const CALLER: u32 = 1;
    /// Start of this frame's local memory.
    pub(crate) const LOCAL: u32 = 2;
    /// End of this frame's local memory (moved by `alloca`).
    pub(crate) const LOCAL_END: u32 = 3;
    /// First slot of the function's own registers.
    pub(crate) const COUNT: u32 = 4;
}

/// Where the memories that are no host memory lie among generic addresses: beyond what a process can map.
pub(crate) mod window {
    /// Bits of an address within its window.
    pub(crate) const BITS: u32 = 40;
    /// Shared memory of the block.
    pub(crate) const SHARED: u64 = 1 << 48;
    /// Local memory of the thread.
    pub(crate) const LOCAL: u64 = SHARED + (1 << BITS);
    /// Parameters of the kernel.
    pub(crate) const PARAM: u64 = SHARED + (2 << BITS);
    /// Functions: no memory, only addresses to call.
    pub(crate) const FUNCTION: u64 = SHARED + (3 << BITS);
    /// Bytes between the addresses of two functions.
    pub(crate) const FUNCTION_STEP: u64 = 16;
}

/// Result from one operand; the last argument is the instruction's immediate.
pub(crate) type Unary = fn(&mut Lanes, &Lanes, u32);
/// Result from two operands.
pub(crate) type Binary = fn(&mut Lanes, &Lanes, &Lanes, u32);
/// Result from three operands.
pub(crate) type Ternary = fn(&mut Lanes, &Lanes, &Lanes, &Lanes, u32);

/// A value that an instruction reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Source {
    /// A register.
    Slot(Slot),
    /// A constant.
    Value(u64),
    /// Address of a symbol, known at launch, plus an addend.
    Symbol(u32, i32),
    /// Address in local memory, from the start of the frame's.
    Local(u32),
    /// A special register.
    Special(Special),
}

/// Special registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    /// `%tid`
    Thread(u8),
    /// `%ntid`
    BlockDim(u8),
    /// `%ctaid`
    Block(u8),
    /// `%nctaid`
    GridDim(u8),
    /// `%laneid`
    Lane,
    /// `%warpid`
    Warp,
    /// `%nwarpid`
    WarpCount,
    /// `%smid`
    Multiprocessor,
    /// `%nsmid`
    MultiprocessorCount,
    /// `%gridid`
    GridId,
    /// `%lanemask_eq`
    MaskEq,
    /// `%lanemask_le`
    MaskLe,
    /// `%lanemask_lt`
    MaskLt,
    /// `%lanemask_ge`
    MaskGe,
    /// `%lanemask_gt`
    MaskGt,
    /// `%clock`
    Clock,
    /// `%clock_hi`
    ClockHigh,
    /// `%clock64`
    Clock64,
    /// `%globaltimer`
    Timer,
    /// `%globaltimer_lo`
    TimerLow,
    /// `%globaltimer_hi`
    TimerHigh,
    /// `%dynamic_smem_size`
    DynamicShared,
    /// `%total_smem_size`, `%aggr_smem_size`
    TotalShared,
    /// Registers that read as zero here (`%reserved_smem_offset_begin`…, `%cluster_ctaid`…).
    Zero,
    /// Registers that read as one here (`%cluster_nctaid`…).
    One,
}

/// State space of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Decided by the address.
    Generic,
    /// Global and constant memory: host memory.
    Global,
    /// The block's shared memory; addresses are offsets.
    Shared,
    /// The thread's local memory; addresses are offsets.
    Local,
    /// The kernel's parameters; addresses are offsets.
    Param,
}

/// Where an access goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub(crate) memory: Memory,
    pub(crate) base: Source,
    pub(crate) offset: i64,
}

/// A load of up to eight elements.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) address: Address,
    /// Bytes of an element.
    pub(crate) width: u8,
    /// Sign-extend the element before `mask` is applied.
    pub(crate) signed: bool,
    /// The destination registers' width.
    pub(crate) mask: u64,
    /// Reads what other threads may be writing (volatile, relaxed, acquire): a warp that spins on it should yield.
    pub(crate) polls: bool,
    pub(crate) to: Elements<Slot>,
}

/// A store of up to eight elements.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) address: Address,
    pub(crate) width: u8,
    /// Release or volatile: earlier accesses are made visible first.
    pub(crate) orders: bool,
    pub(crate) from: Elements<Source>,
}

/// Elements of a vector access.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elements<T> {
    pub(crate) items: [T; 8],
    pub(crate) count: u8,
}

impl<T: Copy> Elements<T> {
    /// `None` if there are none or more than eight.
    pub(crate) fn new(list: &[T]) -> Option<Self> {
        let mut items = [*list.first()?; 8];
        items.get_mut(..list.len())?.copy_from_slice(list);
        Some(Self { items, count: u8::try_from(list.len()).ok()? })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.items.iter().copied().take(usize::from(self.count))
    }
}

/// What an atomic does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtomicOp {
    Add,
    And,
    Or,
    Xor,
    Exchange,
    CompareExchange,
    MinSigned,
    MaxSigned,
    MinUnsigned,
    MaxUnsigned,
    Increment,
    Decrement,
    AddF32,
    AddF64,
    AddF16,
    AddF16x2,
    AddBf16,
    AddBf16x2,
}

/// An atomic or reduction.
#[derive(Clone, Debug)]
pub(crate) struct Atomic {
    pub(crate) address: Address,
    pub(crate) op: AtomicOp,
    pub(crate) width: u8,
    pub(crate) to: Slot,
    pub(crate) value: Source,
    /// New value of a compare-and-exchange; `value` is what is compared.
    pub(crate) other: Source,
}

/// What a texture or surface looks like to an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Coordinates besides the layer.
    pub(crate) axes: u8,
    /// The first coordinate is a layer.
    pub(crate) layered: bool,
    /// The coordinates are a direction.
    pub(crate) cube: bool,
}

/// What is asked of a texture or surface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ViewQuery {
    Width,
    Height,
    Depth,
    Layers,
    Levels,
    Normalized,
}

/// Where a level of detail comes from.
#[derive(Clone, Debug)]
pub(crate) enum Detail {
    Finest,
    Level(Source),
    /// Derivatives by the screen's two axes.
    Gradient(Vec<Source>, Vec<Source>),
}

/// What happens outside a surface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bounds {
    Trap,
    Clamp,
    Zero,
}

/// What an instruction does with a texture or surface.
#[derive(Clone, Debug)]
pub(crate) enum ViewOp {
    /// `tex`; whole coordinates are fetched, not sampled.
    Sample { to: Elements<Slot>, whole: bool, detail: Detail },
    /// `tld4`, of one channel.
    Gather { to: Elements<Slot>, channel: u8 },
    /// `suld.b`, of elements of so many bytes.
    Load { to: Elements<Slot>, width: u8, bounds: Bounds },
    /// `sust.b`
    Store { from: Elements<Source>, width: u8, bounds: Bounds },
    /// `txq`, `suq`
    Query { to: Slot, query: ViewQuery, level: Source },
}

/// An instruction on a texture or surface.
#[derive(Clone, Debug)]
pub(crate) struct ViewInst {
    pub(crate) object: Source,
    pub(crate) geometry: Geometry,
    pub(crate) coordinates: Vec<Source>,
    pub(crate) op: ViewOp,
}

impl ViewInst {
    /// Everything that it reads.
    pub(crate) fn sources(&mut self) -> impl Iterator<Item = &mut Source> {
        let rest: Vec<&mut Source> = match &mut self.op {
            ViewOp::Sample { detail: Detail::Level(level), .. } | ViewOp::Query { level, .. } => vec![level],
            ViewOp::Sample { detail: Detail::Gradient(first, second), .. } => {
                first.iter_mut().chain(second).collect()
            }
            ViewOp::Store { from, .. } => from.items.iter_mut().collect(),
            ViewOp::Sample { .. } | ViewOp::Gather { .. } | ViewOp::Load { .. } => Vec::new(),
        };
        std::iter::once(&mut self.object).chain(&mut self.coordinates).chain(rest)
    }
}

/// What a barrier does besides counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BarrierKind {
    Sync,
    Arrive,
    Count,
    All,
    Any,
}

/// A block barrier.
#[derive(Clone, Debug)]
pub(crate) struct Barrier {
    pub(crate) kind: BarrierKind,
    pub(crate) id: Source,
    /// Threads that take part; all when absent.
    pub(crate) threads: Option<Source>,
    pub(crate) predicate: Source,
    pub(crate) negate: bool,
    pub(crate) to: Slot,
}

/// What a warp-wide instruction computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WarpOp {
    /// `bar.warp.sync`
    Join,
    VoteAll,
    VoteAny,
    VoteUniform,
    Ballot,
    MatchAny,
    MatchAll,
    ShuffleUp,
    ShuffleDown,
    ShuffleXor,
    ShuffleIndex,
    ReduceAdd,
    ReduceMinSigned,
    ReduceMaxSigned,
    ReduceMinUnsigned,
    ReduceMaxUnsigned,
    ReduceAnd,
    ReduceOr,
    ReduceXor,
    Elect,
}

/// A warp-wide instruction.
#[derive(Clone, Debug)]
pub(crate) struct WarpInst {
    pub(crate) op: WarpOp,
    /// The lanes that take part; absent for the forms without `.sync`.
    pub(crate) members: Option<Source>,
    pub(crate) value: Source,
    /// Shuffle: source lane or delta.
    pub(crate) lane: Source,
    /// Shuffle: clamp and segment mask.
    pub(crate) clamp: Source,
    pub(crate) to: Slot,
    pub(crate) to_predicate: Slot,
}

/// Where a call goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// A function by its symbol.
    Direct(u32),
    /// The address in a register.
    Indirect(Source),
}

/// Where an argument comes from, or a result goes to, in the caller.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument {
    /// A `.param` variable in the caller's local memory.
    Variable { offset: u32, size: u32 },
    /// A register (for a result) or any value (for an argument).
    Value(Source),
}

/// Where a parameter is in the callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the callee's local memory.
    Variable { offset: u32, size: u32 },
    /// In a register of so many bits.
    Register(Slot, u64),
}

/// One call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) target: Target,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) results: Vec<Argument>,
    /// Slots of the caller's frame; set when the code is placed.
    pub(crate) frame: u32,
}

/// What an instruction does.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Unary {
        f: Unary,
        to: Slot,
        a: Source,
        imm: u32,
    },
    Binary {
        f: Binary,
        to: Slot,
        a: Source,
        b: Source,
        imm: u32,
    },
    Ternary {
        f: Ternary,
        to: Slot,
        a: Source,
        b: Source,
        c: Source,
        imm: u32,
    },
    /// Vector to scalar: elements of `bits` bits, least significant first.
    Pack {
        to: Slot,
        bits: u8,
        from: Elements<Source>,
    },
    /// Scalar to vector.
    Unpack {
        to: Elements<Slot>,
        bits: u8,
        from: Source,
    },
    Load(Box<Load>),
    Store(Box<Store>),
    Atomic(Box<Atomic>),
    View(Box<ViewInst>),
    Branch(u32),
    /// Jump table: code indices.
    BranchTable {
        index: Source,
        targets: Box<[u32]>,
    },
    Call(Box<Call>),
    Return,
    Exit,
    Trap,
    Barrier(Box<Barrier>),
    Warp(Box<WarpInst>),
    ActiveMask(Slot),
    Fence,
    Sleep,
    /// Room on the thread's stack.
    Alloca {
        to: Slot,
        size: Source,
        align: u32,
    },
    StackSave(Slot),
    StackRestore(Source),
    /// Nothing (`prefetch`, `pmevent`…).
    Nothing,
}

/// A decoded instruction.
#[derive(Clone, Debug)]
pub(crate) struct Inst {
    pub(crate) op: Op,
    /// Predicate register, or [`NONE`].
    pub(crate) guard: Slot,
    pub(crate) guard_not: bool,
    /// Line of the source.
    pub(crate) line: u32,
}

/// What the engine needs of a function besides its description.
#[derive(Clone, Debug, Default)]
pub(crate) struct Code {
    pub(crate) insts: Vec<Inst>,
    /// Slots of a frame, the header included.
    pub(crate) slots: u32,
    pub(crate) params: Vec<Place>,
    pub(crate) results: Vec<Place>,
    /// Symbols that the body uses.
    pub(crate) uses: Vec<u32>,
    /// Those of them that it takes the address of.
    pub(crate) taken: Vec<u32>,
}
