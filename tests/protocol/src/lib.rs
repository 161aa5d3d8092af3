//! A real vhost-user front-end against the real backend, without a VM.
