//! What the table itself becomes: a row's static description, and the macro that hands rows to emitters.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::{Error, ItemTrait, Result, TraitItem};

use crate::row::{Disposition, Row};

pub(crate) fn expand(group: u32, item: &ItemTrait) -> Result<TokenStream> {
    let mut functions = Vec::new();
    let mut rows = Vec::new();
    for member in &item.items {
        let TraitItem::Fn(function) = member else {
            return Err(Error::new_spanned(member, "the table holds functions only"));
        };
        rows.push(Row::from_item(function)?);
        functions.push(function);
    }
    let module = snake_case(&item.ident);
    let hand_over = format_ident!("{module}_rows");
    let statics = rows.iter().map(|row| row_static(&module, group, row));
    let names = rows.iter().map(|row| &row.name);
    let attributes = &item.attrs;
    let name = &item.ident;
    let documented = rows.iter().map(documented);
    Ok(quote! {
        #(#attributes)*
        #[allow(non_snake_case, reason = "CUDA's own names")]
        pub trait #name { #(#documented)* }

        /// The rows as statics, by function name.
        #[allow(non_upper_case_globals, missing_docs, reason = "CUDA's own names")]
        pub mod rows {
            use crate::calls::{Blocks, Call, Disposition, PerThread};
            #(#statics)*
        }

        /// Every row of the group, in the table's order.
        pub static CALLS: &[&crate::calls::Call] = &[#(&rows::#names),*];

        /// Passes the rows of the group to an emitter.
        #[macro_export]
        macro_rules! #hand_over {
            ($emit:path) => { $emit! { #module, #group; #(#functions)* } };
        }
    })
}

fn documented(row: &Row) -> TokenStream {
    let (docs, name) = (&row.docs, &row.name);
    let parameters = row.parameters.iter().map(|parameter| {
        let (name, ty) = (&parameter.name, &parameter.ty);
        quote!(#name: #ty)
    });
    let default = if docs.is_empty() {
        quote!(#[allow(missing_docs, reason = "named as in CUDA's documentation")])
    } else {
        quote!()
    };
    quote! { #(#docs)* #default fn #name(#(#parameters),*) -> crate::cuda::CUresult; }
}

fn row_static(module: &Ident, group: u32, row: &Row) -> TokenStream {
    let name = &row.name;
    let text = name.to_string();
    let module = module.to_string();
    let opcode = group << 8 | row.number;
    let (since, posted) = (row.since, row.posted);
    let (before_init, needs_context, blocks) = (row.before_init, row.needs_context, &row.blocks);
    let disposition = match row.disposition {
        Disposition::Wire => quote!(Wire),
        Disposition::Guest => quote!(Guest),
        Disposition::Custom => quote!(Custom),
        Disposition::Unsupported => quote!(Unsupported),
    };
    let per_thread = match &row.per_thread {
        None => quote!(None),
        Some(suffix) if suffix == "ptsz" => quote!(Some(PerThread::Stream)),
        Some(_) => quote!(Some(PerThread::Default)),
    };
    quote! {
        pub static #name: Call = Call {
            name: #text,
            group: #module,
            opcode: #opcode,
            since: #since,
            disposition: Disposition::#disposition,
            posted: #posted,
            blocks: Blocks::#blocks,
            per_thread: #per_thread,
            before_init: #before_init,
            needs_context: #needs_context,
        };
    }
}

/// `DevicePools` → `device_pools`.
fn snake_case(name: &Ident) -> Ident {
    let mut text = String::new();
    for (index, letter) in name.to_string().chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    Ident::new(&text, name.span())
}
