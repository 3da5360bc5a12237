//! Weights in the order in which the kernels read them.

use crate::network::gates::{NEW, PEEPHOLES};
use crate::network::{BatchNorm, Cell, Direction, Network, RecurrentStage, Stage, StageKind};

/// One weight buffer's contents.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedWeight {
    /// What it holds, with its shape.
    pub label: String,
    /// The numbers.
    pub data: Vec<f32>,
}

/// Labels and element counts of the weight buffers of `stage`, in buffer order.
#[must_use]
pub fn weight_sizes(stage: &Stage) -> Vec<(String, usize)> {
    let (label, inputs, outputs) = (&stage.label, stage.in_features, stage.out_features);
    match &stage.kind {
        StageKind::Embedding { num_embeddings, .. } => {
            vec![(format!("{label} table [V, E]"), num_embeddings * outputs)]
        }
        StageKind::Recurrent(recurrent) => {
            let sizes = direction_sizes(recurrent, inputs);
            let ends = recurrent.directions.iter().map(|direction| if direction.reverse { " reverse" } else { "" });
            ends.flat_map(|end| sizes.iter().map(move |(what, size)| (format!("{label}{end} {what}"), *size))).collect()
        }
        StageKind::Dense { .. } => {
            vec![(format!("{label} W [K, N]"), inputs * outputs), (format!("{label} bias [N]"), outputs)]
        }
        StageKind::Conv1d { window, .. } => vec![
            (format!("{label} W [K*I, N]"), window.kernel_size * inputs * outputs),
            (format!("{label} bias [N]"), outputs),
        ],
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

/// What one direction has: always W, bias and U, then a GRU's own bias, peepholes, a projection.
fn direction_sizes(stage: &RecurrentStage, inputs: usize) -> Vec<(String, usize)> {
    let (hidden, rows, gates) = (stage.hidden_size, stage.gate_rows(), stage.cell.gates());
    let mut sizes = vec![
        (format!("W [I, H, {gates}]"), inputs * rows),
        (format!("bias [H, {gates}]"), rows),
        (format!("U [{}, H, {gates}]", if stage.proj_size == 0 { "H" } else { "P" }), stage.state_size() * rows),
    ];
    if has_new_bias(stage) {
        sizes.push(("recurrent bias of n [H]".into(), hidden));
    }
    if stage.peephole {
        sizes.push(("peepholes [3, H]".into(), PEEPHOLES * hidden));
    }
    if stage.proj_size > 0 {
        sizes.push(("Whr [H, P]".into(), hidden * stage.proj_size));
    }
    sizes
}

/// Whether the candidate's recurrent bias stays apart, since the reset gate multiplies it.
pub(super) fn has_new_bias(stage: &RecurrentStage) -> bool {
    stage.cell == Cell::Gru && stage.reset_after
}

/// The contents of all weight buffers of `network`, stage by stage.
#[must_use]
pub fn pack(network: &Network) -> Vec<PackedWeight> {
    network
        .stages()
        .iter()
        .flat_map(|stage| {
            let data = stage_data(network, stage);
            weight_sizes(stage).into_iter().zip(data).map(|((label, _), data)| PackedWeight { label, data })
        })
        .collect()
}

fn stage_data(network: &Network, stage: &Stage) -> Vec<Vec<f32>> {
    let (inputs, outputs) = (stage.in_features, stage.out_features);
    match &stage.kind {
        StageKind::Embedding { weight, .. } => vec![network.weight(weight).to_vec()],
        StageKind::Recurrent(recurrent) => {
            recurrent.directions.iter().flat_map(|d| direction_data(network, recurrent, d, inputs)).collect()
        }
        StageKind::Dense { weight, bias, .. } => {
            vec![transpose(network.weight(weight), outputs, inputs), or_fill(network.weight(bias), outputs, 0.0)]
        }
        StageKind::Conv1d { window, groups, weight, bias, .. } => vec![
            filters(network.weight(weight), [inputs, outputs, window.kernel_size], *groups),
            or_fill(network.weight(bias), outputs, 0.0),
        ],
        StageKind::LayerNorm { names: [weight, bias], .. } => {
            vec![or_fill(network.weight(weight), outputs, 1.0), or_fill(network.weight(bias), outputs, 0.0)]
        }
        StageKind::Channelwise { norm, .. } => vec![channels(network, norm.as_ref(), outputs)],
        StageKind::Merge(_)
        | StageKind::Pool1d { .. }
        | StageKind::GlobalPool(_)
        | StageKind::Softmax
        | StageKind::Select(_)
        | StageKind::Reverse
        | StageKind::Join(_) => Vec::new(),
    }
}

fn direction_data(network: &Network, stage: &RecurrentStage, direction: &Direction, inputs: usize) -> Vec<Vec<f32>> {
    let (names, hidden, gates) = (&direction.names, stage.hidden_size, stage.cell.gates());
    let mut bias = or_fill(network.weight(&names.bias_ih), stage.gate_rows(), 0.0);
    let mut of_state = or_fill(network.weight(&names.bias_hh), stage.gate_rows(), 0.0);
    let new_bias = has_new_bias(stage).then(|| of_state.split_off(NEW * hidden));
    for (bias, of_state) in bias.iter_mut().zip(of_state) {
        *bias += of_state;
    }
    let mut data = vec![
        interleave(network.weight(&names.weight_ih), gates, hidden, inputs),
        interleave(&bias, gates, hidden, 1),
        interleave(network.weight(&names.weight_hh), gates, hidden, stage.state_size()),
    ];
    data.extend(new_bias);
    if stage.peephole {
        data.push(network.weight(&names.weight_p).to_vec());
    }
    if stage.proj_size > 0 {
        data.push(transpose(network.weight(&names.weight_hr), stage.proj_size, hidden));
    }
    data
}

/// `[G*H, K]`, gates in blocks, as `[K, H, G]`, the gates of a unit together.
fn interleave(matrix: &[f32], gates: usize, hidden: usize, columns: usize) -> Vec<f32> {
    let mut packed = Vec::with_capacity(matrix.len());
    for k in 0..columns {
        for unit in 0..hidden {
            packed.extend((0..gates).map(|block| matrix[(block * hidden + unit) * columns + k]));
        }
    }
    packed
}

/// `[rows, columns]` as `[columns, rows]`.
fn transpose(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|k| (0..rows).map(move |n| matrix[n * columns + k])).collect()
}

/// `[N, I/groups, K]` as `[K*I, N]`, 0 where an output does not see an input.
fn filters(weight: &[f32], [inputs, outputs, kernel]: [usize; 3], groups: usize) -> Vec<f32> {
    let (of_inputs, of_outputs) = (inputs / groups, outputs / groups);
    let mut matrix = vec![0.0; kernel * inputs * outputs];
    for (output, filter) in weight.chunks_exact(of_inputs * kernel).enumerate() {
        let group = output / of_outputs;
        for (input, taps) in filter.chunks_exact(kernel).enumerate() {
            for (k, &tap) in taps.iter().enumerate() {
                matrix[(k * inputs + group * of_inputs + input) * outputs + output] = tap;
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

    #[test]
    fn the_gates_of_a_unit_lie_together() {
        // H = 2, K = 3; a number's digits are gate, unit, column.
        let blocks: Vec<f32> = [1, 2, 3, 4]
            .iter()
            .flat_map(|gate| [0, 1].map(|unit| gate * 100 + unit * 10))
            .flat_map(|row| [0, 1, 2].map(|k| f32::from(i16::try_from(row + k).expect("small"))))
            .collect();
        let packed = interleave(&blocks, 4, 2, 3);
        assert_eq!(packed[..8], [100.0, 200.0, 300.0, 400.0, 110.0, 210.0, 310.0, 410.0]);
        assert_eq!(packed[20..], [112.0, 212.0, 312.0, 412.0]);
    }

    #[test]
    fn a_group_sees_its_own_channels_only() {
        // Two groups of one input and one output each, two taps.
        let matrix = filters(&[1.0, 2.0, 3.0, 4.0], [2, 2, 2], 2);
        // [tap, input] x output
        assert_eq!(matrix, [1.0, 0.0, 0.0, 3.0, 2.0, 0.0, 0.0, 4.0]);
    }
}
