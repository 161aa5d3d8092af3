//! Which devices a process sees, and in which order: `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER`.

use guest_device::records::uuid_text;
use virtio_spec::info::DeviceRecord;

/// Indices of the records that are visible, in the order of their ordinals.
pub(super) fn visible(records: &[DeviceRecord], list: Option<&str>, order: Option<&str>) -> Vec<usize> {
    let mut all: Vec<usize> = (0..records.len()).collect();
    if order.is_some_and(|order| order.trim() == "PCI_BUS_ID") {
        all.sort_by_key(|&index| records.get(index).map(|record| record.pci_bus_id));
    }
    let Some(list) = list else { return all };
    let mut chosen = Vec::new();
    for word in list.split(',') {
        // What follows the first word that names no device is not looked at.
        let Some(index) = named(word.trim(), &all, records) else { break };
        if chosen.contains(&index) {
            return Vec::new();
        }
        chosen.push(index);
    }
    chosen
}

/// The record that a word of the list names: an ordinal, or the beginning of a UUID.
fn named(word: &str, all: &[usize], records: &[DeviceRecord]) -> Option<usize> {
    if let Ok(ordinal) = word.parse::<usize>() {
        return all.get(ordinal).copied();
    }
    let wanted = word.strip_prefix("GPU-").or_else(|| word.strip_prefix("gpu-"))?.to_ascii_lowercase();
    if wanted.is_empty() {
        return None;
    }
    let mut fitting = all.iter().copied().filter(|&index| {
        records.get(index).is_some_and(|record| uuid_text(&record.uuid).starts_with(&wanted))
    });
    let found = fitting.next()?;
    if fitting.next().is_none() { Some(found) } else { None }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    fn records() -> Vec<DeviceRecord> {
        let bus = [*b"0000:81:00.0", *b"0000:3b:00.0", *b"0000:c1:00.0"];
        (0_u8..)
            .zip(bus)
            .map(|(number, bus)| {
                let mut record = DeviceRecord::new_zeroed();
                record.uuid = [0xab, 0xc0 + number, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
                record.pci_bus_id[..12].copy_from_slice(&bus);
                record
            })
            .collect()
    }

    #[test]
    fn without_a_list_all_are_visible() {
        assert_eq!(visible(&records(), None, None), [0, 1, 2]);
    }

    #[test]
    fn ordinals_choose_and_order() {
        assert_eq!(visible(&records(), Some("2, 0"), None), [2, 0]);
        assert_eq!(visible(&records(), Some("1"), Some("PCI_BUS_ID")), [0]);
    }

    #[test]
    fn the_first_bad_word_ends_the_list() {
        assert_eq!(visible(&records(), Some("1,7,0"), None), [1]);
        assert_eq!(visible(&records(), Some("0,-1,1"), None), [0]);
        assert!(visible(&records(), Some(""), None).is_empty());
        assert!(visible(&records(), Some("NoDevFiles"), None).is_empty());
    }

    #[test]
    fn a_device_named_twice_hides_all() {
        assert!(visible(&records(), Some("0,1,0"), None).is_empty());
    }

    #[test]
    fn uuids_may_be_shortened_while_they_are_unique() {
        assert_eq!(visible(&records(), Some("GPU-abc2"), None), [2]);
        assert_eq!(visible(&records(), Some("GPU-abc10203-0405-0607-0809-0a0b0c0d0e0f,0"), None), [1, 0]);
        assert!(visible(&records(), Some("GPU-ab"), None).is_empty());
        assert!(visible(&records(), Some("GPU-"), None).is_empty());
    }
}
