//! `CUDA_VISIBLE_DEVICES`.

use super::attributes::UUID;

/// How NVIDIA's tools write the device's UUID.
fn uuid_text() -> String {
    let mut text = String::from("GPU-");
    for (index, byte) in UUID.bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Whether a value names the one device: by its ordinal, or by the beginning of its UUID. The list ends at the first
/// entry that names no device, and a device that is named twice hides all.
pub(super) fn is_visible(value: &str) -> bool {
    let uuid = uuid_text();
    let names_device = |entry: &&str| match entry.parse::<i64>() {
        Ok(ordinal) => ordinal == 0,
        Err(_) => {
            entry.len() > "GPU-".len()
                && uuid.starts_with(&entry.to_ascii_lowercase().replacen("gpu-", "GPU-", 1))
        }
    };
    value.split(',').map(str::trim).take_while(names_device).count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_device() {
        let uuid = uuid_text();
        for value in ["0", " 0 ", "0,1", "0,-1,0", &uuid, &uuid[..12], &uuid.to_ascii_uppercase()] {
            assert!(is_visible(value), "{value}");
        }
    }

    #[test]
    fn what_names_no_device() {
        for value in ["", "-1", "1", "1,0", "none", "0,0", "GPU-", "GPU-00000000-1111", "0x0"] {
            assert!(!is_visible(value), "{value}");
        }
    }
}
