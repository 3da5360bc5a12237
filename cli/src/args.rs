//! The command line.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::builder::ArgPredicate;
use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand, ValueEnum};
use gatefold::{Arithmetic, CpuOptions, DeviceChoice, DeviceOptions, InstructionSet, Strategy, WeightFormat};

use crate::Result;
use crate::bench::{MemoryArgs, Set, Shape};
#[cfg(feature = "score")]
use crate::score::ScoreArgs;
use crate::tasks::{Length, MemoryTask, TaskArgs};

/// Run recurrent networks (LSTM, GRU, RNN) on any GPU or on the CPU, and check the results
#[derive(Debug, Parser)]
#[command(name = "gatefold", version, about, max_term_width = 100)]
pub struct Args {
    /// Where to compute: auto, cpu, gpu, software, vulkan, metal, dx12, gl, part of an adapter's name, or backend:name
    ///
    /// auto takes the best GPU, or this CPU if there is none; WGPU_BACKEND and WGPU_ADAPTER_NAME narrow its choice.
    #[arg(long, global = true, value_name = "DEVICE")]
    pub device: Vec<DeviceChoice>,
    /// Threads that a run on the CPU may use [default: as many as there are cores]
    ///
    /// Small runs use one thread in any case. The number of threads does not change a bit of the output.
    #[arg(long, global = true, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    pub threads: Option<NonZeroUsize>,
    /// The CPU's instruction set: avx512, avx2, sse2, neon, simd128 or portable [default: the widest available]
    #[arg(long, global = true, value_name = "SET")]
    pub instruction_set: Option<InstructionSet>,
    /// The number of an integer input of an ONNX file, such as a sample rate: sr=8000; repeat for more inputs
    #[arg(long, global = true, value_name = "NAME=N", value_parser = named_integer)]
    pub integer: Vec<(String, i64)>,
    /// More messages on stderr; repeat for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// Options of the CPU device.
    pub fn cpu(&self) -> CpuOptions {
        let threads = if self.command.scores() { Some(NonZeroUsize::MIN) } else { self.threads };
        CpuOptions { threads, instruction_set: self.instruction_set }
    }

    /// Options for opening a device.
    pub fn device_options(&self) -> DeviceOptions {
        let arithmetic = match &self.command {
            Command::Verify(options) => options.arithmetic,
            Command::Plan(options) => options.arithmetic,
            Command::Tune(options) => options.arithmetic,
            Command::Bench(options) => options.arithmetic,
            _ => Arithmetic::default(),
        };
        DeviceOptions::default().matrix_units(arithmetic == Arithmetic::Matrix)
    }

    /// The device of every subcommand except `bench`, which may have several.
    pub fn device(&self) -> Result<&DeviceChoice> {
        match self.device.as_slice() {
            [] => Ok(&DeviceChoice::Auto),
            [choice] => Ok(choice),
            many => {
                Err(format!("--device: expected one device, got {} (only bench compares several)", many.len()).into())
            }
        }
    }
}

fn named_integer(text: &str) -> std::result::Result<(String, i64), String> {
    let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let number = parts.and_then(|(name, number)| Some((name.to_owned(), number.parse().ok()?)));
    number.ok_or_else(|| format!("expected NAME=N with a whole number N, got {text:?}"))
}

fn threads(text: &str) -> std::result::Result<NonZeroUsize, String> {
    text.parse().map_err(|_| format!("expected a number of at least 1, got {text:?}"))
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Classify texts
    Classify(ClassifyArgs),
    /// Train a network on examples with labels or numbers
    Train(Box<TrainArgs>),
    /// Measure how well a model answers examples: loss, accuracy, confusion matrix
    Evaluate(EvaluateArgs),
    /// Score every row of a Parquet, CSV or JSON lines file of any size
    #[cfg(feature = "score")]
    Score(ScoreArgs),
    /// List every graphics adapter and the one that would be used
    Devices(DevicesArgs),
    /// Compare a device with the f64 reference, stage by stage
    Verify(VerifyArgs),
    /// Show what a run will do on the GPU: buffers, dispatches, and why
    Plan(PlanArgs),
    /// Show the contents of a model file
    Inspect(InspectArgs),
    /// Convert a Keras, ONNX or PyTorch file to gatefold's own format
    Convert(ConvertArgs),
    /// Measure which strategy is fastest for a model on this adapter, and store it for the other commands
    Tune(TuneArgs),
    /// Time networks on one or more devices and check every output
    Bench(BenchArgs),
    /// Answer requests over HTTP (Open Inference Protocol), and keep the state of every sequence
    #[cfg(feature = "serve")]
    Serve(Box<crate::serve::ServeArgs>),
}

impl Command {
    /// Whether it brings threads of its own, each of which runs the network on one.
    fn scores(&self) -> bool {
        #[cfg(feature = "score")]
        return matches!(self, Self::Score(_));
        #[cfg(not(feature = "score"))]
        return false;
    }
}

#[derive(Debug, ClapArgs)]
pub struct ClassifyArgs {
    /// Texts to classify
    #[arg(value_name = "TEXT", required_unless_present = "file", conflicts_with = "file")]
    pub texts: Vec<String>,
    /// Read the texts from a file, one per line; - is standard input
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// File of the correct labels, one per line: adds accuracy and a confusion matrix
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// A model with a vocabulary and labels [default: the built-in sentiment model]
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Names of the classes of a model without labels, one per output; of one sigmoid two: below and above 0.5
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub classes: Vec<String>,
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, ClapArgs)]
pub struct TrainArgs {
    /// The layers: embedding:E, then cells (lstm:H, gru:H, rnn:H, layer_norm_lstm:H, ...) and dense:N, `dense` last
    ///
    /// Vectors (--features) need no embedding. [default: embedding:32,lstm:64,dense, or lstm:64,dense]
    pub layers: Option<String>,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub of_task: TaskArgs,
    /// Train a language model on a plain text (--data): it says the next character or word
    ///
    /// Streams of the text go through the network side by side, each with the state of the window before.
    #[arg(long, value_enum, value_name = "TOKENS", conflicts_with_all = ["task", "text", "tokens", "features", "label", "labels", "split", "checkpoint", "checkpoint_steps", "resume"])]
    pub language_model: Option<TokenKind>,
    /// Timesteps of a window of a language model: gradients reach no further back
    #[arg(long, value_name = "T", default_value_t = 64, requires = "language_model")]
    pub window: usize,
    /// What a language model goes on from to show a text after each epoch [default: the validation text's beginning]
    #[arg(long, value_name = "TEXT", requires = "language_model")]
    pub prompt: Option<String>,
    /// Share of each label's examples that is held out for validation, where no column says it
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, conflicts_with = "split")]
    pub valid: f64,
    /// Maximum size of the vocabulary, including padding and the unknown word
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub vocabulary: usize,
    /// Maximum number of epochs (passes over the training examples)
    #[arg(long, default_value_t = 10)]
    pub epochs: usize,
    /// Examples per batch [default of a task: 1]
    #[arg(long, value_name = "B", default_value = "64", default_value_if("task", ArgPredicate::IsPresent, "1"))]
    pub batch: usize,
    /// Learning rate [default: the optimizer's]
    #[arg(long, allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// Maximum norm of all gradients together; a larger norm is scaled down to it
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    pub clip_norm: Option<f64>,
    /// Dropout of a layer's output, LAYER=RATE; LAYER=RATE:channels for whole channels, :levels between levels; repeatable
    #[arg(long, value_name = "LAYER=RATE")]
    pub dropout: Vec<String>,
    /// Dropout of h inside a recurrent layer, LAYER=RATE, or LAYER=RATE:INPUT with a rate for its input; repeatable
    ///
    /// A row keeps its masks for all timesteps, as with Keras' `recurrent_dropout` and `dropout`.
    #[arg(long, value_name = "LAYER=RATE")]
    pub recurrent_dropout: Vec<String>,
    /// Zoneout of a recurrent layer, LAYER=H, or LAYER=H:C with a rate for an LSTM's c; repeatable
    #[arg(long, value_name = "LAYER=RATE")]
    pub zoneout: Vec<String>,
    /// Maximum device memory on a GPU, in MiB: long sequences are then trained in intervals of time
    #[arg(long, value_name = "MIB")]
    pub memory: Option<u64>,
    /// Epochs without a smaller validation loss after which training ends
    #[arg(long, value_name = "EPOCHS")]
    pub patience: Option<usize>,
    /// Framework whose initial weights, constants of Adam and number of biases are used
    #[arg(long, value_enum, default_value_t)]
    pub preset: Preset,
    /// Seed of the initial weights, of dropout and of the examples' order
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder for checkpoints, to go on after an interruption, and for the model of the best epoch
    ///
    /// Ctrl-C then ends training behind the step that is going on, with exit code 130.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub checkpoint: Option<PathBuf>,
    /// Go on from the checkpoint in this folder, with the same data and options; --epochs and --patience may differ
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// Steps between two checkpoints [default: those of an epoch]
    #[arg(long, value_name = "STEPS")]
    pub checkpoint_steps: Option<u64>,
    /// Folder for the numbers of each epoch: log.csv, log.jsonl and curves.svg
    #[arg(long, value_name = "DIR")]
    pub log: Option<PathBuf>,
    /// Also write an event file for TensorBoard there
    #[arg(long, requires = "log")]
    pub tensorboard: bool,
    /// Where the trained model goes
    #[arg(long, value_name = "FILE", required_unless_present = "dry_run")]
    pub out: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    pub force: bool,
    /// Show what would be trained, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Examples for training and evaluation.
#[derive(Debug, ClapArgs)]
pub struct DataArgs {
    /// Examples: a CSV file with a header, JSON lines (.jsonl), or arrays (.safetensors), one row for each example
    #[arg(long, value_name = "FILE", required_unless_present = "task")]
    pub data: Option<PathBuf>,
    /// A task of working memory instead of examples: its sequences are made as they are needed
    #[arg(long, value_enum, value_name = "TASK", conflicts_with_all = ["data", "text", "tokens", "features", "label", "labels", "split"])]
    pub task: Option<MemoryTask>,
    /// Lengths of the sequences that a network is tested on, such as 10,20 or 10x5 for 10 vectors 5 times [default: several]
    #[arg(long, value_name = "LENGTHS", value_delimiter = ',', requires = "task")]
    pub lengths: Vec<Length>,
    /// Column (or key) of the text
    #[arg(long, value_name = "COLUMN", default_value = "text")]
    pub text: String,
    /// Key of an array of token ids, instead of a text
    #[arg(long, value_name = "KEY", conflicts_with_all = ["text", "features"])]
    pub tokens: Option<String>,
    /// Key of an array of numbers, or of one array of numbers for each timestep, instead of a text
    #[arg(long, value_name = "KEY", conflicts_with = "text")]
    pub features: Option<String>,
    /// Column (or key) of the label; with --loss mse or mae of a number, or an array of numbers
    #[arg(long, value_name = "COLUMN", default_value = "label")]
    pub label: String,
    /// Key of an array of classes (0, 1, ...), one for each timestep, instead of a label
    #[arg(long, value_name = "KEY", conflicts_with = "label")]
    pub labels: Option<String>,
    /// Column (or key) that says `train`, `validation` or `test`
    #[arg(long, value_name = "COLUMN")]
    pub split: Option<String>,
    /// What is made small, or measured
    #[arg(long, value_enum, default_value_t)]
    pub loss: LossKind,
}

impl DataArgs {
    /// The file of the examples; empty for a task.
    pub fn path(&self) -> &Path {
        self.data.as_deref().unwrap_or(Path::new(""))
    }
}

/// What a language model reads one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TokenKind {
    Characters,
    /// What stands between white space
    Words,
}

/// A loss, and with it the kind of answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LossKind {
    /// Of labels
    #[default]
    CrossEntropy,
    /// Mean squared error of numbers
    Mse,
    /// Mean absolute error of numbers
    Mae,
}

#[derive(Debug, ClapArgs)]
pub struct EvaluateArgs {
    /// A .safetensors, .keras, .h5 or .onnx model
    pub model: PathBuf,
    #[command(flatten)]
    pub data: DataArgs,
    /// Which examples, where a column (--split) says it: train, validation or test
    #[arg(long, value_name = "NAME", default_value = "test", requires = "split")]
    pub part: String,
    /// Count answers whose label is among the K most probable
    #[arg(long, value_name = "K", default_value_t = 3)]
    pub top_k: usize,
    /// Examples of a run
    #[arg(long, value_name = "B", default_value_t = 64)]
    pub batch: usize,
    #[arg(long, value_enum, default_value_t)]
    pub format: TreeFormat,
}

/// The framework whose initial weights, constants of Adam and number of biases are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    #[default]
    Pytorch,
    Keras,
}

#[derive(Debug, ClapArgs)]
pub struct DevicesArgs {
    #[arg(long, value_enum, default_value_t)]
    pub format: TreeFormat,
}

#[derive(Debug, ClapArgs)]
pub struct VerifyArgs {
    /// A .safetensors, .keras, .h5 or .onnx model [default: the built-in sentiment model]
    pub model: Option<PathBuf>,
    /// Run on this text instead of random input
    #[arg(long, conflicts_with_all = ["steps", "batch", "seed"])]
    pub text: Option<String>,
    /// Run on the array of a .npy, .safetensors or .json file instead of random input; NAME=FILE for one input of several, and for the state before (LAYER.h, LAYER.c, LAYER.past)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "steps", "batch", "seed", "gradients"])]
    pub input: Vec<PathBuf>,
    /// Compare the output with the array of a file, as another framework gave it for --input; NAME=FILE for a named output, and for the final state (LAYER.h_n, LAYER.c_n, LAYER.past_n)
    #[arg(long, value_name = "FILE", requires = "input")]
    pub expected: Vec<PathBuf>,
    /// Largest difference from --expected that passes, as a framework's f16 or 8-bit arithmetic needs [default: that of f32, 2e-6 + 1e-5 |x|, more over many timesteps]
    #[arg(long, value_name = "X", requires = "expected")]
    pub tolerance: Option<f64>,
    /// Write the first output as a .npy file
    #[arg(long, value_name = "FILE.npy", conflicts_with_all = ["all", "gradients"])]
    pub output: Option<PathBuf>,
    /// Order of the axes of --input, --expected and --output: the model file's own, where it is known, or a run's
    #[arg(long, value_enum, value_name = "ORDER", default_value_t)]
    pub axes: AxesOrder,
    /// Timesteps of the random input [default: 20, or as many as the model is made for]
    #[arg(long, value_name = "T")]
    pub steps: Option<usize>,
    /// Rows of the random input
    #[arg(long, value_name = "B", default_value_t = 3)]
    pub batch: usize,
    /// Seed of the random input
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Arithmetic of products on a GPU: f32, f16, or matrix (matrix units, f16 factors and f32 sums)
    #[arg(long, value_name = "NUMBERS", default_value_t)]
    pub arithmetic: Arithmetic,
    /// Check the gradients of a loss instead, as training on the CPU takes them
    #[arg(long, conflicts_with_all = ["all", "text"])]
    pub gradients: bool,
    /// Check every adapter, and this CPU
    #[arg(long, conflicts_with = "device")]
    pub all: bool,
    /// Negative control: changes one weight of the reference by 0.01, so that the check must fail
    #[arg(long, hide = true)]
    pub plant_fault: bool,
}

#[derive(Debug, ClapArgs)]
pub struct PlanArgs {
    /// A .safetensors, .keras, .h5 or .onnx model [default: the built-in sentiment model]
    pub model: Option<PathBuf>,
    /// Timesteps [default: 20, or as many as the model is made for]
    #[arg(long, value_name = "T")]
    pub steps: Option<usize>,
    /// Rows
    #[arg(long, value_name = "B", default_value_t = 1)]
    pub batch: usize,
    /// Plan a step of training (categorical cross-entropy, Adam) instead of a run, with the memory that it takes
    #[arg(long)]
    pub train: bool,
    /// Maximum device memory of training, in MiB: long sequences are then trained in intervals of time
    #[arg(long, value_name = "MIB", requires = "train")]
    pub memory: Option<u64>,
    /// Memory limit for the projected inputs of one chunk of timesteps
    #[arg(long, value_name = "MIB")]
    pub budget: Option<u64>,
    /// Invocations that share the sum of one unit; a power of two
    #[arg(long, value_name = "N")]
    pub split: Option<u32>,
    /// Strategy for recurrences: step, tile, sequence, wavefront or resident [default: the plan chooses]
    #[arg(long)]
    pub strategy: Option<Strategy>,
    /// Arithmetic of products on a GPU: f32, f16, or matrix (matrix units, f16 factors and f32 sums)
    #[arg(long, value_name = "NUMBERS", default_value_t)]
    pub arithmetic: Arithmetic,
    /// Plan for a GPU that is not here, with figures of its compiled kernels and an estimate of the time: navi21, navi31, gfx1201,
    /// vega20, sm_80 or sm_90
    #[arg(long, value_name = "CHIP", conflicts_with = "train")]
    pub chip: Option<String>,
    /// Print the WGSL of one kernel of the plan instead, e.g. lstm-step; - or _ stands for a space in its name
    #[arg(long, value_name = "KERNEL")]
    pub wgsl: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct InspectArgs {
    /// A .safetensors, .keras, .h5 or .onnx model [default: the built-in sentiment model]
    pub model: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct ConvertArgs {
    /// A .keras, .h5, .weights.h5, .onnx or .safetensors model
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The file to write
    #[arg(value_name = "OUT.safetensors")]
    pub output: PathBuf,
    /// Storage format of the matrices: f32, f16 or int8 [default: unchanged]
    #[arg(long, value_name = "FORMAT")]
    pub weights: Option<WeightFormat>,
    /// Overwrite the file if it exists
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Compare two records: ratios of their times
    Compare(CompareArgs),
}

#[derive(Debug, ClapArgs)]
pub struct TuneArgs {
    /// A .safetensors, .keras, .h5 or .onnx model [default: the built-in sentiment model]
    pub model: Option<PathBuf>,
    /// Timesteps [default: 100, or as many as the model is made for]
    #[arg(long, value_name = "T")]
    pub steps: Option<usize>,
    /// Rows; repeatable
    #[arg(long, value_name = "B", default_values_t = [1])]
    pub batch: Vec<usize>,
    /// Arithmetic of products on a GPU: f32, f16, or matrix (matrix units, f16 factors and f32 sums)
    #[arg(long, value_name = "NUMBERS", default_value_t)]
    pub arithmetic: Arithmetic,
    /// Timed runs of each candidate
    #[arg(long, value_name = "N", default_value_t = 9)]
    pub runs: usize,
    /// File for the results [default: in the user's cache folder, where every command looks]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct CompareArgs {
    /// The baseline record
    #[arg(value_name = "A")]
    pub before: PathBuf,
    /// The record to compare with it
    #[arg(value_name = "B")]
    pub after: PathBuf,
    /// Exit with 1 if a time of B is more than this factor above that of A and their quartiles do not overlap
    #[arg(long, value_name = "RATIO", allow_negative_numbers = true)]
    pub fail_above: Option<f64>,
}

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub command: Option<BenchCommand>,
    /// A network to time, e.g. cell=gru,hidden=512,steps=25,batch=1,input=64,layers=2,bidirectional=true; repeatable
    ///
    /// Only hidden is required. Defaults: cell=lstm, steps=25, batch=1, input as hidden, layers=1, bidirectional=false.
    #[arg(long = "shape", value_name = "KEY=N,...")]
    pub shapes: Vec<Shape>,
    /// A named set of shapes; repeatable, and together with --shape
    #[arg(long = "set", value_enum, value_name = "SET")]
    pub sets: Vec<Set>,
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Strategy for recurrences on a GPU, with --train forward and backward; repeatable [default: the plan chooses]
    #[arg(long = "strategy", value_name = "STRATEGY")]
    pub strategies: Vec<Strategy>,
    /// Storage format of the weights: f32, f16 or int8; repeatable [default: f32]
    #[arg(long, value_name = "FORMAT")]
    pub weights: Vec<WeightFormat>,
    /// Arithmetic of products on a GPU: f32, f16, or matrix (matrix units, f16 factors and f32 sums)
    #[arg(long, value_name = "NUMBERS", default_value_t)]
    pub arithmetic: Arithmetic,
    /// Time steps of training: embedding, the recurrent layers of the shape, a dense layer, cross-entropy, Adam
    #[arg(long, conflicts_with_all = ["weights", "arithmetic", "plot", "csv"])]
    pub train: bool,
    /// Compare every adapter, and this CPU
    #[arg(long, conflicts_with = "device")]
    pub all: bool,
    /// Timed runs per shape and device, after the warm-up [default: 20, or 5 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: Option<u32>,
    /// Untimed runs before them [default: 3, or 1 with --quick]
    #[arg(long, value_name = "N")]
    pub warmup: Option<u32>,
    /// Fewer runs and shapes, shorter sequences: a check that everything works, not a measurement
    #[arg(long)]
    pub quick: bool,
    /// Seconds per shape after which no further run is started, of --set memory seconds of training of each network
    /// [default: 60, or 5 with --quick]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub budget: Option<u32>,
    /// Seed of weights and inputs
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Write a plot of the time per step over H
    #[arg(long, value_name = "OUT.svg")]
    pub plot: Option<PathBuf>,
    /// Store the results and the machine's properties as DIR/<adapter>/<date>.json [DIR: benches/record]
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "benches/record")]
    pub record: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    pub format: BenchFormat,
    /// As --format json
    #[arg(long, conflicts_with_all = ["format", "csv"])]
    pub json: bool,
    /// As --format csv
    #[arg(long, conflicts_with = "format")]
    pub csv: bool,
}

impl BenchArgs {
    /// Output format.
    pub fn format(&self) -> BenchFormat {
        match (self.json, self.csv) {
            (true, _) => BenchFormat::Json,
            (_, true) => BenchFormat::Csv,
            _ => self.format,
        }
    }
}

/// As [`Format`], and Markdown for documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BenchFormat {
    #[default]
    Table,
    Json,
    Csv,
    Markdown,
}

/// Whose order the axes of arrays have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AxesOrder {
    /// The model file's own
    #[default]
    File,
    /// gatefold's: [T, B, N], or [B, T, N] with batch_first
    Run,
}

/// Output formats: a table for people, JSON for programs, CSV for spreadsheets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
    Csv,
}

/// Output formats of subcommands that print more than one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TreeFormat {
    #[default]
    Table,
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    /// Also those of a command with those of all commands.
    #[test]
    fn no_two_options_have_one_name() {
        super::Args::command().debug_assert();
    }
}
