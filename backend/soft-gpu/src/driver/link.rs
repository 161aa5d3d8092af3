//! The linker: parts in, one image out.

use std::sync::Mutex;

use virtio_spec::cuda::{CUjitInputType, CUresult};

use super::Result;
use super::compile::{compile, parse};
use super::image::{Sources, pack};
use super::jit::Options;
use super::queue::lock;

/// A linker's work in progress.
#[derive(Debug)]
pub(crate) struct Linker {
    options: Options,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    parts: Vec<String>,
    /// The result, whose address the program holds until the linker goes.
    image: Option<Vec<u8>>,
}

impl Linker {
    pub(crate) fn new(options: Options) -> Self {
        Self { options, state: Mutex::default() }
    }

    /// Adds parts.
    pub(crate) fn add(&self, kind: CUjitInputType, sources: Sources) -> Result<()> {
        match kind {
            CUjitInputType::PTX | CUjitInputType::FATBINARY => {}
            CUjitInputType::CUBIN | CUjitInputType::OBJECT | CUjitInputType::LIBRARY => {
                return Err(CUresult::ERROR_NO_BINARY_FOR_GPU);
            }
            CUjitInputType::NVVM => return Err(CUresult::ERROR_NOT_SUPPORTED),
            _ => return Err(CUresult::ERROR_INVALID_VALUE),
        }
        for source in &sources.0 {
            parse(source).map_err(|failure| {
                self.options.finish("", &failure.log);
                failure.result
            })?;
        }
        lock(&self.state).parts.extend(sources.0);
        Ok(())
    }

    /// Links what was added; returns address and bytes of the image.
    pub(crate) fn complete(&self) -> Result<(*const u8, usize)> {
        let mut state = lock(&self.state);
        if state.image.is_none() {
            let parts = Sources(state.parts.clone());
            compile(&parts).map_err(|failure| {
                self.options.finish("", &failure.log);
                failure.result
            })?;
            state.image = Some(pack(&parts.0));
            self.options.finish("", "");
        }
        let image = state.image.as_deref().unwrap_or_default();
        Ok((image.as_ptr(), image.len()))
    }
}
