//! Training: gradients of a loss, an optimizer that moves the weights, and passes over a data set.
//!
//! ```
//! use gatefold::network::{Init, LayerSpec, RecurrentSpec, RecurrentOutput};
//! use gatefold::train::{Answers, Dataset, Fit, Loss, Next, TrainOptions, Trainer};
//! use gatefold::{Device, Network, NetworkSpec};
//!
//! // Does a sequence of numbers sum up to more than 0?
//! let lstm = RecurrentSpec { output: RecurrentOutput::Last, ..RecurrentSpec::new("lstm", 1, 8) };
//! # let dense = serde_json::from_str(r#"{"type": "dense", "name": "dense", "in_features": 8, "out_features": 2}"#).unwrap();
//! let layers = vec![LayerSpec::Lstm(lstm), dense, LayerSpec::Softmax];
//! let spec = NetworkSpec { format: 1, layers, text: None, labels: vec![] };
//! let network = Network::initialized(spec, Init::PyTorch, 1)?;
//! let sequences: Vec<Vec<f32>> = vec![vec![0.5, 0.2, -0.1], vec![-0.4, 0.1], vec![0.3], vec![-0.2, -0.1, 0.1]];
//! let set = Dataset::features(sequences, 1, Answers::Classes(vec![1, 0, 1, 0]))?;
//! let mut trainer = Trainer::new(&Device::cpu(), &network, TrainOptions::new(Loss::CrossEntropy))?;
//! trainer.fit(&set, None, &Fit::new(2).epochs(3), |_| Next::Continue)?;
//! println!("{:?}", trainer.evaluate_all(&set, 4)?);
//! let trained = trainer.network()?; // as any other
//! # assert_eq!(trainer.steps(), 6);
//! # Ok::<(), gatefold::Error>(())
//! ```

mod average;
mod batch_norm;
mod checkpoint;
mod ctc;
mod data;
mod dropout;
mod fit;
mod flat;
mod max_norm;
mod measured;
mod on_gpu;
mod options;
mod order;
mod recurrent_dropout;
mod trainer;
mod update;
mod weight_drop;

pub use crate::reference::{
    Adagrad, Adam, AdamW, Clip, Convention, Counts, Decay, Loss, Optimizer, Reduction, RmsProp, Rule, Schedule, Sgd,
    Targets,
};
pub use average::Average;
pub use batch_norm::RunningStatistics;
pub use data::{Answers, Batch, Dataset, Padded};
pub use dropout::{Dropout, DropoutUnit};
pub use fit::{Event, Fit, Fitted, Next, Totals};
pub use max_norm::MaxNorm;
pub use measured::{Measured, Measures, Metrics, NumberMetrics};
pub use options::TrainOptions;
pub use recurrent_dropout::RecurrentDropout;
pub use trainer::Trainer;
pub use weight_drop::WeightDrop;
