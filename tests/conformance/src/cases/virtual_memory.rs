//! Virtual memory management: reserved addresses, memory without an address, mappings, access.

use anyhow::{Result, ensure};

use crate::driver::{Code, MemoryAccess, MemoryLocation, MemoryProperties};
use crate::gpu::{Gpu, arguments, shape, threads};
use crate::outcome::{CaseResult, pass};
use crate::registry::area;

use super::kernels;

area!("virtual_memory":
    the_attribute_says_that_it_is_there,
    granularity_is_a_power_of_two,
    a_range_is_reserved_and_freed,
    bad_reservations_are_refused,
    an_alignment_is_kept,
    a_large_range_costs_nothing,
    ranges_do_not_overlap,
    a_free_must_name_the_whole_range,
    mapped_memory_is_memory,
    memory_is_mapped_twice,
    memory_outlives_its_handle,
    mappings_side_by_side_are_one_range,
    what_is_mapped_again_has_no_access,
    a_write_without_access_is_illegal,
    a_write_after_unmap_is_illegal,
    a_read_only_mapping_cannot_be_written,
    a_double_map_is_refused,
    bad_maps_are_refused,
    bad_unmaps_are_refused,
    a_free_of_a_range_with_mappings,
    bad_creations_are_refused,
    more_than_there_is_is_refused,
    memory_comes_back,
    access_is_told,
    bad_access_is_refused,
    a_handle_is_found_by_its_address,
    properties_are_told,
    pointers_say_what_they_are,
    a_free_of_mapped_memory_is_refused,
    it_needs_no_context,
);

/// Read and write.
const READ_WRITE: u64 = 3;

fn location(kind: u32, id: i32) -> MemoryLocation {
    MemoryLocation { kind, id }
}

/// Pinned memory of the first device.
fn properties() -> MemoryProperties {
    let win32 = std::ptr::null_mut();
    MemoryProperties { kind: 1, handle_types: 0, location: location(1, 0), win32, flags: [0; 8] }
}

fn access(flags: u32) -> MemoryAccess {
    MemoryAccess { location: location(1, 0), flags }
}

/// The calls, with the arguments that most cases need.
struct Vmm {
    gpu: Gpu,
    granularity: usize,
}

impl Vmm {
    fn new() -> Result<Self> {
        let gpu = Gpu::new()?;
        let mut granularity = 0;
        gpu.cu.cuMemGetAllocationGranularity(&mut granularity, &properties(), 0).ok()?;
        Ok(Self { gpu, granularity })
    }

    #[track_caller]
    fn reserve(&self, bytes: usize) -> Result<u64> {
        let mut pointer = 0;
        self.gpu.cu.cuMemAddressReserve(&mut pointer, bytes, 0, 0, 0).ok()?;
        ensure!(pointer != 0, "a reserved range is at address 0");
        Ok(pointer)
    }

    #[track_caller]
    fn create(&self, bytes: usize) -> Result<u64> {
        let mut handle = 0;
        self.gpu.cu.cuMemCreate(&mut handle, bytes, &properties(), 0).ok()?;
        ensure!(handle != 0, "memory has a null handle");
        Ok(handle)
    }

    /// Maps new memory at a place and lets the device use it.
    #[track_caller]
    fn map(&self, pointer: u64, bytes: usize) -> Result<u64> {
        let handle = self.create(bytes)?;
        self.gpu.cu.cuMemMap(pointer, bytes, 0, handle, 0).ok()?;
        self.gpu.cu.cuMemSetAccess(pointer, bytes, &access(3), 1).ok()?;
        Ok(handle)
    }

    /// A range with memory in it.
    #[track_caller]
    fn mapped(&self, bytes: usize) -> Result<u64> {
        let pointer = self.reserve(bytes)?;
        let handle = self.map(pointer, bytes)?;
        self.gpu.cu.cuMemRelease(handle).ok()?;
        Ok(pointer)
    }

    fn free_bytes(&self) -> Result<usize> {
        let (mut free, mut total) = (0, 0);
        self.gpu.cu.cuMemGetInfo_v2(&mut free, &mut total).ok()?;
        Ok(free)
    }

    fn poke(&self, pointer: u64) -> Result<Code> {
        let poke = self.gpu.kernel(kernels::BASIC, "poke")?;
        self.gpu.launch_on(0, poke, shape(1, 1), arguments![pointer]).ok()?;
        Ok(self.gpu.cu.cuCtxSynchronize())
    }
}

fn the_attribute_says_that_it_is_there() -> CaseResult {
    ensure!(Gpu::new()?.attribute(102)? == 1, "virtual memory management is not supported");
    pass()
}

fn granularity_is_a_power_of_two() -> CaseResult {
    let gpu = Gpu::new()?;
    let (mut least, mut best) = (0, 0);
    gpu.cu.cuMemGetAllocationGranularity(&mut least, &properties(), 0).ok()?;
    gpu.cu.cuMemGetAllocationGranularity(&mut best, &properties(), 1).ok()?;
    ensure!(least.is_power_of_two() && least >= 4096, "the least granularity is {least}");
    ensure!(best >= least && best % least == 0, "the best granularity is {best}, the least {least}");
    gpu.cu.cuMemGetAllocationGranularity(&mut least, &properties(), 2).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemGetAllocationGranularity(std::ptr::null_mut(), &properties(), 0).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemGetAllocationGranularity(&mut least, std::ptr::null(), 0).is(Code::INVALID_VALUE)?;
    pass()
}

fn a_range_is_reserved_and_freed() -> CaseResult {
    let vmm = Vmm::new()?;
    let bytes = 4 * vmm.granularity;
    let pointer = vmm.reserve(bytes)?;
    ensure!(pointer % 4096 == 0, "the range begins at {pointer:#x}");
    vmm.gpu.cu.cuMemAddressFree(pointer, bytes).ok()?;
    vmm.gpu.cu.cuMemAddressFree(pointer, bytes).is(Code::INVALID_VALUE)?;
    pass()
}

fn bad_reservations_are_refused() -> CaseResult {
    let vmm = Vmm::new()?;
    let mut pointer = 7;
    for (bytes, alignment, flags) in
        [(0, 0, 0), (vmm.granularity + 1, 0, 0), (vmm.granularity, 3 << 20, 0), (vmm.granularity, 0, 1 << 40)]
    {
        vmm.gpu.cu.cuMemAddressReserve(&mut pointer, bytes, alignment, 0, flags).is(Code::INVALID_VALUE)?;
    }
    let code = vmm.gpu.cu.cuMemAddressReserve(std::ptr::null_mut(), vmm.granularity, 0, 0, 0);
    code.is(Code::INVALID_VALUE)?;
    let code = vmm.gpu.cu.cuMemAddressReserve(&mut pointer, 1 << 62, 0, 0, 0);
    code.is_one_of(&[Code::OUT_OF_MEMORY, Code::INVALID_VALUE])?;
    pass()
}

fn an_alignment_is_kept() -> CaseResult {
    let vmm = Vmm::new()?;
    for alignment in [vmm.granularity, 16 * vmm.granularity, 1 << 30] {
        let mut pointer = 0;
        vmm.gpu.cu.cuMemAddressReserve(&mut pointer, vmm.granularity, alignment, 0, 0).ok()?;
        ensure!(pointer % u64::try_from(alignment)? == 0, "{pointer:#x} is not aligned to {alignment:#x}");
    }
    pass()
}

fn a_large_range_costs_nothing() -> CaseResult {
    let vmm = Vmm::new()?;
    let mut total = 0;
    vmm.gpu.cu.cuDeviceTotalMem_v2(&mut total, vmm.gpu.device).ok()?;
    let bytes = (2 * total).next_multiple_of(vmm.granularity);
    let (first, second) = (vmm.reserve(bytes)?, vmm.reserve(bytes)?);
    let pointer = first + u64::try_from(bytes - vmm.granularity)?;
    vmm.map(pointer, vmm.granularity)?;
    vmm.gpu.write(pointer, &[5u32; 16])?;
    ensure!(vmm.gpu.read::<u32>(pointer, 16)? == [5; 16], "the range's end holds no values");
    vmm.gpu.cu.cuMemUnmap(pointer, vmm.granularity).ok()?;
    vmm.gpu.cu.cuMemAddressFree(first, bytes).ok()?;
    vmm.gpu.cu.cuMemAddressFree(second, bytes).ok()?;
    pass()
}

fn ranges_do_not_overlap() -> CaseResult {
    let vmm = Vmm::new()?;
    let bytes = 3 * vmm.granularity;
    let mut starts = (0..50).map(|_| vmm.reserve(bytes)).collect::<Result<Vec<_>>>()?;
    // A hint that is taken is only a hint.
    let taken = starts.first().copied().unwrap_or_default();
    let mut other = 0;
    vmm.gpu.cu.cuMemAddressReserve(&mut other, bytes, 0, taken, 0).ok()?;
    starts.push(other);
    starts.sort_unstable();
    for pair in starts.windows(2) {
        ensure!(pair[1] - pair[0] >= u64::try_from(bytes)?, "ranges at {:#x} and {:#x}", pair[0], pair[1]);
    }
    pass()
}

fn a_free_must_name_the_whole_range() -> CaseResult {
    let vmm = Vmm::new()?;
    let bytes = 4 * vmm.granularity;
    let pointer = vmm.reserve(bytes)?;
    let step = u64::try_from(vmm.granularity)?;
    vmm.gpu.cu.cuMemAddressFree(pointer, vmm.granularity).is(Code::INVALID_VALUE)?;
    vmm.gpu.cu.cuMemAddressFree(pointer + step, bytes - vmm.granularity).is(Code::INVALID_VALUE)?;
    vmm.gpu.cu.cuMemAddressFree(0, bytes).is(Code::INVALID_VALUE)?;
    vmm.gpu.cu.cuMemAddressFree(pointer, bytes).ok()?;
    pass()
}

fn mapped_memory_is_memory() -> CaseResult {
    let vmm = Vmm::new()?;
    let pointer = vmm.mapped(vmm.granularity)?;
    let count = 10_000;
    let ramp = vmm.gpu.kernel(kernels::BASIC, "fill_ramp")?;
    vmm.gpu.run(ramp, threads(count), arguments![pointer, 7u32, u32::try_from(count)?])?;
    let expected: Vec<u32> = (7..).take(count).collect();
    ensure!(vmm.gpu.read::<u32>(pointer, count)? == expected, "the kernel's values are not there");
    vmm.gpu.cu.cuMemsetD8_v2(pointer, 3, vmm.granularity).ok()?;
    ensure!(vmm.gpu.read::<u8>(pointer, vmm.granularity)?.iter().all(|byte| *byte == 3), "not filled");
    let other = vmm.gpu.alloc(4096)?;
    vmm.gpu.cu.cuMemcpyDtoD_v2(other, pointer + 100, 4000).ok()?;
    ensure!(vmm.gpu.read::<u8>(other, 4000)? == [3; 4000], "not copied");
    pass()
}

fn memory_is_mapped_twice() -> CaseResult {
    let vmm = Vmm::new()?;
    let (first, second) = (vmm.reserve(vmm.granularity)?, vmm.reserve(vmm.granularity)?);
    let handle = vmm.map(first, vmm.granularity)?;
    vmm.gpu.cu.cuMemMap(second, vmm.granularity, 0, handle, 0).ok()?;
    vmm.gpu.cu.cuMemSetAccess(second, vmm.granularity, &access(3), 1).ok()?;
    vmm.gpu.write(first, &[1u32, 2, 3])?;
    ensure!(vmm.gpu.read::<u32>(second, 3)? == [1, 2, 3], "the two are not the same memory");
    vmm.gpu.cu.cuMemUnmap(first, vmm.granularity).ok()?;
    ensure!(vmm.gpu.read::<u32>(second, 3)? == [1, 2, 3], "the memory is gone with one of its mappings");
    pass()
}

fn memory_outlives_its_handle() -> CaseResult {
    let vmm = Vmm::new()?;
    let pointer = vmm.reserve(vmm.granularity)?;
    let handle = vmm.map(pointer, vmm.granularity)?;
    vmm.gpu.cu.cuMemRelease(handle).ok()?;
    vmm.gpu.write(pointer, &[9u32; 4])?;
    // Found again by its address, the memory outlives its mapping as well.
    let mut again = 0;
    vmm.gpu.cu.cuMemRetainAllocationHandle(&mut again, place(pointer)).ok()?;
    vmm.gpu.cu.cuMemUnmap(pointer, vmm.granularity).ok()?;
    vmm.gpu.cu.cuMemMap(pointer, vmm.granularity, 0, again, 0).ok()?;
    vmm.gpu.cu.cuMemSetAccess(pointer, vmm.granularity, &access(3), 1).ok()?;
    ensure!(vmm.gpu.read::<u32>(pointer, 4)? == [9; 4], "the memory has lost its values");
    vmm.gpu.cu.cuMemRelease(again).ok()?;
    pass()
}

fn place(pointer: u64) -> *mut std::ffi::c_void {
    std::ptr::with_exposed_provenance_mut(usize::try_from(pointer).unwrap_or(0))
}

fn mappings_side_by_side_are_one_range() -> CaseResult {
    let vmm = Vmm::new()?;
    let step = u64::try_from(vmm.granularity)?;
    let pointer = vmm.reserve(4 * vmm.granularity)?;
    for index in 0..3 {
        vmm.map(pointer + index * step, vmm.granularity)?;
    }
    // Kernels, fills and copies do not see the seams.
    let words = 3 * vmm.granularity / 4;
    let ramp = vmm.gpu.kernel(kernels::BASIC, "fill_ramp")?;
    vmm.gpu.run(ramp, threads(words), arguments![pointer, 0u32, u32::try_from(words)?])?;
    let expected: Vec<u32> = (0..).take(words).collect();
    ensure!(vmm.gpu.read::<u32>(pointer, words)? == expected, "a copy across seams differs");
    let upside: Vec<u32> = expected.iter().map(|value| !value).collect();
    vmm.gpu.write(pointer, &upside)?;
    let stream = vmm.gpu.stream(1)?;
    let middle = pointer + step / 2;
    vmm.gpu.cu.cuMemsetD8Async(middle, 1, 2 * vmm.granularity, stream).ok()?;
    vmm.gpu.cu.cuStreamSynchronize(stream).ok()?;
    let bytes = vmm.gpu.read::<u8>(middle, 2 * vmm.granularity)?;
    ensure!(bytes.iter().all(|byte| *byte == 1), "a fill across seams is not whole");
    // One unmapping ends them all.
    vmm.gpu.cu.cuMemUnmap(pointer, 3 * vmm.granularity).ok()?;
    pass()
}

fn what_is_mapped_again_has_no_access() -> CaseResult {
    let vmm = Vmm::new()?;
    let pointer = vmm.reserve(vmm.granularity)?;
    let handle = vmm.map(pointer, vmm.granularity)?;
    vmm.gpu.cu.cuMemUnmap(pointer, vmm.granularity).ok()?;
    vmm.gpu.cu.cuMemMap(pointer, vmm.granularity, 0, handle, 0).ok()?;
    let mut flags = 7;
    vmm.gpu.cu.cuMemGetAccess(&mut flags, &location(1, 0), pointer).ok()?;
    ensure!(flags == 0, "the access of a new mapping is {flags}");
    pass()
}

fn a_write_without_access_is_illegal() -> CaseResult {
    let vmm = Vmm::new()?;
    let pointer = vmm.reserve(vmm.granularity)?;
    let handle = vmm.create(vmm.granularity)?;
    vmm.gpu.cu.cuMemMap(pointer, vmm.granularity, 0, handle, 0).ok()?;
    vmm.poke(pointer)?.is(Code::ILLEGAL_ADDRESS)?;
    pass()
}

fn a_write_after_unmap_is_illegal() -> CaseResult {
    let vmm = Vmm::new()?;
    let pointer = vmm.mapped(vmm.granularity)?;
    vmm.poke(pointer)?.ok()?;
    vmm.gpu.cu.cuMemUnmap(pointer, vmm.granularity).ok()?;
    vmm.poke(pointer)?.is(Code::ILLEGAL_ADDRESS)?;
    pass()
}

fn a_read_only_mapping_cannot_be_written() -> CaseResult {
    let vmm = Vmm::new()?;
    let pointer = vmm.mapped(vmm.granularity)?;
    vmm.gpu.write(pointer, &[3u32; 4])?;
    let code = vmm.gpu.cu.cuMemSetAccess(pointer, vmm.granularity, &access(1), 1);
    if code == Code::INVALID_VALUE || code == Code::NOT_SUPPORTED {
        return crate::outcome::skip("there are no mappings for reading here");
    }
    code.ok()?;
    ensure!(vmm.gpu.read::<u32>(pointer, 4)? == [3; 4], "the memory cannot be read");
    ensure!(vmm.poke(pointer)? != Code::SUCCESS, "a kernel wrote to it");
    pass()
}

fn a_double_map_is_refused() -> CaseResult {
    let vmm = Vmm::new()?;
    let pointer = vmm.mapped(2 * vmm.granularity)?;
    let handle = vmm.create(vmm.granularity)?;
    let step = u64::try_from(vmm.granularity)?;
    vmm.gpu.write(pointer, &[8u32; 4])?;
    vmm.gpu.cu.cuMemMap(pointer, vmm.granularity, 0, handle, 0).is(Code::INVALID_VALUE)?;
    vmm.gpu.cu.cuMemMap(pointer + step, vmm.granularity, 0, handle, 0).is(Code::INVALID_VALUE)?;
    ensure!(vmm.gpu.read::<u32>(pointer, 4)? == [8; 4], "the refused mapping changed the memory");
    pass()
}

fn bad_maps_are_refused() -> CaseResult {
    let vmm = Vmm::new()?;
    let step = u64::try_from(vmm.granularity)?;
    let pointer = vmm.reserve(2 * vmm.granularity)?;
    let handle = vmm.create(vmm.granularity)?;
    let map = |pointer, bytes, offset, flags| vmm.gpu.cu.cuMemMap(pointer, bytes, offset, handle, flags);
    // A part of the allocation is not supported, rather than wrong.
    let refused = [Code::INVALID_VALUE, Code::NOT_SUPPORTED];
    map(pointer, 0, 0, 0).is_one_of(&refused)?;
    map(pointer, vmm.granularity - 4096, 0, 0).is_one_of(&refused)?;
    map(pointer + 4096, vmm.granularity, 0, 0).is_one_of(&refused)?;
    map(pointer, 2 * vmm.granularity, 0, 0).is_one_of(&refused)?;
    map(pointer, vmm.granularity, 0, 1).is_one_of(&refused)?;
    map(pointer + 2 * step, 2 * vmm.granularity, 0, 0).is_one_of(&refused)?;
    map(0, vmm.granularity, 0, 0).is_one_of(&refused)?;
    let ordinary = vmm.gpu.alloc(4 * vmm.granularity)?.next_multiple_of(step);
    map(ordinary, vmm.granularity, 0, 0).is_one_of(&refused)?;
    map(pointer, vmm.granularity, 0, 0).ok()?;
    pass()
}

fn bad_unmaps_are_refused() -> CaseResult {
    let vmm = Vmm::new()?;
    let pointer = vmm.reserve(4 * vmm.granularity)?;
    vmm.map(pointer, 2 * vmm.granularity)?;
    vmm.gpu.write(pointer, &[6u32; 4])?;
    let unmap = |pointer, bytes| vmm.gpu.cu.cuMemUnmap(pointer, bytes);
    // Driver 580 takes away a part of a mapping, and what is not mapped.
    unmap(pointer, 0).is(Code::INVALID_VALUE)?;
    unmap(0, vmm.granularity).is(Code::INVALID_VALUE)?;
    ensure!(vmm.gpu.read::<u32>(pointer, 4)? == [6; 4], "a refused unmapping changed the memory");
    unmap(pointer, 2 * vmm.granularity).ok()?;
    unmap(pointer, 2 * vmm.granularity).is_one_of(&[Code::SUCCESS, Code::INVALID_VALUE])?;
    pass()
}

fn a_free_of_a_range_with_mappings() -> CaseResult {
    let vmm = Vmm::new()?;
    let pointer = vmm.reserve(2 * vmm.granularity)?;
    vmm.map(pointer, vmm.granularity)?;
    vmm.gpu.write(pointer, &[6u32; 4])?;
    vmm.gpu.cu.cuMemAddressFree(pointer, 2 * vmm.granularity).is(Code::INVALID_VALUE)?;
    ensure!(vmm.gpu.read::<u32>(pointer, 4)? == [6; 4], "the refused free changed the memory");
    vmm.gpu.cu.cuMemUnmap(pointer, vmm.granularity).ok()?;
    vmm.gpu.cu.cuMemAddressFree(pointer, 2 * vmm.granularity).ok()?;
    pass()
}

fn bad_creations_are_refused() -> CaseResult {
    let vmm = Vmm::new()?;
    let mut handle = 7;
    let mut create = |bytes, properties: MemoryProperties, flags| {
        vmm.gpu.cu.cuMemCreate(&mut handle, bytes, &properties, flags)
    };
    create(0, properties(), 0).is(Code::INVALID_VALUE)?;
    create(vmm.granularity + 4096, properties(), 0).is(Code::INVALID_VALUE)?;
    create(vmm.granularity, properties(), 1).is(Code::INVALID_VALUE)?;
    let mut bad = properties();
    bad.kind = 0;
    create(vmm.granularity, bad, 0).is(Code::INVALID_VALUE)?;
    let mut bad = properties();
    bad.location = location(0, 0);
    create(vmm.granularity, bad, 0).is(Code::INVALID_VALUE)?;
    let mut bad = properties();
    bad.location = location(1, 1000);
    create(vmm.granularity, bad, 0).is_one_of(&[Code::INVALID_DEVICE, Code::INVALID_VALUE])?;
    let code = vmm.gpu.cu.cuMemCreate(std::ptr::null_mut(), vmm.granularity, &properties(), 0);
    code.is(Code::INVALID_VALUE)?;
    let code = vmm.gpu.cu.cuMemCreate(&mut handle, vmm.granularity, std::ptr::null(), 0);
    code.is(Code::INVALID_VALUE)?;
    pass()
}

fn more_than_there_is_is_refused() -> CaseResult {
    let vmm = Vmm::new()?;
    let mut total = 0;
    vmm.gpu.cu.cuDeviceTotalMem_v2(&mut total, vmm.gpu.device).ok()?;
    let bytes = (total + (1 << 30)).next_multiple_of(vmm.granularity);
    let mut handle = 7;
    vmm.gpu.cu.cuMemCreate(&mut handle, bytes, &properties(), 0).is(Code::OUT_OF_MEMORY)?;
    vmm.mapped(vmm.granularity)?;
    pass()
}

fn memory_comes_back() -> CaseResult {
    let vmm = Vmm::new()?;
    let bytes = (vmm.free_bytes()? / 3).min(256 << 20) / vmm.granularity * vmm.granularity;
    let pointer = vmm.reserve(bytes)?;
    for round in 0..20 {
        let handle = vmm.map(pointer, bytes)?;
        // Either order gives the memory back.
        if round % 2 == 0 {
            vmm.gpu.cu.cuMemRelease(handle).ok()?;
            vmm.gpu.cu.cuMemUnmap(pointer, bytes).ok()?;
        } else {
            vmm.gpu.cu.cuMemUnmap(pointer, bytes).ok()?;
            vmm.gpu.cu.cuMemRelease(handle).ok()?;
        }
    }
    let spare = vmm.create(bytes)?;
    vmm.gpu.cu.cuMemRelease(spare).ok()?;
    pass()
}

fn access_is_told() -> CaseResult {
    let vmm = Vmm::new()?;
    let pointer = vmm.mapped(vmm.granularity)?;
    let mut flags = 0;
    vmm.gpu.cu.cuMemGetAccess(&mut flags, &location(1, 0), pointer + 100).ok()?;
    ensure!(flags == READ_WRITE, "the access is {flags}");
    vmm.gpu.cu.cuMemSetAccess(pointer, vmm.granularity, &access(0), 1).ok()?;
    vmm.gpu.cu.cuMemGetAccess(&mut flags, &location(1, 0), pointer).ok()?;
    ensure!(flags == 0, "the access is {flags} after it was taken away");
    vmm.poke(pointer)?.is(Code::ILLEGAL_ADDRESS)?;
    pass()
}

fn bad_access_is_refused() -> CaseResult {
    let vmm = Vmm::new()?;
    let pointer = vmm.reserve(2 * vmm.granularity)?;
    vmm.map(pointer, vmm.granularity)?;
    let set = |bytes, access: MemoryAccess, count| vmm.gpu.cu.cuMemSetAccess(pointer, bytes, &access, count);
    set(2 * vmm.granularity, access(3), 1).is(Code::INVALID_VALUE)?;
    set(vmm.granularity, access(3), 0).is(Code::INVALID_VALUE)?;
    set(0, access(3), 1).is(Code::INVALID_VALUE)?;
    set(vmm.granularity, access(2), 1).is(Code::INVALID_VALUE)?;
    let mut bad = access(3);
    bad.location = location(1, 1000);
    set(vmm.granularity, bad, 1).is_one_of(&[Code::INVALID_DEVICE, Code::INVALID_VALUE])?;
    let code = vmm.gpu.cu.cuMemSetAccess(pointer, vmm.granularity, std::ptr::null(), 1);
    code.is(Code::INVALID_VALUE)?;
    let mut flags = 0;
    vmm.gpu.cu.cuMemGetAccess(&mut flags, &location(1, 0), 0x1234_0000).is(Code::INVALID_VALUE)?;
    vmm.poke(pointer)?.ok()?;
    pass()
}

fn a_handle_is_found_by_its_address() -> CaseResult {
    let vmm = Vmm::new()?;
    let pointer = vmm.reserve(vmm.granularity)?;
    let handle = vmm.map(pointer, vmm.granularity)?;
    let mut found = 0;
    vmm.gpu.cu.cuMemRetainAllocationHandle(&mut found, place(pointer + 5000)).ok()?;
    ensure!(found == handle, "{found:#x} instead of {handle:#x}");
    vmm.gpu.cu.cuMemRelease(handle).ok()?;
    vmm.gpu.cu.cuMemRelease(found).ok()?;
    let other = vmm.gpu.alloc(4096)?;
    vmm.gpu.cu.cuMemRetainAllocationHandle(&mut found, place(other)).is(Code::INVALID_VALUE)?;
    vmm.gpu.cu.cuMemUnmap(pointer, vmm.granularity).ok()?;
    vmm.gpu.cu.cuMemRetainAllocationHandle(&mut found, place(pointer)).is(Code::INVALID_VALUE)?;
    pass()
}

fn properties_are_told() -> CaseResult {
    let vmm = Vmm::new()?;
    let handle = vmm.create(vmm.granularity)?;
    let mut told = properties();
    told.location = location(0, 77);
    vmm.gpu.cu.cuMemGetAllocationPropertiesFromHandle(&mut told, handle).ok()?;
    ensure!(told.kind == 1 && told.location == location(1, 0), "{told:?}");
    ensure!(told.handle_types == 0, "{told:?}");
    let code = vmm.gpu.cu.cuMemGetAllocationPropertiesFromHandle(std::ptr::null_mut(), handle);
    code.is(Code::INVALID_VALUE)?;
    pass()
}

fn pointers_say_what_they_are() -> CaseResult {
    let vmm = Vmm::new()?;
    let step = u64::try_from(vmm.granularity)?;
    let range = vmm.reserve(4 * vmm.granularity)?;
    let pointer = range + step;
    vmm.map(pointer, vmm.granularity)?;
    let ask = |attribute, pointer| {
        let mut value = 0u64;
        (vmm.gpu.cu.cuPointerGetAttribute((&raw mut value).cast(), attribute, pointer), value)
    };
    let expected = [
        (2, 2),             // memory type: a device's
        (3, pointer + 100), // device pointer
        (8, 0),             // managed
        (9, 0),             // device ordinal
        (10, 0),            // IPC of the old kind
        (11, range),        // reserved range
        (12, 4 * step),     // and its bytes
        (13, 1),            // mapped
        (14, 0),            // handle types
        (16, READ_WRITE),   // access
        (18, step),         // bytes of the mapping
    ];
    for (attribute, wanted) in expected {
        let (code, value) = ask(attribute, pointer + 100);
        ensure!(code == Code::SUCCESS && value == wanted, "attribute {attribute}: {code:?}, {value:#x}");
    }
    let (mut base, mut bytes) = (0, 0);
    vmm.gpu.cu.cuMemGetAddressRange_v2(&mut base, &mut bytes, pointer + 100).ok()?;
    ensure!((base, bytes) == (pointer, vmm.granularity), "{bytes:#x} bytes at {base:#x}");
    // Reserved, and nothing there.
    ensure!(ask(2, range).0 != Code::SUCCESS, "an address without memory has a kind of memory");
    pass()
}

fn a_free_of_mapped_memory_is_refused() -> CaseResult {
    let vmm = Vmm::new()?;
    let pointer = vmm.mapped(vmm.granularity)?;
    vmm.gpu.write(pointer, &[4u32; 4])?;
    vmm.gpu.cu.cuMemFree_v2(pointer).is(Code::INVALID_VALUE)?;
    ensure!(vmm.gpu.read::<u32>(pointer, 4)? == [4; 4], "the refused free changed the memory");
    pass()
}

fn it_needs_no_context() -> CaseResult {
    let (cu, _) = crate::gpu::first_device()?;
    let mut bytes = 0;
    cu.cuMemGetAllocationGranularity(&mut bytes, &properties(), 0).ok()?;
    let (mut pointer, mut handle) = (0, 0);
    cu.cuMemAddressReserve(&mut pointer, bytes, 0, 0, 0).ok()?;
    cu.cuMemCreate(&mut handle, bytes, &properties(), 0).ok()?;
    cu.cuMemMap(pointer, bytes, 0, handle, 0).ok()?;
    cu.cuMemSetAccess(pointer, bytes, &access(3), 1).ok()?;
    cu.cuMemUnmap(pointer, bytes).ok()?;
    cu.cuMemRelease(handle).ok()?;
    cu.cuMemAddressFree(pointer, bytes).ok()?;
    pass()
}
