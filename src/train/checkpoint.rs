//! Checkpoints: a trainer in one safetensors file, from which training goes on with the same bits.
//!
//! Tensors, all f32: `network.NAME`, the weights; `moment0.NAME` to `moment2.NAME`, what the optimizer keeps of each
//! weight; `average.NAME`, the average of the weights; `best.NAME`, the weights of the best epoch; `state.LAYER.h` and
//! `state.LAYER.c`, the state that truncated backpropagation carries. All else stands as JSON under [`CHECKPOINT_KEY`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::fit::{Fit, FitProgress, FitRun, Fitted, Totals};
use super::options::TrainOptions;
use super::trainer::Trainer;
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::base::room::room;
use crate::data::state::State;
use crate::device::Device;
use crate::formats::safetensors::{CHECKPOINT_KEY, Contents, StoredTensor, to_file};
use crate::network::{FileAxes, FileDropout, Network, NetworkSpec};
use crate::reference::OptimizerState;

/// Version of the file that this crate writes and reads.
const FORMAT: u32 = 2;
/// The one before, which has no carried state; it is read too.
const BEFORE: u32 = 1;
/// Name of the checkpoint in the folder of [`Fit::checkpoint`].
const LAST: &str = "last.safetensors";
/// Name of the model file there.
const BEST: &str = "best.safetensors";
/// More steps or epochs than any run has. What a damaged file says above it is refused, so that no count overflows.
const MOST: u64 = 1 << 53;

/// What every version of the file says.
#[derive(Deserialize)]
struct Written {
    format: u32,
    version: String,
}

/// A trainer without its tensors.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct StoredTrainer {
    format: u32,
    /// The crate's version.
    version: String,
    options: TrainOptions,
    network: NetworkSpec,
    file_axes: Option<FileAxes>,
    #[serde(default)]
    file_dropout: Vec<FileDropout>,
    /// Steps of the trainer.
    steps: u64,
    /// Steps that the optimizer made.
    made: u64,
    /// Steps that it skipped, and those since the last that it made.
    skipped: [u64; 2],
    fit: Option<StoredFit>,
    /// Whether it holds a carried state.
    #[serde(default)]
    carries: bool,
}

/// A [`FitProgress`]; means as [`Totals::to_bits`] gives them.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct StoredFit {
    batch_size: usize,
    shuffle: bool,
    train: u64,
    valid: Option<u64>,
    epochs: usize,
    batches: usize,
    totals: [u64; 5],
    best_epoch: usize,
    best_valid: Option<[u64; 5]>,
    has_best: bool,
    skipped: u64,
    skipped_in_a_row: u32,
}

impl From<&FitProgress> for StoredFit {
    fn from(at: &FitProgress) -> Self {
        Self {
            batch_size: at.run.batch_size,
            shuffle: at.run.shuffle,
            train: at.run.train,
            valid: at.run.valid,
            epochs: at.fitted.epochs,
            batches: at.batches,
            totals: at.totals.to_bits(),
            best_epoch: at.fitted.best_epoch,
            best_valid: at.fitted.valid.map(Totals::to_bits),
            has_best: at.best.is_some(),
            skipped: at.fitted.skipped,
            skipped_in_a_row: at.skipped_in_a_row,
        }
    }
}

impl StoredFit {
    fn progress(&self, best: Option<Arc<Network>>) -> FitProgress {
        let Self { batch_size, shuffle, train, valid, .. } = *self;
        let fitted = Fitted {
            epochs: self.epochs,
            best_epoch: self.best_epoch,
            valid: self.best_valid.map(Totals::from_bits),
            skipped: self.skipped,
        };
        FitProgress {
            run: FitRun { batch_size, shuffle, train, valid },
            batches: self.batches,
            totals: Totals::from_bits(self.totals),
            fitted,
            best,
            skipped_in_a_row: self.skipped_in_a_row,
        }
    }
}

impl StoredTrainer {
    /// The first number that no run comes to.
    fn beyond(&self) -> Option<u64> {
        let of_fit = |fit: &StoredFit| {
            [fit.epochs as u64, fit.batches as u64, fit.best_epoch as u64, fit.skipped, fit.skipped_in_a_row.into()]
        };
        let of_fit = self.fit.iter().flat_map(of_fit);
        let own = [self.steps, self.made].into_iter().chain(self.skipped);
        own.chain(of_fit).find(|&count| count >= MOST)
    }
}

impl Trainer {
    /// Writes all that training needs to go on: weights, the optimizer's state, options, and where a resumed fit is. No
    /// half-written file is ever found at `path`; an error leaves what was there.
    ///
    /// Inside a fit, [`Fit::checkpoint`] writes the same with the position in the fit.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written; [`Error::TooLarge`] if there is no memory for its bytes;
    /// [`Error::Malformed`] for options that are not finite.
    pub fn save_checkpoint(&self, path: impl AsRef<Path>) -> Result<()> {
        files::write(path.as_ref(), &self.checkpoint(self.resumed.as_deref(), None)?)
    }

    /// As [`Trainer::save_checkpoint`], with the state that [`Trainer::step_from`] carries from window to window, so that
    /// training goes on in the middle of its sequences. [`Trainer::carried`] of the resumed trainer gives it back. For
    /// [`Trainer::step_streams`] it is [`StreamPool::states`](crate::StreamPool::states).
    ///
    /// # Errors
    /// As [`Trainer::save_checkpoint`]; [`Error::Shape`] for a state of another network, [`Error::NonFinite`] for one that is
    /// not finite.
    pub fn save_checkpoint_with(&self, path: impl AsRef<Path>, state: &State) -> Result<()> {
        files::write(path.as_ref(), &self.checkpoint(self.resumed.as_deref(), Some(state))?)
    }

    /// The state that the checkpoint held from which this trainer was resumed.
    #[must_use]
    pub fn carried(&self) -> Option<&State> {
        self.carried.as_ref()
    }

    /// Reads a checkpoint: the file itself, or a folder of [`Fit::checkpoint`] with its `last.safetensors`. Steps that
    /// follow have the bits that they would have had on the same device, and so has the first fit of the same data.
    ///
    /// ```no_run
    /// # use gatefold::Device;
    /// # use gatefold::train::{Answers, Dataset, Fit, Next, Trainer};
    /// # let set = Dataset::tokens(vec![vec![1, 2]], Answers::Classes(vec![0]))?;
    /// let mut trainer = Trainer::resume(&Device::cpu(), "run")?; // where a fit wrote "run/last.safetensors"
    /// trainer.fit(&set, None, &Fit::new(32).epochs(20).checkpoint("run"), |_| Next::Continue)?;
    /// # Ok::<(), gatefold::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Malformed`] for what is no checkpoint, one that is cut short or
    /// one of another format; if its tensors are not those of its network, what [`Network::new`] says.
    pub fn resume(device: &Device, path: impl AsRef<Path>) -> Result<Self> {
        let mut path = path.as_ref().to_owned();
        if path.is_dir() {
            path.push(LAST);
        }
        CheckpointFile::parse(&path.display().to_string(), &files::read(&path)?)?.trainer(device)
    }

    /// The bytes of a checkpoint.
    fn checkpoint(&self, fit: Option<&FitProgress>, carried: Option<&State>) -> Result<Vec<u8>> {
        let network = self.network()?;
        let (places, state) = (self.places(), self.optimizer_state()?);
        let average = self.average()?;
        let best = fit.and_then(|fit| fit.best.as_deref());
        let kept = state.moments.iter().map(Vec::len).sum::<usize>() + average.len();
        let numbers = network.parameters() * (1 + usize::from(best.is_some())) + kept;
        // The tensors' bytes, and the file's.
        room(|| "checkpoint".into(), numbers.saturating_mul(2), size_of::<f32>())?;
        let mut tensors = Vec::new();
        for (prefix, network) in [(NETWORK, Some(&*network)), (BEST_NETWORK, best)] {
            for (name, tensor) in network.iter().flat_map(|network| network.tensors()) {
                tensors.push((format!("{prefix}.{name}"), StoredTensor::f32(tensor.shape(), tensor.data())));
            }
        }
        let moments = state.moments.iter().enumerate().map(|(index, moments)| (moment(index), &moments[..]));
        let arrays = moments.chain([(AVERAGE.into(), &average[..])]);
        for (prefix, numbers) in arrays.filter(|(_, numbers)| !numbers.is_empty()) {
            for (name, range) in places {
                let shape = network.tensors().get(name).map_or(&[][..], |tensor| tensor.shape());
                tensors.push((format!("{prefix}.{name}"), StoredTensor::f32(shape, &numbers[range.clone()])));
            }
        }
        if let Some(state) = carried {
            tensors.extend(state.stored(CARRIED, &network)?);
        }
        let stored = StoredTrainer {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            options: self.options().clone(),
            network: network.spec().clone(),
            file_axes: network.file_axes().cloned(),
            file_dropout: network.file_dropout().to_vec(),
            steps: self.steps(),
            made: state.steps,
            skipped: [state.skipped, state.skipped_in_a_row],
            fit: fit.map(StoredFit::from),
            carries: carried.is_some(),
        };
        to_file("checkpoint", tensors, HashMap::from([(CHECKPOINT_KEY.to_owned(), json(&stored)?)]))
    }

    /// Writes the checkpoint of a fit that has a folder for it.
    pub(super) fn keep_checkpoint(&self, fit: &Fit, at: &FitProgress) -> Result<()> {
        match &fit.checkpoint {
            Some(folder) => files::write(&folder.join(LAST), &self.checkpoint(Some(at), None)?),
            None => Ok(()),
        }
    }
}

impl FitProgress {
    /// Writes the best network, where there is one and a folder for it.
    pub(super) fn keep_best(&self, fit: &Fit) -> Result<()> {
        match (&fit.checkpoint, &self.best) {
            (Some(folder), Some(best)) => best.save(folder.join(BEST)),
            _ => Ok(()),
        }
    }
}

/// Prefix of the weights.
const NETWORK: &str = "network";
/// Prefix of the best epoch's weights.
const BEST_NETWORK: &str = "best";

/// Prefix of the average of the weights.
const AVERAGE: &str = "average";

/// Prefix of the carried state, its point included.
const CARRIED: &str = "state.";

/// Prefix of what the optimizer keeps.
fn moment(index: usize) -> String {
    format!("moment{index}")
}

/// As JSON, which comes back as it was.
fn json(stored: &StoredTrainer) -> Result<String> {
    let refused = |got: String| Error::Malformed {
        what: "checkpoint".into(),
        expected: "options of finite numbers, which JSON can hold".into(),
        got,
    };
    let text = serde_json::to_string(stored).map_err(|error| refused(error.to_string()))?;
    match serde_json::from_str::<StoredTrainer>(&text) {
        Ok(read) if read == *stored => Ok(text),
        Ok(_) => Err(refused(format!("{:?}", stored.options))),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// A checkpoint taken apart.
struct CheckpointFile<'a> {
    name: String,
    contents: Contents<'a>,
    stored: StoredTrainer,
}

impl<'a> CheckpointFile<'a> {
    fn parse(name: &str, bytes: &'a [u8]) -> Result<Self> {
        let contents = Contents::parse(name, bytes)?;
        let malformed = |expected: String, got: String| Error::Malformed { what: name.to_owned(), expected, got };
        let Some(text) = contents.metadata(CHECKPOINT_KEY) else {
            let got = "a safetensors file without it".to_owned();
            return Err(malformed(format!("a checkpoint, with the metadata key `{CHECKPOINT_KEY}`"), got));
        };
        fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, String> {
            serde_json::from_str(text).map_err(|error| error.to_string())
        }
        let not_json = |got| malformed(format!("JSON of a checkpoint under `{CHECKPOINT_KEY}`"), got);
        let Written { format, version } = parsed(text).map_err(not_json)?;
        if format != FORMAT && format != BEFORE {
            let got = format!("format {format}, of gatefold {version}");
            return Err(malformed(format!("a checkpoint of format {BEFORE} or {FORMAT}"), got));
        }
        let stored: StoredTrainer = parsed(text).map_err(not_json)?;
        match stored.beyond() {
            Some(count) => Err(malformed(format!("counts below {MOST}"), count.to_string())),
            None => Ok(Self { name: name.to_owned(), contents, stored }),
        }
    }

    fn trainer(&self, device: &Device) -> Result<Trainer> {
        let shapes = self.contents.shapes();
        let names = |prefix: &str| -> BTreeSet<&str> {
            shapes.keys().filter_map(|name| name.strip_prefix(prefix)?.strip_prefix('.')).collect()
        };
        let network = |prefix: &str| -> Result<Network> {
            let tensor = |name: &str| Ok((name.to_owned(), self.contents.tensor(&format!("{prefix}.{name}"))?));
            let tensors: BTreeMap<_, _> = names(prefix).into_iter().map(tensor).collect::<Result<_>>()?;
            let network = Network::new(self.stored.network.clone(), tensors)?;
            let network = network.with_file_axes(self.stored.file_axes.clone());
            Ok(network.with_file_dropout(self.stored.file_dropout.clone()))
        };
        let mut trainer = Trainer::new(device, &network(NETWORK)?, self.stored.options.clone())?;
        let mut read = trainer.structure().tensors().len();
        let has_best = self.stored.fit.as_ref().is_some_and(|fit| fit.has_best);
        let best = has_best.then(|| network(BEST_NETWORK)).transpose()?;
        read += best.iter().map(|best| best.tensors().len()).sum::<usize>();
        let (state, mut moments) = self.optimizer_state(&trainer)?;
        if names(AVERAGE).is_empty() {
            trainer.set_average(Vec::new())?;
        } else {
            let mut average = vec![0.0; trainer.parameter_count()];
            moments += self.fill(&trainer, AVERAGE, &mut average)?;
            trainer.set_average(average)?;
        }
        if self.stored.carries {
            let (state, names) = State::read(&self.name, (&self.contents, CARRIED), trainer.structure(), false)?;
            read += names.len();
            trainer.carried = Some(state);
        }
        if read + moments != shapes.len() {
            return Err(Error::Malformed {
                what: self.name.clone(),
                expected: format!("{} tensors, of the network and its optimizer", read + moments),
                got: shapes.len().to_string(),
            });
        }
        trainer.set_optimizer_state(self.stored.steps, state)?;
        trainer.resumed = self.stored.fit.as_ref().map(|fit| Box::new(fit.progress(best.map(Arc::new))));
        Ok(trainer)
    }

    /// The state of a trainer's optimizer, and of how many tensors.
    fn optimizer_state(&self, trainer: &Trainer) -> Result<(OptimizerState<f32>, usize)> {
        let mut state = trainer.fresh_optimizer_state();
        (state.steps, [state.skipped, state.skipped_in_a_row]) = (self.stored.made, self.stored.skipped);
        let mut read = 0;
        for (index, moments) in state.moments.iter_mut().enumerate().filter(|(_, moments)| !moments.is_empty()) {
            read += self.fill(trainer, &moment(index), moments)?;
        }
        Ok((state, read))
    }

    /// Reads the tensors of a prefix to their places among the parameters, and says how many they are.
    fn fill(&self, trainer: &Trainer, prefix: &str, numbers: &mut [f32]) -> Result<usize> {
        for (place, range) in trainer.places() {
            let name = format!("{prefix}.{place}");
            let tensor = self.contents.tensor(&name)?;
            let expected = trainer.structure().tensors().get(place).map_or(&[][..], |tensor| tensor.shape());
            if tensor.shape() != expected {
                let (expected, got) = (expected.to_vec(), tensor.shape().to_vec());
                return Err(Error::TensorShape { name, expected, got });
            }
            numbers[range.clone()].copy_from_slice(tensor.data());
        }
        Ok(trainer.places().len())
    }
}
