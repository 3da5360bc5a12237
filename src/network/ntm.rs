//! The neural Turing machine (Graves, Wayne & Danihelka 2014): its description, its options, and its place among the stages.

use serde::{Deserialize, Serialize};

use super::params::{Param, Role, of_level};
use super::spec::{is_default, one};
use super::{
    Activation, Cell, Direction, MAX_DIMENSION, MaskedOutput, Recurrence, RecurrentOutput, RecurrentSpec,
    RecurrentStage, Zoneout,
};
use crate::base::error::{Error, Result};

/// A controller, which is a recurrent cell, with a memory of N rows and M columns that it reads and writes at every timestep
/// through heads: `[T, B, I]` to `[T, B, H + R*M]`, h beside what the R read heads read.
///
/// Heads address rows of the memory by their content and by shifting what they addressed before. The state of a stream is h
/// and c of the controller, what was read, the weights of the heads, and the memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NtmSpec {
    /// Prefix of its tensors.
    pub name: String,
    /// I, width of the input.
    pub input_size: usize,
    /// The controller's cell. It reads the input beside what the heads read before, I + R*M numbers.
    #[serde(default = "lstm", with = "cell_name")]
    pub cell: Cell,
    /// H, width of the controller's state.
    pub hidden_size: usize,
    /// The memory.
    pub memory: MemorySpec,
    /// R
    #[serde(default = "one")]
    pub read_heads: usize,
    /// W; K = R + W heads in all.
    #[serde(default = "one")]
    pub write_heads: usize,
    /// Rows by which a head may move at a timestep, in either direction; it has S = 2 * shifts + 1 shares.
    #[serde(default = "one")]
    pub shifts: usize,
    /// Function of the keys: linear (pytorch-ntm) or tanh (Collier & Beel).
    #[serde(default, skip_serializing_if = "is_default")]
    pub key_activation: Activation,
    /// Function of what is added to the memory: linear or tanh.
    #[serde(default, skip_serializing_if = "is_default")]
    pub add_activation: Activation,
    /// Bound of what the controller gives the heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f32>,
    /// Which memory a head addresses.
    #[serde(default, skip_serializing_if = "is_default")]
    pub order: HeadOrder,
    /// What the heads' weights are before the first timestep.
    #[serde(default, skip_serializing_if = "is_default")]
    pub start_weights: StartWeights,
    /// Whether the controller's state and what was read before the first timestep are stored, in `initial_h` `[1, H]`,
    /// `initial_c` `[1, H]` where the cell has it, and `initial_read` `[1, R*M]`; else they are 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub initial_state: bool,
    /// What the next layer reads.
    #[serde(default, skip_serializing_if = "is_default")]
    pub output: RecurrentOutput,
}

/// The memory of an [`NtmSpec`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemorySpec {
    /// N
    pub rows: usize,
    /// M, width of a row.
    pub columns: usize,
    /// What it is before the first timestep.
    #[serde(default, skip_serializing_if = "is_default")]
    pub start: MemoryStart,
}

/// What a memory is before the first timestep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryStart {
    /// The tensor `memory` `[N, M]`, which is drawn once and not trained.
    #[default]
    Random,
    /// 1e-6 everywhere (Collier & Beel). All rows are equal: with start weights that are equal too, no head can tell them apart.
    Constant,
    /// The tensor `memory` `[N, M]`, which is trained.
    Learned,
}

/// What the weights of the heads are before the first timestep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartWeights {
    /// 0: the first weights follow from the content alone.
    #[default]
    Zero,
    /// 1/N
    Uniform,
    /// The softmax of the tensor `initial_weights` `[K, N]` over the rows, which is trained.
    Learned,
}

/// Which memory the heads of a timestep address. A read head reads the memory that it addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadOrder {
    /// All heads address the memory of the step before; the write heads write after that, one after the other.
    #[default]
    ReadFirst,
    /// Read head 0, write head 0, read head 1, and so on; each addresses what the heads before it left (pytorch-ntm).
    Sequential,
    /// The write heads address the memory of the step before and write; then the read heads address what they left (DNC).
    WriteFirst,
}

/// What every number of a constant memory is at first.
const CONSTANT: f32 = 1e-6;
/// Numbers of a memory.
const MAX_MEMORY: usize = 1 << 26;
/// Heads of one kind, and rows by which they move.
const MAX_HEADS: usize = 64;

impl NtmSpec {
    /// A layer of one read head and one write head with an LSTM, and the defaults for everything else. `memory` are N and M.
    #[must_use]
    pub fn new(name: impl Into<String>, input_size: usize, hidden_size: usize, memory: [usize; 2]) -> Self {
        let [rows, columns] = memory;
        Self {
            name: name.into(),
            input_size,
            cell: Cell::Lstm,
            hidden_size,
            memory: MemorySpec { rows, columns, start: MemoryStart::default() },
            read_heads: 1,
            write_heads: 1,
            shifts: 1,
            key_activation: Activation::Linear,
            add_activation: Activation::Linear,
            clip: None,
            order: HeadOrder::default(),
            start_weights: StartWeights::default(),
            initial_state: false,
            output: RecurrentOutput::default(),
        }
    }

    /// K
    #[must_use]
    pub fn heads(&self) -> usize {
        self.read_heads + self.write_heads
    }

    /// R*M, how much is read at a timestep.
    #[must_use]
    pub fn read_size(&self) -> usize {
        self.read_heads * self.memory.columns
    }

    /// H + R*M
    #[must_use]
    pub fn output_size(&self) -> usize {
        self.hidden_size + self.read_size()
    }

    /// The controller as a layer of its own, which reads `[T, B, I + R*M]`.
    pub(super) fn controller(&self) -> RecurrentSpec {
        let inputs = self.input_size + self.read_size();
        let initial_state = self.initial_state;
        RecurrentSpec { initial_state, ..RecurrentSpec::new(self.name.clone(), inputs, self.hidden_size) }
    }

    /// The options that count something, none of which may be 0.
    pub(super) fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("input_size", self.input_size),
            ("hidden_size", self.hidden_size),
            ("memory rows", self.memory.rows),
            ("memory columns", self.memory.columns),
            ("read_heads", self.read_heads),
            ("write_heads", self.write_heads),
        ]
    }

    /// The checks that are no sizes.
    pub(super) fn check(&self) -> Result<()> {
        let name = &self.name;
        for (option, count) in
            [("read_heads", self.read_heads), ("write_heads", self.write_heads), ("shifts", self.shifts)]
        {
            if count > MAX_HEADS {
                return Err(Error::network(name, option, format!("at most {MAX_HEADS}"), &count));
            }
        }
        if self.cell.cells().len() > 1 {
            let expected = "a controller that keeps h, or h and c";
            return Err(Error::network(name, "cell", expected, &self.cell.name()));
        }
        let MemorySpec { rows, columns, .. } = self.memory;
        if 2 * self.shifts + 1 > rows {
            let expected = format!("2 * shifts + 1 up to the {rows} rows of the memory");
            return Err(Error::network(name, "shifts", expected, &self.shifts));
        }
        if rows.saturating_mul(columns) > MAX_MEMORY {
            return Err(Error::TooLarge {
                what: format!("layer `{name}`: rows * columns of a memory"),
                needed: rows.saturating_mul(columns) as u64,
                limit: MAX_MEMORY as u64,
                limit_name: "gatefold's own".into(),
            });
        }
        let width = self.input_size.saturating_add(self.read_size()).max(self.output_size());
        if width > MAX_DIMENSION {
            let expected = format!("a width with what is read up to {MAX_DIMENSION}");
            return Err(Error::network(name, "memory columns", expected, &columns));
        }
        let functions = [("key_activation", self.key_activation), ("add_activation", self.add_activation)];
        for (option, function) in functions {
            if !matches!(function, Activation::Linear | Activation::Tanh) {
                return Err(Error::network(name, option, "linear or tanh", &format!("{function:?}")));
            }
        }
        match self.clip {
            Some(bound) if !(bound > 0.0 && bound.is_finite()) => {
                Err(Error::network(name, "clip", "a number above 0", &bound))
            }
            _ => Ok(()),
        }
    }

    /// Its parameters, in file order.
    pub(super) fn params(&self) -> Vec<Param> {
        let mut params = of_level(self.cell, &self.controller(), 0);
        let (stage, MemorySpec { rows, columns, start }) = (self.stage(0), &self.memory);
        let mut add = |wanted: bool, role: Role, shape: &[usize]| {
            if wanted {
                let is_matrix = role == Role::HeadsWeight;
                let name = format!("{}.{}", self.name, role.tensor());
                params.push(Param { role, direction: 0, name, shape: shape.to_vec(), is_matrix });
            }
        };
        let controls = stage.control_size();
        add(true, Role::HeadsWeight, &[controls, self.hidden_size]);
        add(true, Role::HeadsBias, &[controls]);
        add(*start == MemoryStart::Random, Role::FixedMemory, &[*rows, *columns]);
        add(*start == MemoryStart::Learned, Role::InitialMemory, &[*rows, *columns]);
        add(self.initial_state, Role::InitialRead, &[1, self.read_size()]);
        add(self.start_weights == StartWeights::Learned, Role::InitialWeights, &[self.heads(), *rows]);
        params
    }

    /// What the memory and the heads' weights are at first, where no tensor says it.
    pub(super) fn starts(&self) -> [f32; 2] {
        let memory = if self.memory.start == MemoryStart::Constant { CONSTANT } else { 0.0 };
        #[expect(clippy::cast_precision_loss, reason = "rows are far below 2^24")]
        let uniform = 1.0 / self.memory.rows as f32;
        [memory, if self.start_weights == StartWeights::Uniform { uniform } else { 0.0 }]
    }

    /// Its stage, where `layer` is its position among those that keep something.
    pub(super) fn stage(&self, layer: usize) -> NtmStage {
        let direction = Direction { reverse: false, activations: self.cell.default_activations().to_vec() };
        let controller = RecurrentStage {
            layer,
            recurrence: Recurrence::new(self.cell, &self.controller()),
            level: 0,
            hidden_size: self.hidden_size,
            directions: vec![direction],
            masked_output: MaskedOutput::Zero,
            clip: None,
            zoneout: Zoneout::default(),
            starts: [None; 2],
        };
        NtmStage {
            layer,
            controller,
            rows: self.memory.rows,
            columns: self.memory.columns,
            read_heads: self.read_heads,
            write_heads: self.write_heads,
            shifts: self.shifts,
            key_activation: self.key_activation,
            add_activation: self.add_activation,
            clip: self.clip,
            order: self.order,
        }
    }
}

/// What a stage with a memory computes.
#[derive(Clone, Debug, PartialEq)]
pub struct NtmStage {
    /// Position of the layer among those that keep something ([`Network::kept`](super::Network::kept)).
    pub layer: usize,
    /// The controller, a level of one direction that reads I + R*M numbers.
    pub controller: RecurrentStage,
    /// N
    pub rows: usize,
    /// M
    pub columns: usize,
    /// R
    pub read_heads: usize,
    /// W. The read heads come before the write heads wherever heads are numbered.
    pub write_heads: usize,
    /// As [`NtmSpec::shifts`].
    pub shifts: usize,
    /// As [`NtmSpec::key_activation`].
    pub key_activation: Activation,
    /// As [`NtmSpec::add_activation`].
    pub add_activation: Activation,
    /// As [`NtmSpec::clip`].
    pub clip: Option<f32>,
    /// As [`NtmSpec::order`].
    pub order: HeadOrder,
}

impl NtmStage {
    /// H
    #[must_use]
    pub fn hidden_size(&self) -> usize {
        self.controller.hidden_size
    }

    /// K
    #[must_use]
    pub fn heads(&self) -> usize {
        self.read_heads + self.write_heads
    }

    /// S, shares of shifts of a head.
    #[must_use]
    pub fn shift_count(&self) -> usize {
        2 * self.shifts + 1
    }

    /// R*M
    #[must_use]
    pub fn read_size(&self) -> usize {
        self.read_heads * self.columns
    }

    /// What addresses for one head: key `[M]`, β, g, shifts `[S]`, γ.
    #[must_use]
    pub fn address_size(&self) -> usize {
        self.columns + 3 + self.shift_count()
    }

    /// P, what the controller gives all heads: for each what addresses, then for each write head erase `[M]` and add `[M]`.
    #[must_use]
    pub fn control_size(&self) -> usize {
        self.heads() * self.address_size() + 2 * self.write_heads * self.columns
    }

    /// Writes of the timestep that are done when a head addresses the memory.
    #[must_use]
    pub fn writes_before(&self, head: usize) -> usize {
        let write = head.checked_sub(self.read_heads);
        match (self.order, write) {
            (HeadOrder::ReadFirst, _) | (HeadOrder::WriteFirst, Some(_)) => 0,
            (HeadOrder::WriteFirst, None) => self.write_heads,
            (HeadOrder::Sequential, Some(write)) => write,
            (HeadOrder::Sequential, None) => head.min(self.write_heads),
        }
    }

    /// Multiplications and additions of one row in one timestep, roughly.
    pub(crate) fn work(&self, inputs: usize) -> usize {
        let hidden = self.hidden_size();
        let controller = self.controller.gate_rows() * (inputs + self.read_size() + hidden);
        let addressing = self.rows * (self.heads() * (2 * self.columns + 40) + 3 * self.write_heads * self.columns);
        controller + self.control_size() * hidden + addressing
    }
}

fn lstm() -> Cell {
    Cell::Lstm
}

/// A cell by its name.
mod cell_name {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Cell;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde gives it")]
    pub fn serialize<S: Serializer>(cell: &Cell, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(cell.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Cell, D::Error> {
        let name = String::deserialize(from)?;
        Cell::ALL.into_iter().find(|cell| cell.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Cell::ALL.into_iter().map(Cell::name).collect();
            D::Error::custom(format!("expected a cell ({}), got {name:?}", names.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_needs_few_options() {
        let text = r#"{"name":"m","input_size":9,"hidden_size":100,"memory":{"rows":128,"columns":20}}"#;
        let spec: NtmSpec = serde_json::from_str(text).expect("a layer");
        assert_eq!(spec, NtmSpec::new("m", 9, 100, [128, 20]));
        let again = serde_json::to_string(&spec).expect("text");
        assert_eq!(serde_json::from_str::<NtmSpec>(&again).expect("a layer"), spec);
        let wrong = text.replace("\"input_size\"", "\"cell\":\"lsdm\",\"input_size\"");
        assert!(serde_json::from_str::<NtmSpec>(&wrong).expect_err("no cell").to_string().contains("lsdm"));
    }

    #[test]
    fn heads_address_what_the_order_says() {
        let of = |order| {
            let spec = NtmSpec { read_heads: 2, write_heads: 3, order, ..NtmSpec::new("m", 2, 3, [5, 4]) };
            let stage = spec.stage(0);
            (0..5).map(|head| stage.writes_before(head)).collect::<Vec<_>>()
        };
        assert_eq!(of(HeadOrder::ReadFirst), [0; 5]);
        assert_eq!(of(HeadOrder::Sequential), [0, 1, 0, 1, 2]);
        assert_eq!(of(HeadOrder::WriteFirst), [3, 3, 0, 0, 0]);
    }
}
