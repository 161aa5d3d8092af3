//! Device attributes that a guest cannot keep, or not yet: reported with this value whatever the host's GPU can do.

/// The value that a guest reports, if it is not the host's. Numbers are those of `CUdevice_attribute`.
pub(super) const fn of_guest(attribute: u32) -> Option<i32> {
    match attribute {
        // Managed memory: there, but without concurrent access.
        83 => Some(1),
        // Access to the process's pageable memory, concurrent managed access.
        88 | 89 | 100 | 101 => Some(0),
        // A registered range may have another address on the GPU.
        91 => Some(0),
        // Exports to other processes and devices: descriptors, RDMA, fabric, dma-buf. (Those of the old kind, memory and
        // events, are there: tokens.)
        103 | 110 | 116 | 119 | 124 | 128 => Some(0),
        // Multicast, MPS.
        132 | 133 => Some(0),
        // The host's NUMA nodes mean nothing here.
        134 => Some(-1),
        141..=146 => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::of_guest;

    #[test]
    fn promises_of_the_host_are_masked() {
        for attribute in [88, 89, 100, 101, 103, 110, 116, 124, 128, 132, 133, 141, 146] {
            assert_eq!(of_guest(attribute), Some(0), "attribute {attribute}");
        }
        assert_eq!(of_guest(83), Some(1));
        assert_eq!(of_guest(134), Some(-1));
        assert_eq!(of_guest(75), None, "the compute capability is the host's");
    }
}
