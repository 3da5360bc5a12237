//! Steps that are made one after the other, with their results read together: a GPU is not waited for after each.

use super::Trainer;
#[cfg(feature = "gpu")]
use crate::base::error::Error;
use crate::base::error::Result;
use crate::plan::train::TrainGoal;
use crate::train::data::Batch;
use crate::train::measured::Measured;
use crate::train::on_gpu::ALONE;

/// Steps of a GPU whose results are read together; at most as many as the device keeps.
const STEPS_AT_ONCE: usize = if ALONE < 16 { ALONE } else { 16 };

/// What an enqueued step found.
#[derive(Debug)]
pub(super) enum Found {
    Now(Measured),
    /// It lies on the device; so many answers count.
    Later {
        counted: u64,
    },
}

impl Trainer {
    /// Records a step into an application's own encoder, on a device of [`Device::from_wgpu`](crate::Device::from_wgpu); nothing is
    /// submitted and nothing read back. Several steps may be recorded one after the other. They are made once the application
    /// submits the encoder, which it must before the trainer's next call; [`Trainer::encoded`] gives what they found. The work is
    /// one submission: choose T and B so small that no operating system's watchdog ends it.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Unsupported`] on the CPU; [`Error::Option`] where [`Trainer::encoded`] was not asked for too
    /// many steps.
    #[cfg(feature = "gpu")]
    pub fn encode(&mut self, encoder: &mut wgpu::CommandEncoder, batch: &Batch<'_>) -> Result<()> {
        let Some(gpu) = &self.gpu else {
            let what = "a step of training in a GPU's command encoder".into();
            return Err(Error::Unsupported { place: "the CPU".into(), what });
        };
        if self.enqueued.len() == ALONE {
            return Err(Error::option("encode", &format!("at most {ALONE} steps before `encoded`"), &(ALONE + 1)));
        }
        let counted = self.record(gpu, batch, self.enqueued.len(), encoder)?;
        self.step += 1;
        self.enqueued.push((Found::Later { counted }, 0));
        Ok(())
    }

    /// What the steps of `Trainer::encode` found since the last call, in their order; waits for them.
    ///
    /// # Errors
    /// The driver's own.
    pub fn encoded(&mut self) -> Result<Vec<Measured>> {
        Ok(self.drain()?.into_iter().map(|(measured, _)| measured).collect())
    }

    /// Makes a step of `sequences` sequences, on a GPU without waiting for it; [`Trainer::drain`] gives what it found.
    pub(in crate::train) fn enqueue(&mut self, batch: &Batch<'_>, sequences: usize) -> Result<()> {
        let found = match &self.gpu {
            Some(gpu) => {
                let counted = self.submit(gpu, (batch, None), TrainGoal::Step, self.enqueued.len())?;
                self.step += 1;
                Found::Later { counted }
            }
            None => Found::Now(self.step(batch)?),
        };
        self.enqueued.push((found, sequences));
        Ok(())
    }

    /// Whether what the enqueued steps found should be read before the next.
    pub(in crate::train) fn is_full(&self) -> bool {
        self.gpu.is_none() || self.enqueued.len() >= STEPS_AT_ONCE
    }

    /// What the enqueued steps found, and of how many sequences each was.
    pub(in crate::train) fn drain(&mut self) -> Result<Vec<(Measured, usize)>> {
        let enqueued = std::mem::take(&mut self.enqueued);
        if enqueued.is_empty() {
            return Ok(Vec::new());
        }
        let results = match &self.gpu {
            Some(gpu) => gpu.results(0, enqueued.len())?,
            None => Vec::new(),
        };
        let measured = |(at, (found, sequences)): (usize, (Found, usize))| match found {
            Found::Now(measured) => (measured, sequences),
            Found::Later { counted } => (results[at].measured(counted), sequences),
        };
        let found: Vec<(Measured, usize)> = enqueued.into_iter().enumerate().map(measured).collect();
        if self.gpu.is_some() {
            found.iter().for_each(|(measured, _)| self.count_skipped(measured));
        }
        Ok(found)
    }

    /// Steps that were skipped, and those since the last that was not.
    pub(in crate::train) fn skipped(&self) -> (u64, u64) {
        (self.state.skipped, self.state.skipped_in_a_row)
    }

    /// Counts a step of a GPU among those skipped, if it was.
    pub(super) fn count_skipped(&mut self, measured: &Measured) {
        let state = &mut self.state;
        state.skipped += u64::from(measured.skipped);
        state.skipped_in_a_row = if measured.skipped { state.skipped_in_a_row + 1 } else { 0 };
    }
}
