//! The C functions of `libcuda`, as skins over [`crate::driver`].
//!
//! Each file lists its functions in one `exports!` block: what must hold before the call, the symbol (and the one whose
//! null stream is the thread's own), the C parameters, and the Rust function that does it. `entry` turns C arguments
//! into checked ones, so that most of those functions are safe.

mod arrays;
mod batch_copies;
mod captures;
mod contexts;
mod copies;
mod debugger;
mod devices;
mod entry;
mod functions;
mod graph_conditions;
mod graph_execs;
mod graph_lists;
mod graph_memory;
mod graph_nodes;
mod graph_operations;
mod graph_params;
mod graphs;
mod launches;
mod lookup;
mod managed;
mod memory;
mod modules;
mod pools;
mod shareable;
mod sharing;
mod stream_attributes;
mod stream_values;
mod streams;
mod tensor_maps;
mod unsupported;
mod user_objects;
mod virtual_memory;

pub(crate) use entry::callback;

#[cfg(test)]
mod tests;
