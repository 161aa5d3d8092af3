//! A linked module bound to device addresses.

use crate::ptx::ir::{Call, Code, Inst, Op, Place, window};
use crate::ptx::module::SymbolKind;
use crate::ptx::{Global, LinkError, Module};

/// A linked module whose variables have addresses: what a launch runs.
#[derive(Debug)]
pub struct Image {
    module: Module,
    addresses: Vec<u64>,
    pub(super) code: Vec<Inst>,
    pub(super) functions: Vec<Routine>,
}

/// A function as the engine needs it.
#[derive(Debug)]
pub(super) struct Routine {
    /// Index of its first instruction in [`Image::code`].
    pub(super) start: u32,
    pub(super) slots: u32,
    pub(super) local: u32,
    pub(super) params: Vec<Place>,
    pub(super) results: Vec<Place>,
}

/// What a symbol stands for in a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Address(u64),
    /// Not a variable of this kernel.
    None,
}

impl Image {
    /// Binds `module` (a result of [`crate::ptx::link`]); `address_of` gives the device address that the
    /// driver layer has allocated for each variable, in the order of [`Module::globals`].
    ///
    /// # Errors
    /// [`LinkError::Undefined`] for the first variable without an address.
    pub fn new(
        mut module: Module,
        mut address_of: impl FnMut(usize, &Global) -> Option<u64>,
    ) -> Result<Self, LinkError> {
        let mut addresses = Vec::with_capacity(module.globals.len());
        for (index, global) in module.globals.iter().enumerate() {
            addresses
                .push(address_of(index, global).ok_or_else(|| LinkError::Undefined(global.name.clone()))?);
        }
        let (mut code, mut functions) = (Vec::new(), Vec::new());
        for function in &mut module.functions {
            let Code { insts, slots, params, results, .. } = std::mem::take(&mut function.code);
            let start = u32::try_from(code.len()).unwrap_or(u32::MAX);
            code.extend(insts.into_iter().map(|inst| placed(inst, start, slots)));
            functions.push(Routine { start, slots, local: function.local, params, results });
        }
        Ok(Self { module, addresses, code, functions })
    }

    /// The module.
    #[must_use]
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Device address of a variable, by its index in [`Module::globals`].
    #[must_use]
    pub fn address(&self, global: usize) -> Option<u64> {
        self.addresses.get(global).copied()
    }

    /// What the driver layer writes to a variable's memory before the first launch: its initial
    /// contents with all addresses filled in, without trailing zeros (the memory must be zeroed).
    #[must_use]
    pub fn contents(&self, global: usize) -> Vec<u8> {
        let Some(global) = self.module.globals.get(global) else { return Vec::new() };
        let mut bytes = global.init.clone();
        for relocation in &global.relocations {
            let Value::Address(address) = self.symbol(relocation.symbol, None) else { continue };
            let value = address.wrapping_add_signed(relocation.addend) >> relocation.shift.min(63);
            let start = usize::try_from(relocation.offset).unwrap_or(usize::MAX);
            let end = start.saturating_add(usize::from(relocation.width.min(8)));
            if bytes.len() < end && u64::try_from(end).is_ok_and(|end| end <= global.size) {
                bytes.resize(end, 0);
            }
            if let Some(room) = bytes.get_mut(start..end) {
                for (to, from) in room.iter_mut().zip(value.to_le_bytes()) {
                    *to = from;
                }
            }
        }
        bytes
    }

    /// Index in [`Module::functions`] of a kernel or function by name.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<usize> {
        self.module.functions.iter().position(|f| f.name == name)
    }

    /// Address that stands for a function in kernels.
    #[must_use]
    pub fn function_address(&self, index: usize) -> Option<u64> {
        let index = u64::try_from(index).ok().filter(|_| index < self.module.functions.len())?;
        Some(window::FUNCTION + (index + 1) * window::FUNCTION_STEP)
    }

    /// The function at an address that [`Image::function_address`] gave.
    pub(super) fn function_at(&self, address: u64) -> Option<usize> {
        let offset = address.checked_sub(window::FUNCTION + window::FUNCTION_STEP)?;
        let index = usize::try_from(offset / window::FUNCTION_STEP).ok()?;
        (offset % window::FUNCTION_STEP == 0 && index < self.functions.len()).then_some(index)
    }

    /// A symbol's value in a launch of the kernel `entry`, or in initial contents.
    pub(super) fn symbol(&self, symbol: u32, entry: Option<usize>) -> Value {
        let symbol = usize::try_from(symbol).ok().and_then(|index| self.module.symbols.get(index));
        match symbol.map(|symbol| symbol.kind) {
            Some(SymbolKind::Global(index)) => self.address(index).map_or(Value::None, Value::Address),
            Some(SymbolKind::Function(index)) => {
                self.function_address(index).map_or(Value::None, Value::Address)
            }
            Some(SymbolKind::Shared(index)) => {
                let layout =
                    entry.and_then(|entry| self.module.functions.get(entry)).map(|f| &f.shared_layout);
                let place = layout.and_then(|layout| layout.iter().find(|(variable, _)| *variable == index));
                place.map_or(Value::None, |(_, offset)| Value::Address(u64::from(*offset)))
            }
            _ => Value::None,
        }
    }

    /// Values of all symbols for launches of `entry`.
    pub(super) fn symbol_values(&self, entry: usize) -> Vec<u64> {
        (0..self.module.symbols.len())
            .map(|index| match self.symbol(u32::try_from(index).unwrap_or(u32::MAX), Some(entry)) {
                Value::Address(address) => address,
                Value::None => 0,
            })
            .collect()
    }

    /// Function that contains a code position.
    pub(super) fn function_of(&self, pc: u32) -> Option<usize> {
        self.functions.partition_point(|routine| routine.start <= pc).checked_sub(1)
    }
}

/// An instruction moved to where its function's code begins.
fn placed(mut inst: Inst, start: u32, slots: u32) -> Inst {
    let shift = |target: &mut u32| *target = target.saturating_add(start);
    match &mut inst.op {
        Op::Branch(target) => shift(target),
        Op::BranchTable { targets, .. } => targets.iter_mut().for_each(shift),
        Op::Call(call) => {
            let Call { frame, .. } = &mut **call;
            *frame = slots;
        }
        _ => {}
    }
    inst
}
