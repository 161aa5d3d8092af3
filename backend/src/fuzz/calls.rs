//! Requests of a lane, executed one after the other in one session.
//!
//! The bytes choose calls and what their parameters are made of: small numbers, wild ones, handles that were minted or
//! could be, and what earlier calls returned. So most requests are nearly right, which random ones never are.

use std::{
    path::Path,
    sync::{Arc, OnceLock, PoisonError, atomic::AtomicBool},
};

use virtio_spec::{
    calls, codec,
    cuda::CUresult,
    graph_requests::opcode as graph_opcode,
    handle::{Handle, Kind},
    requests::opcode,
    session::{Layout, RequestHeader, request_flags},
};
use vm_memory::{Bytes as _, GuestAddress};
use zerocopy::FromZeros as _;

use super::Source;
use crate::{
    link::Piece,
    worker::{
        calls::{Invocation, LaneState, Session},
        driver::Driver,
        memory::{Regions, SessionMemory},
    },
};

/// Requests of one run.
const MOST: usize = 64;

/// Bytes that a response may have.
const ROOM: usize = 4096;

/// A kernel that writes to its parameter.
const PTX: &str = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p)\n{\n\
    .reg .b64 %rd<2>;\nld.param.u64 %rd1, [p];\nst.global.u32 [%rd1], 7;\nret;\n}\n";

/// What an array is: 8 rows of 16 words, which surfaces may write.
const ARRAY: [u64; 5] = [16, 8, 0, 3 | 1 << 32, 2];

/// A driver, once it is needed.
static DRIVER: OnceLock<Arc<Driver>> = OnceLock::new();

/// Which driver executes the requests, a library. Must be called first.
///
/// # Panics
/// It cannot be loaded.
pub fn use_driver(path: &Path) {
    DRIVER.get_or_init(|| match Driver::load(path) {
        Ok(driver) => Arc::new(driver),
        Err(error) => panic!("{error}"),
    });
}

/// Executes the requests that the bytes stand for.
///
/// # Panics
/// A response is longer than its room, or no driver was chosen.
pub fn fuzz_one(data: &[u8]) {
    let driver = DRIVER.get().expect("a driver was chosen");
    let Some(session) = session(driver) else { return };
    let mut lane = LaneState::new(0, Arc::new(AtomicBool::new(false)));
    let mut seen = vec![0];
    let mut run = |seen: &mut Vec<u64>, code: u32, flags: u32, context: u64, words: &[u64]| {
        let parameters: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut header = RequestHeader::new_zeroed();
        (header.opcode, header.flags, header.context) = (code, flags, context);
        header.length = u32::try_from(parameters.len()).unwrap_or(u32::MAX);
        let mut results = Vec::new();
        let result = Invocation::new(&session, &mut lane, header, &parameters, &mut results, ROOM).run();
        assert!(results.len() <= ROOM, "{} bytes of results", results.len());
        if result == CUresult::SUCCESS {
            let words = results.chunks_exact(8).take(4);
            seen.extend(words.filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?))));
        }
        result
    };
    let context = handle(Kind::Context, 1);
    for (code, mut words) in prologue() {
        if code == opcode::LAUNCH
            && let (Some(word), Some(pointer)) = (words.last_mut(), seen.last())
        {
            *word = *pointer;
        }
        let result = run(&mut seen, code, 0, context, &words);
        assert_eq!(result, CUresult::SUCCESS, "what should work: {code:#x}");
        if code == calls::memory::rows::cuMemAlloc_v2.opcode {
            seen.drain(..seen.len() - 1);
        }
    }
    let mut source = Source(data);
    for _ in 0..MOST {
        if source.is_empty() {
            break;
        }
        let (code, flags, words) = request(&mut source, &seen);
        let context = if source.byte() < 16 { value(&mut source, &seen) } else { context };
        run(&mut seen, code, flags, context, &words);
    }
    end(&session);
}

fn session(driver: &Arc<Driver>) -> Option<Session> {
    let layout = Layout::new(1, 16, 16, 256, 4096).ok()?;
    let length = layout.total_bytes();
    let file = rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
    rustix::fs::ftruncate(&file, length).ok()?;
    let memory =
        SessionMemory::map(length, &[Piece { file: 0, reserved: 0, offset: 0, length }], &[file]).ok()?;
    memory.guest_memory().write_slice(PTX.as_bytes(), GuestAddress(layout.staging(0))).ok()?;
    Some(Session::new(memory, layout, Arc::new(Regions::default()), Arc::clone(driver)))
}

/// Gives the driver back what the session has.
fn end(session: &Session) {
    session.links.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let Some(destroy) = session.driver.contexts.cuCtxDestroy_v2 else { return };
    for object in session.handles.all(Kind::Context) {
        // SAFETY: the context is in the session's table, so it is alive, or it is the primary one, which is refused.
        let _result = unsafe { destroy(codec::Scalar::from_u64(object.raw)) };
    }
}

fn handle(kind: Kind, index: u32) -> u64 {
    Handle { kind, generation: 0, index }.to_u64()
}

/// All calls of the table that can have a generated half in the worker.
fn wire() -> &'static [u32] {
    static OPCODES: OnceLock<Vec<u32>> = OnceLock::new();
    OPCODES.get_or_init(|| {
        let may = [calls::Disposition::Wire, calls::Disposition::Custom];
        calls::all().filter(|call| may.contains(&call.disposition)).map(|call| call.opcode).collect()
    })
}

/// What a program does first, as requests that succeed: opcode and words. The module's text lies in staging.
fn prologue() -> [(u32, Vec<u64>); 11] {
    use calls::{
        arrays::rows as arrays, events::rows as events, memory::rows as memory, streams::rows as streams,
    };

    [
        template(opcode::CONTEXT_CREATE, 0),
        (streams::cuStreamCreateWithPriority.opcode, vec![handle(Kind::Stream, 1), 1, 0]),
        (events::cuEventCreate.opcode, vec![handle(Kind::Event, 1), 0]),
        (memory::cuMemAlloc_v2.opcode, vec![4096]),
        template(opcode::IMAGE_CHUNK, 0),
        template(opcode::LOAD, 0),
        template(opcode::GET_FUNCTION, 0),
        (arrays::cuArray3DCreate_v2.opcode, [vec![handle(Kind::Array, 1)], ARRAY.to_vec()].concat()),
        (
            arrays::cuMipmappedArrayCreate.opcode,
            [vec![handle(Kind::MipmappedArray, 1), 2], ARRAY.to_vec()].concat(),
        ),
        template(opcode::LAUNCH, 0),
        template(graph_opcode::GRAPH_CALL, 0),
    ]
}

/// Requests about graphs that build and ask. Graphs are never launched: their host functions would wait for a guest, and
/// their operations for values that nobody writes.
const GRAPH_REQUESTS: [u32; 5] = [
    graph_opcode::GRAPH_CALL,
    graph_opcode::GRAPH_NODE,
    graph_opcode::GRAPH_NODE_GET,
    graph_opcode::GRAPH_LIST,
    graph_opcode::GRAPH_CONDITION,
];

/// A request about graphs that is nearly right; the worker's first names are known.
fn graph_template(code: u32, pointer: u64) -> Vec<u64> {
    let name = |kind, generation| Handle { kind, generation, index: 0 }.to_u64();
    let (graph, node, context) = (name(Kind::Graph, 1), name(Kind::GraphNode, 2), handle(Kind::Context, 1));
    let (add, operations, conditional) = (1, 12 << 32, 13 << 32);
    match code {
        graph_opcode::GRAPH_CALL => vec![1, 0, 0],
        graph_opcode::GRAPH_NODE if pointer & 1 == 0 => {
            vec![add | operations, graph, 0, 0, context, 1, 2, pointer, 7, 0, 0, 0]
        }
        graph_opcode::GRAPH_NODE => vec![add | conditional, graph, 0, 0, pointer, context, 1 << 32],
        graph_opcode::GRAPH_NODE_GET => vec![node, 12],
        graph_opcode::GRAPH_LIST => vec![1, graph, 16 << 32],
        graph_opcode::GRAPH_CONDITION => vec![graph, context, 1 | 1 << 32],
        _ => vec![0],
    }
}

/// A hand-written request that is nearly right, as words; `pointer` is device memory.
fn template(code: u32, pointer: u64) -> (u32, Vec<u64>) {
    let text = PTX.len() as u64;
    let words = match code {
        opcode::CONTEXT_CREATE => vec![handle(Kind::Context, 1), 0],
        opcode::PRIMARY_CONTEXT => vec![handle(Kind::Context, 2), 1 << 32, 0],
        opcode::COPY => vec![1, pointer, 0, 0, 3, 0, 0, 0, 64, 1, 1, 0, 0],
        opcode::IMAGE_CHUNK => vec![handle(Kind::Image, 1), text, 0, 0, text],
        opcode::LOAD => vec![handle(Kind::Module, 1), handle(Kind::Image, 1), 0, 64 | 64 << 32],
        opcode::GET_FUNCTION => {
            vec![handle(Kind::Module, 1), handle(Kind::Function, 1), 2, u64::from(b'k')]
        }
        opcode::LAUNCH => {
            let one = 1 | 1 << 32;
            vec![handle(Kind::Function, 1), handle(Kind::Stream, 1), one, one, one, 0, 8 << 32, pointer]
        }
        opcode::ENUMERATE => vec![handle(Kind::Module, 1), 0, 0],
        opcode::LINK_CREATE => vec![handle(Kind::Link, 1), 0, 0],
        opcode::LINK_ADD => {
            vec![handle(Kind::Link, 1), handle(Kind::Image, 1), 1, 2, u64::from(b'a')]
        }
        opcode::LINK_COMPLETE => vec![handle(Kind::Link, 1)],
        opcode::LINK_READ => vec![handle(Kind::Link, 1), 0, 0, 64],
        opcode::COPY_ARRAY => {
            let copy = [5, handle(Kind::Array, 1), 0, 0, 3, 0, 64, 8, 64, 8, 1, 0, 0];
            [copy.as_slice(), &[0; 6]].concat()
        }
        opcode::MIPMAP_LEVEL => vec![handle(Kind::MipmappedArray, 1), handle(Kind::Array, 2), 1],
        opcode::VIEW_CREATE => {
            let mut words = vec![0; 47];
            let kind = if pointer & 1 == 0 { Kind::Texture } else { Kind::Surface };
            (words[0], words[2]) = (handle(kind, 1), handle(Kind::Array, 1));
            words
        }
        opcode::ARRAY_DESTROY => vec![handle(Kind::Array, 1)],
        opcode::MANAGED_QUERY => vec![pointer],
        opcode::EXCHANGE => vec![handle(Kind::Stream, 1), 2 | 1 << 32, pointer, 64, pointer, 8],
        opcode::MANAGED_READ => vec![handle(Kind::Library, 1), 0, 8, 2, u64::from(b'v')],
        opcode::SHARE => vec![3, handle(Kind::Allocation, 1)],
        opcode::SHARE_OPEN => vec![3, handle(Kind::Allocation, 2), 0, 0, 0, 0, 0, 0, 0, 0],
        opcode::SHARE_FORGET => vec![0; 8],
        other => graph_template(other, pointer),
    };
    (code, words)
}

fn request(source: &mut Source<'_>, seen: &[u64]) -> (u32, u32, Vec<u64>) {
    let flags = if source.byte() < 32 { request_flags::PER_THREAD_STREAM } else { 0 };
    if source.byte() < 100 {
        let codes = opcode::COPY..=opcode::SHARE_FORGET;
        let of_graphs = GRAPH_REQUESTS.get(usize::from(source.byte()) % (3 * GRAPH_REQUESTS.len())).copied();
        let other = opcode::COPY + u32::from(source.byte()) % u32::try_from(codes.count()).unwrap_or(1);
        let code = of_graphs.unwrap_or(other);
        let pointer = seen[usize::from(source.byte()) % seen.len()];
        let (code, mut words) = template(code, pointer);
        for _ in 0..source.byte() % 3 {
            let at = usize::from(source.byte()) % (words.len() + 1);
            match words.get_mut(at) {
                Some(word) => *word = value(source, seen),
                None => words.push(value(source, seen)),
            }
        }
        return (code, flags, words);
    }
    let code = wire()[usize::from(source.byte()) % wire().len()];
    let words = (0..source.byte() % 6).map(|_| value(source, seen)).collect();
    (code, flags, words)
}

fn value(source: &mut Source<'_>, seen: &[u64]) -> u64 {
    // Nothing between a mebibyte and more than any device has: memory that is really there would be filled.
    const WILD: [u64; 8] = [u64::MAX, 1 << 63, 1 << 48, 1 << 62, 4096, 1 << 20, 255, u64::MAX - 4095];
    const KINDS: [Kind; 14] = [
        Kind::Stream,
        Kind::Event,
        Kind::Module,
        Kind::Function,
        Kind::Context,
        Kind::Library,
        Kind::Link,
        Kind::Image,
        Kind::Array,
        Kind::MipmappedArray,
        Kind::Texture,
        Kind::Surface,
        Kind::Pool,
        Kind::Allocation,
    ];
    match source.byte() {
        0..50 => source.byte().into(),
        50..70 => 0,
        70..120 => {
            let far = if source.byte() < 40 { source.byte() } else { 0 };
            seen[usize::from(source.byte()) % seen.len()].wrapping_add(far.into())
        }
        120..220 => handle(KINDS[usize::from(source.byte()) % KINDS.len()], (source.byte() % 3).into()),
        220..245 => WILD[usize::from(source.byte()) % WILD.len()],
        _ => source.number(),
    }
}
