//! Functions of the program that streams run, and objects of the program that graphs own.
//!
//! Unsafe code: calls of the driver.

use std::{sync::PoisonError, time::Duration};

use virtio_spec::{
    codec::Scalar,
    cuda::{CUgraph, CUresult, CUstream, CUuserObject},
    graph_requests::{HostFunction, HostNext, UserObject, user_object_operation},
    handle::Kind,
};

use super::{Invocation, capture, graph::function, ok};
use crate::worker::host_calls;

pub(super) fn launch(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: HostFunction = call.structure()?;
    call.end_of_parameters()?;
    let stream: CUstream = Scalar::from_u64(call.handle(Kind::Stream, request.stream)?);
    let number = usize::try_from(request.number).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
    let data = std::ptr::without_provenance_mut(number);
    call.set_current()?;
    let launches = &call.driver().launches;
    if request.callback == 0 {
        let launch =
            if call.per_thread() { launches.cuLaunchHostFunc_ptsz } else { launches.cuLaunchHostFunc };
        let launch = launch.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
        // SAFETY: a live stream, and a function of the worker that takes a number.
        ok(call.in_driver(|| unsafe { launch(stream, Some(host_calls::function), data) }))?;
        if let Some(graph) = capture::graph_of(call, stream) {
            tell_when_gone(call, graph, request.number);
        }
        return Ok(());
    }
    let add =
        if call.per_thread() { launches.cuStreamAddCallback_ptsz } else { launches.cuStreamAddCallback };
    let add = add.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    // SAFETY: a live stream, and a function of the worker that takes a number.
    ok(call.in_driver(|| unsafe { add(stream, Some(host_calls::callback), data, request.flags) }))
}

/// Has the guest told when a graph is gone that runs a function of this number, with all that was cloned or instantiated
/// from it: a user object's destructor says so. Where that cannot be had, the guest keeps the number.
pub(super) fn tell_when_gone(call: &Invocation<'_>, graph: CUgraph, number: u64) {
    /// `CU_USER_OBJECT_NO_DESTRUCTOR_SYNC`, which must be said.
    const NO_SYNC: u32 = 1;
    /// `CU_GRAPH_USER_OBJECT_MOVE`: the one reference becomes the graph's.
    const MOVE: u32 = 1;
    let graphs = &call.driver().graphs;
    let (Some(create), Some(retain)) = (graphs.cuUserObjectCreate, graphs.cuGraphRetainUserObject) else {
        return;
    };
    let Ok(number) = usize::try_from(number) else { return };
    let data = std::ptr::without_provenance_mut(number);
    let mut object = CUuserObject::default();
    // SAFETY: room for one handle, and a function of the worker that takes a number.
    let made = unsafe { create(&raw mut object, data, Some(host_calls::destructor), 1, NO_SYNC) };
    if made != CUresult::SUCCESS {
        log::debug!("function {number} of a graph is kept: {made:?}");
        return;
    }
    // SAFETY: a live graph, and an object of one reference.
    let retained = unsafe { retain(graph, object, 1, MOVE) };
    if retained != CUresult::SUCCESS {
        // The object stays: its destructor would say that the function is not needed any more.
        log::debug!("function {number} of a graph is kept: {retained:?}");
    }
}

pub(super) fn next(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: HostNext = call.structure()?;
    call.end_of_parameters()?;
    call.put(&host_calls::next(request.done, Duration::from_millis(request.milliseconds)))
}

pub(super) fn user_object(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: UserObject = call.structure()?;
    call.end_of_parameters()?;
    let objects = &call.session().graphs.user_objects;
    if request.operation == user_object_operation::CREATE {
        let create = function!(call, cuUserObjectCreate);
        let number = usize::try_from(request.object).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
        let data = std::ptr::without_provenance_mut(number);
        let mut object = CUuserObject::default();
        // SAFETY: room for one handle, and a function of the worker that takes a number.
        ok(unsafe {
            create(&raw mut object, data, Some(host_calls::destructor), request.count, request.flags)
        })?;
        objects.lock().unwrap_or_else(PoisonError::into_inner).insert(request.object, object.0);
        return Ok(());
    }
    let known = objects.lock().unwrap_or_else(PoisonError::into_inner).get(&request.object).copied();
    let object = CUuserObject(known.ok_or(CUresult::ERROR_INVALID_VALUE)?);
    // SAFETY (all): objects that the guest made; it counts their references, and one too few harms its own worker alone.
    match request.operation {
        user_object_operation::RETAIN => {
            let retain = function!(call, cuUserObjectRetain);
            // SAFETY: as above.
            ok(unsafe { retain(object, request.count) })
        }
        user_object_operation::RELEASE => {
            let release = function!(call, cuUserObjectRelease);
            // SAFETY: as above.
            ok(unsafe { release(object, request.count) })
        }
        user_object_operation::GRAPH_RETAIN => {
            let (retain, graph) = (function!(call, cuGraphRetainUserObject), call.graph(request.graph)?);
            // SAFETY: as above.
            ok(unsafe { retain(graph, object, request.count, request.flags) })
        }
        user_object_operation::GRAPH_RELEASE => {
            let (release, graph) = (function!(call, cuGraphReleaseUserObject), call.graph(request.graph)?);
            // SAFETY: as above.
            ok(unsafe { release(graph, object, request.count) })
        }
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}
