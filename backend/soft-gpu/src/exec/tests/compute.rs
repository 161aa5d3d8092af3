//! Instructions as text, from their operands to their result: that the decoder picks the right function.

use super::{output, value};

/// `%r0` of a body with `%r1`, `%r2`, `%r3` set.
fn with(a: u32, b: u32, c: u32, body: &str) -> u32 {
    value(&format!("mov.u32 %r1, {a}; mov.u32 %r2, {b}; mov.u32 %r3, {c}; {body}"))
}

/// A single-precision instruction with `%f0` as result and `%f1`, `%f2`, `%f3` as operands.
fn single(a: f32, b: f32, c: f32, body: &str) -> f32 {
    let bits = with(
        a.to_bits(),
        b.to_bits(),
        c.to_bits(),
        &format!("mov.b32 %f1, %r1; mov.b32 %f2, %r2; mov.b32 %f3, %r3; {body} mov.b32 %r0, %f0;"),
    );
    f32::from_bits(bits)
}

fn minus(value: u32) -> u32 {
    value.wrapping_neg()
}

#[test]
fn integer_arithmetic() {
    for (body, expected) in [
        ("add.s32 %r0, %r1, %r2;", 107),
        ("sub.u32 %r0, %r2, %r1;", minus(93)),
        ("mul.lo.s32 %r0, %r1, %r2;", 700),
        ("mul.hi.s32 %r0, %r1, -1;", u32::MAX),
        ("mul.hi.u32 %r0, %r1, -1;", 99),
        ("mad.lo.s32 %r0, %r1, %r2, %r3;", 703),
        ("mad.hi.u32 %r0, %r1, -1, 5;", 104),
        ("mad24.lo.u32 %r0, %r1, %r2, %r3;", 703),
        ("mul24.lo.s32 %r0, %r1, -3;", minus(300)),
        ("sad.s32 %r0, %r2, %r1, %r3;", 96),
        ("div.s32 %r0, %r1, -7;", minus(14)),
        ("div.u32 %r0, %r1, 0;", u32::MAX),
        ("rem.s32 %r0, -100, %r2;", minus(2)),
        ("neg.s32 %r0, %r1;", minus(100)),
        ("abs.s32 %r0, -100;", 100),
        ("min.s32 %r0, %r1, -1;", u32::MAX),
        ("max.u32 %r0, %r1, -1;", u32::MAX),
        ("add.sat.s32 %r0, %r1, 0x7fffffff;", 0x7fff_ffff),
        ("max.u16x2 %r0, 0x00010005, 0x00020003;", 0x0002_0005),
        ("mul.wide.u16 %r0, %rs1, %rs1;", 0),
        ("dp4a.u32.u32 %r0, 0x01010101, 0x04030201, 5;", 15),
        ("dp2a.lo.u32.u32 %r0, 0x00010001, 0x00000201, 5;", 8),
        ("mul.wide.s32 %rd1, %r1, -1; shr.s64 %rd1, %rd1, 32; cvt.u32.u64 %r0, %rd1;", u32::MAX),
        ("mad.wide.u32 %rd1, -1, -1, 1; shr.u64 %rd1, %rd1, 32; cvt.u32.u64 %r0, %rd1;", 0xffff_fffe),
        (
            "mov.u16 %rs1, 300; mov.u16 %rs2, 300; mul.lo.u16 %rs3, %rs1, %rs2; cvt.u32.u16 %r0, %rs3;",
            90000 % 65536,
        ),
    ] {
        assert_eq!(with(100, 7, 3, body), expected, "{body}");
    }
}

#[test]
fn carry_chains() {
    let add = "add.cc.u32 %r4, %r1, %r2; addc.cc.u32 %r5, 0, 0; addc.u32 %r0, %r5, 41;";
    assert_eq!(with(u32::MAX, 1, 0, add), 42);
    let overwriting = "add.cc.u32 %r1, %r1, %r2; addc.u32 %r0, %r1, 0;";
    assert_eq!(with(u32::MAX, 2, 0, overwriting), 2);
    assert_eq!(with(1, 2, 0, "sub.cc.u32 %r4, %r1, %r2; subc.u32 %r0, 10, 0;"), 9);
    assert_eq!(with(u32::MAX, 2, 3, "mad.lo.cc.u32 %r4, %r1, %r2, %r3; madc.hi.u32 %r0, %r1, %r2, 0;"), 2);
    // 2^64 - 1 squared, upper half of the lower 128 bits.
    let wide = "mov.u64 %rd1, -1; mad.lo.cc.u64 %rd2, %rd1, %rd1, %rd1; madc.hi.u64 %rd3, %rd1, %rd1, 0; cvt.u32.u64 %r0, %rd3;";
    assert_eq!(value(wide), u32::MAX);
}

#[test]
fn bits_and_fields() {
    for (body, expected) in [
        ("and.b32 %r0, %r1, %r2;", 0x0f00),
        ("or.b32 %r0, %r1, %r2;", 0xff0f_fff0 | 0xff00),
        ("xor.b32 %r0, %r1, %r1;", 0),
        ("not.b32 %r0, %r1;", !0x0ff0_0ff0),
        ("cnot.b32 %r0, 0;", 1),
        ("shl.b32 %r0, %r1, 40;", 0),
        ("shr.s32 %r0, 0x80000000, 4;", 0xf800_0000),
        ("shr.u32 %r0, %r1, %r3;", 0x00ff_00ff),
        ("shf.l.wrap.b32 %r0, %r1, %r2, 8;", 0x00ff_000f),
        ("shf.r.clamp.b32 %r0, %r1, %r2, 32;", 0x0000_ff00),
        ("lop3.b32 %r0, %r1, %r2, %r3, 0xEA;", 0x0ff0_0ff0 & 0xff00 | 4),
        ("prmt.b32 %r0, %r1, %r2, 0x0123;", 0xf00f_f00f),
        ("prmt.b32.b4e %r0, 0x44332211, 0x88776655, 1;", 0x7788_1122),
        ("popc.b32 %r0, %r1;", 16),
        ("clz.b32 %r0, %r1;", 4),
        ("bfind.u32 %r0, %r1;", 27),
        ("bfind.shiftamt.u32 %r0, %r1;", 4),
        ("brev.b32 %r0, 1;", 0x8000_0000),
        ("bfe.u32 %r0, %r1, 4, 8;", 0xff),
        ("bfe.s32 %r0, %r1, 4, 8;", u32::MAX),
        ("bfi.b32 %r0, 0xab, %r1, 8, 8;", 0x0ff0_abf0),
        ("fns.b32 %r0, %r1, 0, 3;", 6),
        ("mov.u64 %rd1, 0x8000000000000000; clz.b64 %r0, %rd1;", 0),
        ("mov.u64 %rd1, 0x8000000000000000; popc.b64 %r0, %rd1;", 1),
        ("bmsk.clamp.b32 %r0, 4, 8;", 0xff0),
        ("szext.wrap.s32 %r0, 0x80, 8;", 0xffff_ff80),
    ] {
        let expected = if body.starts_with("or") { 0x0ff0_0ff0 | 0xff00 } else { expected };
        assert_eq!(with(0x0ff0_0ff0, 0xff00, 4, body), expected, "{body}");
    }
}

#[test]
fn comparisons_and_selections() {
    for (body, expected) in [
        ("setp.lt.s32 %p1, %r1, %r2; selp.u32 %r0, 1, 2, %p1;", 1),
        ("setp.lo.u32 %p1, %r1, %r2; selp.u32 %r0, 1, 2, %p1;", 2),
        ("setp.lt.s32 %p1|%p2, %r1, %r2; selp.u32 %r0, 1, 2, %p2;", 2),
        ("setp.eq.u32 %p3, 1, 1; setp.lt.and.s32 %p1|%p2, %r1, %r2, !%p3; selp.u32 %r0, 1, 2, %p1;", 2),
        ("setp.eq.u32 %p3, 1, 1; setp.gt.xor.s32 %p1, %r1, %r2, %p3; selp.u32 %r0, 1, 2, %p1;", 1),
        ("set.lt.u32.s32 %r0, %r1, %r2;", u32::MAX),
        ("set.lt.f32.s32 %f1, %r1, %r2; mov.b32 %r0, %f1;", 0x3f80_0000),
        ("slct.u32.s32 %r0, 1, 2, %r1;", 2),
        ("mov.f32 %f1, 0f80000000; slct.u32.f32 %r0, 1, 2, %f1;", 1),
        ("setp.ne.s32 %p1, %r1, %r2; and.pred %p2, %p1, %p1; not.pred %p3, %p2; selp.u32 %r0, 1, 2, %p3;", 2),
        ("mov.f32 %f1, 0f7FC00000; setp.neu.f32 %p1, %f1, %f1; selp.u32 %r0, 1, 2, %p1;", 1),
        ("mov.f32 %f1, 0f00000001; setp.eq.ftz.f32 %p1, %f1, 0f00000000; selp.u32 %r0, 1, 2, %p1;", 1),
        (
            "mov.f64 %fd1, 0d3FF0000000000000; setp.ge.f64 %p1, %fd1, 0d4000000000000000; selp.u32 %r0, 1, 2, %p1;",
            2,
        ),
        (
            "mov.u32 %r4, 0x3c004000; setp.gt.f16x2 %p1|%p2, %r4, 0x3c003c00; selp.u32 %r0, 1, 2, %p1; @%p2 add.u32 %r0, %r0, 9;",
            1,
        ),
    ] {
        assert_eq!(with(minus(1), 5, 0, body), expected, "{body}");
    }
}

#[test]
fn packed_comparisons_as_values() {
    let set =
        |operation: &str| value(&format!("mov.u32 %r4, 0x3c004000; set.{operation} %r0, %r4, 0x3c003c00;"));
    assert_eq!(set("gt.f16x2.f16x2"), 0x0000_3c00);
    assert_eq!(set("leu.u32.f16x2"), 0xffff_0000);
}

#[test]
fn single_precision() {
    for (body, expected) in [
        ("add.f32 %f0, %f1, %f2;", 1.75),
        ("add.rn.f32 %f0, %f1, 0f3F800000;", 2.5),
        ("sub.ftz.f32 %f0, %f1, %f2;", 1.25),
        ("mul.sat.f32 %f0, %f1, %f3;", 1.0),
        ("fma.rn.f32 %f0, %f1, %f2, %f3;", 3.375),
        ("mad.rn.f32 %f0, %f1, %f2, %f3;", 3.375),
        ("div.rn.f32 %f0, %f3, %f1;", 2.0),
        ("div.approx.f32 %f0, %f3, %f1;", 2.0),
        ("div.full.ftz.f32 %f0, %f3, %f1;", 2.0),
        ("rcp.approx.ftz.f32 %f0, %f2;", 4.0),
        ("sqrt.rn.f32 %f0, %f2;", 0.5),
        ("sqrt.approx.f32 %f0, %f2;", 0.5),
        ("rsqrt.approx.f32 %f0, %f2;", 2.0),
        ("ex2.approx.f32 %f0, %f3;", 8.0),
        ("lg2.approx.f32 %f0, %f2;", -2.0),
        ("neg.f32 %f0, %f1;", -1.5),
        ("abs.f32 %f0, 0fC0000000;", 2.0),
        ("min.f32 %f0, %f1, %f2;", 0.25),
        ("max.NaN.f32 %f0, %f1, %f2;", 1.5),
        ("copysign.f32 %f0, 0f80000000, %f1;", -1.5),
        ("cvt.rmi.f32.f32 %f0, %f1;", 1.0),
        ("cvt.rn.f32.s32 %f0, -7;", -7.0),
        ("cvt.rzi.s32.f32 %r4, %f1; cvt.rn.f32.u32 %f0, %r4;", 1.0),
        ("cvt.f64.f32 %fd1, %f1; mul.f64 %fd1, %fd1, %fd1; cvt.rn.f32.f64 %f0, %fd1;", 2.25),
        ("cvt.rn.f16.f32 %rs1, %f1; add.f16 %rs2, %rs1, %rs1; cvt.f32.f16 %f0, %rs2;", 3.0),
        ("cvt.rn.bf16x2.f32 %r4, %f1, %f2; mov.b32 {%rs1, %rs2}, %r4; cvt.f32.bf16 %f0, %rs2;", 1.5),
        (
            "cvt.rn.f16x2.f32 %r4, %f1, %f2; fma.rn.f16x2 %r5, %r4, %r4, %r4; mov.b32 {%rs1, %rs2}, %r5; cvt.f32.f16 %f0, %rs1;",
            0.3125,
        ),
    ] {
        assert_eq!(single(1.5, 0.25, 3.0, body).to_bits(), f32::to_bits(expected), "{body}");
    }
}

#[test]
fn approximations_are_within_their_bounds() {
    for step in -64i16..=64 {
        let x = f32::from(step) * 0.05;
        let near = |body: &str, exact: f64, bound: f64| {
            let got = f64::from(single(x, 0.0, 0.0, body));
            assert!((got - exact).abs() <= bound, "{body} {x}: {got} {exact}");
        };
        let wide = f64::from(x);
        near("sin.approx.f32 %f0, %f1;", wide.sin(), 2f64.powf(-20.5));
        near("cos.approx.f32 %f0, %f1;", wide.cos(), 2f64.powf(-20.5));
        near("tanh.approx.f32 %f0, %f1;", wide.tanh(), 2f64.powi(-11));
        near("ex2.approx.ftz.f32 %f0, %f1;", wide.exp2(), wide.exp2() * 2f64.powi(-22));
    }
}

#[test]
fn products_and_sums_are_never_fused() {
    let (a, c) = (1.0 + f32::EPSILON, -(1.0 + 2.0 * f32::EPSILON));
    assert_eq!(single(a, a, c, "mul.f32 %f4, %f1, %f2; add.f32 %f0, %f4, %f3;"), 0.0);
    assert_ne!(single(a, a, c, "fma.rn.f32 %f0, %f1, %f2, %f3;"), 0.0);
}

#[test]
fn rounding_modes_reach_the_arithmetic() {
    let tiny = 1e-20;
    assert_eq!(single(1.0, tiny, 0.0, "add.rp.f32 %f0, %f1, %f2;"), 1.0f32.next_up());
    assert_eq!(single(1.0, tiny, 0.0, "sub.rz.f32 %f0, %f1, %f2;"), 1.0f32.next_down());
    assert_eq!(single(1.0, 3.0, 0.0, "div.rp.f32 %f0, %f1, %f2;"), (1.0f32 / 3.0));
    assert_eq!(single(1.0, 3.0, 0.0, "div.rm.f32 %f0, %f1, %f2;"), (1.0f32 / 3.0).next_down());
    let wide = "cvt.f64.f32 %fd1, %f1; cvt.f64.f32 %fd2, %f2; add.rm.f64 %fd3, %fd1, %fd2; sub.f64 %fd3, %fd3, %fd1; cvt.rn.f32.f64 %f0, %fd3;";
    assert_eq!(single(1.0, -1e-30, 0.0, wide), -1.110_223e-16);
}

#[test]
fn special_registers() {
    let body = "mov.u32 %r1, %laneid; mov.u32 %r2, %ntid.x; mov.u32 %r3, %nctaid.x; mov.u32 %r4, %warpid; mov.u32 %r5, %nwarpid;
                mul.lo.u32 %r2, %r2, 100; add.u32 %r0, %r1, %r2; mad.lo.u32 %r0, %r3, 10000, %r0; mad.lo.u32 %r0, %r5, 1000000, %r0; add.u32 %r0, %r0, %r4;
                mul.wide.u32 %rd1, %r1, 4; add.s64 %rd2, %rd0, %rd1; st.global.u32 [%rd2], %r0;";
    let lanes: Vec<u32> = (0..32).map(|lane| 1_013_200 + lane).collect();
    assert_eq!(output(body)[..32], lanes);
    let clock = "mov.u64 %rd1, %clock64; nanosleep.u32 20; L: mov.u64 %rd2, %clock64; setp.eq.u64 %p1, %rd1, %rd2; @%p1 bra L;
                 setp.gt.u64 %p2, %rd2, %rd1; selp.u32 %r0, 1, 0, %p2; mov.u64 %rd3, %globaltimer; setp.eq.u64 %p3, %rd3, 0; @%p3 mov.u32 %r0, 2;";
    assert_eq!(value(clock), 1);
    assert_eq!(value("mov.u32 %r0, %smid; mov.u32 %r1, %nsmid; mad.lo.u32 %r0, %r1, 10, %r0;"), 40);
}
