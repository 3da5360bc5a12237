//! Which rows of a file's state tensors are the states of which layers.

use std::collections::BTreeMap;

use super::build::Build;
use super::constants::{resolve_axis, slice_range};
use super::expression::Expression;
use super::graph::OnnxNode;
use super::value::{Dim, FinalRow, Id, LayerDirection, RecurrentPart};
use super::walk::Walk;
use crate::base::error::Result;
use crate::network::{FileState, FileStateRow, HiddenOrCell, Network};

/// Rows of a state tensor that the caller gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRows {
    /// The graph's input.
    pub input: String,
    /// The first row, along the input's first axis.
    pub first: usize,
    /// Whether the first axis of the value is still that of the rows.
    axis: bool,
}

impl StateRows {
    /// All rows of an input.
    pub fn all(input: &str) -> Self {
        Self { input: input.to_owned(), first: 0, axis: true }
    }

    fn from(&self, offset: usize) -> Option<Self> {
        Some(Self { first: self.first.checked_add(offset)?, ..self.clone() })
    }
}

impl Walk<'_> {
    /// The rows that a state holds, where they are known.
    pub fn rows_of(&self, state: Id) -> Option<&StateRows> {
        match self.build.expressions.get(state) {
            Expression::State(name) => self.state_rows.get(name),
            _ => None,
        }
    }

    /// The rows of every output of an operator that moves axes.
    pub fn moved_rows(&self, node: &OnnxNode, state: Id, dims: &[Dim]) -> Result<Vec<Option<StateRows>>> {
        let outputs = node.outputs.len().max(1);
        let Some(rows) = self.rows_of(state) else { return Ok(vec![None; outputs]) };
        let one = match node.op.as_str() {
            "Squeeze" => {
                let axis = rows.axis && !self.squeezed(node, dims)?.contains(&0);
                Some(StateRows { axis, ..rows.clone() })
            }
            "Unsqueeze" => {
                let axis = rows.axis && !self.unsqueezed(node, dims.len())?.contains(&0);
                Some(StateRows { axis, ..rows.clone() })
            }
            "Slice" => match &self.slices(node, dims.len())?[..] {
                &[(0, start, end, step)] if rows.axis => match dims.first() {
                    Some(&Dim::Known(size)) => slice_range(size, start, end, step)
                        .filter(|_| step == 1)
                        .and_then(|(first, ..)| rows.from(first)),
                    _ => None,
                },
                _ => None,
            },
            "Split" if rows.axis && resolve_axis(node, node.int("axis", 0)?, dims.len().max(1))? == 0 => {
                let Some(&Dim::Known(size)) = dims.first() else { return Ok(vec![None; outputs]) };
                let mut first = 0usize;
                let next = |part: i64| {
                    let here = first;
                    first = first.saturating_add(usize::try_from(part).unwrap_or(usize::MAX));
                    rows.from(here)
                };
                return Ok(self.parts(node, size)?.into_iter().map(next).collect());
            }
            _ => None,
        };
        Ok(vec![one; outputs])
    }

    /// The row that a gather of one index takes along the first axis.
    pub fn gathered_row(&self, state: Id, axis: usize, index: Option<usize>) -> Option<StateRows> {
        let rows = self.rows_of(state).filter(|rows| rows.axis && axis == 0)?;
        Some(StateRows { axis: false, ..rows.from(index?)? })
    }

    /// Notes that the caller's rows are a part of the state of a layer.
    pub fn give_rows(&mut self, rows: Option<StateRows>, layer: &str, part: HiddenOrCell, count: usize) {
        let Some(rows) = rows else { return };
        for row in 0..count {
            let place = place(layer, part, row);
            self.given_rows.entry(rows.input.clone()).or_default().insert(rows.first.saturating_add(row), place);
        }
    }

    /// The state tensors that the graph takes, as far as each of their rows is the state of a layer.
    pub fn given_states(&mut self) -> Vec<FileState> {
        for (state, layer, part) in std::mem::take(&mut self.build.given) {
            let rows = self.rows_of(state).cloned();
            self.give_rows(rows, &layer, part, 1);
        }
        let mut all = std::mem::take(&mut self.given_rows);
        let names = self.graph.inputs.iter().map(|input| &input.name);
        let whole = |name: &String| {
            let rows: BTreeMap<usize, FileStateRow> = all.remove(name)?;
            let in_order = rows.keys().copied().eq(0..rows.len());
            in_order.then(|| FileState { name: name.clone(), rows: rows.into_values().collect() })
        };
        names.filter_map(whole).collect()
    }
}

impl Build {
    /// A state tensor that the graph returns, if every row of it is the state of a layer.
    pub fn final_state_rows(&self, name: &str, rows: &[FinalRow]) -> Option<FileState> {
        let row = |row: &FinalRow| match row {
            FinalRow::Computed(id) => self.states.get(id).map(|(layer, part)| place(layer, *part, 0)),
            &FinalRow::Layer { part, row: LayerDirection { layer, direction } } => {
                let part = if part == RecurrentPart::C { HiddenOrCell::C } else { HiddenOrCell::H };
                self.layers.get(layer).map(|layer| place(layer.spec.name(), part, direction))
            }
        };
        let rows: Option<Vec<_>> = rows.iter().map(row).collect();
        Some(FileState { name: name.to_owned(), rows: rows.filter(|rows| !rows.is_empty())? })
    }
}

fn place(layer: &str, part: HiddenOrCell, row: usize) -> FileStateRow {
    FileStateRow { layer: layer.to_owned(), part: part.name().to_owned(), row }
}

/// The tensors whose every row is a state that the network keeps.
pub fn kept(states: Vec<FileState>, network: &Network) -> Vec<FileState> {
    let exists = |row: &FileStateRow| {
        network.kept().iter().any(|layer| {
            layer.name == row.layer && layer.parts.iter().any(|part| part.name == row.part && row.row < part.rows)
        })
    };
    states.into_iter().filter(|state| state.rows.iter().all(exists)).collect()
}
