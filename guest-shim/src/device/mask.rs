//! Device attributes that a guest cannot keep, or not yet: reported with this value whatever the host's GPU can do.

/// The value that a guest reports where the host says `host`. Numbers are those of `CUdevice_attribute`.
pub(super) const fn of_guest(attribute: u32, host: i32) -> i32 {
    match masked(attribute) {
        Some(value) => value,
        // As what pools can be passed on: bits, of which descriptors are the lowest.
        None if attribute == 119 => host & 1,
        None => host,
    }
}

const fn masked(attribute: u32) -> Option<i32> {
    match attribute {
        // Managed memory: there, but without concurrent access.
        83 => Some(1),
        // Access to the process's pageable memory, concurrent managed access.
        88 | 89 | 100 | 101 => Some(0),
        // A registered range may have another address on the GPU.
        91 => Some(0),
        // Exports to other devices and nodes: RDMA, dma-buf, fabric. (Those to other processes are there: tokens.)
        110 | 116 | 124 | 128 => Some(0),
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
        for attribute in [88, 89, 100, 101, 110, 116, 124, 128, 132, 133, 141, 146] {
            assert_eq!(of_guest(attribute, 1), 0, "attribute {attribute}");
        }
        assert_eq!(of_guest(83, 0), 1);
        assert_eq!(of_guest(134, 2), -1);
        assert_eq!(of_guest(75, 9), 9, "the compute capability is the host's");
        assert_eq!(of_guest(103, 1), 1, "memory is passed on in descriptors");
        assert_eq!(of_guest(119, 9), 1, "pools are passed on in descriptors, and in nothing else");
    }
}
