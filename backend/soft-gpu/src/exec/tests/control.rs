//! Branches, loops, calls, barriers across the grid, and the ways to end.

use super::super::{CancelToken, FaultKind, Launch, LaunchLimits, run};
use super::{Bench, kernel, launch, module, output, shape, value};

/// As clang and nvcc write it.
const VECTOR_ADD: &str = r"
.visible .entry k(
	.param .u64 k_param_0,
	.param .u64 k_param_1,
	.param .u64 k_param_2,
	.param .u32 k_param_3
)
{
	.reg .pred 	%p<2>;
	.reg .f32 	%f<4>;
	.reg .b32 	%r<6>;
	.reg .b64 	%rd<11>;

	ld.param.u64 	%rd1, [k_param_0];
	ld.param.u64 	%rd2, [k_param_1];
	ld.param.u64 	%rd3, [k_param_2];
	ld.param.u32 	%r2, [k_param_3];
	mov.u32 	%r3, %ctaid.x;
	mov.u32 	%r4, %ntid.x;
	mov.u32 	%r5, %tid.x;
	mad.lo.s32 	%r1, %r3, %r4, %r5;
	setp.ge.s32 	%p1, %r1, %r2;
	@%p1 bra 	$L__BB0_2;

	cvta.to.global.u64 	%rd4, %rd1;
	mul.wide.s32 	%rd5, %r1, 4;
	add.s64 	%rd6, %rd4, %rd5;
	cvta.to.global.u64 	%rd7, %rd2;
	add.s64 	%rd8, %rd7, %rd5;
	ld.global.f32 	%f1, [%rd8];
	ld.global.f32 	%f2, [%rd6];
	add.f32 	%f3, %f2, %f1;
	cvta.to.global.u64 	%rd9, %rd3;
	add.s64 	%rd10, %rd9, %rd5;
	st.global.f32 	[%rd10], %f3;

$L__BB0_2:
	ret;
}
";

#[test]
fn vector_add_of_a_million() {
    let bench = Bench::default();
    let n = 1_000_000u32;
    let floats = |f: fn(u32) -> f32| bench.words32(&(0..n).map(|i| f(i).to_bits()).collect::<Vec<_>>());
    let (a, b) = (floats(|i| i as f32), floats(|i| 2.0 * i as f32));
    let c = bench.words32(&vec![0; n as usize]);
    let image = bench.load(vec![module(VECTOR_ADD)]);
    let begun = std::time::Instant::now();
    launch(&bench, &image, &shape(n.div_ceil(256), 256), &[a, b, c, u64::from(n)]).expect("runs");
    assert!(begun.elapsed().as_secs() < 10, "took {:?}", begun.elapsed());
    let sums = bench.read32(c, n as usize);
    assert!((0..n).all(|i| sums[i as usize] == (3.0 * i as f32).to_bits()));
}

#[test]
fn shared_memory_and_barriers_reverse_a_block() {
    let text = format!(
        ".extern .shared .align 4 .b8 buffer[];\n{}",
        kernel(
            1,
            "mov.u32 %r1, %tid.x; mov.u32 %r2, %ntid.x;
             mov.u32 %r3, buffer; shl.b32 %r4, %r1, 2; add.s32 %r5, %r3, %r4;
             st.shared.u32 [%r5], %r1;
             bar.sync 0;
             sub.s32 %r6, %r2, %r1; shl.b32 %r6, %r6, 2; add.s32 %r7, %r3, %r6;
             ld.shared.u32 %r8, [%r7+-4];
             mul.wide.u32 %rd1, %r1, 4; add.s64 %rd2, %rd0, %rd1;
             st.global.u32 [%rd2], %r8;"
        )
    );
    let bench = Bench::default();
    let out = bench.words32(&[0; 200]);
    let image = bench.load(vec![module(&text)]);
    let mut shape = shape(1, 200);
    shape.shared = 800;
    launch(&bench, &image, &shape, &[out]).expect("runs");
    let expected: Vec<u32> = (0..200).rev().collect();
    assert_eq!(bench.read32(out, 200), expected);
}

#[test]
fn barrier_does_not_wait_for_threads_that_exited() {
    let body = "mov.u32 %r1, %tid.x; setp.gt.u32 %p1, %r1, 40; @%p1 ret;
                bar.sync 0; atom.global.add.u32 %r2, [%rd0], 1;";
    let bench = Bench::default();
    let out = bench.words32(&[0; 2]);
    let image = bench.load(vec![module(&kernel(1, body))]);
    launch(&bench, &image, &shape(1, 100), &[out]).expect("runs");
    assert_eq!(bench.read32(out, 1), [41]);
}

#[test]
fn barrier_reductions_and_partial_barriers() {
    let body = "mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 10;
                bar.red.popc.u32 %r2, 0, %p1;
                bar.red.and.pred %p2, 1, !%p1;
                bar.red.or.pred %p3, 2, 64, %p1;
                selp.u32 %r3, 100, 0, %p2; selp.u32 %r4, 1000, 0, %p3;
                add.u32 %r2, %r2, %r3; add.u32 %r2, %r2, %r4;
                mul.wide.u32 %rd1, %r1, 4; add.s64 %rd2, %rd0, %rd1; st.global.u32 [%rd2], %r2;";
    let bench = Bench::default();
    let out = bench.words32(&[0; 64]);
    let image = bench.load(vec![module(&kernel(1, body))]);
    launch(&bench, &image, &shape(1, 64), &[out]).expect("runs");
    assert_eq!(bench.read32(out, 64), [1010; 64]);
}

#[test]
fn producers_arrive_and_consumers_wait() {
    // Warp 0 consumes what warp 1 produced; the barrier counts 64.
    let body = "mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 32; @%p1 bra CONSUME;
                st.global.u32 [%rd0], 7; bar.arrive 3, 64; ret;
                CONSUME: bar.sync 3, 64; ld.volatile.global.u32 %r2, [%rd0]; st.global.u32 [%rd0+4], %r2;";
    let bench = Bench::default();
    let out = bench.words32(&[0; 2]);
    let image = bench.load(vec![module(&kernel(1, body))]);
    launch(&bench, &image, &shape(1, 64), &[out]).expect("runs");
    assert_eq!(bench.read32(out, 2), [7, 7]);
}

#[test]
fn spin_lock_between_lanes_of_a_warp_ends() {
    let body = "TRY: atom.global.cas.b32 %r1, [%rd0], 0, 1; setp.ne.s32 %p1, %r1, 0; @%p1 bra TRY;
                ld.volatile.global.u32 %r2, [%rd0+4]; add.u32 %r2, %r2, 1; st.volatile.global.u32 [%rd0+4], %r2;
                membar.gl; atom.global.exch.b32 %r3, [%rd0], 0;";
    let bench = Bench::default();
    let out = bench.words32(&[0; 2]);
    let image = bench.load(vec![module(&kernel(1, body))]);
    launch(&bench, &image, &shape(8, 64), &[out]).expect("runs");
    assert_eq!(bench.read32(out, 2), [0, 512]);
}

#[test]
fn lanes_that_spin_and_diverge_do_not_starve_the_one_they_wait_for() {
    let body = "mov.u32 %r1, %laneid; setp.eq.u32 %p1, %r1, 31; @%p1 bra RELEASE;
                WAIT: ld.volatile.global.u32 %r2, [%rd0]; setp.ne.u32 %p2, %r2, 0; @%p2 bra DONE;
                and.b32 %r3, %r1, 1; setp.eq.u32 %p3, %r3, 1; @%p3 bra ODD; add.u32 %r4, %r4, 1; bra WAIT;
                ODD: add.u32 %r4, %r4, 2; bra WAIT;
                RELEASE: st.volatile.global.u32 [%rd0], 1; DONE: atom.global.add.u32 %r5, [%rd0+4], 1;";
    let bench = Bench::default();
    let out = bench.words32(&[0; 2]);
    let image = bench.load(vec![module(&kernel(1, body))]);
    launch(&bench, &image, &shape(2, 64), &[out]).expect("runs");
    assert_eq!(bench.read32(out, 2), [1, 128]);
}

#[test]
fn blocks_of_a_cooperative_launch_meet_at_a_grid_barrier() {
    // Every block adds its part, waits for all, and then reads the whole.
    let body = "mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %nctaid.x;
                setp.ne.u32 %p1, %r1, 0; @%p1 bra JOIN;
                red.global.add.u32 [%rd0], %r2; membar.gl;
                atom.global.add.u32 %r4, [%rd0+4], 1;
                WAIT: ld.acquire.gpu.global.u32 %r5, [%rd0+4]; setp.lt.u32 %p2, %r5, %r3; @%p2 bra WAIT;
                JOIN: bar.sync 0;
                ld.global.u32 %r6, [%rd0]; setp.ne.u32 %p1, %r1, 0; @%p1 ret;
                mul.wide.u32 %rd1, %r2, 4; add.s64 %rd2, %rd0, %rd1; st.global.u32 [%rd2+8], %r6;";
    for (cooperative, workers) in [(true, 1), (true, 2), (false, 1), (false, 3)] {
        let bench = Bench::default();
        let out = bench.words32(&[0; 66]);
        let image = bench.load(vec![module(&kernel(1, body))]);
        let mut shape = shape(64, 64);
        (shape.cooperative, shape.workers) = (cooperative, workers);
        launch(&bench, &image, &shape, &[out]).expect("runs");
        assert_eq!(bench.read32(out, 66)[2..], [2016; 64], "{cooperative} {workers}");
    }
}

#[test]
fn decoupled_look_back_ends() {
    // Each block publishes its inclusive prefix after its predecessor's: words of flag and value.
    let body = "mov.u32 %r1, %ctaid.x; mul.wide.u32 %rd1, %r1, 8; add.s64 %rd2, %rd0, %rd1;
                mov.u32 %r5, 0; setp.eq.u32 %p1, %r1, 0; @%p1 bra PUBLISH;
                WAIT: ld.volatile.global.u32 %r4, [%rd2+-8]; setp.eq.u32 %p2, %r4, 0; @%p2 bra WAIT;
                membar.gl; ld.volatile.global.u32 %r5, [%rd2+-4];
                PUBLISH: add.u32 %r5, %r5, %r1; st.volatile.global.u32 [%rd2+4], %r5; membar.gl;
                st.volatile.global.u32 [%rd2], 1;";
    let bench = Bench::default();
    let out = bench.words32(&[0; 400]);
    let image = bench.load(vec![module(&kernel(1, body))]);
    launch(&bench, &image, &shape(200, 1), &[out]).expect("runs");
    assert_eq!(bench.read32(out, 400)[399], 199 * 200 / 2);
}

#[test]
fn blocks_may_wait_for_later_ones() {
    let body = "mov.u32 %r1, %ctaid.x; setp.eq.u32 %p1, %r1, 9; @%p1 bra LAST;
                WAIT: ld.volatile.global.u32 %r2, [%rd0]; setp.eq.u32 %p2, %r2, 0; @%p2 bra WAIT; ret;
                LAST: st.volatile.global.u32 [%rd0], 5;";
    let bench = Bench::default();
    let out = bench.words32(&[0; 2]);
    let image = bench.load(vec![module(&kernel(1, body))]);
    launch(&bench, &image, &shape(10, 32), &[out]).expect("runs");
    assert_eq!(bench.read32(out, 1), [5]);
}

#[test]
fn endless_kernels_are_stopped() {
    let bench = Bench::default();
    let image = bench.load(vec![module(&kernel(0, "LOOP: bra LOOP;"))]);
    let mut shape = shape(4, 64);
    shape.steps = 1_000_000;
    assert_eq!(launch(&bench, &image, &shape, &[]).expect_err("stops").kind, FaultKind::Timeout);
    // Half of the block waits for the other half, which waits at another barrier.
    let body =
        "mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 32; @%p1 bra A; bar.sync 1, 64; ret; A: bar.sync 2, 64;";
    let image = bench.load(vec![module(&kernel(0, body))]);
    assert_eq!(launch(&bench, &image, &shape, &[]).expect_err("stops").kind, FaultKind::Timeout);
}

#[test]
fn a_cancelled_launch_ends() {
    let bench = Bench::default();
    let image = bench.load(vec![module(&kernel(0, "LOOP: bra LOOP;"))]);
    let cancel = CancelToken::new();
    let launch = Launch {
        entry: 0,
        grid: [2, 1, 1],
        block: [32, 1, 1],
        dynamic_shared: 0,
        params: &[],
        cooperative: false,
        grid_id: 0,
        multiprocessors: 1,
        limits: LaunchLimits::default(),
    };
    let fault = std::thread::scope(|scope| {
        let running = scope.spawn(|| run(&image, &launch, &bench, &cancel));
        cancel.cancel();
        running.join().expect("no panic")
    });
    assert_eq!(fault.expect_err("cancelled").kind, FaultKind::Cancelled);
}

#[test]
fn traps_and_assertions_name_their_place() {
    let bench = Bench::default();
    let image =
        bench.load(vec![module(&kernel(0, "mov.u32 %r1, %tid.x;\nsetp.eq.u32 %p1, %r1, 5;\n@%p1 trap;"))]);
    let fault = launch(&bench, &image, &shape(1, 32), &[]).expect_err("traps");
    assert_eq!((fault.kind, fault.thread, fault.function.as_str()), (FaultKind::Trap, [5, 0, 0], "k"));
    assert!(fault.line > 10, "{fault}");
    let text = format!(
        ".extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);
         .global .align 1 .b8 message[6] = {{120, 32, 62, 32, 49, 0}};\n{}",
        kernel(
            0,
            "mov.u64 %rd1, message; cvta.global.u64 %rd2, %rd1;
             {{ .param .b64 param0; st.param.b64 [param0+0], %rd2; .param .b64 param1; st.param.b64 [param1+0], %rd2;
             .param .b32 param2; st.param.b32 [param2+0], 12; .param .b64 param3; st.param.b64 [param3+0], %rd2;
             .param .b64 param4; st.param.b64 [param4+0], 1;
             call.uni __assertfail, (param0, param1, param2, param3, param4); }}"
                .replace("{{", "{")
                .replace("}}", "}")
                .as_str()
        )
    );
    let image = bench.load(vec![module(&text)]);
    let fault = launch(&bench, &image, &shape(1, 1), &[]).expect_err("asserts");
    assert_eq!(fault.kind, FaultKind::Assert);
    assert!(fault.detail.contains("x > 1") && fault.detail.contains(":12"), "{fault}");
}

const FACTORIAL: &str = r"
.func (.param .b64 func_retval0) factorial(.param .b32 factorial_param_0)
{
	.reg .pred %p<2>; .reg .b32 %r<4>; .reg .b64 %rd<6>;
	ld.param.u32 	%r1, [factorial_param_0];
	setp.gt.u32 	%p1, %r1, 1;
	mov.u64 	%rd5, 1;
	@%p1 bra 	$L__BB0_1;
	bra.uni 	$L__BB0_2;
$L__BB0_1:
	add.s32 	%r2, %r1, -1;
	{ // callseq 0, 0
	.reg .b32 temp_param_reg;
	.param .b32 param0;
	st.param.b32 	[param0+0], %r2;
	.param .b64 retval0;
	call.uni (retval0),
	factorial,
	(
	param0
	);
	ld.param.b64 	%rd1, [retval0+0];
	} // callseq 0
	cvt.u64.u32 	%rd2, %r1;
	mul.lo.s64 	%rd5, %rd1, %rd2;
$L__BB0_2:
	st.param.b64 	[func_retval0+0], %rd5;
	ret;
}
";

#[test]
fn recursion_diverges_and_meets_again() {
    let body = "mov.u32 %r1, %tid.x; and.b32 %r1, %r1, 15;
                { .param .b32 param0; st.param.b32 [param0+0], %r1; .param .b64 retval0;
                call.uni (retval0), factorial, (param0); ld.param.b64 %rd1, [retval0+0]; }
                mov.u32 %r2, %tid.x; mul.wide.u32 %rd2, %r2, 8; add.s64 %rd3, %rd0, %rd2; st.global.u64 [%rd3], %rd1;";
    let bench = Bench::default();
    let out = bench.words32(&[0; 64]);
    let image = bench.load(vec![module(&format!("{FACTORIAL}{}", kernel(1, body)))]);
    launch(&bench, &image, &shape(1, 32), &[out]).expect("runs");
    let expected: Vec<u64> = (0..32u64).map(|lane| (1..=lane % 16).product()).collect();
    assert_eq!(bench.read64(out, 32), expected);
}

#[test]
fn endless_recursion_overflows_the_stack() {
    let text =
        ".func f() { .local .b8 room[64]; call.uni f; ret; }\n.visible .entry k() { call.uni f; ret; }";
    let bench = Bench::default();
    let image = bench.load(vec![module(text)]);
    let fault = launch(&bench, &image, &shape(1, 1), &[]).expect_err("overflows");
    assert_eq!(fault.kind, FaultKind::StackOverflow);
}

#[test]
fn indirect_calls_go_where_each_lane_says() {
    let text = r"
.func (.param .b32 r) twice(.param .b32 a) { .reg .b32 %r<3>; ld.param.u32 %r1, [a]; shl.b32 %r2, %r1, 1;
 st.param.b32 [r], %r2; ret; }
.func (.param .b32 r) negative(.param .b32 a) { .reg .b32 %r<3>; ld.param.u32 %r1, [a]; neg.s32 %r2, %r1;
 st.param.b32 [r], %r2; ret; }
.global .align 8 .u64 table[2] = {twice, negative};
";
    let body = "mov.u32 %r1, %tid.x; and.b32 %r2, %r1, 1; mul.wide.u32 %rd1, %r2, 8; mov.u64 %rd2, table;
                add.s64 %rd3, %rd2, %rd1; ld.global.u64 %rd4, [%rd3];
                { .param .b32 param0; st.param.b32 [param0], %r1; .param .b32 retval0;
                prototype_0 : .callprototype (.param .b32 _) _ (.param .b32 _);
                call (retval0), %rd4, (param0), prototype_0; ld.param.b32 %r3, [retval0]; }
                mul.wide.u32 %rd5, %r1, 4; add.s64 %rd6, %rd0, %rd5; st.global.u32 [%rd6], %r3;";
    let bench = Bench::default();
    let out = bench.words32(&[0; 32]);
    let image = bench.load(vec![module(&format!("{text}{}", kernel(1, body)))]);
    launch(&bench, &image, &shape(1, 32), &[out]).expect("runs");
    let expected: Vec<u32> =
        (0..32u32).map(|lane| if lane % 2 == 0 { 2 * lane } else { lane.wrapping_neg() }).collect();
    assert_eq!(bench.read32(out, 32), expected);
    let image = bench.load(vec![module(&kernel(1, "P: .callprototype _ (); call %rd0, P;"))]);
    assert_eq!(launch(&bench, &image, &shape(1, 1), &[64]).expect_err("faults").kind, FaultKind::InvalidPc);
}

#[test]
fn registers_as_parameters() {
    let text =
        ".func (.reg .u32 %out) increment(.reg .u32 %in, .reg .u32 %by) { add.u32 %out, %in, %by; ret; }";
    let bench = Bench::default();
    let out = bench.words32(&[0; 2]);
    let body = "mov.u32 %r1, 40; call (%r0), increment, (%r1, 2); st.global.u32 [%rd0], %r0;";
    let image = bench.load(vec![module(&format!("{text}\n{}", kernel(1, body)))]);
    launch(&bench, &image, &shape(1, 1), &[out]).expect("runs");
    assert_eq!(bench.read32(out, 1), [42]);
}

#[test]
fn jump_tables() {
    let body =
        "mov.u32 %r1, %tid.x; and.b32 %r2, %r1, 3; mul.wide.u32 %rd1, %r1, 4; add.s64 %rd2, %rd0, %rd1;
                T: .branchtargets A, B, C, D;
                brx.idx %r2, T;
                A: mov.u32 %r3, 10; bra.uni END; B: mov.u32 %r3, 11; bra.uni END;
                C: mov.u32 %r3, 12; bra.uni END; D: mov.u32 %r3, 13;
                END: st.global.u32 [%rd2], %r3;";
    let expected: Vec<u32> = (0..32).map(|lane| 10 + lane % 4).collect();
    assert_eq!(output(body)[..32], expected);
}

#[test]
fn loops_with_lane_dependent_counts() {
    let body = "mov.u32 %r1, %tid.x; mov.u32 %r2, 0; mov.u32 %r3, 0;
                LOOP: setp.ge.u32 %p1, %r2, %r1; @%p1 bra END; add.u32 %r2, %r2, 1; add.u32 %r3, %r3, %r2;
                bra.uni LOOP; END: mul.wide.u32 %rd1, %r1, 4; add.s64 %rd2, %rd0, %rd1; st.global.u32 [%rd2], %r3;";
    let expected: Vec<u32> = (0..32).map(|lane| lane * (lane + 1) / 2).collect();
    assert_eq!(output(body)[..32], expected);
}

#[test]
fn printf_and_heap() {
    let text = r#"
.extern .func (.param .b32 func_retval0) vprintf(.param .b64 vprintf_param_0, .param .b64 vprintf_param_1);
.extern .func (.param .b64 func_retval0) malloc(.param .b64 malloc_param_0);
.extern .func free(.param .b64 free_param_0);
.global .align 1 .b8 format[] = {105, 61, 37, 100, 32, 120, 61, 37, 46, 49, 102, 10, 0};
"#;
    let body = r"
.local .align 8 .b8 __local_depot0[16]; .reg .b64 %SP; .reg .b64 %SPL;
mov.u64 %SPL, __local_depot0; cvta.local.u64 %SP, %SPL; add.u64 %rd1, %SP, 0; add.u64 %rd2, %SPL, 0;
mov.u32 %r1, %tid.x; st.local.u32 [%rd2], %r1; mov.f64 %fd1, 0d4004000000000000; st.local.f64 [%rd2+8], %fd1;
mov.u64 %rd3, format; cvta.global.u64 %rd4, %rd3;
{ .param .b64 param0; st.param.b64 [param0+0], %rd4; .param .b64 param1; st.param.b64 [param1+0], %rd1;
.param .b32 retval0; call.uni (retval0), vprintf, (param0, param1); ld.param.b32 %r2, [retval0+0]; }
{ .param .b64 param0; st.param.b64 [param0+0], 64; .param .b64 retval0;
call.uni (retval0), malloc, (param0); ld.param.b64 %rd5, [retval0+0]; }
st.u32 [%rd5+60], %r2; ld.u32 %r3, [%rd5+60];
{ .param .b64 param0; st.param.b64 [param0+0], %rd5; call.uni free, (param0); }
st.global.u32 [%rd0], %r3;";
    let bench = Bench::default();
    let out = bench.words32(&[0; 2]);
    let image = bench.load(vec![module(&format!("{text}{}", kernel(1, body)))]);
    launch(&bench, &image, &shape(1, 2), &[out]).expect("runs");
    assert_eq!(bench.read32(out, 1), [2]);
    let printed = String::from_utf8(bench.printed.lock().expect("lock").clone()).expect("text");
    assert_eq!(printed, "i=0 x=2.5\ni=1 x=2.5\n");
}

#[test]
fn launches_that_do_not_fit_are_refused() {
    let bench = Bench::default();
    let image = bench.load(vec![module(&kernel(1, ""))]);
    for (grid, block, params) in [(0, 1, 1), (1, 0, 1), (1, 2000, 1), (1, 1, 0)] {
        let fault = launch(&bench, &image, &shape(grid, block), &vec![0; params]).expect_err("refused");
        assert_eq!(fault.kind, FaultKind::OutOfResources);
    }
}

#[test]
fn guards_that_their_own_instruction_changes() {
    assert_eq!(
        value(
            "mov.u32 %r1, 3; setp.eq.u32 %p1, %r1, 3; @%p1 setp.ne.u32 %p1|%p2, %r1, 3; selp.u32 %r0, 1, 0, %p2; @!%p1 add.u32 %r0, %r0, 2;"
        ),
        3
    );
}
