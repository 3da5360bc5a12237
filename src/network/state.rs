//! What a network keeps from one timestep to the next.

use super::{
    Cell, Cuts, HiddenOrCell, LayerSpec, MemoryStart, NetworkSpec, NtmSpec, RecurrentSpec, Stage, StageKind,
    StartWeights,
};

/// What one layer keeps from timestep to timestep: the names and shapes of a [`LayerState`](crate::LayerState).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StateSpec {
    /// The layer's name.
    pub name: String,
    /// Its parts: of a recurrent layer h and, where the cell has it, c, of an sLSTM also n and m; of a layer with a memory these, then what was read, the
    /// weights of the heads and the memory; of a window over time its past inputs; of a
    /// feedback what is fed back.
    pub parts: Vec<PartSpec>,
}

/// The shape of one part of a layer's state, `[R, B, ..]`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PartSpec {
    /// Its name in the layer.
    pub name: &'static str,
    /// Its shape in letters.
    pub letters: &'static str,
    /// R, the dimension before B.
    pub rows: usize,
    /// The dimensions behind B.
    pub dimensions: Vec<usize>,
    /// What every number is before the first timestep, unless a tensor says it.
    pub start: f32,
    /// The tensor of the network that every batch row starts from, `[R, ..]`, if there is one.
    pub stored: Option<String>,
    /// Whether the start is the softmax of that tensor over the last dimension.
    pub softmax: bool,
    /// Whether its numbers are shares, from 0 to 1.
    pub shares: bool,
}

impl PartSpec {
    /// Numbers of one of the R rows of one batch row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.dimensions.iter().product()
    }

    /// Its shape for a batch.
    pub fn shape(&self, batch: usize) -> impl Iterator<Item = usize> + Clone + '_ {
        [self.rows, batch].into_iter().chain(self.dimensions.iter().copied())
    }
}

/// The layers that keep something: the recurrent ones and those with a memory in their order, then those with windows in a network that
/// can be cut, then feedbacks.
pub(super) fn kept(spec: &NetworkSpec, stages: &[Stage], cuts: Option<&Cuts>) -> Vec<StateSpec> {
    let stepping = spec.layers.iter().filter_map(|layer| match (layer, layer.recurrent()) {
        (_, Some((cell, layer))) => Some(StateSpec { name: layer.name.clone(), parts: of_cell(cell, layer) }),
        (LayerSpec::Ntm(layer), _) => Some(StateSpec { name: layer.name.clone(), parts: of_memory(layer) }),
        _ => None,
    });
    let windows = stages.iter().enumerate().filter_map(|(index, stage)| {
        let past = cuts?.past(index)?;
        let part = PartSpec {
            name: "past",
            letters: "[1, B, P, I]",
            rows: 1,
            dimensions: vec![past.steps, stage.in_features],
            start: past.start,
            stored: None,
            softmax: false,
            shares: false,
        };
        Some(StateSpec { name: stage.label.clone(), parts: vec![part] })
    });
    let feedbacks = stages.iter().filter(|stage| matches!(stage.kind, StageKind::Feedback { .. })).map(|stage| {
        let part = PartSpec {
            name: "fed",
            letters: "[1, B, N]",
            rows: 1,
            dimensions: vec![stage.out_features],
            start: 0.0,
            stored: None,
            softmax: false,
            shares: false,
        };
        StateSpec { name: stage.label.clone(), parts: vec![part] }
    });
    stepping.chain(windows).chain(feedbacks).collect()
}

/// h of a recurrent layer, and what its cell keeps beside it.
fn of_cell(cell: Cell, layer: &RecurrentSpec) -> Vec<PartSpec> {
    let part = |part: HiddenOrCell, width: usize| PartSpec {
        name: part.name(),
        letters: if layer.proj_size > 0 && part == HiddenOrCell::H { "[L*D, B, P]" } else { "[L*D, B, H]" },
        rows: layer.num_layers * layer.directions(),
        dimensions: vec![width],
        start: 0.0,
        stored: layer.initial_state.then(|| format!("{}.initial_{}", layer.name, part.name())),
        softmax: false,
        shares: false,
    };
    let cells = cell.cells().iter().map(|&name| PartSpec { name, ..part(HiddenOrCell::C, layer.hidden_size) });
    std::iter::once(part(HiddenOrCell::H, layer.state_size())).chain(cells).collect()
}

/// h and c of a controller, and its memory with what its heads did last.
fn of_memory(layer: &NtmSpec) -> Vec<PartSpec> {
    let mut parts = of_cell(layer.cell, &layer.controller());
    let [memory, weights] = layer.starts();
    let tensor = |wanted: bool, name: &str| wanted.then(|| format!("{}.{name}", layer.name));
    let (rows, columns) = (layer.memory.rows, layer.memory.columns);
    let learned = layer.start_weights == StartWeights::Learned;
    parts.extend([
        PartSpec {
            name: "read",
            letters: "[1, B, R, M]",
            rows: 1,
            dimensions: vec![layer.read_heads, columns],
            start: 0.0,
            stored: tensor(layer.initial_state, "initial_read"),
            softmax: false,
            shares: false,
        },
        PartSpec {
            name: "weights",
            letters: "[1, B, K, N]",
            rows: 1,
            dimensions: vec![layer.heads(), rows],
            start: weights,
            stored: tensor(learned, "initial_weights"),
            softmax: learned,
            shares: true,
        },
        PartSpec {
            name: "memory",
            letters: "[1, B, N, M]",
            rows: 1,
            dimensions: vec![rows, columns],
            start: memory,
            stored: tensor(layer.memory.start != MemoryStart::Constant, "memory"),
            softmax: false,
            shares: false,
        },
    ]);
    parts
}
