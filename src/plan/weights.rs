//! Weights in the order in which the kernels read them.
//!
//! A recurrence has two buffers: the matrices of all its lanes, each packed `[K, H, G]` with the
//! gates of a unit together, and their vectors. A matrix that a product reads has K filled up to
//! a multiple of 4; a word of 32 bits holds 1, 2 or 4 neighbours in k, as the format says.

use std::ops::Range;

use half::f16;

use super::program::Program;
use super::{PlanLimits, Slice, ntm_weights, ntm_words};
use crate::network::fold::{self, Biases};
use crate::network::{
    AttentionScore, Network, Param, RecurrentStage, Role, Source, Stage, StageKind, WeightFormat, quantize_row,
};

/// Numbers to which parts of a buffer are aligned, so that each can be bound: 256 bytes.
pub(super) const ALIGN: usize = 64;
/// 8-bit weights are stored as the integer + 128, which GPUs turn into a number faster than one with a sign.
const SIGN: u8 = 0x80;
/// Bytes of a word.
const WORD: u64 = 4;

/// One weight buffer's contents.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PackedWeight {
    /// What it holds, with its shape.
    pub label: String,
    /// Words of 32 bits: an `f32`, or several smaller numbers.
    pub words: Vec<u32>,
}

/// Parts of a lane's vectors, as `shaders/common/recurrent.wgsl` and `shaders/common/norms.wgsl` number them.
pub(super) mod part {
    pub const BIAS: usize = 0;
    pub const SCALE_BELOW: usize = 1;
    pub const SCALE: usize = 2;
    pub const EXTRA: usize = 3;
    pub const SCALE_PROJECTION: usize = 4;
    /// How many every lane has.
    pub const ALL: usize = 5;
    pub const NORM_INPUT_WEIGHT: usize = 5;
    pub const NORM_INPUT_BIAS: usize = 6;
    pub const NORM_STATE_WEIGHT: usize = 7;
    pub const NORM_STATE_BIAS: usize = 8;
    pub const NORM_C_WEIGHT: usize = 9;
    pub const NORM_C_BIAS: usize = 10;
    /// How many the lane of a layer-normalized cell has.
    pub const ALL_NORMALIZED: usize = 11;
}

/// How the weights of one level, or of several stacked ones, lie in their two buffers.
#[derive(Clone, Debug)]
pub(super) struct WeightLayout {
    /// Positions of the stages.
    pub stages: Range<usize>,
    /// The directions of each that are here.
    pub directions: Range<usize>,
    pub format: WeightFormat,
    /// Numbers of one vector: G*H and padding.
    pub vector: usize,
    /// Vectors of one lane.
    parts: usize,
    /// Stage by stage, then direction by direction.
    pub lanes: Vec<LaneLayout>,
}

/// Words of the matrices of one lane.
#[derive(Clone, Debug)]
pub(super) struct LaneLayout {
    /// W `[I, H, G]`
    pub input: Range<usize>,
    /// U `[H, H, G]`, or `[P, H, G]`; empty for a cell that takes no product with h
    pub state: Range<usize>,
    /// Whr `[H, P]`, empty without a projection
    pub projection: Range<usize>,
}

impl LaneLayout {
    fn new(start: usize, stage: &RecurrentStage, inputs: usize, format: WeightFormat) -> Self {
        let input = start..start + matrix_words(inputs, stage.gate_rows(), format);
        let depth = if stage.cell().scans() { 0 } else { stage.state_size() };
        let state = input.end..input.end + matrix_words(depth, stage.gate_rows(), format);
        let projected = matrix_words(stage.hidden_size, stage.recurrence.proj_size(), format);
        let projection = state.end..state.end + projected;
        Self { input, state, projection }
    }
}

impl WeightLayout {
    fn new(network: &Network, stages: Range<usize>, directions: Range<usize>) -> Option<Self> {
        let levels: Vec<(&Stage, &RecurrentStage)> =
            network.stages()[stages.clone()].iter().filter_map(|stage| Some((stage, stage.recurrent()?))).collect();
        let (_, first) = *levels.first()?;
        let formats = |(stage, _): &(&Stage, &RecurrentStage)| {
            let matrices = stage.params.iter().filter(|param| param.is_matrix);
            matrices.map(|param| network.param_format(stage, param.direction, param.role)).collect::<Vec<_>>()
        };
        let mut formats = levels.iter().flat_map(formats);
        // Matrices that are stored differently meet as f32, which holds them all.
        let format = formats.next().unwrap_or_default();
        let format = if formats.all(|other| other == format) { format } else { WeightFormat::F32 };
        let mut lanes = Vec::<LaneLayout>::new();
        for (stage, level) in &levels {
            for _ in directions.clone() {
                let start = lanes.last().map_or(0, |lane| lane.projection.end);
                lanes.push(LaneLayout::new(start, level, stage.in_features, format));
            }
        }
        let parts = match first.recurrence.normalization() {
            Some(_) => part::ALL_NORMALIZED,
            None => part::ALL,
        };
        Some(Self { stages, directions, format, parts, vector: first.gate_rows().next_multiple_of(ALIGN), lanes })
    }

    fn words(&self) -> usize {
        self.lanes.last().map_or(0, |lane| lane.projection.end)
    }

    /// Words of its largest matrix.
    fn largest(&self) -> usize {
        let parts = self.lanes.iter().flat_map(|lane| [lane.input.len(), lane.state.len(), lane.projection.len()]);
        parts.max().unwrap_or(0)
    }

    /// Numbers from one lane's vectors to the next.
    pub fn vectors_lane(&self) -> usize {
        self.parts * self.vector
    }

    /// One of a lane's matrices in `buffer`.
    pub fn matrix(buffer: usize, words: &Range<usize>) -> Slice {
        Slice { buffer, offset: words.start as u64 * WORD, bytes: words.len() as u64 * WORD }
    }

    /// One of a lane's vectors in `buffer`.
    pub fn vector_of(&self, buffer: usize, lane: usize, part: usize) -> Slice {
        let start = lane * self.vectors_lane() + part * self.vector;
        Slice { buffer, offset: start as u64 * WORD, bytes: self.vector as u64 * WORD }
    }
}

/// Words of a matrix `[K, N]`, filled up so that the next may be bound. Where units have three gates, it also begins behind a
/// multiple of three words, as `shaders/common/gates_3.wgsl` reads it.
fn matrix_words(k: usize, n: usize, format: WeightFormat) -> usize {
    let align = if n.is_multiple_of(3) { 3 * ALIGN } else { ALIGN };
    (k.next_multiple_of(4) / per_word(format) * n).next_multiple_of(align)
}

fn per_word(format: WeightFormat) -> usize {
    match format {
        WeightFormat::F16 => 2,
        WeightFormat::Int8 => 4,
        _ => 1,
    }
}

/// The layouts of all recurrent levels, in order. Levels that can advance along a diagonal share
/// one if a binding may be as large; directions of a level do, unless only apart they can be bound.
pub(super) fn layouts(network: &Network, limits: &PlanLimits) -> Vec<WeightLayout> {
    let stages = network.stages();
    let most = largest_binding(limits);
    let mut layouts = Vec::new();
    let mut first = 0;
    while first < stages.len() {
        let Some(level) = stages[first].recurrent() else {
            first += 1;
            continue;
        };
        let mut end = first + 1;
        while end < stages.len() && stacks(&stages[end - 1], &stages[end], end - 1) {
            end += 1;
        }
        let directions = 0..level.directions.len();
        let fits = |layout: &WeightLayout| layout.words() as u64 <= most;
        let stacked = WeightLayout::new(network, first..end, directions.clone()).filter(fits);
        match stacked {
            Some(layout) => {
                layouts.push(layout);
                first = end;
            }
            None => {
                let whole = WeightLayout::new(network, first..first + 1, directions.clone()).filter(fits);
                match whole {
                    Some(layout) => layouts.push(layout),
                    None => layouts.extend(directions.filter_map(|direction| {
                        WeightLayout::new(network, first..first + 1, direction..direction + 1)
                    })),
                }
                first += 1;
            }
        }
    }
    layouts
}

/// Whether `above` is a level that may run a step behind `below`, at position `index`.
fn stacks(below: &Stage, above: &Stage, index: usize) -> bool {
    let (Some(a), Some(b)) = (below.recurrent(), above.recurrent()) else { return false };
    let alike = a.recurrence == b.recurrence
        && a.hidden_size == b.hidden_size
        && a.masked_output == b.masked_output
        && a.clip == b.clip
        && a.zoneout == b.zoneout;
    let [from, to] = [&a.directions[..], &b.directions[..]];
    let one_way = matches!((from, to), ([x], [y]) if x.reverse == y.reverse && x.activations == y.activations);
    let whole_steps = Program::of(a).is_whole();
    alike
        && one_way
        && whole_steps
        && below.sequence_out
        && above.inputs == [Source::Stage(index)]
        && below.mask_reach == above.mask_reach
}

/// A weight buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WeightSize {
    /// What it holds, with its shape.
    pub label: String,
    /// Its size in words of 32 bits.
    pub words: usize,
    /// Words of the largest part that is bound.
    pub bound: usize,
}

/// All weight buffers of `network`, in order.
#[must_use]
pub fn weight_sizes(network: &Network, limits: &PlanLimits) -> Vec<WeightSize> {
    let layouts = layouts(network, limits);
    let most = largest_binding(limits);
    let sizes = network.stages().iter().enumerate().flat_map(|(index, stage)| {
        let matrices = |layout: &&WeightLayout| layout.stages.start == index && layout.words() as u64 > most;
        // Only a lane's own matrices are too large together.
        let apart: Vec<usize> = layouts.iter().filter(matrices).map(WeightLayout::largest).collect();
        let mut apart = apart.into_iter();
        stage_sizes(network, &layouts, index, stage).into_iter().map(move |(label, words)| {
            let bound = if words as u64 > most { apart.next().unwrap_or(words) } else { words };
            WeightSize { label, words, bound }
        })
    });
    sizes.collect()
}

/// Words that may be bound at once.
fn largest_binding(limits: &PlanLimits) -> u64 {
    limits.max_binding.min(limits.max_buffer) / WORD
}

fn stage_sizes(network: &Network, layouts: &[WeightLayout], index: usize, stage: &Stage) -> Vec<(String, usize)> {
    let (label, inputs, outputs) = (&stage.label, stage.in_features, stage.out_features);
    let product = |k: usize| {
        let format = network.param_format(stage, 0, Role::Weight);
        vec![
            (format!("{label} W [K, N] {format}"), matrix_words(k, outputs, format)),
            (format!("{label} bias, scale [2, N]"), 2 * outputs.next_multiple_of(ALIGN)),
        ]
    };
    match &stage.kind {
        StageKind::Embedding { num_embeddings } => {
            vec![(format!("{label} table [V, E]"), num_embeddings * outputs)]
        }
        StageKind::Recurrent(_) => layouts
            .iter()
            .filter(|layout| layout.stages.start == index)
            .flat_map(|layout| {
                let of = label_of(network, layout);
                let matrices = format!("{of} W, U [lanes, K, H, G] {}", layout.format);
                let vectors = layout.lanes.len() * layout.vectors_lane();
                [(matrices, layout.words()), (format!("{of} bias, scales [lanes, parts, H, G]"), vectors)]
            })
            .collect(),
        StageKind::Dense { .. } => product(inputs),
        StageKind::Conv1d { window, .. } => product(window.kernel_size * inputs),
        StageKind::LayerNorm { .. } => {
            vec![(format!("{label} weight [N]"), outputs), (format!("{label} bias [N]"), outputs)]
        }
        StageKind::Channelwise { .. } => vec![(format!("{label} mean, scale, offset [3, N]"), 3 * outputs)],
        StageKind::Attention(attention) => match attention.score {
            AttentionScore::Dot => Vec::new(),
            AttentionScore::Additive => vec![(format!("{label} weight [D]"), inputs)],
        },
        StageKind::Ntm(ntm) => vec![(format!("{label} W, U, heads [K, N]"), ntm_words(stage, ntm))],
        StageKind::Merge(_)
        | StageKind::Pool1d { .. }
        | StageKind::GlobalPool(_)
        | StageKind::Softmax { .. }
        | StageKind::TimeSoftmax
        | StageKind::ArgMax
        | StageKind::Select(_)
        | StageKind::FinalState(_)
        | StageKind::Reverse
        | StageKind::Feedback { .. }
        | StageKind::Rearrange(_)
        | StageKind::Join(_) => Vec::new(),
    }
}

fn label_of(network: &Network, layout: &WeightLayout) -> String {
    let labels: Vec<&str> = network.stages()[layout.stages.clone()].iter().map(|stage| stage.label.as_str()).collect();
    let end = if layout.directions.start > 0 { " reverse" } else { "" };
    match labels.as_slice() {
        [first, .., last] => format!("{first}..{last}"),
        _ => format!("{}{end}", labels.concat()),
    }
}

/// The contents of all weight buffers of `network`, in the order of [`weight_sizes`].
#[must_use]
pub fn pack(network: &Network, limits: &PlanLimits) -> Vec<PackedWeight> {
    let layouts = layouts(network, limits);
    let mut packed = Vec::new();
    for (index, stage) in network.stages().iter().enumerate() {
        let sizes = stage_sizes(network, &layouts, index, stage);
        let contents = stage_data(network, &layouts, index, stage);
        packed.extend(sizes.into_iter().zip(contents).map(|((label, _), words)| PackedWeight { label, words }));
    }
    packed
}

fn stage_data(network: &Network, layouts: &[WeightLayout], index: usize, stage: &Stage) -> Vec<Vec<u32>> {
    match &stage.kind {
        StageKind::Embedding { .. } => vec![bits(network.param(stage, 0, Role::Weight))],
        StageKind::Recurrent(_) => {
            let here = layouts.iter().filter(|layout| layout.stages.start == index);
            here.flat_map(|layout| recurrent_data(network, layout)).collect()
        }
        StageKind::Dense { .. } | StageKind::Conv1d { .. } => product_data(network, stage),
        StageKind::LayerNorm { .. } => {
            fold::scale_and_offset(network, stage).iter().map(|numbers| bits(numbers)).collect()
        }
        StageKind::Channelwise { eps, .. } => vec![bits(&fold::channels(network, stage, *eps))],
        StageKind::Attention(attention) => match attention.score {
            AttentionScore::Dot => Vec::new(),
            AttentionScore::Additive => vec![bits(network.param(stage, 0, Role::Weight))],
        },
        StageKind::Ntm(ntm) => vec![bits(&ntm_weights(network, stage, ntm))],
        StageKind::Merge(_)
        | StageKind::Pool1d { .. }
        | StageKind::GlobalPool(_)
        | StageKind::Softmax { .. }
        | StageKind::TimeSoftmax
        | StageKind::ArgMax
        | StageKind::Select(_)
        | StageKind::FinalState(_)
        | StageKind::Reverse
        | StageKind::Feedback { .. }
        | StageKind::Rearrange(_)
        | StageKind::Join(_) => Vec::new(),
    }
}

/// A matrix `[N, K]` with its bias and scale.
fn product_data(network: &Network, stage: &Stage) -> Vec<Vec<u32>> {
    let n = stage.out_features;
    let format = network.param_format(stage, 0, Role::Weight);
    let matrix = fold::matrix(network, stage);
    let k = matrix.len() / n;
    let mut words = vec![0; matrix_words(k, n, format)];
    let mut vectors = vec![0; 2 * n.next_multiple_of(ALIGN)];
    let (bias, scales) = vectors.split_at_mut(n.next_multiple_of(ALIGN));
    pack_matrix(&matrix, k, format, |row| row, &mut words, scales);
    put(bias, &fold::bias(network, stage));
    vec![words, vectors]
}

fn recurrent_data(network: &Network, layout: &WeightLayout) -> [Vec<u32>; 2] {
    let mut words = vec![0; layout.words()];
    let mut vectors = vec![0; layout.lanes.len() * layout.vectors_lane()];
    let levels = network.stages()[layout.stages.clone()].iter();
    let lanes = levels.filter_map(|stage| Some((stage, stage.recurrent()?)));
    let lanes = lanes.flat_map(|(stage, level)| layout.directions.clone().map(move |index| (stage, level, index)));
    for ((lane, place), (stage, level, direction)) in layout.lanes.iter().enumerate().zip(lanes) {
        let mut parts: Vec<&mut [u32]> =
            vectors[lane * layout.vectors_lane()..][..layout.vectors_lane()].chunks_exact_mut(layout.vector).collect();
        let (gates, hidden) = (level.cell().gates(), level.hidden_size);
        // The gates of a unit lie together.
        let unit_first = |row: usize| row % hidden * gates + row / hidden;
        let Biases { bias, extra } = fold::biases::<f32>(network, stage, level, direction);
        for (row, bias) in bias.into_iter().enumerate() {
            parts[part::BIAS][unit_first(row)] = bias.to_bits();
        }
        put(parts[part::EXTRA], &extra);
        if let Some(norms) = fold::norms::<f32>(network, stage, level, direction) {
            let gates = [
                (part::NORM_INPUT_WEIGHT, &norms.input[0]),
                (part::NORM_INPUT_BIAS, &norms.input[1]),
                (part::NORM_STATE_WEIGHT, &norms.state[0]),
                (part::NORM_STATE_BIAS, &norms.state[1]),
            ];
            for (part, numbers) in gates {
                numbers.iter().enumerate().for_each(|(row, x)| parts[part][unit_first(row)] = x.to_bits());
            }
            put(parts[part::NORM_C_WEIGHT], &norms.c[0]);
            put(parts[part::NORM_C_BIAS], &norms.c[1]);
        }
        for Param { role, .. } in stage.params.iter().filter(|param| param.direction == direction) {
            let (k, at, scale) = match role {
                Role::WeightIh => (stage.in_features, &place.input, part::SCALE_BELOW),
                Role::WeightHh if !level.cell().scans() => (level.state_size(), &place.state, part::SCALE),
                Role::WeightHr => (hidden, &place.projection, part::SCALE_PROJECTION),
                _ => continue,
            };
            let column = |row| if *role == Role::WeightHr { row } else { unit_first(row) };
            let matrix = match role {
                Role::WeightHh => fold::recurrent(network, stage, level, direction),
                _ => network.param(stage, direction, *role).into(),
            };
            pack_matrix(&matrix, k, layout.format, column, &mut words[at.clone()], parts[scale]);
        }
    }
    [words, vectors]
}

/// `[N, K]` as `[K, N]` in words of `format`, row r of it as column `place(r)`. Of 8-bit weights
/// the scales go to `scales`.
fn pack_matrix(
    matrix: &[f32],
    k: usize,
    format: WeightFormat,
    place: impl Fn(usize) -> usize,
    words: &mut [u32],
    scales: &mut [u32],
) {
    let n = matrix.len() / k.max(1);
    for (row, numbers) in matrix.chunks_exact(k.max(1)).enumerate() {
        let column = place(row);
        match format {
            WeightFormat::F16 => {
                for (k, &number) in numbers.iter().enumerate() {
                    words[k / 2 * n + column] |= u32::from(f16::from_f32(number).to_bits()) << (16 * (k % 2));
                }
            }
            WeightFormat::Int8 => {
                let (scale, integers) = quantize_row(numbers);
                scales[column] = scale.to_bits();
                for (k, integer) in integers.into_iter().enumerate() {
                    words[k / 4 * n + column] |= u32::from(integer.cast_unsigned() ^ SIGN) << (8 * (k % 4));
                }
            }
            _ => {
                for (k, &number) in numbers.iter().enumerate() {
                    words[k * n + column] = number.to_bits();
                }
            }
        }
    }
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// `numbers` at the beginning of `to`.
fn put(to: &mut [u32], numbers: &[f32]) {
    for (to, number) in to.iter_mut().zip(numbers) {
        *to = number.to_bits();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H = 2, K = 3; a number's digits are gate, unit, column.
    fn digits() -> Vec<f32> {
        [1i16, 2, 3, 4]
            .iter()
            .flat_map(|gate| [0, 1].map(|unit| gate * 100 + unit * 10))
            .flat_map(|row| [0, 1, 2].map(|k| f32::from(row + k)))
            .collect()
    }

    fn packed(format: WeightFormat) -> (Vec<u32>, Vec<u32>) {
        let (mut words, mut scales) = (vec![0; matrix_words(3, 8, format)], vec![0; 8]);
        pack_matrix(&digits(), 3, format, |row| row % 2 * 4 + row / 2, &mut words, &mut scales);
        (words, scales)
    }

    #[test]
    fn the_gates_of_a_unit_lie_together() {
        let (words, _) = packed(WeightFormat::F32);
        let numbers: Vec<f32> = words.into_iter().map(f32::from_bits).collect();
        assert_eq!(numbers[..8], [100.0, 200.0, 300.0, 400.0, 110.0, 210.0, 310.0, 410.0]);
        assert_eq!(numbers[20..24], [112.0, 212.0, 312.0, 412.0]);
        assert!(numbers[24..].iter().all(|&number| number == 0.0), "k = 3 and the rest are padding");
    }

    #[test]
    fn a_word_holds_neighbours_in_k() {
        let (words, _) = packed(WeightFormat::F16);
        let halves = |word: u32| bytemuck::cast::<u32, [u16; 2]>(word).map(|bits| f16::from_bits(bits).to_f32());
        assert_eq!((halves(words[4]), halves(words[12])[0]), ([110.0, 111.0], 112.0));
        let (words, scales) = packed(WeightFormat::Int8);
        let scale = f32::from_bits(scales[4]);
        let bytes: [i8; 4] = bytemuck::cast(words[4] ^ 0x0080_8080);
        for (byte, expected) in bytes.into_iter().zip([110.0f32, 111.0, 112.0, 0.0]) {
            assert!((f32::from(byte) * scale - expected).abs() <= scale / 2.0, "{byte} for {expected}");
        }
    }
}
