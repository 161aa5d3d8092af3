//! What the compiler refuses, with which line, and what it must survive.

use super::{CompileError, FunctionKind, Limits, Linkage, Module, Space, link, parse};

const HEAD: &str = ".version 8.0\n.target sm_80\n.address_size 64\n";

fn compile(text: &str) -> Result<Module, CompileError> {
    parse(&format!("{HEAD}{text}"), &Limits::default())
}

/// Line (from the first after the head) and message of a body's error.
fn refused(body: &str) -> (u32, String) {
    let text = format!(
        ".visible .entry k(.param .u64 a) {{\n.reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<9>; .reg .f32 %f<9>; .reg .b64 %rd<9>;\n{body}\n}}\n"
    );
    let error = compile(&text).expect_err(body);
    (error.line - 5, error.message)
}

#[test]
fn descriptions_are_what_the_source_says() {
    let text = "
.global .align 16 .b8 buffer[100];
.const .align 4 .f32 table[4] = {0f3F800000, 2.0};
.visible .global .attribute(.managed) .align 8 .u64 managed_word;
.visible .entry k(.param .u8 a, .param .align 16 .b8 b[24], .param .u32 c)
.maxntid 256, 2
.minnctapersm 3
{ .local .align 8 .b8 depot[40]; ret; }
.visible .entry exact() .reqntid 32, 4, 2 { ret; }
.func (.param .b32 r) helper(.param .b64 x);
.func (.param .b32 r) helper(.param .b64 x) { st.param.b32 [r], 1; ret; }
";
    let module = compile(text).expect("compiles");
    assert_eq!((module.version, module.target), ((8, 0), 80));
    let kernel = &module.functions[0];
    assert_eq!(
        (kernel.name.as_str(), kernel.kind, kernel.linkage),
        ("k", FunctionKind::Entry, Linkage::Visible)
    );
    let params: Vec<_> = kernel.params.iter().map(|p| (p.offset, p.size, p.align)).collect();
    assert_eq!(params, [(0, 1, 1), (16, 24, 16), (40, 4, 4)]);
    assert_eq!((kernel.param_bytes, kernel.local), (44, 40));
    assert_eq!((kernel.max_threads, kernel.min_blocks), (Some([256, 2, 1]), Some(3)));
    assert_eq!(module.functions[1].required_threads, Some([32, 4, 2]));
    assert_eq!(module.functions[2].kind, FunctionKind::Device);
    let globals: Vec<_> =
        module.globals.iter().map(|g| (g.name.as_str(), g.size, g.align, g.managed)).collect();
    assert_eq!(globals, [("buffer", 100, 16, false), ("table", 16, 4, false), ("managed_word", 8, 8, true)]);
    assert_eq!(module.globals[1].space, Space::Const);
    assert_eq!(module.globals[1].init, [0, 0, 0x80, 0x3f, 0, 0, 0, 0x40]);
}

#[test]
fn unsupported_instructions_are_named_with_their_line() {
    for body in [
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f1}, {%r1}, {%r2}, {%f2};",
        "wmma.load.a.sync.aligned.row.m16n16k16.f16 {%r1}, [%rd1];",
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r1,%r2,%r3,%r4}, [%r5];",
        "cp.async.ca.shared.global [%r1], [%rd1], 16;",
        "mbarrier.init.shared.b64 [%r1], 1;",
        "tex.2dms.v4.f32.s32 {%f1,%f2,%f3,%f4}, [%rd1, {%r1,%r2,%r3,%r3}];",
        "sust.p.1d.b32.trap [%rd1, {%r2}], {%r1};",
        "barrier.cluster.arrive;",
        "fence.proxy.async;",
        "st.async.weak.shared::cluster.b32 [%r1], %r2, [%r3];",
        "cvt.rn.satfinite.e4m3x2.f32 %h1, %f1, %f2;",
        "add.rna.f32 %f1, %f2, %f3;",
        "add.made_up.u32 %r1, %r2, %r3;",
        "frobnicate.u32 %r1;",
    ] {
        let (line, message) = refused(&format!("mov.u32 %r1, 1;\n{body}"));
        let opcode = body.split_whitespace().next().unwrap_or("").trim_end_matches(';');
        assert_eq!(line, 2, "{message}");
        assert!(message.contains(opcode) && message.contains("not supported"), "{message}");
    }
}

#[test]
fn malformed_bodies_are_refused_at_their_line() {
    for (body, line, part) in [
        ("\nadd.u32 %r1, %r2;", 2, "3 operands"),
        ("add.u32 %r1, %r2, %r9;", 1, "not declared"),
        ("add.u32 %r1, %r2, %r01;", 1, "not declared"),
        ("add.u32 %rd1, %r2, %r3;", 1, "register of type U32"),
        ("add.u64 %rd1, %r2, %rd3;", 1, "U64 is needed"),
        ("mov.f32 %f1, 1;", 1, "does not fit"),
        ("\n\nbra NOWHERE;", 3, "not defined"),
        ("L: ret;\nL: ret;", 2, "defined twice"),
        (".reg .b32 %x;\n.reg .b32 %x;", 2, "declared twice"),
        ("@%r1 bra L; L:", 1, "not a predicate"),
        ("ld.shared.u32 %r1, [a];", 1, "not in shared memory"),
        ("ld.global.v2.u32 {%r1,%r2,%r3}, [%rd1];", 1, "vector of 2"),
        ("ld.global.u32 %r1, %rd1;", 1, "brackets"),
        ("ld.global.u32 %r1, [%r2];", 1, "64-bit"),
        ("lop3.b32 %r1, %r2, %r3, %r4, 256;", 1, "0 to 255"),
        ("mov.b64 {%r1,%r2,%r3}, %rd1;", 1, "split"),
        ("call (%r1), %r2, (%r3);", 1, "cannot be called"),
        ("mov.u32 %r1, 1", 2, "found '}'"),
        (".local .b8 big[99999999];", 1, "more than"),
        (".shared .b8 big[99999999];", 1, "limit"),
        ("bar.arrive 0;", 1, "number of threads"),
    ] {
        let (at, message) = refused(body);
        assert!(at == line && message.contains(part), "{body:?}: line {at}: {message}");
    }
}

#[test]
fn malformed_modules_are_refused() {
    let errors = [
        ("", 1),
        (".target sm_80", 1),
        (".version x", 1),
        (".version 8.0\n.address_size 64", 2),
        (".version 8.0\n.target sm_80\n.address_size 32", 3),
        (".version 8.0\n.target gfx90a", 2),
        (".version 8.0\n.target sm_80\n.visible .entry k(", 3),
        (".version 8.0\n.target sm_80\n.visible .entry k() {\n mov.u32", 4),
        (".version 8.0\n.target sm_80\n\n.global .texref t;", 4),
        (".version 8.0\n.target sm_80\n.global .b8 a[2] = {1,2,3};", 3),
        (".version 8.0\n.target sm_80\n.global .b8 a[];", 3),
        (".version 8.0\n.target sm_80\n.global .b8 a[18446744073709551615][9];", 3),
        (".version 8.0\n.target sm_80\n.global .b8 a[1/0];", 3),
        (".version 8.0\n.target sm_80\n.global .b32 a; .global .b32 a;", 3),
        (".version 8.0\n.target sm_80\n.entry k() { ret; }\n.entry k() { ret; }", 4),
        (".version 8.0\n.target sm_80\n.entry k(.param .b8 a[40000]) { ret; }", 3),
        (".version 8.0\n.target sm_80\n\"abc", 3),
        (".version 8.0\n.target sm_80\n\u{7}", 3),
    ];
    for (source, line) in errors {
        let error = parse(source, &Limits::default()).expect_err(source);
        assert_eq!(error.line, line, "{source:?}: {error}");
    }
}

#[test]
fn hostile_sizes_cost_nothing() {
    // Registers exist when they are used.
    let module = compile(
        ".visible .entry k() { .reg .b32 %r<4000000000>; .reg .b64 %x<18446744073709551615>;\nadd.u32 %r3999999999, %r0, 1; ret; }",
    );
    assert_eq!(module.expect("compiles").functions[0].code.slots, 6);
    let error = compile(".global .b8 a[9999999999999];").expect_err("too large");
    assert!(error.message.contains("more than"), "{error}");
    let error = compile(".global .b32 a[2][999999999] = {{1},{2}};").expect_err("contents too large");
    assert!(error.message.contains("too large"), "{error}");
}

#[test]
fn nesting_is_bounded() {
    let deep = |open: &str, close: &str, inner: &str| {
        format!("{}{inner}{}", open.repeat(100_000), close.repeat(100_000))
    };
    let body = format!(".visible .entry k() {{ {} }}", deep("{", "}", ""));
    assert!(compile(&body).expect_err("blocks").message.contains("nested"));
    assert!(compile(&format!(".global .b32 a = {};", deep("(", ")", "1"))).is_err());
    assert!(compile(&format!(".global .b32 a = {}1;", "-".repeat(100_000))).is_err());
    assert!(compile(&format!(".global .b32 a[2] = {};", deep("{", "}", "1"))).is_err());
    assert!(compile(&format!(".global .b32 a{};", "[1]".repeat(100_000))).is_err());
}

#[test]
fn limits_are_kept() {
    let limits =
        Limits { instructions: 10, registers: 20, symbols: 5, source_bytes: 2000, ..Limits::default() };
    let try_one = |text: String| parse(&format!("{HEAD}{text}"), &limits).expect_err("over a limit").message;
    assert!(try_one(format!(".entry k() {{ {} }}", "ret;".repeat(11))).contains("instructions"));
    assert!(try_one((0..9).map(|i| format!(".global .b8 v{i};")).collect()).contains("symbols"));
    assert!(try_one(" ".repeat(3000)).contains("limit"));
    let used: String = (0..30).map(|i| format!("mov.u32 %r{i}, 0;")).collect();
    let limits = Limits { registers: 20, ..Limits::default() };
    let error = parse(&format!("{HEAD}.entry k() {{ .reg .b32 %r<99>; {used} }}"), &limits);
    assert!(error.expect_err("registers").message.contains("registers"));
}

#[test]
fn truncated_sources_are_errors() {
    let source = format!(
        "{HEAD}.global .align 4 .u32 g[2] = {{1, 2}};\n.visible .entry k(.param .u64 a)\n{{\n.reg .b64 %rd<3>;\n\
         ld.param.u64 %rd1, [a];\n@!%p1 st.global.v2.u32 [%rd1+8], {{%r1, %r2}};\nL: bra L;\n}}\n"
    )
    .replace("@!%p1 ", "")
    .replace("{%r1, %r2}", "{1, 2}");
    assert!(parse(&source, &Limits::default()).is_ok());
    for end in HEAD.len() + 1..source.len() - 2 {
        let cut = &source[..end];
        // Only between two declarations is a shorter source a whole one.
        if let Ok(module) = parse(cut, &Limits::default()) {
            assert!(module.functions.is_empty(), "{cut}");
        }
    }
}

#[test]
fn debug_information_is_skipped() {
    let text = "
	.file	1 \"/src/a.cu\"
.visible .entry k()
{
	.loc	1 12 3, function_name $L__info_string0, inlined_at 1 30 1
	.pragma \"nounroll\";
	ret;
}
	.section	.debug_abbrev
	{
.b8 1                                   // Abbreviation Code
.b8 17
.b32 .debug_abbrev
	}
";
    assert_eq!(compile(text).expect("compiles").functions.len(), 1);
    let file = compile(".file 1 \"a.cu\"\n.visible .entry k() { .loc 1 1 1\nret; }\n.section .debug_loc { }");
    assert!(file.is_ok());
}

#[test]
fn blocks_have_labels_of_their_own() {
    let text = ".visible .entry k() { .reg .pred %p;\n{ WAIT: @%p bra DONE; bra WAIT; DONE: }\n{ WAIT: @%p bra DONE; bra OUT; DONE: }\nOUT: ret; }";
    let module = compile(text).expect("compiles");
    let targets: Vec<u32> = module.functions[0]
        .code
        .insts
        .iter()
        .filter_map(|inst| if let super::ir::Op::Branch(to) = inst.op { Some(to) } else { None })
        .collect();
    assert_eq!(targets, [2, 0, 4, 4]);
}

#[test]
fn undefined_references_are_found_when_linking() {
    let module = compile(".extern .func gone(); .visible .entry k() { call gone; ret; }").expect("compiles");
    let error = link(vec![module]).expect_err("undefined");
    assert_eq!(error.to_string(), "undefined reference to 'gone'");
    let unused = compile(".extern .func gone(); .visible .entry k() { ret; }").expect("compiles");
    assert!(link(vec![unused]).is_ok());
}

#[test]
fn damaged_sources_never_do_worse_than_an_error_with_a_line() {
    const SOURCE: &str = "\
.version 8.0
.target sm_80
.address_size 64
.extern .shared .align 16 .b8 smem[];
.global .align 8 .u64 table[3] = {generic(smem2)+4, 0xFF(table), -1};
.shared .align 4 .b8 smem2[64];
.extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);
.func (.param .b64 out) half(.param .b64 in, .param .align 8 .b8 s[16])
{ .reg .b64 %rd<3>; ld.param.b64 %rd1, [in+0]; shr.u64 %rd2, %rd1, 1; st.param.b64 [out+0], %rd2; ret; }
.visible .entry k(.param .u64 k_0, .param .align 4 .b8 k_1[12]) .maxntid 128, 1, 1
{
	.reg .pred %p<4>; .reg .b16 %rs<4>; .reg .b32 %r<9>; .reg .f32 %f<4>; .reg .b64 %rd<9>;
	.local .align 8 .b8 depot[32];
	ld.param.u64 %rd1, [k_0]; mov.u64 %rd2, depot; cvta.local.u64 %rd3, %rd2;
	mov.u32 %r1, %tid.x; setp.lt.and.s32 %p1|%p2, %r1, 7, !%p3;
	@%p1 bra $L1; { .param .b64 param0; st.param.b64 [param0+0], %rd1; .param .b64 retval0;
	.param .align 8 .b8 param1[16]; call.uni (retval0), half, (param0, param1); ld.param.b64 %rd4, [retval0+0]; }
$L1:	ld.global.nc.v4.f32 {%f0, %f1, %f2, %f3}, [%rd1+-16]; fma.rn.ftz.f32 %f1, %f0, 0f3F800000, %f2;
	ts: .branchtargets $L1, $L2; brx.idx %r1, ts;
$L2:	shfl.sync.bfly.b32 %r2|%p3, %r1, 16, 31, -1; atom.global.cas.b32 %r3, [%rd1], %r1, %r2;
	mov.b64 {%r4, %r5}, %rd1; lop3.b32 %r6, %r4, %r5, %r1, 0x96; bar.sync 0; ret;
}
";
    assert!(parse(SOURCE, &Limits::default()).is_ok());
    let lines = u32::try_from(SOURCE.lines().count()).expect("few");
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    let pool = b"{}[]()<>,;:.%@!_+-*/~\"#0189afx rpudbsL\n\0";
    for _ in 0..20_000 {
        let mut bytes = SOURCE.as_bytes().to_vec();
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            match next(4) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes[at] = pool[next(pool.len())],
                2 => drop(bytes.splice(at..at, [pool[next(pool.len())]])),
                _ => drop(bytes.drain(at..(at + next(12)).min(bytes.len()))),
            }
            if bytes.is_empty() {
                bytes.push(b' ');
            }
        }
        let text = String::from_utf8(bytes).expect("ASCII");
        match parse(&text, &Limits { variable_bytes: 1 << 20, ..Limits::default() }) {
            Ok(module) => drop(link(vec![module])),
            Err(error) => {
                assert!((1..=lines + 8).contains(&error.line) && !error.message.is_empty(), "{error}")
            }
        }
    }
}
