//! Warp-wide instructions.

use super::super::FaultKind;
use super::{Bench, kernel, launch, module, output, shape};

/// Stores `%r9` of each lane.
fn lanes(body: &str) -> Vec<u32> {
    let store = "mul.wide.u32 %rd9, %r8, 4; add.s64 %rd10, %rd0, %rd9; st.global.u32 [%rd10], %r9;";
    output(&format!("mov.u32 %r8, %laneid; {body} {store}"))[..32].to_vec()
}

#[test]
fn votes() {
    let body = "setp.lt.u32 %p1, %r8, 4; vote.sync.ballot.b32 %r9, %p1, -1; vote.sync.all.pred %p2, %p1, -1;
                vote.sync.any.pred %p3, !%p1, -1; vote.sync.uni.pred %p4, %p1, -1;
                @%p2 or.b32 %r9, %r9, 256; @%p3 or.b32 %r9, %r9, 512; @%p4 or.b32 %r9, %r9, 1024;";
    assert_eq!(lanes(body), [0xf | 512; 32]);
}

#[test]
fn shuffles_of_every_kind() {
    let up = lanes("shfl.sync.up.b32 %r9|%p1, %r8, 1, 0, -1; @!%p1 mov.u32 %r9, 99;");
    assert_eq!((up[0], up[1], up[31]), (99, 0, 30));
    let down = lanes("shfl.sync.down.b32 %r9|%p1, %r8, 2, 31, -1; @!%p1 mov.u32 %r9, 99;");
    assert_eq!((down[0], down[29], down[30]), (2, 31, 99));
    let xor = lanes("shfl.sync.bfly.b32 %r9, %r8, 16, 31, 0xffffffff;");
    assert_eq!((xor[0], xor[20]), (16, 4));
    // Segments of eight: the clamp operand holds 0x1800 | 0x1f.
    let index = lanes("shfl.sync.idx.b32 %r9, %r8, 3, 0x181f, -1;");
    assert_eq!((index[0], index[7], index[8], index[31]), (3, 3, 11, 27));
}

#[test]
fn warp_reduction_as_programs_write_it() {
    let body = "mov.u32 %r9, %r8;
        shfl.sync.down.b32 %r1, %r9, 16, 31, -1; add.s32 %r9, %r9, %r1; shfl.sync.down.b32 %r1, %r9, 8, 31, -1; add.s32 %r9, %r9, %r1;
        shfl.sync.down.b32 %r1, %r9, 4, 31, -1; add.s32 %r9, %r9, %r1; shfl.sync.down.b32 %r1, %r9, 2, 31, -1; add.s32 %r9, %r9, %r1;
        shfl.sync.down.b32 %r1, %r9, 1, 31, -1; add.s32 %r9, %r9, %r1;";
    assert_eq!(lanes(body)[0], 496);
}

#[test]
fn sync_forms_wait_for_the_lanes_they_name() {
    // The upper half takes a longer way to its own copy of the ballot.
    let body = "setp.lt.u32 %p1, %r8, 16; @%p1 bra LOW; mov.u32 %r1, 5;
                L: add.s32 %r1, %r1, -1; setp.ne.s32 %p2, %r1, 0; @%p2 bra L;
                vote.sync.ballot.b32 %r9, 1, 0xffffffff; bra.uni DONE;
                LOW: vote.sync.ballot.b32 %r9, 1, 0xffffffff; DONE:";
    assert_eq!(lanes(body), [u32::MAX; 32]);
}

#[test]
fn tiles_with_masks_of_their_own() {
    let body = "and.b32 %r1, %r8, 24; mov.u32 %r2, 255; shl.b32 %r2, %r2, %r1;
                redux.sync.add.s32 %r9, %r8, %r2;";
    let sums = lanes(body);
    assert_eq!((sums[0], sums[8], sums[31]), (28, 92, 220));
}

#[test]
fn exited_lanes_are_not_waited_for() {
    let body = "setp.gt.u32 %p1, %r8, 7; @%p1 exit; bar.warp.sync -1; vote.sync.ballot.b32 %r9, 1, -1;";
    assert_eq!(lanes(body)[..8], [0xff; 8]);
}

#[test]
fn matches_reductions_masks() {
    assert_eq!(
        lanes("and.b32 %r1, %r8, 1; match.any.sync.b32 %r9, %r1, -1;")[..2],
        [0x5555_5555, 0xaaaa_aaaa]
    );
    assert_eq!(lanes("match.all.sync.b32 %r9|%p1, %r8, -1; @%p1 mov.u32 %r9, 7;")[0], 0);
    assert_eq!(lanes("mov.u32 %r1, 5; match.all.sync.b32 %r9|%p1, %r1, -1;")[0], u32::MAX);
    assert_eq!(lanes("sub.s32 %r1, 10, %r8; redux.sync.min.s32 %r9, %r1, -1;")[0], (-21i32).cast_unsigned());
    assert_eq!(lanes("redux.sync.max.u32 %r9, %r8, -1;")[0], 31);
    assert_eq!(lanes("redux.sync.xor.b32 %r9, %r8, -1;")[0], 0);
    assert_eq!(lanes("mov.u32 %r9, %lanemask_lt;")[5], 0x1f);
    assert_eq!(lanes("mov.u32 %r9, %lanemask_ge;")[31], 0x8000_0000);
    assert_eq!(lanes("mov.u32 %r9, %lanemask_gt;")[31], 0);
    assert_eq!(lanes("activemask.b32 %r9;")[3], u32::MAX);
    assert_eq!(lanes("elect.sync %r9|%p1, -1; @%p1 mov.u32 %r9, 77;")[..2], [77, 0]);
}

#[test]
fn lanes_that_wait_for_each_other_at_different_instructions_fault() {
    let body = "mov.u32 %r8, %laneid; setp.lt.u32 %p1, %r8, 16; @%p1 bra A; bar.warp.sync -1; ret;
                A: redux.sync.add.u32 %r9, %r8, -1;";
    let bench = Bench::default();
    let image = bench.load(vec![module(&kernel(0, body))]);
    let fault = launch(&bench, &image, &shape(1, 32), &[]).expect_err("faults");
    assert_eq!(fault.kind, FaultKind::IllegalInstruction);
}
