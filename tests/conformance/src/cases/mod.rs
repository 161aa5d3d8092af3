//! The questions, by area. A new area is one file here and one row in each table.

mod arrays;
mod atomics;
mod bad_launches;
mod batch_copies;
mod boxes;
mod captures;
mod client;
mod contexts;
mod copies;
mod devices;
mod discovery;
mod entry_points;
mod events;
mod faults;
mod fills;
mod floats;
mod functions;
mod gate;
mod graph_conditions;
mod graph_memory;
mod graph_nodes;
mod graph_operations;
mod graphs;
mod handles;
mod host_functions;
mod images;
mod init;
mod instruction;
mod integers;
mod kernels;
mod launches;
mod libraries;
mod managed;
mod managed_variables;
mod memory;
mod modules;
mod output;
mod pageable_graphs;
mod peers;
mod pinned;
mod pointers;
mod pools;
mod processes;
mod shareable;
mod sharing;
mod stream_attributes;
mod stream_values;
mod streams;
mod tensor_maps;
mod threads;
mod virtual_memory;
mod visible;
mod warps;

use crate::probe::Probe;
use crate::registry::Case;

/// Every area's cases, in the order in which they run.
pub(crate) const AREAS: &[&[Case]] = &[
    init::CASES,
    devices::CASES,
    visible::CASES,
    discovery::CASES,
    entry_points::CASES,
    contexts::CASES,
    memory::CASES,
    pinned::CASES,
    managed::CASES,
    managed_variables::CASES,
    virtual_memory::CASES,
    pools::CASES,
    tensor_maps::CASES,
    pointers::CASES,
    copies::CASES,
    batch_copies::CASES,
    arrays::CASES,
    peers::CASES,
    fills::CASES,
    boxes::CASES,
    modules::CASES,
    images::CASES,
    libraries::CASES,
    functions::CASES,
    launches::CASES,
    bad_launches::CASES,
    warps::CASES,
    atomics::CASES,
    integers::CASES,
    floats::CASES,
    streams::CASES,
    stream_attributes::CASES,
    stream_values::CASES,
    host_functions::CASES,
    captures::CASES,
    graphs::CASES,
    graph_nodes::CASES,
    graph_memory::CASES,
    pageable_graphs::CASES,
    graph_operations::CASES,
    graph_conditions::CASES,
    events::CASES,
    threads::CASES,
    output::CASES,
    handles::CASES,
    faults::CASES,
    processes::CASES,
    sharing::CASES,
    shareable::CASES,
    client::CASES,
];

/// Every area's helper programs.
pub(crate) const PROBES: &[&[Probe]] = &[
    visible::PROBES,
    discovery::PROBES,
    streams::PROBES,
    events::PROBES,
    output::PROBES,
    handles::PROBES,
    faults::PROBES,
    processes::PROBES,
    sharing::PROBES,
    images::PROBES,
    shareable::PROBES,
    client::PROBES,
];
