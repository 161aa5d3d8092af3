//! The attribute macro of the call table, and the emitters that make code of its rows.
//!
//! Read in this order: `row` (what a row says), `table` (what the table itself becomes), `shim` (the guest's C
//! exports), `driver` (the host driver's functions as typed pointers), `worker` (decoding and calling).
//!
//! A row is a function of a trait:
//!
//! ```text
//! #[call(op = 0x02, since = 3020, wire)]
//! fn cuMemAlloc_v2(#[out] dptr: *mut CUdeviceptr, bytesize: usize);
//! ```
//!
//! | word | meaning |
//! |---|---|
//! | `op = N` | number within the group, never reused; the opcode is `group << 8 \| N` |
//! | `since = V` | CUDA version from which `cuGetProcAddress` gives this symbol for its plain name; 0 = never |
//! | `wire`, `guest`, `custom`, `unsupported` | who answers: generated, the shim, hand-written halves, nobody |
//! | `wire, custom` | generated encoding and decoding, which the shim's hand-written half calls as `wire_<function>` |
//! | `posted` | nobody waits for the result |
//! | `blocks_driver`, `blocks_gpu` | what the call may wait for |
//! | `ptsz`, `ptds` | the suffix of the entry whose null stream is the thread's own |
//! | `before_init` | may be called before `cuInit` |
//! | `no_context` | needs no current context |
//!
//! Parameters of a wire row: numbers and handles by value need no mark; `#[destroy]` on a handle that the call
//! invalidates; on pointers `#[input]`, `#[input(count = n)]`, `#[out]`, `#[out(count = n)]`, `#[out(optional)]`,
//! `#[mint]` (room for a new handle), `#[text]` (a NUL-terminated name).

mod driver;
mod row;
mod shim;
mod table;
mod worker;

use proc_macro::TokenStream;
use syn::{ItemTrait, LitInt, parse_macro_input};

/// Makes a trait the rows of a group: `#[calls(group = N)]`.
///
/// Besides the trait (for its documentation) it defines `CALLS`, the statics in `rows`, and a macro named
/// `<trait in snake case>_rows` that passes the rows to an emitter.
#[proc_macro_attribute]
pub fn calls(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let group = parse_macro_input!(arguments with parse_group);
    let item = parse_macro_input!(item as ItemTrait);
    table::expand(group, &item).unwrap_or_else(|error| error.to_compile_error()).into()
}

fn parse_group(input: syn::parse::ParseStream<'_>) -> syn::Result<u32> {
    let word: syn::Ident = input.parse()?;
    if word != "group" {
        return Err(syn::Error::new(word.span(), "expected `group = N`"));
    }
    input.parse::<syn::Token![=]>()?;
    input.parse::<LitInt>()?.base10_parse()
}

/// Emits the C exports of the guest's library for a group.
#[proc_macro]
pub fn shim_exports(input: TokenStream) -> TokenStream {
    shim::expand(&parse_macro_input!(input as row::Group)).into()
}

/// Emits a structure of typed pointers to the host driver's functions of a group.
#[proc_macro]
pub fn driver_functions(input: TokenStream) -> TokenStream {
    driver::expand(&parse_macro_input!(input as row::Group)).into()
}

/// Emits the worker's decoding and calling of a group's wire rows.
#[proc_macro]
pub fn worker_dispatch(input: TokenStream) -> TokenStream {
    worker::expand(&parse_macro_input!(input as row::Group)).into()
}
