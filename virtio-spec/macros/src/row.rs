//! One row of the call table, parsed: a function, its numbers, and what each parameter is.

use proc_macro2::Span;
use syn::{
    Attribute, Error, FnArg, Ident, LitInt, Pat, Result, TraitItemFn, Type,
    ext::IdentExt,
    parse::{Parse, ParseStream},
    spanned::Spanned,
};

/// Who answers a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// Generated on both sides.
    Wire,
    /// Answered in the shim.
    Guest,
    /// Hand-written on both sides.
    Custom,
    /// Exported, answered with `CUDA_ERROR_NOT_SUPPORTED`.
    Unsupported,
}

/// What a parameter of a `wire` row is.
#[derive(Clone)]
pub(crate) enum Role {
    /// A number by value.
    Scalar,
    /// A handle by value.
    Handle(Ident),
    /// A handle by value that the call invalidates.
    Destroy(Ident),
    /// Room for a handle that the guest mints.
    Mint(Ident),
    /// Memory that the call reads.
    In(Length),
    /// Memory that the call writes.
    Out(Length),
    /// Memory that the call writes, or NULL.
    OutOptional,
    /// A NUL-terminated name.
    Text,
}

/// How many elements lie behind a pointer.
#[derive(Clone)]
pub(crate) enum Length {
    /// One.
    One,
    /// As many as the named scalar parameter says.
    Count(Ident),
}

pub(crate) struct Parameter {
    pub(crate) name: Ident,
    pub(crate) ty: Type,
    /// The type behind the pointer, for pointers.
    pub(crate) pointee: Option<Type>,
    pub(crate) role: Role,
}

pub(crate) struct Row {
    pub(crate) name: Ident,
    pub(crate) docs: Vec<Attribute>,
    pub(crate) number: u32,
    pub(crate) since: u32,
    pub(crate) disposition: Disposition,
    /// Encoding and decoding are generated: a `wire` row, or a `custom` row whose hand-written half is around them.
    pub(crate) wire: bool,
    pub(crate) posted: bool,
    pub(crate) before_init: bool,
    pub(crate) needs_context: bool,
    pub(crate) blocks: Ident,
    /// `ptsz` or `ptds`: the suffix of the per-thread entry.
    pub(crate) per_thread: Option<Ident>,
    pub(crate) parameters: Vec<Parameter>,
}

/// A group of rows: a trait's name in snake case, its number and rows.
pub(crate) struct Group {
    pub(crate) module: Ident,
    pub(crate) number: u32,
    pub(crate) rows: Vec<Row>,
}

/// The CUDA handle types and the name of their `handle::Kind`.
const HANDLES: &[(&str, &str)] = &[
    ("CUcontext", "Context"),
    ("CUmodule", "Module"),
    ("CUfunction", "Function"),
    ("CUlibrary", "Library"),
    ("CUkernel", "Kernel"),
    ("CUstream", "Stream"),
    ("CUevent", "Event"),
    ("CUlinkState", "Link"),
    ("CUmemoryPool", "Pool"),
    ("CUgraph", "Graph"),
    ("CUgraphExec", "GraphExec"),
    ("CUgraphNode", "GraphNode"),
    ("CUarray", "Array"),
    ("CUmipmappedArray", "MipmappedArray"),
    ("CUmemGenericAllocationHandle", "Allocation"),
];

fn handle_kind(ty: &Type) -> Option<Ident> {
    let Type::Path(path) = ty else { return None };
    let last = &path.path.segments.last()?.ident;
    let (_, kind) = HANDLES.iter().find(|(name, _)| last == name)?;
    Some(Ident::new(kind, last.span()))
}

struct CallArguments {
    number: u32,
    since: u32,
    disposition: Disposition,
    wire: bool,
    posted: bool,
    before_init: bool,
    needs_context: bool,
    blocks: Ident,
    per_thread: Option<Ident>,
}

impl Parse for CallArguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let (mut number, mut since, mut disposition) = (None, None, None);
        let mut wire = false;
        let (mut posted, mut before_init, mut needs_context) = (false, false, true);
        let mut blocks = Ident::new("No", Span::call_site());
        let mut per_thread = None;
        while !input.is_empty() {
            let word = input.call(Ident::parse_any)?;
            let value = || -> Result<u32> {
                input.parse::<syn::Token![=]>()?;
                input.parse::<LitInt>()?.base10_parse()
            };
            match word.to_string().as_str() {
                "op" => number = Some(value()?),
                "since" => since = Some(value()?),
                "wire" => wire = true,
                "guest" => disposition = Some(Disposition::Guest),
                "custom" => disposition = Some(Disposition::Custom),
                "unsupported" => disposition = Some(Disposition::Unsupported),
                "posted" => posted = true,
                "before_init" => before_init = true,
                "no_context" => needs_context = false,
                "blocks_driver" => blocks = Ident::new("Driver", word.span()),
                "blocks_gpu" => blocks = Ident::new("Gpu", word.span()),
                "ptsz" | "ptds" => per_thread = Some(word),
                other => return Err(Error::new(word.span(), format!("unknown word `{other}` in a row"))),
            }
            if !input.is_empty() {
                input.parse::<syn::Token![,]>()?;
            }
        }
        if wire {
            disposition = disposition.or(Some(Disposition::Wire));
        }
        let missing = |what| Error::new(input.span(), format!("a row needs {what}"));
        Ok(Self {
            number: number.ok_or_else(|| missing("`op = N`"))?,
            since: since.ok_or_else(|| missing("`since = VERSION`"))?,
            disposition: disposition.ok_or_else(|| missing("one of wire, guest, custom, unsupported"))?,
            wire,
            posted,
            before_init,
            needs_context,
            blocks,
            per_thread,
        })
    }
}

/// `count = name` inside `#[input(…)]` or `#[out(…)]`, or the word `optional`.
enum PointerArguments {
    Count(Ident),
    Optional,
}

impl Parse for PointerArguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let word: Ident = input.parse()?;
        if word == "optional" {
            return Ok(Self::Optional);
        }
        if word == "count" {
            input.parse::<syn::Token![=]>()?;
            return Ok(Self::Count(input.parse()?));
        }
        Err(Error::new(word.span(), "expected `optional` or `count = parameter`"))
    }
}

fn pointer_role(attribute: &Attribute, pointee: &Type) -> Result<Role> {
    let arguments = match &attribute.meta {
        syn::Meta::Path(_) => None,
        _ => Some(attribute.parse_args::<PointerArguments>()?),
    };
    let word = attribute.path().require_ident()?;
    match (word.to_string().as_str(), arguments) {
        ("input", None) => Ok(Role::In(Length::One)),
        ("input", Some(PointerArguments::Count(count))) => Ok(Role::In(Length::Count(count))),
        ("out", None) => Ok(Role::Out(Length::One)),
        ("out", Some(PointerArguments::Count(count))) => Ok(Role::Out(Length::Count(count))),
        ("out", Some(PointerArguments::Optional)) => Ok(Role::OutOptional),
        ("text", None) => Ok(Role::Text),
        ("mint", None) => handle_kind(pointee)
            .map(Role::Mint)
            .ok_or_else(|| Error::new(pointee.span(), "only a handle can be minted")),
        _ => Err(Error::new(word.span(), "expected input, out, mint or text")),
    }
}

fn parameter(argument: &FnArg, wire: bool) -> Result<Parameter> {
    let FnArg::Typed(typed) = argument else {
        return Err(Error::new(argument.span(), "a row has no receiver"));
    };
    let Pat::Ident(name) = &*typed.pat else {
        return Err(Error::new(typed.pat.span(), "a parameter is a plain name"));
    };
    let ty = (*typed.ty).clone();
    let pointee = match &ty {
        Type::Ptr(pointer) => Some((*pointer.elem).clone()),
        _ => None,
    };
    let attribute = typed.attrs.first();
    let role = match (&pointee, attribute) {
        (Some(pointee), Some(attribute)) => pointer_role(attribute, pointee)?,
        (Some(_), None) if wire => {
            return Err(Error::new(ty.span(), "a pointer of a wire row declares what lies behind it"));
        }
        (Some(_), None) => Role::Scalar,
        (None, Some(attribute)) if attribute.path().is_ident("destroy") => handle_kind(&ty)
            .map(Role::Destroy)
            .ok_or_else(|| Error::new(ty.span(), "only a handle can be destroyed"))?,
        (None, Some(attribute)) => {
            return Err(Error::new(attribute.span(), "only pointers and destroyed handles are marked"));
        }
        (None, None) => handle_kind(&ty).map_or(Role::Scalar, Role::Handle),
    };
    Ok(Parameter { name: name.ident.clone(), ty, pointee, role })
}

impl Row {
    pub(crate) fn from_item(item: &TraitItemFn) -> Result<Self> {
        let call = item
            .attrs
            .iter()
            .find(|attribute| attribute.path().is_ident("call"))
            .ok_or_else(|| Error::new(item.sig.ident.span(), "a row has a `#[call(…)]`"))?;
        let arguments: CallArguments = call.parse_args()?;
        let wire = arguments.wire;
        let parameters =
            item.sig.inputs.iter().map(|argument| parameter(argument, wire)).collect::<Result<Vec<_>>>()?;
        if arguments.posted && parameters.iter().any(|p| matches!(p.role, Role::Out(_) | Role::OutOptional)) {
            return Err(Error::new(item.sig.ident.span(), "a posted call returns nothing"));
        }
        Ok(Self {
            name: item.sig.ident.clone(),
            docs: item.attrs.iter().filter(|a| a.path().is_ident("doc")).cloned().collect(),
            number: arguments.number,
            since: arguments.since,
            disposition: arguments.disposition,
            wire,
            posted: arguments.posted,
            before_init: arguments.before_init,
            needs_context: arguments.needs_context,
            blocks: arguments.blocks,
            per_thread: arguments.per_thread,
            parameters,
        })
    }

    /// The name of the per-thread entry, if the row has one.
    pub(crate) fn per_thread_name(&self) -> Option<Ident> {
        let suffix = self.per_thread.as_ref()?;
        Some(Ident::new(&format!("{}_{suffix}", self.name), self.name.span()))
    }
}

/// What a group's row macro passes to an emitter: `module, number; fn …; fn …;`.
impl Parse for Group {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let module = input.parse()?;
        input.parse::<syn::Token![,]>()?;
        let number = input.parse::<LitInt>()?.base10_parse()?;
        input.parse::<syn::Token![;]>()?;
        let mut rows = Vec::new();
        while !input.is_empty() {
            rows.push(Row::from_item(&input.parse::<TraitItemFn>()?)?);
        }
        Ok(Self { module, number, rows })
    }
}
