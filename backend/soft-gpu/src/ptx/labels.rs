//! Labels of a function: numbered when met, turned into code positions at its end.
//!
//! A label belongs to the block that it stands in; blocks inside see it too. Inline assembly relies on that:
//! each copy brings a block with a label of the same name.

use std::collections::HashMap;

use super::CompileError;
use super::lexer::Token;

/// One label as seen from one block.
struct Label<'a> {
    name: &'a str,
    /// Code position.
    at: Option<u32>,
    /// Not defined in its block: the label of the surrounding one.
    outer: Option<u32>,
    line: u32,
}

pub(super) struct Labels<'a> {
    blocks: Vec<HashMap<&'a str, u32>>,
    list: Vec<Label<'a>>,
    /// Where labels were defined, whatever their block; `None` for several of one name.
    anywhere: HashMap<&'a str, Option<u32>>,
    limit: usize,
}

fn at(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

impl<'a> Labels<'a> {
    pub(super) fn new(limit: usize) -> Self {
        Self { blocks: vec![HashMap::new()], list: Vec::new(), anywhere: HashMap::new(), limit }
    }

    pub(super) fn open_block(&mut self) {
        self.blocks.push(HashMap::new());
    }

    /// Hands labels that the block did not define to the one around it.
    pub(super) fn close_block(&mut self) -> Result<(), CompileError> {
        let inner = if self.blocks.len() > 1 { self.blocks.pop() } else { None };
        for (name, index) in inner.unwrap_or_default() {
            let Some(label) = self.list.get(at(index)) else { continue };
            if label.at.is_none() {
                let outer = self.number(name, label.line)?;
                if let Some(label) = self.list.get_mut(at(index)) {
                    label.outer = Some(outer);
                }
            }
        }
        Ok(())
    }

    /// The number of a label as seen from the current block.
    pub(super) fn number(&mut self, name: &'a str, line: u32) -> Result<u32, CompileError> {
        if let Some(index) = self.blocks.last().and_then(|block| block.get(name)) {
            return Ok(*index);
        }
        if self.list.len() >= self.limit {
            return Err(CompileError { line, message: "too many labels".into() });
        }
        let index = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(Label { name, at: None, outer: None, line });
        if let Some(block) = self.blocks.last_mut() {
            block.insert(name, index);
        }
        Ok(index)
    }

    /// The label stands at code position `here`.
    pub(super) fn define(&mut self, name: &'a str, here: u32, line: u32) -> Result<(), CompileError> {
        let index = self.number(name, line)?;
        match self.list.get_mut(at(index)).map(|label| label.at.replace(here)) {
            Some(None) => {}
            _ => {
                let message = format!("label {} is defined twice", Token::Word(name));
                return Err(CompileError { line, message });
            }
        }
        self.anywhere.entry(name).and_modify(|place| *place = None).or_insert(Some(here));
        Ok(())
    }

    /// The code position of every number.
    pub(super) fn resolve(&self) -> Result<Vec<u32>, CompileError> {
        let place = |label: &Label<'a>| {
            let mut inner = label;
            // Chains are as long as blocks are nested.
            while let (None, Some(outer)) = (inner.at, inner.outer) {
                inner = self.list.get(at(outer))?;
            }
            inner.at.or_else(|| self.anywhere.get(label.name).copied().flatten())
        };
        self.list
            .iter()
            .map(|label| {
                place(label).ok_or_else(|| {
                    let message = format!("label {} is not defined", Token::Word(label.name));
                    CompileError { line: label.line, message }
                })
            })
            .collect()
    }
}
