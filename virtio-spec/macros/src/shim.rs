//! The guest's C exports.
//!
//! What the generated code calls in the crate where it is expanded: `crate::entry::{call, unsupported, Row}`,
//! `crate::wire::{Request, Response}`, `crate::handles::{mint, release}`, `crate::calls::<group>::<function>` and
//! `crate::entry::Flavour`.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use crate::row::{Disposition, Group, Length, Parameter, Role, Row};

pub(crate) fn expand(group: &Group) -> TokenStream {
    let module = &group.module;
    let exports = group.rows.iter().map(|row| export(module, row));
    quote! {
        #[allow(non_snake_case, missing_docs, clippy::missing_safety_doc, clippy::too_many_arguments,
            clippy::not_unsafe_ptr_arg_deref, unused_variables,
            reason = "CUDA's own names and contracts: its documentation says what each pointer must be")]
        pub mod #module {
            use ::virtio_spec::{calls::#module::rows, codec::Scalar as _, cuda::*, handle::Kind};
            #(#exports)*
        }
    }
}

/// What the library keeps of a row: a number, because each pointer in its data would cost every process that loads it.
fn row_of(name: &Ident) -> TokenStream {
    quote!(const { crate::entry::Row::of(&rows::#name) })
}

fn export(module: &Ident, row: &Row) -> TokenStream {
    let name = &row.name;
    if row.disposition == Disposition::Unsupported {
        let (row_of, text) = (row_of(name), name.to_string());
        let names = std::iter::once(name.clone()).chain(row.per_thread_name());
        return quote! {
            #(#[unsafe(no_mangle)] pub extern "C" fn #names() -> CUresult { crate::entry::unsupported(#row_of, #text) })*
        };
    }
    let parameters: Vec<_> = row
        .parameters
        .iter()
        .map(|parameter| {
            let (name, ty) = (&parameter.name, &parameter.ty);
            quote!(#name: #ty)
        })
        .collect();
    let mut output = one_export(module, row, name, &parameters, false);
    if row.wire && row.disposition == Disposition::Custom {
        output.extend(wire_function(row, &parameters));
    }
    if let Some(per_thread) = row.per_thread_name() {
        output.extend(one_export(module, row, &per_thread, &parameters, true));
    }
    output
}

fn one_export(
    module: &Ident,
    row: &Row,
    symbol: &Ident,
    parameters: &[TokenStream],
    per_thread: bool,
) -> TokenStream {
    let name = &row.name;
    let body = if row.disposition == Disposition::Wire {
        wire_body(row, &quote!(#per_thread))
    } else {
        let arguments = row.parameters.iter().map(|parameter| &parameter.name);
        let flavour = row.per_thread.as_ref().map(|_| {
            let variant = format_ident!("{}", if per_thread { "PerThread" } else { "Legacy" });
            quote!(crate::entry::Flavour::#variant)
        });
        quote! {
            // SAFETY: the application keeps the contract that CUDA's documentation states for this function.
            unsafe { crate::calls::#module::#name(#(#arguments,)* #flavour) }
        }
    };
    let (row_of, text) = (row_of(name), name.to_string());
    quote! {
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn #symbol(#(#parameters),*) -> CUresult {
            crate::entry::call(#row_of, #text, || { #body })
        }
    }
}

/// The generated half of a `wire, custom` row, for the hand-written half to call.
fn wire_function(row: &Row, parameters: &[TokenStream]) -> TokenStream {
    let name = format_ident!("wire_{}", row.name);
    let flavour = row.per_thread.as_ref().map(|_| quote!(flavour: crate::entry::Flavour));
    let per_thread = match row.per_thread {
        Some(_) => quote!(flavour == crate::entry::Flavour::PerThread),
        None => quote!(false),
    };
    let body = wire_body(row, &per_thread);
    quote! {
        /// # Safety
        /// The contract that CUDA's documentation states for this function.
        pub(crate) unsafe fn #name(#(#parameters,)* #flavour) -> CUresult { #body }
    }
}

fn wire_body(row: &Row, per_thread: &TokenStream) -> TokenStream {
    let name = &row.name;
    let null_checks = row.parameters.iter().filter_map(|parameter| {
        let pointer = &parameter.name;
        match &parameter.role {
            Role::Mint(_) | Role::Text | Role::Out(Length::One) | Role::In(Length::One) => {
                Some(quote!(if #pointer.is_null() { return CUresult::ERROR_INVALID_VALUE; }))
            }
            Role::Out(Length::Count(count)) | Role::In(Length::Count(count)) => {
                Some(quote!(if #pointer.is_null() && #count.to_u64() != 0 { return CUresult::ERROR_INVALID_VALUE; }))
            }
            _ => None,
        }
    });
    let mints: Vec<_> = row
        .parameters
        .iter()
        .filter_map(|parameter| match &parameter.role {
            Role::Mint(kind) => Some((&parameter.name, format_ident!("minted_{}", parameter.name), kind)),
            _ => None,
        })
        .collect();
    let mint =
        mints.iter().map(|(_, minted, kind)| quote!(let #minted = crate::handles::mint(Kind::#kind)?;));
    let unmint: Vec<_> = mints
        .iter()
        .map(|(_, minted, kind)| quote!(crate::handles::release(Kind::#kind, #minted);))
        .collect();
    let give = mints.iter().map(|(pointer, minted, _)| {
        quote! {
            // SAFETY: not NULL, and room for one handle by the function's contract.
            unsafe { #pointer.write(::virtio_spec::codec::Scalar::from_u64(#minted)) };
        }
    });
    let destroyed = row.parameters.iter().filter_map(|parameter| match &parameter.role {
        Role::Destroy(kind) => {
            let handle = &parameter.name;
            Some(quote!(crate::handles::release(Kind::#kind, #handle.to_u64());))
        }
        _ => None,
    });
    let numbers = row.parameters.iter().filter_map(encode_number);
    let bytes = row.parameters.iter().filter_map(encode_bytes);
    let results = row.parameters.iter().filter_map(decode_result);
    let row_of = row_of(name);
    let send = if row.posted {
        quote!(wire_request.post()?;)
    } else {
        quote! {
            let mut wire_response = wire_request.answer()?;
            #(#results)*
        }
    };
    quote! {
        #(#null_checks)*
        let wire_run = || -> Result<(), CUresult> {
            #(#mint)*
            let wire_exchange = || -> Result<(), CUresult> {
                #[allow(unused_mut, reason = "a call may have no parameters")]
                let mut wire_request = crate::wire::Request::new(#row_of, #per_thread)?;
                #(#numbers)*
                #(#bytes)*
                #[allow(unused_mut, unused_variables, reason = "a call may have no results")]
                { #send }
                Ok(())
            };
            #[allow(clippy::question_mark, reason = "handles are given back first")]
            if let Err(error) = wire_exchange() {
                #(#unmint)*
                return Err(error);
            }
            #(#give)*
            #(#destroyed)*
            Ok(())
        };
        wire_run().err().unwrap_or(CUresult::SUCCESS)
    }
}

fn encode_number(parameter: &Parameter) -> Option<TokenStream> {
    let name = &parameter.name;
    match &parameter.role {
        Role::Scalar => Some(quote!(wire_request.scalar(#name.to_u64());)),
        Role::Handle(_) | Role::Destroy(_) => Some(quote!(wire_request.handle(#name.to_u64());)),
        Role::Mint(_) => {
            let minted = format_ident!("minted_{name}");
            Some(quote!(wire_request.handle(#minted);))
        }
        Role::OutOptional => Some(quote!(wire_request.scalar(u64::from(!#name.is_null()));)),
        Role::In(_) | Role::Out(_) | Role::Text => None,
    }
}

fn encode_bytes(parameter: &Parameter) -> Option<TokenStream> {
    let name = &parameter.name;
    let pointee = parameter.pointee.as_ref();
    match &parameter.role {
        Role::In(length) => {
            let count = match length {
                Length::One => quote!(1_usize),
                Length::Count(count) => quote!(#count.to_u64() as usize),
            };
            Some(quote! {
                // SAFETY: the caller passes this many elements, by the function's contract.
                unsafe { wire_request.bytes(#name.cast(), (#count).saturating_mul(size_of::<#pointee>())) };
            })
        }
        Role::Text => Some(quote! {
            // SAFETY: not NULL, and NUL-terminated by the function's contract.
            unsafe { wire_request.string(#name) };
        }),
        _ => None,
    }
}

fn decode_result(parameter: &Parameter) -> Option<TokenStream> {
    let name = &parameter.name;
    let pointee = parameter.pointee.as_ref();
    match &parameter.role {
        Role::Out(Length::One) => Some(quote! {
            let taken_value = wire_response.take::<#pointee>()?;
            // SAFETY: not NULL, and room for one value by the function's contract.
            unsafe { #name.write(taken_value) };
        }),
        Role::OutOptional => Some(quote! {
            if !#name.is_null() {
                let taken_value = wire_response.take::<#pointee>()?;
                // SAFETY: not NULL, and room for one value by the function's contract.
                unsafe { #name.write(taken_value) };
            }
        }),
        Role::Out(Length::Count(count)) => Some(quote! {
            // SAFETY: room for this many elements by the function's contract.
            unsafe {
                wire_response.take_bytes(#name.cast(), (#count.to_u64() as usize).saturating_mul(size_of::<#pointee>()))
            }?;
        }),
        _ => None,
    }
}
