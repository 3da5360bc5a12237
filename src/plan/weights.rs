//! Weights in the order in which the kernels read them.

use crate::network::{Network, Stage, StageKind, gates};

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
    let label = &stage.label;
    match &stage.kind {
        StageKind::Embedding { num_embeddings, .. } => {
            vec![(format!("{label} table [V, E]"), num_embeddings * stage.out_features)]
        }
        StageKind::Recurrent(crate::network::RecurrentStage { hidden_size, directions, .. }) => (0..directions.len())
            .flat_map(|direction| {
                let end = if direction == 1 { " reverse" } else { "" };
                [
                    (format!("{label}{end} W [I, H, 4]"), stage.in_features * hidden_size * 4),
                    (format!("{label}{end} bias [H, 4]"), hidden_size * 4),
                    (format!("{label}{end} U [H, H, 4]"), hidden_size * hidden_size * 4),
                ]
            })
            .collect(),
        StageKind::Dense { .. } => vec![
            (format!("{label} W [K, N]"), stage.in_features * stage.out_features),
            (format!("{label} bias [N]"), stage.out_features),
        ],
        _ => Vec::new(),
    }
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
    match &stage.kind {
        StageKind::Embedding { weight, .. } => vec![network.weight(weight).to_vec()],
        StageKind::Recurrent(crate::network::RecurrentStage { hidden_size, directions, .. }) => directions
            .iter()
            .flat_map(|direction| {
                let names = &direction.names;
                let bias =
                    sum(4 * hidden_size, [network.weight(&names.bias_ih), network.weight(&names.bias_hh)]);
                [
                    interleave(network.weight(&names.weight_ih), *hidden_size, stage.in_features),
                    interleave(&bias, *hidden_size, 1),
                    interleave(network.weight(&names.weight_hh), *hidden_size, *hidden_size),
                ]
            })
            .collect(),
        StageKind::Dense { weight, bias, .. } => vec![
            transpose(network.weight(weight), stage.out_features, stage.in_features),
            sum(stage.out_features, [network.weight(bias), &[]]),
        ],
        _ => Vec::new(),
    }
}

/// `[4H, K]`, gates in blocks, as `[K, H, 4]`, the four gates of a unit together.
fn interleave(matrix: &[f32], hidden: usize, columns: usize) -> Vec<f32> {
    let mut packed = Vec::with_capacity(matrix.len());
    for k in 0..columns {
        for unit in 0..hidden {
            let gate = |block: usize| matrix[(block * hidden + unit) * columns + k];
            packed.extend([gate(gates::INPUT), gate(gates::FORGET), gate(gates::CANDIDATE), gate(gates::OUTPUT)]);
        }
    }
    packed
}

/// `[rows, columns]` as `[columns, rows]`.
fn transpose(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|k| (0..rows).map(move |n| matrix[n * columns + k])).collect()
}

/// Sum of two biases, either of which may be absent (empty).
fn sum(len: usize, biases: [&[f32]; 2]) -> Vec<f32> {
    (0..len).map(|i| biases.iter().filter_map(|bias| bias.get(i)).sum()).collect()
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
        let packed = interleave(&blocks, 2, 3);
        assert_eq!(packed[..8], [100.0, 200.0, 300.0, 400.0, 110.0, 210.0, 310.0, 410.0]);
        assert_eq!(packed[20..], [112.0, 212.0, 312.0, 412.0]);
    }
}
