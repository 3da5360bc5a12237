//! Weights in the order in which the kernels read them.
//!
//! A recurrence has two buffers: the matrices of all its lanes, each packed `[K, H, G]` with the
//! gates of a unit together, and their vectors. A matrix that a product reads has K filled up to
//! a multiple of 4; a word of 32 bits holds 1, 2 or 4 neighbours in k, as the format says.

use std::ops::Range;

use half::f16;

use super::{PlanLimits, Slice};
use crate::network::gates::{NEW, PEEPHOLES};
use crate::network::{
    BatchNorm, Cell, Direction, Network, RecurrentStage, Source, Stage, StageKind, WeightFormat, quantize_row,
};

/// Numbers to which parts of a buffer are aligned, so that each can be bound: 256 bytes.
pub(super) const ALIGN: usize = 64;
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

/// Parts of a lane's vectors, as `shaders/common/recurrent.wgsl` numbers them.
pub(super) mod part {
    pub const BIAS: usize = 0;
    pub const SCALE_BELOW: usize = 1;
    pub const SCALE: usize = 2;
    pub const EXTRA: usize = 3;
    pub const SCALE_PROJECTION: usize = 4;
    pub const ALL: usize = 5;
}

/// How the weights of one level, or of several stacked ones, lie in their two buffers.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Positions of the stages.
    pub stages: Range<usize>,
    /// The directions of each that are here.
    pub directions: Range<usize>,
    pub format: WeightFormat,
    /// Numbers of one vector: G*H and padding.
    pub vector: usize,
    /// Stage by stage, then direction by direction.
    pub lanes: Vec<LaneLayout>,
}

/// Words of the matrices of one lane.
#[derive(Clone, Debug)]
pub(super) struct LaneLayout {
    /// W `[I, H, G]`
    pub input: Range<usize>,
    /// U `[H, H, G]`, or `[P, H, G]`
    pub state: Range<usize>,
    /// Whr `[H, P]`, empty without a projection
    pub projection: Range<usize>,
}

impl LaneLayout {
    fn new(start: usize, stage: &RecurrentStage, inputs: usize, format: WeightFormat) -> Self {
        let input = start..start + matrix_words(inputs, stage.gate_rows(), format);
        let state = input.end..input.end + matrix_words(stage.state_size(), stage.gate_rows(), format);
        let projected = matrix_words(stage.hidden_size, stage.proj_size, format);
        let projection = state.end..state.end + projected;
        Self { input, state, projection }
    }
}

impl Layout {
    fn new(network: &Network, stages: Range<usize>, directions: Range<usize>) -> Option<Self> {
        let levels: Vec<(&Stage, &RecurrentStage)> =
            network.stages()[stages.clone()].iter().filter_map(|stage| Some((stage, stage.recurrent()?))).collect();
        let (_, first) = *levels.first()?;
        let mut formats = levels.iter().flat_map(|(_, level)| &level.directions).flat_map(|direction| {
            let names = &direction.names;
            let projection = (first.proj_size > 0).then_some(&names.weight_hr);
            [&names.weight_ih, &names.weight_hh].into_iter().chain(projection)
        });
        // Matrices that are stored differently meet as f32, which holds them all.
        let format = formats.next().map(|name| network.weight_format(name)).unwrap_or_default();
        let format = if formats.all(|name| network.weight_format(name) == format) { format } else { WeightFormat::F32 };
        let mut lanes = Vec::<LaneLayout>::new();
        for (stage, level) in &levels {
            for _ in directions.clone() {
                let start = lanes.last().map_or(0, |lane| lane.projection.end);
                lanes.push(LaneLayout::new(start, level, stage.in_features, format));
            }
        }
        Some(Self { stages, directions, format, vector: first.gate_rows().next_multiple_of(ALIGN), lanes })
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
        part::ALL * self.vector
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

/// Words of a matrix `[K, N]`, filled up so that the next may be bound.
fn matrix_words(k: usize, n: usize, format: WeightFormat) -> usize {
    (k.next_multiple_of(4) / per_word(format) * n).next_multiple_of(ALIGN)
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
pub(super) fn layouts(network: &Network, limits: &PlanLimits) -> Vec<Layout> {
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
        let fits = |layout: &Layout| layout.words() as u64 <= most;
        let stacked = Layout::new(network, first..end, directions.clone()).filter(fits);
        match stacked {
            Some(layout) => {
                layouts.push(layout);
                first = end;
            }
            None => {
                let whole = Layout::new(network, first..first + 1, directions.clone()).filter(fits);
                match whole {
                    Some(layout) => layouts.push(layout),
                    None => layouts.extend(
                        directions
                            .filter_map(|direction| Layout::new(network, first..first + 1, direction..direction + 1)),
                    ),
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
    let alike = a.cell == b.cell
        && a.hidden_size == b.hidden_size
        && [a.proj_size, b.proj_size] == [0, 0]
        && a.masked_output == b.masked_output
        && [a.peephole, a.coupled, a.reset_after] == [b.peephole, b.coupled, b.reset_after]
        && a.clip == b.clip
        && a.cell_clip == b.cell_clip;
    let [from, to] = [&a.directions[..], &b.directions[..]];
    let one_way = matches!((from, to), ([x], [y]) if x.reverse == y.reverse && x.activations == y.activations);
    let whole_steps = a.cell != Cell::Gru || a.reset_after;
    alike
        && one_way
        && whole_steps
        && below.sequence_out
        && above.inputs == [Source::Stage(index)]
        && below.mask_reaches == above.mask_reaches
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
        let matrices = |layout: &&Layout| layout.stages.start == index && layout.words() as u64 > most;
        // Only a lane's own matrices are too large together.
        let apart: Vec<usize> = layouts.iter().filter(matrices).map(Layout::largest).collect();
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

fn stage_sizes(network: &Network, layouts: &[Layout], index: usize, stage: &Stage) -> Vec<(String, usize)> {
    let (label, inputs, outputs) = (&stage.label, stage.in_features, stage.out_features);
    let product = |k: usize, name: &str| {
        let format = network.weight_format(name);
        vec![
            (format!("{label} W [K, N] {format}"), matrix_words(k, outputs, format)),
            (format!("{label} bias, scale [2, N]"), 2 * outputs.next_multiple_of(ALIGN)),
        ]
    };
    match &stage.kind {
        StageKind::Embedding { num_embeddings, .. } => {
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
        StageKind::Dense { weight, .. } => product(inputs, weight),
        StageKind::Conv1d { window, weight, .. } => product(window.kernel_size * inputs, weight),
        StageKind::LayerNorm { .. } => {
            vec![(format!("{label} weight [N]"), outputs), (format!("{label} bias [N]"), outputs)]
        }
        StageKind::Channelwise { .. } => vec![(format!("{label} mean, scale, offset [3, N]"), 3 * outputs)],
        StageKind::Merge(_)
        | StageKind::Pool1d { .. }
        | StageKind::GlobalPool(_)
        | StageKind::Softmax
        | StageKind::Select(_)
        | StageKind::Reverse
        | StageKind::Join(_) => Vec::new(),
    }
}

fn label_of(network: &Network, layout: &Layout) -> String {
    let labels: Vec<&str> = network.stages()[layout.stages.clone()].iter().map(|stage| stage.label.as_str()).collect();
    let end = if layout.directions.start > 0 { " reverse" } else { "" };
    match labels.as_slice() {
        [first, .., last] => format!("{first}..{last}"),
        _ => format!("{}{end}", labels.concat()),
    }
}

/// Whether the candidate's recurrent bias stays apart, since the reset gate multiplies it.
fn has_new_bias(stage: &RecurrentStage) -> bool {
    stage.cell == Cell::Gru && stage.reset_after
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

fn stage_data(network: &Network, layouts: &[Layout], index: usize, stage: &Stage) -> Vec<Vec<u32>> {
    let (inputs, outputs) = (stage.in_features, stage.out_features);
    match &stage.kind {
        StageKind::Embedding { weight, .. } => vec![bits(network.weight(weight))],
        StageKind::Recurrent(_) => {
            let here = layouts.iter().filter(|layout| layout.stages.start == index);
            here.flat_map(|layout| recurrent_data(network, layout)).collect()
        }
        StageKind::Dense { weight, bias, .. } => {
            product_data(network, network.weight(weight), weight, network.weight(bias), [inputs, outputs])
        }
        StageKind::Conv1d { window, groups, weight, bias, .. } => {
            let matrix = filters(network.weight(weight), [inputs, outputs, window.kernel_size], *groups);
            product_data(network, &matrix, weight, network.weight(bias), [window.kernel_size * inputs, outputs])
        }
        StageKind::LayerNorm { names: [weight, bias], .. } => vec![
            bits(&or_fill(network.weight(weight), outputs, 1.0)),
            bits(&or_fill(network.weight(bias), outputs, 0.0)),
        ],
        StageKind::Channelwise { norm, .. } => vec![bits(&channels(network, norm.as_ref(), outputs))],
        StageKind::Merge(_)
        | StageKind::Pool1d { .. }
        | StageKind::GlobalPool(_)
        | StageKind::Softmax
        | StageKind::Select(_)
        | StageKind::Reverse
        | StageKind::Join(_) => Vec::new(),
    }
}

/// A matrix `[N, K]` with its bias and scale.
fn product_data(network: &Network, matrix: &[f32], name: &str, bias: &[f32], [k, n]: [usize; 2]) -> Vec<Vec<u32>> {
    let format = network.weight_format(name);
    let mut words = vec![0; matrix_words(k, n, format)];
    let mut vectors = vec![0; 2 * n.next_multiple_of(ALIGN)];
    let (of_bias, scales) = vectors.split_at_mut(n.next_multiple_of(ALIGN));
    pack_matrix(matrix, k, format, |row| row, &mut words, scales);
    put(of_bias, bias);
    vec![words, vectors]
}

fn recurrent_data(network: &Network, layout: &Layout) -> [Vec<u32>; 2] {
    let mut words = vec![0; layout.words()];
    let mut vectors = vec![0; layout.lanes.len() * layout.vectors_lane()];
    let levels = network.stages()[layout.stages.clone()].iter();
    let lanes = levels.filter_map(|stage| Some((stage, stage.recurrent()?))).flat_map(|(stage, level)| {
        level.directions[layout.directions.clone()].iter().map(move |direction| (stage.in_features, level, direction))
    });
    for ((lane, place), (inputs, level, direction)) in layout.lanes.iter().enumerate().zip(lanes) {
        let mut parts: Vec<&mut [u32]> =
            vectors[lane * layout.vectors_lane()..][..layout.vectors_lane()].chunks_exact_mut(layout.vector).collect();
        lane_vectors(network, level, direction, &mut parts);
        let names = &direction.names;
        let (gates, hidden) = (level.cell.gates(), level.hidden_size);
        // The gates of a unit lie together.
        let unit_first = |row: usize| row % hidden * gates + row / hidden;
        let matrices = [
            (&names.weight_ih, inputs, &place.input, part::SCALE_BELOW),
            (&names.weight_hh, level.state_size(), &place.state, part::SCALE),
        ];
        for (name, k, at, scale) in matrices {
            let words = &mut words[at.clone()];
            pack_matrix(network.weight(name), k, layout.format, unit_first, words, parts[scale]);
        }
        if level.proj_size > 0 {
            let matrix = network.weight(&names.weight_hr);
            let words = &mut words[place.projection.clone()];
            pack_matrix(matrix, hidden, layout.format, |row| row, words, parts[part::SCALE_PROJECTION]);
        }
    }
    [words, vectors]
}

/// Bias, and what a cell has beyond it.
fn lane_vectors(network: &Network, level: &RecurrentStage, direction: &Direction, parts: &mut [&mut [u32]]) {
    let (names, hidden, gates) = (&direction.names, level.hidden_size, level.cell.gates());
    let mut bias = or_fill(network.weight(&names.bias_ih), level.gate_rows(), 0.0);
    let mut of_state = or_fill(network.weight(&names.bias_hh), level.gate_rows(), 0.0);
    if has_new_bias(level) {
        put(parts[part::EXTRA], &of_state.split_off(NEW * hidden));
    }
    for (bias, of_state) in bias.iter_mut().zip(of_state) {
        *bias += of_state;
    }
    for (row, bias) in bias.into_iter().enumerate() {
        parts[part::BIAS][row % hidden * gates + row / hidden] = bias.to_bits();
    }
    if level.peephole {
        debug_assert_eq!(network.weight(&names.weight_p).len(), PEEPHOLES * hidden);
        put(parts[part::EXTRA], network.weight(&names.weight_p));
    }
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
                    words[k / 4 * n + column] |= u32::from(integer.cast_unsigned()) << (8 * (k % 4));
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

/// `[N, I/groups, K]` as `[N, K*I]`, 0 where an output does not see an input.
fn filters(weight: &[f32], [inputs, outputs, kernel]: [usize; 3], groups: usize) -> Vec<f32> {
    let (of_inputs, of_outputs) = (inputs / groups, outputs / groups);
    let mut matrix = vec![0.0; kernel * inputs * outputs];
    for (output, filter) in weight.chunks_exact(of_inputs * kernel).enumerate() {
        let group = output / of_outputs;
        for (input, taps) in filter.chunks_exact(kernel).enumerate() {
            for (k, &tap) in taps.iter().enumerate() {
                matrix[output * kernel * inputs + k * inputs + group * of_inputs + input] = tap;
            }
        }
    }
    matrix
}

/// Mean, scale and offset of every channel, `[3, N]`.
fn channels(network: &Network, norm: Option<&BatchNorm>, width: usize) -> Vec<f32> {
    let Some(norm) = norm else {
        return [0.0, 1.0, 0.0].into_iter().flat_map(|x| std::iter::repeat_n(x, width)).collect();
    };
    let weight = or_fill(network.weight(&norm.weight), width, 1.0);
    let variance = network.weight(&norm.running_var);
    let mut channels = network.weight(&norm.running_mean).to_vec();
    channels.extend(weight.iter().zip(variance).map(|(weight, variance)| weight / (variance + norm.eps).sqrt()));
    channels.extend(or_fill(network.weight(&norm.bias), width, 0.0));
    channels
}

/// The tensor, or `value` throughout where an option leaves it out (which makes it empty).
fn or_fill(tensor: &[f32], len: usize, value: f32) -> Vec<f32> {
    if tensor.is_empty() { vec![value; len] } else { tensor.to_vec() }
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
        assert_eq!(numbers[24..], [0.0; 40], "k = 3 and the rest are padding");
    }

    #[test]
    fn a_word_holds_neighbours_in_k() {
        let (words, _) = packed(WeightFormat::F16);
        let halves = |word: u32| bytemuck::cast::<u32, [u16; 2]>(word).map(|bits| f16::from_bits(bits).to_f32());
        assert_eq!((halves(words[4]), halves(words[12])[0]), ([110.0, 111.0], 112.0));
        let (words, scales) = packed(WeightFormat::Int8);
        let scale = f32::from_bits(scales[4]);
        let bytes: [i8; 4] = bytemuck::cast(words[4]);
        for (byte, expected) in bytes.into_iter().zip([110.0f32, 111.0, 112.0, 0.0]) {
            assert!((f32::from(byte) * scale - expected).abs() <= scale / 2.0, "{byte} for {expected}");
        }
    }

    #[test]
    fn a_group_sees_its_own_channels_only() {
        // Two groups of one input and one output each, two taps.
        let matrix = filters(&[1.0, 2.0, 3.0, 4.0], [2, 2, 2], 2);
        // output x [tap, input]
        assert_eq!(matrix, [1.0, 0.0, 2.0, 0.0, 0.0, 3.0, 0.0, 4.0]);
    }
}
