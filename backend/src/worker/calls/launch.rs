//! Launches, with their parameters as one packed block.
//!
//! Unsafe code: calls of the driver.

use std::ffi::c_void;

use virtio_spec::{
    codec::Scalar,
    cuda::{CUfunction, CUlaunchAttribute, CUlaunchAttributeID, CUlaunchConfig, CUresult, CUstream},
    handle::Kind,
    limits,
    requests::{Launch, LaunchAttribute, launch_flags},
};

use super::{Invocation, ok};

/// `CU_LAUNCH_PARAM_END`, `…_BUFFER_POINTER`, `…_BUFFER_SIZE` of cuda.h.
const PARAM_END: usize = 0;
const PARAM_BUFFER_POINTER: usize = 1;
const PARAM_BUFFER_SIZE: usize = 2;

/// Attributes whose value is plain numbers; events, graph nodes and host memory in one would need translation.
const PLAIN_ATTRIBUTES: &[CUlaunchAttributeID] = &[
    CUlaunchAttributeID::IGNORE,
    CUlaunchAttributeID::ACCESS_POLICY_WINDOW,
    CUlaunchAttributeID::COOPERATIVE,
    CUlaunchAttributeID::SYNCHRONIZATION_POLICY,
    CUlaunchAttributeID::CLUSTER_DIMENSION,
    CUlaunchAttributeID::CLUSTER_SCHEDULING_POLICY_PREFERENCE,
    CUlaunchAttributeID::PROGRAMMATIC_STREAM_SERIALIZATION,
    CUlaunchAttributeID::PRIORITY,
    CUlaunchAttributeID::MEM_SYNC_DOMAIN_MAP,
    CUlaunchAttributeID::MEM_SYNC_DOMAIN,
    CUlaunchAttributeID::PREFERRED_CLUSTER_DIMENSION,
    CUlaunchAttributeID::PREFERRED_SHARED_MEMORY_CARVEOUT,
];

pub(super) fn run(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let launch: Launch = call.structure()?;
    if launch.flags & !launch_flags::ALL != 0 || launch.attribute_count > limits::MAX_LAUNCH_ATTRIBUTES {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let attributes: Vec<LaunchAttribute> = call.values(u64::from(launch.attribute_count))?;
    let mut size = launch.parameter_bytes as usize;
    // A block of its own: aligned for any parameter, and writable for the driver.
    let mut parameters = call.bytes(size)?.to_vec();
    call.end_of_parameters()?;
    let function: CUfunction = Scalar::from_u64(call.handle(Kind::Function, launch.function)?);
    let stream: CUstream = Scalar::from_u64(call.handle(Kind::Stream, launch.stream)?);
    call.set_current()?;
    let mut extra: [*mut c_void; 5] = [
        std::ptr::without_provenance_mut(PARAM_BUFFER_POINTER),
        parameters.as_mut_ptr().cast(),
        std::ptr::without_provenance_mut(PARAM_BUFFER_SIZE),
        (&raw mut size).cast(),
        std::ptr::without_provenance_mut(PARAM_END),
    ];
    let extra = if parameters.is_empty() { std::ptr::null_mut() } else { extra.as_mut_ptr() };
    let [grid_x, grid_y, grid_z] = launch.grid;
    let [block_x, block_y, block_z] = launch.block;
    let launches = &call.driver().launches;
    let extended = launch.flags & launch_flags::EXTENDED != 0;
    let cooperative = launch.flags & launch_flags::COOPERATIVE != 0;
    if extended || cooperative {
        let mut values = Vec::new();
        for attribute in &attributes {
            let id = CUlaunchAttributeID(attribute.id);
            if !PLAIN_ATTRIBUTES.contains(&id) {
                return Err(CUresult::ERROR_NOT_SUPPORTED);
            }
            values.push(CUlaunchAttribute { id, pad: [0; 4], value: attribute.value });
        }
        if cooperative {
            let value = [1, 0, 0, 0, 0, 0, 0, 0];
            values.push(CUlaunchAttribute { id: CUlaunchAttributeID::COOPERATIVE, pad: [0; 4], value });
        }
        let config = CUlaunchConfig {
            gridDimX: grid_x,
            gridDimY: grid_y,
            gridDimZ: grid_z,
            blockDimX: block_x,
            blockDimY: block_y,
            blockDimZ: block_z,
            sharedMemBytes: launch.shared_bytes,
            hStream: stream,
            attrs: values.as_mut_ptr(),
            numAttrs: u32::try_from(values.len()).unwrap_or(0),
        };
        let launch =
            if call.per_thread() { launches.cuLaunchKernelEx_ptsz } else { launches.cuLaunchKernelEx };
        let launch = launch.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
        // SAFETY: a live function; parameters, attributes and configuration are the worker's own.
        return ok(
            call.in_driver(|| unsafe { launch(&raw const config, function, std::ptr::null_mut(), extra) })
        );
    }
    let kernel = if call.per_thread() { launches.cuLaunchKernel_ptsz } else { launches.cuLaunchKernel };
    let kernel = kernel.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let shared = launch.shared_bytes;
    // SAFETY: a live function; the parameters are the worker's own, of the size given.
    ok(call.in_driver(|| unsafe {
        kernel(
            function,
            grid_x,
            grid_y,
            grid_z,
            block_x,
            block_y,
            block_z,
            shared,
            stream,
            std::ptr::null_mut(),
            extra,
        )
    }))
}
