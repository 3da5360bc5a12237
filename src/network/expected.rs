//! Names and shapes of a network's tensors.

use super::gates::PEEPHOLES;
use super::stage::DirectionNames;
use super::{Cell, LayerSpec, NetworkSpec, RecurrentSpec};

/// Names and shapes of the tensors that `spec` needs, in file order.
#[must_use]
pub fn expected_tensors(spec: &NetworkSpec) -> Vec<(String, Vec<usize>)> {
    let mut tensors = Vec::new();
    for layer in &spec.layers {
        let mut add = |tensor: &str, shape: Vec<usize>| tensors.push((format!("{}.{tensor}", layer.name()), shape));
        match layer {
            LayerSpec::Embedding(e) => add("weight", vec![e.num_embeddings, e.embedding_dim]),
            LayerSpec::Lstm(l) => recurrent(Cell::Lstm, l, &mut tensors),
            LayerSpec::Gru(l) => recurrent(Cell::Gru, l, &mut tensors),
            LayerSpec::Rnn(l) => recurrent(Cell::Rnn, l, &mut tensors),
            LayerSpec::Dense(d) => {
                add("weight", vec![d.out_features, d.in_features]);
                if d.bias {
                    add("bias", vec![d.out_features]);
                }
            }
            LayerSpec::Conv1d(c) => {
                add("weight", vec![c.out_channels, c.in_channels / c.groups.max(1), c.kernel_size]);
                if c.bias {
                    add("bias", vec![c.out_channels]);
                }
            }
            LayerSpec::LayerNorm(n) | LayerSpec::BatchNorm(n) => {
                let statistics = matches!(layer, LayerSpec::BatchNorm(_));
                let wanted = [n.weight, n.bias, statistics, statistics];
                for (tensor, wanted) in ["weight", "bias", "running_mean", "running_var"].into_iter().zip(wanted) {
                    if wanted {
                        add(tensor, vec![n.num_features]);
                    }
                }
            }
            LayerSpec::Input(_)
            | LayerSpec::Masking(_)
            | LayerSpec::Pool1d(_)
            | LayerSpec::GlobalPool(_)
            | LayerSpec::Activation(_)
            | LayerSpec::Softmax
            | LayerSpec::Select(_)
            | LayerSpec::Reverse(_)
            | LayerSpec::From(_)
            | LayerSpec::Join(_) => {}
        }
    }
    tensors
}

fn recurrent(cell: Cell, spec: &RecurrentSpec, tensors: &mut Vec<(String, Vec<usize>)>) {
    let rows = cell.gates() * spec.hidden_size;
    for level in 0..spec.num_layers {
        let width = if level == 0 { spec.input_size } else { spec.level_size() };
        for direction in 0..spec.directions() {
            let names = DirectionNames::new(&spec.name, level, direction);
            tensors.push((names.weight_ih, vec![rows, width]));
            tensors.push((names.weight_hh, vec![rows, spec.state_size()]));
            if spec.bias {
                tensors.push((names.bias_ih, vec![rows]));
                tensors.push((names.bias_hh, vec![rows]));
            }
            if spec.proj_size > 0 {
                tensors.push((names.weight_hr, vec![spec.proj_size, spec.hidden_size]));
            }
            if spec.peephole {
                tensors.push((names.weight_p, vec![PEEPHOLES * spec.hidden_size]));
            }
        }
    }
    if spec.initial_state {
        let rows = spec.num_layers * spec.directions();
        tensors.push((format!("{}.initial_h", spec.name), vec![rows, spec.state_size()]));
        if cell == Cell::Lstm {
            tensors.push((format!("{}.initial_c", spec.name), vec![rows, spec.hidden_size]));
        }
    }
}
