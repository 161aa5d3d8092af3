//! How a VM is started: arguments, guest image, portable bundle.
