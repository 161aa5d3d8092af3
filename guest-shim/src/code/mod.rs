//! Programs of the GPU: images, modules, libraries, functions, launches.
//!
//! Read in this order: `image` (how long an image is), `options` (JIT options and their results), `load`, `function`,
//! `launch`, `proven` (which launches need no answer), `occupancy`.

pub(crate) mod function;
pub(crate) mod image;
pub(crate) mod launch;
pub(crate) mod link;
pub(crate) mod load;
pub(crate) mod occupancy;
pub(crate) mod options;
mod proven;

/// Forgets what was made in a context.
pub(crate) fn forget_context(context: u64) {
    function::forget_context(context);
}
