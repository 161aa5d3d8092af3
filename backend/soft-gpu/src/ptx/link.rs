//! Joins modules: one definition for each visible name, shared memory laid out for each kernel.

use std::collections::HashMap;

use super::ir::{Op, Source, Target};
use super::module::{Builtin, Symbol, SymbolKind};
use super::{FunctionKind, LinkError, Linkage, Module};

/// Shared memory that one block can have.
const SHARED_LIMIT: u64 = 228 << 10;

fn at(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// See [`super::link`].
pub(super) fn link(modules: Vec<Module>) -> Result<Module, LinkError> {
    let mut linked = Module {
        version: (0, 0),
        target: 0,
        functions: Vec::new(),
        globals: Vec::new(),
        shared: Vec::new(),
        symbols: Vec::new(),
    };
    let mut visible: HashMap<String, u32> = HashMap::new();
    for module in modules {
        add(&mut linked, &mut visible, module)?;
    }
    resolve(&mut linked)?;
    lay_out(&mut linked)?;
    Ok(linked)
}

/// Appends a module, with its symbols renumbered.
fn add(linked: &mut Module, visible: &mut HashMap<String, u32>, module: Module) -> Result<(), LinkError> {
    linked.version = linked.version.max(module.version);
    linked.target = linked.target.max(module.target);
    let (functions, globals, shared) = (linked.functions.len(), linked.globals.len(), linked.shared.len());
    let mut numbers = Vec::with_capacity(module.symbols.len());
    // Definitions that give way to another one; their things stay, but nothing refers to them.
    let (mut dropped_functions, mut dropped_globals) = (Vec::new(), Vec::new());
    for symbol in module.symbols {
        let kind = match symbol.kind {
            SymbolKind::Function(i) => SymbolKind::Function(functions + i),
            SymbolKind::Global(i) => SymbolKind::Global(globals + i),
            SymbolKind::Shared(i) => SymbolKind::Shared(shared + i),
            other => other,
        };
        if symbol.linkage == Linkage::Local {
            numbers.push(push(linked, Symbol { kind, ..symbol }));
            continue;
        }
        let Some(known) = visible.get(&symbol.name).copied() else {
            let name = symbol.name.clone();
            let number = push(linked, Symbol { kind, ..symbol });
            visible.insert(name, number);
            numbers.push(number);
            continue;
        };
        numbers.push(known);
        let Some(existing) = linked.symbols.get_mut(at(known)) else { continue };
        let same_kind = std::mem::discriminant(&existing.kind) == std::mem::discriminant(&kind);
        let drop = match (existing.kind, kind) {
            (_, SymbolKind::Undefined) => None,
            (SymbolKind::Undefined, _) => {
                (existing.kind, existing.linkage) = (kind, symbol.linkage);
                None
            }
            _ if !same_kind => return Err(LinkError::Mismatch(symbol.name)),
            (old, _) if existing.linkage == Linkage::Weak && symbol.linkage != Linkage::Weak => {
                (existing.kind, existing.linkage) = (kind, symbol.linkage);
                Some(old)
            }
            _ if symbol.linkage == Linkage::Weak => Some(kind),
            _ => return Err(LinkError::Duplicate(symbol.name)),
        };
        match drop {
            Some(SymbolKind::Function(i)) => dropped_functions.push(i),
            Some(SymbolKind::Global(i)) => dropped_globals.push(i),
            _ => {}
        }
    }
    let number = |symbol: u32| numbers.get(at(symbol)).copied().unwrap_or(u32::MAX);
    for mut function in module.functions {
        let code = &mut function.code;
        code.uses.iter_mut().chain(&mut code.taken).for_each(|symbol| *symbol = number(*symbol));
        for inst in &mut function.code.insts {
            renumber(&mut inst.op, &number);
        }
        linked.functions.push(function);
    }
    for mut global in module.globals {
        global.relocations.iter_mut().for_each(|relocation| relocation.symbol = number(relocation.symbol));
        linked.globals.push(global);
    }
    linked.shared.extend(module.shared);
    for index in dropped_functions {
        if let Some(function) = linked.functions.get_mut(index) {
            // It keeps its number but has no name to be found by.
            function.linkage = Linkage::Local;
            function.name.insert_str(0, "discarded ");
        }
    }
    for index in dropped_globals {
        if let Some(global) = linked.globals.get_mut(index) {
            global.linkage = Linkage::Local;
            global.name.insert_str(0, "discarded ");
            global.init = Vec::new();
            global.relocations = Vec::new();
        }
    }
    Ok(())
}

fn push(linked: &mut Module, symbol: Symbol) -> u32 {
    linked.symbols.push(symbol);
    u32::try_from(linked.symbols.len() - 1).unwrap_or(u32::MAX)
}

fn renumber(op: &mut Op, number: &impl Fn(u32) -> u32) {
    let source = |source: &mut Source| {
        if let Source::Symbol(symbol, _) = source {
            *symbol = number(*symbol);
        }
    };
    match op {
        Op::Unary { a, .. } => source(a),
        Op::Binary { a, b, .. } => [a, b].into_iter().for_each(source),
        Op::Ternary { a, b, c, .. } => [a, b, c].into_iter().for_each(source),
        Op::Pack { from, .. } => from.items.iter_mut().for_each(source),
        Op::Unpack { from, .. } => source(from),
        Op::Load(load) => source(&mut load.address.base),
        Op::Store(store) => {
            source(&mut store.address.base);
            store.from.items.iter_mut().for_each(source);
        }
        Op::Atomic(atomic) => {
            [&mut atomic.address.base, &mut atomic.value, &mut atomic.other].into_iter().for_each(source);
        }
        Op::View(inst) => inst.sources().for_each(source),
        Op::BranchTable { index, .. } => source(index),
        Op::Call(call) => {
            match &mut call.target {
                Target::Direct(symbol) => *symbol = number(*symbol),
                Target::Indirect(from) => source(from),
            }
            for argument in call.arguments.iter_mut().chain(&mut call.results) {
                if let super::ir::Argument::Value(value) = argument {
                    source(value);
                }
            }
        }
        Op::Barrier(barrier) => {
            [&mut barrier.id, &mut barrier.predicate]
                .into_iter()
                .chain(&mut barrier.threads)
                .for_each(source);
        }
        Op::Warp(warp) => {
            [&mut warp.value, &mut warp.lane, &mut warp.clamp]
                .into_iter()
                .chain(&mut warp.members)
                .for_each(source);
        }
        Op::Alloca { size, .. } => source(size),
        Op::StackRestore(from) => source(from),
        Op::Branch(_)
        | Op::Return
        | Op::Exit
        | Op::Trap
        | Op::ActiveMask(_)
        | Op::Fence
        | Op::Sleep
        | Op::StackSave(_)
        | Op::Nothing => {}
    }
}

/// Gives the functions of the run-time system their meaning and finds what is missing.
fn resolve(linked: &mut Module) -> Result<(), LinkError> {
    for symbol in &mut linked.symbols {
        if symbol.kind == SymbolKind::Undefined
            && let Some(builtin) = Builtin::named(&symbol.name)
        {
            symbol.kind = SymbolKind::Builtin(builtin);
        }
    }
    let code = linked.functions.iter().flat_map(|function| function.code.uses.iter().copied());
    let data = linked.globals.iter().flat_map(|global| global.relocations.iter().map(|r| r.symbol));
    for symbol in code.chain(data) {
        match linked.symbols.get(at(symbol)) {
            Some(symbol) if symbol.kind == SymbolKind::Undefined => {
                return Err(LinkError::Undefined(symbol.name.clone()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// For each kernel, places the shared variables that it and what it can call use.
fn lay_out(linked: &mut Module) -> Result<(), LinkError> {
    // Functions whose address is taken anywhere can be called by anybody who calls indirectly. Other symbols
    // say nothing about that.
    let is_function = |symbol: &u32| {
        matches!(linked.symbols.get(at(*symbol)).map(|s| s.kind), Some(SymbolKind::Function(_)))
    };
    let in_data = linked.globals.iter().flat_map(|global| global.relocations.iter().map(|r| r.symbol));
    let in_code = linked.functions.iter().flat_map(|function| function.code.taken.iter().copied());
    let taken: Vec<u32> = in_data.chain(in_code).filter(is_function).collect();
    for kernel in 0..linked.functions.len() {
        let Some(function) = linked.functions.get(kernel) else { continue };
        if function.kind != FunctionKind::Entry {
            continue;
        }
        let mut seen = vec![false; linked.functions.len()];
        let mut shared = vec![false; linked.shared.len()];
        let mut work: Vec<usize> = vec![kernel];
        let calls_indirectly = |index: usize| {
            linked.functions.get(index).is_some_and(|f| {
                f.code.insts.iter().any(
                    |inst| matches!(&inst.op, Op::Call(call) if matches!(call.target, Target::Indirect(_))),
                )
            })
        };
        let mut taken_added = false;
        while let Some(index) = work.pop() {
            match seen.get_mut(index) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            let mut uses: Vec<u32> =
                linked.functions.get(index).map(|f| f.code.uses.clone()).unwrap_or_default();
            if !taken_added && calls_indirectly(index) {
                taken_added = true;
                uses.extend(&taken);
            }
            for symbol in uses {
                match linked.symbols.get(at(symbol)).map(|symbol| symbol.kind) {
                    Some(SymbolKind::Function(function)) => work.push(function),
                    Some(SymbolKind::Shared(variable)) => {
                        if let Some(used) = shared.get_mut(variable) {
                            *used = true;
                        }
                    }
                    _ => {}
                }
            }
        }
        let (mut end, mut layout, mut dynamic_align) = (0u64, Vec::new(), 1u64);
        let used = || linked.shared.iter().enumerate().filter(|(index, _)| shared.get(*index) == Some(&true));
        for (index, variable) in used().filter(|(_, variable)| !variable.dynamic) {
            let start = end.next_multiple_of(variable.align.max(1));
            end = start.saturating_add(variable.size);
            layout.push((index, u32::try_from(start).unwrap_or(u32::MAX)));
        }
        for (_, variable) in used().filter(|(_, variable)| variable.dynamic) {
            dynamic_align = dynamic_align.max(variable.align);
        }
        let dynamic = end.next_multiple_of(dynamic_align.max(1));
        for (index, _) in used().filter(|(_, variable)| variable.dynamic) {
            layout.push((index, u32::try_from(dynamic).unwrap_or(u32::MAX)));
        }
        let has_dynamic = used().any(|(_, variable)| variable.dynamic);
        let total = if has_dynamic { dynamic } else { end };
        if total > SHARED_LIMIT {
            return Err(LinkError::SharedTooLarge(function.name.clone()));
        }
        if let Some(function) = linked.functions.get_mut(kernel) {
            function.static_shared = u32::try_from(total).unwrap_or(u32::MAX);
            function.shared_layout = layout;
        }
    }
    Ok(())
}
