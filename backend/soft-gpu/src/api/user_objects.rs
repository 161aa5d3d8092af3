//! Objects of the program whose life graphs share.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use virtio_spec::cuda::{CUgraph, CUhostFn, CUresult, CUuserObject};

use super::entry::{Out, exports};
use crate::driver::graph::{self, Owned, UserObject};
use crate::driver::handles::{kind, mint};
use crate::driver::queue::lock;
use crate::driver::{Driver, Result};

exports! {
    init cuUserObjectCreate(object: *mut CUuserObject, data: *mut c_void, destroy: CUhostFn, count: u32, flags: u32)
        = object_create;
    init cuUserObjectRetain(object: CUuserObject, count: u32) = object_retain;
    init cuUserObjectRelease(object: CUuserObject, count: u32) = object_release;
    init cuGraphRetainUserObject(graph: CUgraph, object: CUuserObject, count: u32, flags: u32) = graph_retain;
    init cuGraphReleaseUserObject(graph: CUgraph, object: CUuserObject, count: u32) = graph_release;
}

fn object_create(
    driver: &Driver,
    object: Out<CUuserObject>,
    data: *mut c_void,
    destroy: CUhostFn,
    count: u32,
    flags: u32,
) -> Result<()> {
    object.check()?;
    // The one flag, which must be given: nobody can wait for the destructor.
    if destroy.is_none() || count == 0 || flags != 1 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let handle = mint(kind::USER_OBJECT);
    let references = AtomicI64::new(i64::from(count));
    let made = UserObject { references, destroy, data: data.expose_provenance() };
    driver.user_objects.insert(handle, Arc::new(made));
    object.put(CUuserObject(handle))
}

fn find_object(driver: &Driver, object: CUuserObject, count: u32) -> Result<Arc<UserObject>> {
    if count == 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    driver.user_objects.find(object.0).ok_or(CUresult::ERROR_INVALID_VALUE)
}

fn object_retain(driver: &Driver, object: CUuserObject, count: u32) -> Result<()> {
    find_object(driver, object, count)?.references.fetch_add(i64::from(count), Ordering::AcqRel);
    Ok(())
}

fn object_release(driver: &Driver, object: CUuserObject, count: u32) -> Result<()> {
    find_object(driver, object, count)?.release(count);
    Ok(())
}

fn graph_retain(driver: &Driver, graph: CUgraph, object: CUuserObject, count: u32, flags: u32) -> Result<()> {
    /// `CU_GRAPH_USER_OBJECT_MOVE`: the references are the program's own ones.
    const MOVE: u32 = 1;
    let (graph, found) = (graph::find(graph.0)?, find_object(driver, object, count)?);
    if flags & !MOVE != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if flags & MOVE == 0 {
        found.references.fetch_add(i64::from(count), Ordering::AcqRel);
    }
    lock(&graph.contents).owned.push(Arc::new(Owned { handle: object.0, object: found, count }));
    Ok(())
}

fn graph_release(driver: &Driver, graph: CUgraph, object: CUuserObject, count: u32) -> Result<()> {
    let (graph, _) = (graph::find(graph.0)?, find_object(driver, object, count)?);
    let mut contents = lock(&graph.contents);
    let place = contents.owned.iter().position(|owned| owned.handle == object.0 && owned.count == count);
    let owned = contents.owned.swap_remove(place.ok_or(CUresult::ERROR_INVALID_VALUE)?);
    drop(contents);
    drop(owned);
    Ok(())
}
