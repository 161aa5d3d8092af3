//! Loads, stores, atomics, address spaces, variables, linking.

use super::super::FaultKind;
use super::{Bench, kernel, launch, module, shape, value};
use crate::ptx::link;

fn fault(body: &str, size: usize) -> FaultKind {
    let bench = Bench::default();
    let out = bench.words32(&vec![0; size]);
    let image = bench.load(vec![module(&kernel(1, body))]);
    launch(&bench, &image, &shape(1, 1), &[out]).expect_err("faults").kind
}

#[test]
fn accesses_outside_fault() {
    assert_eq!(fault("st.global.u32 [%rd0+4096], 1;", 2), FaultKind::IllegalAddress);
    assert_eq!(fault("ld.global.u32 %r1, [%rd0+-4];", 2), FaultKind::IllegalAddress);
    assert_eq!(fault("mov.u64 %rd1, 0; ld.u32 %r1, [%rd1];", 2), FaultKind::IllegalAddress);
    assert_eq!(fault("ld.global.u64 %rd1, [%rd0+2];", 4), FaultKind::MisalignedAddress);
    assert_eq!(fault("ld.global.v4.u32 {%r1,%r2,%r3,%r4}, [%rd0+4];", 8), FaultKind::MisalignedAddress);
    assert_eq!(fault(".shared .b32 s; st.shared.u32 [s+4], 1;", 2), FaultKind::IllegalAddress);
    assert_eq!(
        fault(".local .b32 l[2]; mov.u64 %rd1, l; st.local.u32 [%rd1+4096], 1;", 2),
        FaultKind::IllegalAddress
    );
    assert_eq!(fault("ld.param.u32 %r1, [k_param_0+8];", 2), FaultKind::IllegalAddress);
    assert_eq!(fault("atom.global.add.u32 %r1, [%rd0+2], 1;", 2), FaultKind::MisalignedAddress);
    assert_eq!(
        fault(".local .b32 l; mov.u64 %rd1, l; cvta.local.u64 %rd1, %rd1; atom.add.u32 %r1, [%rd1], 1;", 2),
        FaultKind::InvalidAddressSpace
    );
}

#[test]
fn narrow_loads_extend_by_their_sign() {
    assert_eq!(
        value("mov.u32 %r1, 0xfedc; st.global.u32 [%rd0], %r1; ld.global.s8 %r0, [%rd0];"),
        0xffff_ffdc
    );
    assert_eq!(value("mov.u32 %r1, 0xfedc; st.global.u32 [%rd0], %r1; ld.global.u8 %r0, [%rd0+1];"), 0xfe);
    assert_eq!(
        value(
            "mov.u32 %r1, 0xfedc; st.global.u32 [%rd0], %r1; ld.global.s16 %rs1, [%rd0]; cvt.s32.s16 %r0, %rs1;"
        ),
        0xffff_fedc
    );
    assert_eq!(
        value(
            "mov.u32 %r1, -2; st.global.u32 [%rd0], %r1; ld.global.s32 %rd1, [%rd0]; shr.u64 %rd1, %rd1, 32; cvt.u32.u64 %r0, %rd1;"
        ),
        u32::MAX
    );
}

#[test]
fn vectors_and_generic_addresses() {
    let body = ".shared .align 16 .b8 s[32]; mov.u64 %rd1, s; cvta.shared.u64 %rd2, %rd1;
                st.shared.v4.u32 [s+16], {1, 2, 3, 4}; ld.v2.u32 {%r1, %r2}, [%rd2+24]; mad.lo.u32 %r0, %r1, 10, %r2;
                isspacep.shared %p1, %rd2; @%p1 add.u32 %r0, %r0, 100; isspacep.global %p1, %rd2; @%p1 add.u32 %r0, %r0, 1000;
                isspacep.global %p1, %rd0; @%p1 add.u32 %r0, %r0, 2000;";
    assert_eq!(value(body), 2134);
    let body = ".local .align 8 .b8 l[16]; mov.u64 %rd1, l; cvta.local.u64 %rd2, %rd1; st.u64 [%rd2+8], 77;
                cvta.to.local.u64 %rd3, %rd2; ld.local.u32 %r0, [%rd3+8]; isspacep.local %p1, %rd2; @%p1 add.u32 %r0, %r0, 1;";
    assert_eq!(value(body), 78);
    let body = "mov.b64 %rd1, {%r1, %r2}; mov.u32 %r1, 0x01020304; mov.b32 {%rs1, %rs2}, %r1; mov.b32 %r0, {%rs2, %rs1};";
    assert_eq!(value(body), 0x0304_0102);
}

#[test]
fn atomics_return_the_old_value() {
    let run = |op: &str, start: u32| {
        value(&format!(
            "mov.u32 %r1, {start}; st.global.u32 [%rd0], %r1; atom.global.{op}; ld.global.u32 %r3, [%rd0]; mul.lo.u32 %r0, %r2, 1000; add.u32 %r0, %r0, %r3;"
        ))
    };
    assert_eq!(run("add.u32 %r2, [%rd0], 5", 7), 7012);
    assert_eq!(run("inc.u32 %r2, [%rd0], 7", 7), 7000);
    assert_eq!(run("dec.u32 %r2, [%rd0], 9", 0), 9);
    assert_eq!(run("min.s32 %r2, [%rd0], 3", 7), 7003);
    assert_eq!(run("cas.b32 %r2, [%rd0], 7, 1", 7), 7001);
    assert_eq!(run("cas.b32 %r2, [%rd0], 8, 1", 7), 7007);
    assert_eq!(run("exch.b32 %r2, [%rd0], 2", 7), 7002);
    assert_eq!(run("or.b32 %r2, [%rd0], 8", 7), 7015);
    let halves = value(
        "mov.u32 %r1, 0x3c004000; st.global.u32 [%rd0], %r1; red.global.add.noftz.f16x2 [%rd0], %r1; ld.global.u32 %r0, [%rd0];",
    );
    assert_eq!(halves, 0x4000_4400);
    let doubles = value(
        "mov.f64 %fd1, 0d3FF0000000000000; st.global.f64 [%rd0], %fd1; atom.global.add.f64 %fd2, [%rd0], %fd1; ld.global.f64 %fd3, [%rd0]; cvt.rn.f32.f64 %f1, %fd3; mov.b32 %r0, %f1;",
    );
    assert_eq!(doubles, 2.0f32.to_bits());
    let short = value(
        "mov.u16 %rs1, 3; mov.u16 %rs2, 9; mov.u32 %r1, 3; st.global.u32 [%rd0], %r1; atom.global.cas.b16 %rs3, [%rd0], %rs1, %rs2; ld.global.u16 %r0, [%rd0];",
    );
    assert_eq!(short, 9);
}

#[test]
fn blocks_add_to_one_counter() {
    let bench = Bench::default();
    let out = bench.words32(&[0; 4]);
    let body = "red.global.add.u32 [%rd0], 1; mov.f32 %f1, 0f3F800000; red.global.add.f32 [%rd0+4], %f1; atom.global.max.u32 %r1, [%rd0+8], %ctaid.x;";
    let image = bench.load(vec![module(&kernel(1, body))]);
    launch(&bench, &image, &shape(50, 96), &[out]).expect("runs");
    assert_eq!(bench.read32(out, 3), [4800, 4800.0f32.to_bits(), 49]);
}

#[test]
fn initial_values_and_addresses_in_variables() {
    let text = r"
.const .align 4 .u32 numbers[2][3] = {{1, 2, 3}, {4, 5}};
.global .align 8 .u64 pointer = generic(numbers)+4;
.global .align 4 .f32 real = 0f40490FDB;
.global .align 1 .b8 bytes[16] = {0xFF(pointer), 0xFF00(pointer), 7};
";
    let body = "ld.global.u64 %rd1, [pointer]; ld.u32 %r1, [%rd1+8]; ld.const.u32 %r2, [numbers+16]; ld.global.u8 %r3, [bytes+2];
                ld.global.u8 %r4, [bytes]; mov.u64 %rd2, pointer; cvt.u32.u64 %r5, %rd2; and.b32 %r5, %r5, 255; setp.eq.u32 %p1, %r4, %r5;
                mad.lo.u32 %r0, %r1, 10, %r2; mad.lo.u32 %r0, %r0, 10, %r3; @%p1 add.u32 %r0, %r0, 1000; st.global.u32 [%rd0], %r0;";
    let bench = Bench::default();
    let out = bench.words32(&[0; 2]);
    let image = bench.load(vec![module(&format!("{text}{}", kernel(1, body)))]);
    launch(&bench, &image, &shape(1, 1), &[out]).expect("runs");
    // Element 1 + 8 bytes = element 3, which begins the second row.
    assert_eq!(bench.read32(out, 1), [1000 + 457]);
}

#[test]
fn modules_link() {
    let library = r"
.visible .global .align 4 .u32 shared_counter = 5;
.weak .func (.param .b32 r) helper(.param .b32 a) { .reg .b32 %r<3>; ld.param.u32 %r1, [a]; add.u32 %r2, %r1, 100;
 st.param.b32 [r], %r2; ret; }
.func (.param .b32 r) local_name(.param .b32 a) { st.param.b32 [r], 0; ret; }
";
    let user = r"
.extern .global .align 4 .u32 shared_counter;
.extern .func (.param .b32 r) helper(.param .b32 a);
.func (.param .b32 r) local_name(.param .b32 a) { st.param.b32 [r], 1; ret; }
";
    let body = "ld.global.u32 %r1, [shared_counter]; { .param .b32 p; st.param.b32 [p], %r1; .param .b32 q;
                call.uni (q), helper, (p); ld.param.b32 %r0, [q]; } st.global.u32 [%rd0], %r0;";
    let bench = Bench::default();
    let out = bench.words32(&[0; 2]);
    let image = bench.load(vec![module(&format!("{user}{}", kernel(1, body))), module(library)]);
    launch(&bench, &image, &shape(1, 1), &[out]).expect("runs");
    assert_eq!(bench.read32(out, 1), [105]);
    let strong = library.replace(".weak", ".visible").replace("100", "200");
    let image = bench.load(vec![
        module(library),
        module(&format!("{user}{}", kernel(1, body))),
        module(&strong.replace(".visible .global .align 4 .u32 shared_counter = 5;", "")),
    ]);
    launch(&bench, &image, &shape(1, 1), &[out]).expect("runs");
    assert_eq!(bench.read32(out, 1), [205]);
    assert!(link(vec![module(&format!("{user}{}", kernel(1, body)))]).is_err());
    assert!(link(vec![module(&strong), module(&strong)]).is_err());
}

#[test]
fn each_kernel_has_only_the_shared_memory_that_it_uses() {
    let text = ".shared .align 4 .b8 a[40000]; .shared .align 4 .b8 b[40000];
        .func f() { st.shared.u32 [b], 1; ret; }
        .visible .entry k() { st.shared.u32 [a], 1; ret; } .visible .entry j() { call.uni f; ret; }
        .visible .entry n() { ret; }";
    let linked = link(vec![module(text)]).expect("links");
    let sizes: Vec<u32> = linked.functions.iter().map(|f| f.static_shared).collect();
    assert_eq!(sizes, [0, 40000, 40000, 0]);
}

#[test]
fn a_function_called_by_address_brings_its_shared_memory() {
    let text = ".global .align 8 .u64 pointer;
        .func f() { .shared .align 4 .b8 room[64]; st.shared.u32 [room+60], 7; ret; }
        .visible .entry set() { .reg .b64 %a; mov.u64 %a, f; st.global.u64 [pointer], %a; ret; }";
    let body = ".shared .align 4 .b32 own; st.shared.u32 [own], 1; ld.global.u64 %rd1, [pointer];
                P: .callprototype _ (); call %rd1, P; ld.shared.u32 %r0, [own]; st.global.u32 [%rd0], %r0;";
    let linked = link(vec![module(&format!("{text}{}", kernel(1, body)))]).expect("links");
    let sizes: Vec<u32> = linked.functions.iter().map(|f| f.static_shared).collect();
    // A kernel that only takes the address may call it for all that is known.
    assert_eq!(sizes, [0, 64, 68]);
}

#[test]
fn parameters_have_addresses() {
    let body = "mov.b64 %rd1, k_param_0; cvta.param.u64 %rd2, %rd1; ld.u64 %rd3, [%rd2]; ld.param.u64 %rd4, [%rd1];
                setp.eq.u64 %p1, %rd3, %rd4; isspacep.param %p2, %rd2; and.pred %p1, %p1, %p2; selp.u32 %r0, 6, 7, %p1;";
    assert_eq!(value(body), 6);
}

#[test]
fn call_sites_share_their_room() {
    let site = "{ .param .align 8 .b8 p[64]; st.param.b32 [p+60], 5; .param .b32 q; call.uni (q), f, (p); ld.param.b32 %r0, [q]; }";
    let text = ".func (.param .b32 r) f(.param .align 8 .b8 a[64]) { .reg .b32 %x; ld.param.b32 %x, [a+60]; st.param.b32 [r], %x; ret; }";
    let source = format!("{text}{}", kernel(1, &format!("{} st.global.u32 [%rd0], %r0;", site.repeat(50))));
    assert_eq!(module(&source).functions[1].local, 68);
    let bench = Bench::default();
    let out = bench.words32(&[0; 2]);
    let image = bench.load(vec![module(&source)]);
    launch(&bench, &image, &shape(1, 1), &[out]).expect("runs");
    assert_eq!(bench.read32(out, 1), [5]);
}

#[test]
fn stack_allocations() {
    let body = "stacksave.u64 %rd5; alloca.u64 %rd1, 64, 16; st.local.u32 [%rd1+60], 9; alloca.u64 %rd2, 16;
                st.local.u32 [%rd2], 1; ld.local.u32 %r0, [%rd1+60]; stackrestore.u64 %rd5; setp.eq.u64 %p1, %rd1, %rd2; @%p1 mov.u32 %r0, 0;";
    assert_eq!(value(body), 9);
}
