//! Metrics of a batch beside its loss.

use super::Trainer;
use crate::base::error::Result;
use crate::data::input::Checked;
use crate::reference::{Targets, mean_absolute_error};
use crate::train::data::Batch;
use crate::train::measured::{Measured, Measures, class_counts};

impl Trainer {
    /// The loss of `batch`, and the mean of its absolute errors.
    pub(in crate::train) fn absolute_error(&self, batch: &Batch<'_>) -> Result<(Measured, f64)> {
        match &self.gpu {
            Some(gpu) => self.absolute_error_on(gpu, batch),
            None => self.with_output(batch, |(output, width), targets, weights| match targets {
                Targets::Values(values) => Ok(mean_absolute_error(output, width, values, weights)?.into()),
                _ => Ok(0.0),
            }),
        }
    }

    /// The loss of `batch`, right answers among the K most probable classes, and pairs of classes.
    pub(in crate::train) fn measured(
        &self,
        batch: &Batch<'_>,
        measures: Measures,
    ) -> Result<(Measured, u64, Vec<u32>)> {
        if let Some(gpu) = &self.gpu {
            return self.measured_on(gpu, batch, measures);
        }
        let (measured, (right, pairs)) = self.with_output(batch, |logits, targets, weights| match targets {
            Targets::Classes(classes) => class_counts(measures, logits, classes, weights),
            _ => Ok((0, Vec::new())),
        })?;
        Ok((measured, right, pairs))
    }

    /// The loss of `batch`, and what `measure` finds in the output that the loss reads and its width, with the targets and
    /// the weights of the rows.
    fn with_output<T>(
        &self,
        batch: &Batch<'_>,
        measure: impl FnOnce((&[f32], usize), Targets<'_, f32>, Option<&[f32]>) -> Result<T>,
    ) -> Result<(Measured, T)> {
        let mut memory = self.memory.take();
        let measured = self.loss_of(batch, None, &mut memory)?;
        let checked = Checked::new(&self.network, batch.input, None)?;
        let (from, width) = self.loss_stage();
        let output = &memory.forward.forward.stages[from];
        let steps = output.len() / width / checked.batch;
        let found = self.with_targets(&checked, steps, width, batch, |targets, options| {
            measure((output, width), targets, options.sample_weights)
        })?;
        self.memory.put(memory);
        Ok((measured, found))
    }
}
