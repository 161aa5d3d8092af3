//! Functions of the program that streams run, and objects of the program that graphs own.
//!
//! Unsafe code: calls of the driver.

use std::{sync::PoisonError, time::Duration};

use virtio_spec::{
    codec::Scalar,
    cuda::{CUresult, CUstream, CUuserObject},
    graph_requests::{HostFunction, HostNext, UserObject, user_object_operation},
    handle::Kind,
};

use super::{Invocation, graph::function, ok};
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
        return ok(call.in_driver(|| unsafe { launch(stream, Some(host_calls::function), data) }));
    }
    let add =
        if call.per_thread() { launches.cuStreamAddCallback_ptsz } else { launches.cuStreamAddCallback };
    let add = add.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    // SAFETY: a live stream, and a function of the worker that takes a number.
    ok(call.in_driver(|| unsafe { add(stream, Some(host_calls::callback), data, request.flags) }))
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
