//! The network, from what the outputs of the graph turned out to be.

use super::dropout;
use super::graph::OnnxNode;
use super::rows::{check_order, check_row};
use super::states::kept;
use super::value::{AxisLabel, FinalRow, LabelledTensor, LayerDirection, Of, RecurrentPart, Value};
use super::walk::Walk;
use super::{malformed, unsupported};
use crate::base::error::Result;
use crate::network::{FileAxes, FileTensor, INPUT, LayerSpec, MaskReach, Network};

impl Walk<'_> {
    /// The network, from what the graph's outputs turned out to be.
    pub fn finish(mut self) -> Result<Network> {
        if self.sorts_rows {
            check_order(self.graph)?;
        }
        check_row(self.graph, &self.of_row)?;
        let (mut main, mut last, mut states) = (Vec::new(), None, Vec::<(&String, Vec<FinalRow>)>::new());
        for name in &self.graph.main.outputs {
            match self.values.get(name.as_str()).cloned() {
                Some(Value::Tensor(mut tensor)) => match &tensor.of {
                    &Of::Integers(id) => {
                        tensor.of = Of::Expression(id);
                        main.push((name, tensor));
                    }
                    Of::Directions { part: RecurrentPart::Y, .. } | Of::Expression(_) | Of::Heads { .. } => {
                        main.push((name, tensor));
                    }
                    Of::Directions { part, rows } => {
                        let row = |&row: &LayerDirection| FinalRow::Layer { part: *part, row };
                        states.push((name, rows.iter().map(row).collect()));
                        if *part == RecurrentPart::H {
                            last = last.or(Some((name, tensor)));
                        }
                    }
                    Of::Tokens(_)
                    | Of::Shifted(_)
                    | Of::Compared { .. }
                    | Of::Mask { .. }
                    | Of::AnyCount(_)
                    | Of::MaskCount(_)
                    | Of::Scores { .. } => {
                        return Err(unsupported(format!("output `{name}`"), "the network's input as output"));
                    }
                },
                Some(Value::States(rows)) => states.push((name, rows)),
                Some(_) => return Err(unsupported(format!("output `{name}`"), "a constant or a state as output")),
                None => return Err(malformed(format!("output `{name}`"), "a value that a node makes", "none".into())),
            }
        }
        if main.is_empty() {
            main.extend(last);
        }
        let mut outputs = main.into_iter();
        let Some((name, mut tensor)) = outputs.next() else {
            return Err(unsupported("ONNX model", "a graph without an output other than states"));
        };
        let output = FileTensor { name: name.clone(), axes: named(&tensor), row: self.row_of(&tensor) };
        // All directions of a sequence are the layer's output, whether or not the graph joins them.
        tensor.axes.retain(|&axis| axis != AxisLabel::Direction);
        let id = self.whole(&tensor, &format!("output `{name}`"))?;
        let mut others = Vec::new();
        let mut other_axes = Vec::new();
        for (name, mut other) in outputs {
            other_axes.push(FileTensor { name: name.clone(), axes: named(&other), row: self.row_of(&other) });
            other.axes.retain(|&axis| axis != AxisLabel::Direction);
            others.push((name, self.whole(&other, &format!("output `{name}`"))?));
        }
        // The state of a step that is taken apart is known once its h is a layer.
        for id in std::iter::once(id).chain(others.iter().map(|(_, id)| *id)) {
            if self.build.is_step(id) {
                self.build.emit(id)?;
            }
        }
        for (name, other) in others {
            if self.build.states.contains_key(&other) {
                states.push((name, vec![FinalRow::Computed(other)]));
            } else if other != id {
                self.build.other_output(name, other)?;
            }
        }
        self.build.emit(id)?;
        let computed = |row: &FinalRow| if let FinalRow::Computed(id) = row { Some(*id) } else { None };
        for (name, rows) in &states {
            if rows.iter().filter_map(computed).any(|id| !self.build.states.contains_key(&id)) {
                return Err(unsupported(format!("output `{name}`"), "a second output that is no state"));
            }
        }
        self.check_masks()?;
        self.unmask_others();
        let input = FileTensor {
            name: self.main.name.clone(),
            axes: self.axes.iter().map(|&axis| public(axis, 1)).collect(),
            row: None,
        };
        let (masked, tokens) = (std::mem::take(&mut self.build.masked), std::mem::take(&mut self.token_inputs));
        for (input, value) in self.build.masks.clone() {
            match input.checked_sub(1) {
                Some(other) => self.build.mask_tokens(&tokens[other], value)?,
                None if self.build.input_size.is_none() => self.build.mask_tokens(INPUT, value)?,
                None => {}
            }
        }
        let dropped = dropout::dropouts(&self.build, &self.dropped);
        let given = self.given_states();
        let mut inputs = self.graph.inputs.iter().map(|input| &input.name);
        let lengths = inputs.find(|name| matches!(self.values.get(name.as_str()), Some(Value::Lengths))).cloned();
        states.retain(|(name, _)| **name != output.name);
        let last = states.iter().filter_map(|(name, rows)| self.build.final_state_rows(name, rows)).collect();
        let network = self.build.finish(id)?;
        for stage in network.stages() {
            let layer = stage.label.strip_suffix(".l0").unwrap_or(&stage.label);
            let reads = masked.get(layer).map(|&input| match input.checked_sub(1) {
                Some(other) => network.inputs().iter().position(|input| input.name == tokens[other]),
                None => Some(0),
            });
            if reads.is_some_and(|input| input.map(MaskReach::Fits) != Some(stage.mask_reach)) {
                return Err(unsupported(format!("node `{layer}`"), "a mask behind layers that change the timesteps"));
            }
        }
        let dropped = dropout::in_network(dropped, &network.spec().layers);
        let (states, final_states) = (kept(given, &network), kept(last, &network));
        let fixed = self.fixed_inputs;
        let axes = FileAxes { input, output, others: other_axes, fixed, states, final_states, lengths };
        Ok(network.with_file_axes(Some(axes)).with_file_dropout(dropped))
    }
}

impl Walk<'_> {
    /// An error if the graph masks other layers than gatefold would.
    fn check_masks(&self) -> Result<()> {
        for layer in self.build.layers.iter().filter(|_| self.last_valid) {
            // Given lengths, these would not read as far as the graph does.
            let backwards = layer.spec.recurrent().is_some_and(|(_, spec)| spec.reverse || spec.bidirectional);
            if backwards && !self.with_lengths.contains(layer.spec.name()) {
                return Err(unsupported(
                    "ONNX model",
                    "the last timestep by lengths beside layers that read the padding behind it",
                ));
            }
        }
        let refuse = |what: &str| Err(unsupported("ONNX model", what));
        let same = |value: f32| self.build.masks.get(&0).is_some_and(|mask| mask.to_bits() == value.to_bits());
        // Steps that are 0 throughout are 0 after a mask of 0, too.
        if self.selected.is_some_and(|value| value != 0.0 && !same(value)) {
            return refuse("an input that is 0 where a mask is off, which no layer reads");
        }
        if self.build.masks.is_empty() {
            return Ok(());
        }
        for layer in &self.build.layers {
            let masked = self.build.masked.contains_key(layer.spec.name());
            if layer.spec.recurrent().is_some() && !masked && self.last_valid {
                return refuse("a mask that some of the recurrent layers do not read");
            }
            // Masked steps of the input are 0 for every other layer.
            if layer.reads.iter().any(|read| read == INPUT) && !masked && self.build.input_size.is_some() {
                let known = |node: &&OnnxNode| matches!(node.op.as_str(), "Equal" | "Shape" | "Mul");
                let mut readers = self.graph.main.nodes.iter().filter(|node| node.inputs.contains(&self.main.name));
                if self.selected.is_none() || !readers.all(|node| known(&node)) {
                    return refuse("layers that read the timesteps that a mask leaves out");
                }
            }
        }
        Ok(())
    }
}

impl Walk<'_> {
    /// The row of the batch that an output is of, if it has no axis of the batch because the graph takes one row.
    fn row_of(&self, tensor: &LabelledTensor) -> Option<i64> {
        let has_rows =
            |axis: &AxisLabel| matches!(axis, AxisLabel::Batch | AxisLabel::BatchHeads | AxisLabel::Rows { .. });
        self.row.filter(|_| !tensor.axes.iter().any(has_rows))
    }

    /// Makes all timesteps count for the layers over time that read no mask and no lengths in the graph.
    fn unmask_others(&mut self) {
        let masked = !self.build.masks.is_empty();
        if !masked && self.with_lengths.is_empty() && !self.last_valid {
            return;
        }
        for index in (0..self.build.layers.len()).rev() {
            let layer = &self.build.layers[index].spec;
            let reads_mask = self.build.masked.contains_key(layer.name());
            let place = match layer {
                LayerSpec::GlobalPool(_) | LayerSpec::TimeSoftmax(_) => 0,
                LayerSpec::Attention(_) => 1,
                layer if layer.recurrent().is_some() && masked => 0,
                _ => continue,
            };
            if !reads_mask {
                self.build.unmask(index, place);
            }
        }
    }
}

/// Axes as [`Network::file_axes`] names them.
fn named(tensor: &LabelledTensor) -> Vec<crate::network::Axis> {
    tensor.axes.iter().map(|&axis| public(axis, tensor.heads())).collect()
}

/// As [`Network::file_axes`] names an axis of a tensor whose features are cut into `heads` parts.
fn public(axis: AxisLabel, heads: usize) -> crate::network::Axis {
    use crate::network::Axis as Public;
    match axis {
        AxisLabel::Unit => Public::One,
        AxisLabel::Time | AxisLabel::Other => Public::Time,
        AxisLabel::Batch | AxisLabel::BatchHeads => Public::Batch,
        AxisLabel::Direction | AxisLabel::Stack => Public::Direction,
        AxisLabel::Head => Public::Part(heads),
        AxisLabel::Channel => Public::Feature,
        AxisLabel::Rows { time_first: true } => Public::TimeBatch,
        AxisLabel::Rows { time_first: false } => Public::BatchTime,
    }
}
