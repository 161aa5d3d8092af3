//! What memory is whose: a live range, and what may be done with it.

/// `CU_MEMHOSTREGISTER_READ_ONLY`.
const READ_ONLY: u32 = 8;

/// `CU_MEM_ACCESS_FLAGS_PROT_READWRITE`.
const READ_WRITE: u32 = 3;

/// What an allocation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `cuMemAlloc`.
    Device,
    /// `cuMemAllocAsync`.
    Pool,
    /// `cuMemAllocManaged`: the host uses it as well.
    Managed,
    /// A module's variable.
    Variable,
    /// A module's or library's managed variable.
    ManagedVariable,
    /// `malloc` of a kernel.
    Heap,
    /// `cuMemHostAlloc`.
    Pinned,
    /// `cuMemHostRegister`.
    Registered,
    /// `cuMemMap`; the flags are what the device may do with it.
    Mapped,
    /// Memory of another process.
    Imported,
    /// Memory of another process's pool.
    ImportedPool,
    /// An array's.
    Array,
    /// A graph's; its addresses stay taken when it ends.
    Graph,
}

/// A live range of memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allocation {
    /// First address.
    pub(crate) start: u64,
    /// Bytes that were asked for.
    pub(crate) length: u64,
    /// What it is.
    pub(crate) kind: Kind,
    /// Handle of the context that made it.
    pub(crate) context: u64,
    /// Flags of a pinned or registered range, access to a mapping, number of a pool.
    pub(crate) flags: u32,
    /// `CU_POINTER_ATTRIBUTE_BUFFER_ID`.
    pub(crate) id: u64,
    /// `CU_POINTER_ATTRIBUTE_SYNC_MEMOPS`.
    pub(crate) sync_memops: bool,
    /// Bytes that it takes of the device, or that are mapped for it.
    pub(super) reserved: u64,
}

impl Allocation {
    /// Whether the host uses it as well.
    pub(crate) fn is_managed(&self) -> bool {
        matches!(self.kind, Kind::Managed | Kind::ManagedVariable)
    }

    /// Whether it is the device's own memory.
    pub(crate) fn is_device(&self) -> bool {
        !matches!(self.kind, Kind::Pinned | Kind::Registered)
    }

    /// Whether kernels of a context may use it.
    pub(crate) fn is_for(&self, context: u64) -> bool {
        match self.kind {
            Kind::Pinned | Kind::Registered | Kind::Managed | Kind::ManagedVariable => true,
            Kind::Mapped => self.flags != 0,
            _ => self.context == context,
        }
    }

    /// Whether kernels may write it.
    pub(crate) fn is_writable(&self) -> bool {
        match self.kind {
            Kind::Registered => self.flags & READ_ONLY == 0,
            Kind::Mapped => self.flags == READ_WRITE,
            _ => true,
        }
    }

    /// Bytes from `address` to its end.
    pub(crate) fn rest(&self, address: u64) -> u64 {
        (self.start + self.length).saturating_sub(address)
    }
}
