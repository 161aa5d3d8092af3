//! Launches, with their parameters as one packed block.
//!
//! Unsafe code: calls of the driver.

use std::ffi::c_void;

use virtio_spec::{
    codec::Scalar,
    cuda::{CUfunction, CUlaunchAttribute, CUlaunchAttributeID, CUlaunchConfig, CUresult, CUstream},
    handle::Kind,
    limits,
    requests::{ClusterCount, Launch, LaunchAttribute, launch_flags, opcode},
};

use super::{Invocation, ok};

/// `CU_LAUNCH_PARAM_END`, `…_BUFFER_POINTER`, `…_BUFFER_SIZE` of cuda.h.
const PARAM_END: usize = 0;
const PARAM_BUFFER_POINTER: usize = 1;
const PARAM_BUFFER_SIZE: usize = 2;

/// What a request says of a launch, with everything checked and translated but its parameters.
struct Order<'a> {
    launch: Launch,
    function: CUfunction,
    stream: CUstream,
    attributes: Vec<CUlaunchAttribute>,
    /// In the worker's copy of the request, 8-aligned.
    parameters: &'a [u8],
}

impl<'a> Order<'a> {
    #[inline]
    fn read(call: &mut Invocation<'a>) -> Result<Self, CUresult> {
        let launch: Launch = call.structure()?;
        if launch.flags & !launch_flags::ALL != 0 || launch.attribute_count > limits::MAX_LAUNCH_ATTRIBUTES {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let given: Vec<LaunchAttribute> = call.values(u64::from(launch.attribute_count))?;
        let parameters = call.bytes(launch.parameter_bytes as usize)?;
        call.end_of_parameters()?;
        let mut attributes = Vec::new();
        for attribute in given {
            let id = CUlaunchAttributeID(attribute.id);
            let mut value = attribute.value;
            if id.has_event() {
                let [event, ..] = &mut value;
                *event = call.handle(Kind::Event, *event)?;
            } else if !id.is_plain() {
                return Err(CUresult::ERROR_NOT_SUPPORTED);
            }
            attributes.push(CUlaunchAttribute { id, pad: [0; 4], value });
        }
        if launch.flags & launch_flags::COOPERATIVE != 0 {
            let value = [1, 0, 0, 0, 0, 0, 0, 0];
            attributes.push(CUlaunchAttribute { id: CUlaunchAttributeID::COOPERATIVE, pad: [0; 4], value });
        }
        let function = Scalar::from_u64(call.handle(Kind::Function, launch.function)?);
        let stream = Scalar::from_u64(call.handle(Kind::Stream, launch.stream)?);
        Ok(Self { launch, function, stream, attributes, parameters })
    }

    /// The launch as CUDA's structure, which points into this one.
    fn configuration(&mut self) -> CUlaunchConfig {
        let [grid_x, grid_y, grid_z] = self.launch.grid;
        let [block_x, block_y, block_z] = self.launch.block;
        CUlaunchConfig {
            gridDimX: grid_x,
            gridDimY: grid_y,
            gridDimZ: grid_z,
            blockDimX: block_x,
            blockDimY: block_y,
            blockDimZ: block_z,
            sharedMemBytes: self.launch.shared_bytes,
            hStream: self.stream,
            attrs: self.attributes.as_mut_ptr(),
            numAttrs: u32::try_from(self.attributes.len()).unwrap_or(0),
        }
    }
}

pub(super) fn run(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let mut order = Order::read(call)?;
    call.set_current()?;
    let mut size = order.parameters.len();
    let mut extra: [*mut c_void; 5] = [
        std::ptr::without_provenance_mut(PARAM_BUFFER_POINTER),
        // The driver reads the parameters, whatever the type says.
        order.parameters.as_ptr().cast_mut().cast(),
        std::ptr::without_provenance_mut(PARAM_BUFFER_SIZE),
        (&raw mut size).cast(),
        std::ptr::without_provenance_mut(PARAM_END),
    ];
    let extra = if order.parameters.is_empty() { std::ptr::null_mut() } else { extra.as_mut_ptr() };
    let (function, stream, shared) = (order.function, order.stream, order.launch.shared_bytes);
    let launches = &call.driver().launches;
    if order.launch.flags & (launch_flags::EXTENDED | launch_flags::COOPERATIVE) != 0 {
        let config = order.configuration();
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
    let ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]) = (order.launch.grid, order.launch.block);
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

/// How many clusters, or how large ones, a launch may have.
pub(super) fn clusters(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let mut order = Order::read(call)?;
    if !order.parameters.is_empty() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    call.set_current()?;
    let functions = &call.driver().functions;
    let question = if call.opcode() == opcode::ACTIVE_CLUSTERS {
        functions.cuOccupancyMaxActiveClusters
    } else {
        functions.cuOccupancyMaxPotentialClusterSize
    };
    let question = question.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let (function, config) = (order.function, order.configuration());
    let mut count = 0;
    // SAFETY: a live function; attributes and configuration are the worker's own.
    ok(call.in_driver(|| unsafe { question(&raw mut count, function, &raw const config) }))?;
    call.put(&ClusterCount { count, reserved: 0 })
}
