//! The host driver's functions of a group as typed, optional pointers: what a driver lacks is `None`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use crate::row::{Disposition, Group};

pub(crate) fn expand(group: &Group) -> TokenStream {
    let module = &group.module;
    let entries: Vec<_> = group
        .rows
        .iter()
        .filter(|row| matches!(row.disposition, Disposition::Wire | Disposition::Custom | Disposition::Guest))
        .flat_map(|row| {
            let types: Vec<_> = row.parameters.iter().map(|parameter| parameter.ty.clone()).collect();
            std::iter::once(row.name.clone())
                .chain(row.per_thread_name())
                .map(move |name| (name, quote!(unsafe extern "C" fn(#(#types),*) -> CUresult)))
        })
        .collect();
    let fields = entries.iter().map(|(name, ty)| quote!(pub(crate) #name: Option<#ty>));
    let loads = entries.iter().map(|(name, ty)| {
        let symbol = name.to_string();
        quote! {
            // SAFETY: CUDA's headers give the symbol of this name this type.
            #name: unsafe { library.function::<#ty>(#symbol) }
        }
    });
    let loads: Vec<_> = loads.collect();
    let doc = format!("The driver's functions of the group `{module}`.");
    let file = format_ident!("{}", module);
    quote! {
        #[allow(non_snake_case, dead_code, missing_docs, reason = "CUDA's own names, whether used yet or not")]
        pub(crate) mod #file {
            #[allow(unused_imports, reason = "a group may have no function to pass on")]
            use ::virtio_spec::cuda::*;
            #[doc = #doc]
            pub(crate) struct Functions { #(#fields),* }
            impl Functions {
                /// Looks every function up.
                #[allow(unused_variables, reason = "a group may have no function to pass on")]
                pub(crate) fn load(library: &crate::worker::driver::Symbols) -> Self {
                    Self { #(#loads),* }
                }
            }
        }
    }
}
