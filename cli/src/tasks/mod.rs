//! Tasks of working memory whose data are made as they are needed: copy, repeat copy, associative recall, n-grams, sort.

mod generate;
mod heads;
mod log;
mod run;

use std::str::FromStr;

use clap::{Args as ClapArgs, ValueEnum};
use gatefold::network::{Activation, Cell, DenseSpec, LayerSpec, MemorySpec, MemoryStart, NtmSpec, RecurrentSpec};
use gatefold::train::{Clip, Convention, Optimizer, RmsProp};
use gatefold::{Device, Network, NetworkSpec};

pub use self::generate::{Length, Made, Rules};
pub use self::run::run;
use crate::Result;
use crate::report::Report;
use crate::table::{Table, right};

/// What is to be learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MemoryTask {
    /// Vectors of 8 bits, 1 to 20 of them, and the same again
    Copy,
    /// 1 to 10 vectors, and the same again 1 to 10 times
    RepeatCopy,
    /// 2 to 6 items of three vectors of 6 bits; then the item that follows one of them
    Recall,
    /// 200 bits of which each depends on the five before it
    Ngrams,
    /// 20 vectors of 8 bits with a priority; then the first 16 of them
    Sort,
}

/// How its optimizer moves the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TaskOptimizer {
    /// Decay 0.95, momentum 0.9
    #[default]
    Rmsprop,
    /// The same, centred, with 1e-4 under the root (Graves 2013)
    Graves,
    Adam,
}

/// Options of a network for a task.
#[derive(Clone, Debug, ClapArgs)]
pub struct TaskArgs {
    /// The cell: `ntm`, a memory with an LSTM as its controller, or a recurrent layer such as `lstm` alone
    #[arg(long, value_name = "CELL", default_value = "ntm", requires = "task")]
    pub cell: String,
    /// Controller of the memory
    #[arg(long, value_name = "CELL", default_value = "lstm", requires = "task")]
    pub controller: String,
    /// Units of the cell
    #[arg(long, value_name = "H", default_value_t = 100, requires = "task")]
    pub hidden: usize,
    /// Rows and columns of the memory
    #[arg(long, value_name = "NxM", default_value = "128x20", requires = "task")]
    pub slots: Length,
    /// Read heads, and as many write heads [default: 5 of sort, else 1]
    #[arg(long, value_name = "HEADS", requires = "task")]
    pub heads: Option<usize>,
    /// What the memory is at first
    #[arg(long, value_enum, default_value_t, requires = "task")]
    pub memory_start: Start,
    /// Function of keys and of what is added to the memory
    #[arg(long, value_enum, default_value_t, requires = "task")]
    pub head_function: HeadFunction,
    /// Bound of what the controller gives the heads; 0 for none
    #[arg(long, value_name = "BOUND", default_value_t = 20.0, requires = "task")]
    pub control_clip: f32,
    /// Sequences to train on
    #[arg(long, value_name = "COUNT", default_value_t = 20_000, requires = "task")]
    pub sequences: usize,
    /// Sequences of a line of the log
    #[arg(long, value_name = "COUNT", default_value_t = 500, requires = "task")]
    pub interval: usize,
    /// How the weights are moved
    #[arg(long, value_enum, default_value_t, requires = "task")]
    pub optimizer: TaskOptimizer,
    /// Sequences of each length that the trained network is tested on
    #[arg(long, value_name = "COUNT", default_value_t = 50, requires = "task")]
    pub tests: usize,
}

/// What the memory is at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Start {
    #[default]
    Random,
    Constant,
    Learned,
}

impl From<Start> for MemoryStart {
    fn from(start: Start) -> Self {
        match start {
            Start::Random => Self::Random,
            Start::Constant => Self::Constant,
            Start::Learned => Self::Learned,
        }
    }
}

/// Function of keys and of what is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum HeadFunction {
    #[default]
    Linear,
    Tanh,
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (first, second) = text.split_once('x').map_or((text, None), |(first, second)| (first, Some(second)));
        let number = |text: &str| match text.parse() {
            Ok(number) if number > 0 && number < 1 << 20 => Ok(number),
            _ => Err(format!("expected a length such as 20, or 10x5, got {text:?}")),
        };
        Ok(Self { first: number(first)?, second: second.map(number).transpose()? })
    }
}

impl MemoryTask {
    fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::RepeatCopy => "repeat copy",
            Self::Recall => "associative recall",
            Self::Ngrams => "n-grams",
            Self::Sort => "priority sort",
        }
    }

    /// The rate that published runs take with RMSprop.
    fn learning_rate(self) -> f64 {
        match self {
            Self::Ngrams | Self::Sort => 3e-5,
            _ => 1e-4,
        }
    }
}

/// The network of a task: a cell, and a dense layer whose numbers are the logits of the bits.
fn spec(task: MemoryTask, args: &TaskArgs) -> Result<NetworkSpec> {
    let rules = Rules::of(task);
    let cell = |option: &str, name: &str| {
        let names = || Cell::ALL.map(Cell::name).join(", ");
        let found = Cell::ALL.into_iter().find(|cell| cell.name() == name);
        found.ok_or_else(|| format!("{option}: expected a cell ({}), got {name:?}", names()))
    };
    let heads = args.heads.unwrap_or(if task == MemoryTask::Sort { 5 } else { 1 });
    let (layer, width) = if args.cell == "ntm" {
        let Length { first: rows, second: Some(columns) } = args.slots else {
            return Err(format!("--slots: expected rows and columns such as 128x20, got {}", args.slots).into());
        };
        let function = if args.head_function == HeadFunction::Tanh { Activation::Tanh } else { Activation::Linear };
        let layer = NtmSpec {
            cell: cell("--controller", &args.controller)?,
            memory: MemorySpec { rows, columns, start: args.memory_start.into() },
            read_heads: heads,
            write_heads: heads,
            key_activation: function,
            add_activation: function,
            clip: (args.control_clip != 0.0).then_some(args.control_clip),
            initial_state: true,
            ..NtmSpec::new("memory", rules.inputs, args.hidden, [rows, columns])
        };
        let width = layer.output_size();
        (LayerSpec::Ntm(layer), width)
    } else {
        let cell = cell("--cell", &args.cell)?;
        (LayerSpec::of_cell(cell, RecurrentSpec::new(cell.name(), rules.inputs, args.hidden)), args.hidden)
    };
    let dense = LayerSpec::Dense(DenseSpec {
        name: "bits".into(),
        in_features: width,
        out_features: rules.outputs,
        bias: true,
        activation: Activation::Linear,
    });
    Ok(NetworkSpec { format: 1, layers: vec![layer, dense], text: None, labels: Vec::new() })
}

fn optimizer(kind: TaskOptimizer, learning_rate: f64, clip_norm: f64) -> Optimizer {
    let rms = RmsProp { learning_rate, rho: 0.95, momentum: 0.9, ..RmsProp::default() };
    let mut optimizer = match kind {
        TaskOptimizer::Rmsprop => Optimizer::from(rms),
        TaskOptimizer::Graves => {
            Optimizer::from(RmsProp { eps: 1e-4, centered: true, convention: Convention::Keras, ..rms })
        }
        TaskOptimizer::Adam => Optimizer::from(gatefold::train::Adam { learning_rate, ..Default::default() }),
    };
    optimizer.clip = Some(Clip::GlobalNorm { max: clip_norm, convention: Convention::PyTorch });
    optimizer
}

/// What a network makes of sequences of each length: bits of cost and wrong bits of a sequence, on average.
pub fn tested(
    device: &Device,
    network: &Network,
    task: MemoryTask,
    lengths: &[Length],
    (tests, seed): (usize, u64),
) -> Result<Table> {
    let rules = Rules::of(task);
    let fits = network.input_size() == rules.inputs && network.output_size() == rules.outputs;
    if !fits || !network.output_is_sequence() {
        let (inputs, outputs) = (rules.inputs, rules.outputs);
        return Err(format!(
            "{}: expected a network of {inputs} inputs and {outputs} outputs at every step, got {} and {}",
            task.name(),
            network.input_size(),
            network.output_size()
        )
        .into());
    }
    let trainer = run::trainer(device, network, &optimizer(TaskOptimizer::Rmsprop, 1e-4, 1.0), seed)?;
    let mut table = Table::new([right("length"), right("bits"), right("wrong"), right("of"), right("best possible")]);
    let default = rules.test_lengths();
    for &length in if lengths.is_empty() { &default[..] } else { lengths } {
        let made = Made::of(task, length, tests.max(1), seed ^ 0x7e57_ed00);
        let measured = trainer.evaluate(&made.batch())?;
        let found = run::Cost::of(&measured, &made);
        table.row([
            length.to_string(),
            format!("{:.4}", found.bits),
            format!("{:.3}", found.wrong),
            found.counted.to_string(),
            made.least.map_or_else(String::new, |least| format!("{least:.2}")),
        ]);
    }
    Ok(table)
}

/// As [`tested`], of a model file.
pub fn evaluate(device: &Device, network: &Network, task: MemoryTask, lengths: &[Length]) -> Result<Report> {
    Ok(Report::new(tested(device, network, task, lengths, (50, 1))?.to_string()))
}
