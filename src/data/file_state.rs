//! The state in the tensors of the file that a network was read from.

use super::state::State;
use crate::base::error::{Error, Result};
use crate::network::{FileState, FileStateRow, Network};

/// A state tensor as the file has it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FileStateTensor {
    /// Its name in the file.
    pub name: String,
    /// `[R, B, H]`
    pub shape: [usize; 3],
    /// Its numbers.
    pub values: Vec<f32>,
}

impl State {
    /// Replaces the states that are rows of the file's input `name`, one of
    /// [`FileAxes::states`](crate::network::FileAxes::states), by `values` of `shape` `[R, B, H]`, or `[B, H]` where R is 1.
    ///
    /// # Errors
    /// [`Error::Shape`] if the file has no such input, or for another shape.
    pub fn set_from_file(&mut self, network: &Network, name: &str, shape: &[usize], values: &[f32]) -> Result<()> {
        let states = network.file_axes().map_or(&[][..], |axes| &axes.states);
        let Some(tensor) = states.iter().find(|state| state.name == name) else {
            let names: Vec<String> = states.iter().map(|state| format!("`{}`", state.name)).collect();
            return Err(Error::shape("state of the file", format!("one of {}", names.join(", ")), format!("`{name}`")));
        };
        let expected = self.shape_of(tensor).unwrap_or_default();
        let fits = *shape == expected || (expected[0] == 1 && *shape == expected[1..]);
        if !fits || values.len() != expected.iter().product::<usize>() {
            return Err(Error::shape(format!("`{name}`"), format!("{expected:?}"), format!("{shape:?}")));
        }
        let rows = values.chunks_exact((expected[1] * expected[2]).max(1));
        for (row, values) in tensor.rows.iter().zip(rows) {
            let layer = self.layers.iter_mut().find(|layer| layer.name == row.layer);
            if let Some(part) = layer.and_then(|layer| layer.part_mut(&row.part)) {
                part.row_mut(row.row).copy_from_slice(values);
            }
        }
        Ok(())
    }

    /// The file's outputs that are the state after the last timestep,
    /// [`FileAxes::final_states`](crate::network::FileAxes::final_states), of this state.
    #[must_use]
    pub fn in_file_tensors(&self, network: &Network) -> Vec<FileStateTensor> {
        let states = network.file_axes().map_or(&[][..], |axes| &axes.final_states);
        let tensor = |state: &FileState| {
            let shape = self.shape_of(state)?;
            let rows = state.rows.iter().filter_map(|row| self.file_row(row)).flat_map(|(numbers, _)| numbers);
            Some(FileStateTensor { name: state.name.clone(), shape, values: rows.copied().collect() })
        };
        states.iter().filter_map(tensor).collect()
    }

    /// `[R, B, H]`; `None` if a row is missing, or if rows differ in width.
    fn shape_of(&self, tensor: &FileState) -> Option<[usize; 3]> {
        let mut rows = tensor.rows.iter().map(|row| self.file_row(row).map(|(_, shape)| shape));
        let first = rows.next()??;
        rows.all(|shape| shape == Some(first)).then_some([tensor.rows.len(), first[0], first[1]])
    }

    /// The numbers of a row, and their shape `[B, H]`.
    fn file_row(&self, row: &FileStateRow) -> Option<(&[f32], [usize; 2])> {
        let layer = self.layers.iter().find(|layer| layer.name == row.layer)?;
        let part = layer.part(&row.part).filter(|part| row.row < part.rows())?;
        Some((part.row(row.row), [part.batch(), part.width()]))
    }
}
