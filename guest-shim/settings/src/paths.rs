//! The two names that early init asks the kernel for.
//!
//! Unsafe code: a variable of the tests.

use core::ffi::CStr;

const POLICY: &CStr = c"/etc/virtio-compute/shim.policy";
const DEVICE: &CStr = c"/dev/vcompute0";

/// The policy's link.
pub(crate) fn policy() -> &'static CStr {
    test_variable(c"VCOMPUTE_TEST_POLICY").unwrap_or(POLICY)
}

/// The device node.
#[must_use]
pub fn device() -> &'static CStr {
    test_variable(c"VCOMPUTE_TEST_DEVICE").unwrap_or(DEVICE)
}

/// What the tests say, in a development build; a program with more rights than who started it listens to nobody.
#[cfg(debug_assertions)]
fn test_variable(name: &CStr) -> Option<&'static CStr> {
    if crate::is_privileged() {
        return None;
    }
    // SAFETY: a constant name.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    // SAFETY: a string of the environment, which the tests do not change.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) })
}

#[cfg(not(debug_assertions))]
const fn test_variable(_: &CStr) -> Option<&'static CStr> {
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_those_of_the_contracts() {
        assert_eq!(super::POLICY.to_bytes(), shim_policy::LINK.as_bytes());
        assert_eq!(super::DEVICE.to_bytes(), virtio_spec::uapi::DEVICE_PATH.as_bytes());
    }
}
