//! The worker's half of the wire rows: decode, check, call the driver, encode.
//!
//! What the generated code uses in the crate where it is expanded: `crate::worker::calls::Invocation` and
//! `crate::worker::driver`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use crate::row::{Group, Length, Parameter, Role, Row};

pub(crate) fn expand(group: &Group) -> TokenStream {
    let module = &group.module;
    if !group.rows.iter().any(|row| row.wire) {
        return TokenStream::new();
    }
    let arms = group.rows.iter().filter(|row| row.wire).map(|row| {
        let opcode = group.number << 8 | row.number;
        let body = invoke(group, row);
        quote!(#opcode => { #body })
    });
    quote! {
        #[allow(non_snake_case, unused_imports, unused_mut, reason = "CUDA's own names; groups differ in what they use")]
        pub(crate) mod #module {
            use ::virtio_spec::{codec::Scalar as _, cuda::*, handle::Kind};
            use crate::worker::calls::Invocation;

            /// Runs a wire row of the group; `None` if the opcode is none of them.
            pub(crate) fn dispatch(opcode: u32, call: &mut Invocation<'_>) -> Option<Result<(), CUresult>> {
                #[allow(clippy::redundant_closure_call, reason = "each arm may return early")]
                let result: Result<(), CUresult> = match opcode {
                    #(#arms)*
                    _ => return None,
                };
                Some(result)
            }
        }
    }
}

fn invoke(group: &Group, row: &Row) -> TokenStream {
    let module = &group.module;
    let name = &row.name;
    let numbers = row.parameters.iter().filter_map(decode_number);
    let bytes = row.parameters.iter().filter_map(decode_bytes);
    let rooms = row.parameters.iter().filter_map(make_room);
    let arguments = row.parameters.iter().map(argument);
    let results = row.parameters.iter().filter_map(encode_result);
    let function = match row.per_thread_name() {
        None => quote!(call.driver().#module.#name),
        Some(per_thread) => quote! {
            if call.per_thread() { call.driver().#module.#per_thread } else { call.driver().#module.#name }
        },
    };
    let context =
        if row.needs_context { quote!(call.set_current()?;) } else { quote!(call.prefer_current();) };
    quote! {
        (|| {
            #(#numbers)*
            #(#bytes)*
            call.end_of_parameters()?;
            #(#rooms)*
            let driver_function = { #function }.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
            #context
            // SAFETY: the driver's function of this name; every pointer is to memory of the worker of the size that the
            // function reads or writes, every handle comes from the session's table.
            let driver_result = call.in_driver(|| unsafe { driver_function(#(#arguments),*) });
            if driver_result != CUresult::SUCCESS {
                return Err(driver_result);
            }
            #(#results)*
            Ok(())
        })()
    }
}

fn room(parameter: &Parameter) -> proc_macro2::Ident {
    format_ident!("room_{}", parameter.name)
}

fn decode_number(parameter: &Parameter) -> Option<TokenStream> {
    let (name, ty) = (&parameter.name, &parameter.ty);
    let raw = format_ident!("raw_{name}");
    match &parameter.role {
        Role::Scalar => {
            Some(quote!(let #name: #ty = ::virtio_spec::codec::Scalar::from_guest(call.scalar()?)?;))
        }
        Role::Handle(kind) => Some(quote! {
            let #raw = call.scalar()?;
            let #name: #ty = ::virtio_spec::codec::Scalar::from_u64(call.handle(Kind::#kind, #raw)?);
        }),
        Role::Destroy(kind) => Some(quote! {
            let #raw = call.scalar()?;
            let #name: #ty = ::virtio_spec::codec::Scalar::from_u64(call.handle(Kind::#kind, #raw)?);
        }),
        Role::Mint(kind) => Some(quote! {
            let #raw = call.scalar()?;
            call.check_free(Kind::#kind, #raw)?;
        }),
        Role::OutOptional => Some(quote!(let #raw = call.scalar()? != 0;)),
        Role::In(_) | Role::Out(_) | Role::Text => None,
    }
}

fn decode_bytes(parameter: &Parameter) -> Option<TokenStream> {
    let pointee = parameter.pointee.as_ref();
    let room = room(parameter);
    match &parameter.role {
        Role::In(length) => {
            let count = match length {
                Length::One => quote!(1_u64),
                Length::Count(count) => quote!(#count.to_u64()),
            };
            Some(quote!(let #room: Vec<#pointee> = call.values::<#pointee>(#count)?;))
        }
        Role::Text => Some(quote!(let #room: std::ffi::CString = call.text()?;)),
        _ => None,
    }
}

fn make_room(parameter: &Parameter) -> Option<TokenStream> {
    let pointee = parameter.pointee.as_ref();
    let room = room(parameter);
    match &parameter.role {
        Role::Mint(_) | Role::Out(Length::One) | Role::OutOptional => {
            Some(quote!(let mut #room: #pointee = ::zerocopy::FromZeros::new_zeroed();))
        }
        Role::Out(Length::Count(count)) => {
            Some(quote!(let mut #room: Vec<#pointee> = call.room::<#pointee>(#count.to_u64())?;))
        }
        _ => None,
    }
}

fn argument(parameter: &Parameter) -> TokenStream {
    let name = &parameter.name;
    let room = room(parameter);
    let raw = format_ident!("raw_{name}");
    match &parameter.role {
        Role::Scalar | Role::Handle(_) | Role::Destroy(_) => quote!(#name),
        Role::Mint(_) | Role::Out(Length::One) => quote!(&raw mut #room),
        Role::OutOptional => quote!(if #raw { &raw mut #room } else { std::ptr::null_mut() }),
        Role::Out(Length::Count(_)) => quote!(#room.as_mut_ptr()),
        Role::In(_) | Role::Text => quote!(#room.as_ptr()),
    }
}

fn encode_result(parameter: &Parameter) -> Option<TokenStream> {
    let room = room(parameter);
    let raw = format_ident!("raw_{}", parameter.name);
    match &parameter.role {
        Role::Mint(kind) => Some(quote!(call.insert(Kind::#kind, #raw, #room.to_u64())?;)),
        Role::Destroy(kind) => Some(quote!(call.remove(Kind::#kind, #raw);)),
        Role::Out(Length::One) => Some(quote!(call.put(&#room)?;)),
        Role::OutOptional => Some(quote!(if #raw { call.put(&#room)?; })),
        Role::Out(Length::Count(_)) => Some(quote!(call.put_values(&#room)?;)),
        _ => None,
    }
}
