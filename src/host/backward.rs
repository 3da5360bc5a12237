//! The gradients of a whole network: the backward passes of its stages, from the last to the first.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::forward::Hooks;
use super::walk::{mask_of, steps_in};
use super::{Forward, Memory, Reference, begin};
use crate::base::Real;
use crate::base::error::{Error, Result};
use crate::data::input::{Checked, Input, Values};
use crate::data::state::State;
use crate::network::{Role, Source, StageKind};
use crate::reference::{LevelShape, StageInput, level_backward, stateless_backward};

/// The gradients of a number that depends on a network's output.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Gradients<F> {
    /// Of every tensor that can be trained, by its name and in its order. Statistics have no gradient.
    pub params: BTreeMap<String, Vec<F>>,
    /// Of the input `[T, B, I]`, time-major; empty for tokens.
    pub input: Vec<F>,
    /// Of the state that the run began from.
    pub state: State<F>,
}

impl<F: Real> Reference<F> {
    /// The gradients of a number from that of the output of stage `from`, `d_output` `[T, B, N]` or `[B, N]`, time-major:
    /// the last stage, or, for a loss from logits, the one before a softmax. `forward` is what the run on the same input
    /// and state computed.
    ///
    /// # Errors
    /// As [`Reference::forward`]; [`Error::Shape`] if `d_output` is not as long as the output.
    pub fn gradients(
        &self,
        input: Input<'_>,
        state: Option<&State>,
        forward: &Forward<F>,
        from: (usize, &[F]),
    ) -> Result<Gradients<F>> {
        self.gradients_with(&Checked::new(&self.network, input, state)?, state, forward, from, Hooks::default())
    }

    /// As [`Reference::gradients`] of a run with the same `hooks`.
    pub(crate) fn gradients_with(
        &self,
        checked: &Checked<'_>,
        state: Option<&State>,
        forward: &Forward<F>,
        (from, d_output): (usize, &[F]),
        hooks: Hooks<'_, F>,
    ) -> Result<Gradients<F>> {
        let (network, stages) = (&self.network, self.network.stages());
        let Memory { forward: Forward { state: start, .. }, .. } = &mut Memory::<F>::default();
        begin(network, checked.batch, state, start);
        let steps_out = network.stage_steps(checked.steps)?;
        let (features, tokens) = match &checked.values {
            Values::Features(values) => (F::of_f32(values), &[][..]),
            Values::Tokens(tokens) => (Cow::Borrowed(&[][..]), &tokens[..]),
        };
        let numbers = forward.stages.get(from).map_or(0, Vec::len);
        if d_output.len() != numbers {
            return Err(Error::shape(
                "gradient of the output",
                format!("{numbers} numbers"),
                d_output.len().to_string(),
            ));
        }
        let mut d_state = start.clone();
        for layer in &mut d_state.layers {
            layer.h.fill(F::default());
            layer.c.fill(F::default());
        }
        let mut d_stages: Vec<Vec<F>> = forward.stages.iter().map(|output| vec![F::default(); output.len()]).collect();
        if let Some(from) = d_stages.get_mut(from) {
            from.copy_from_slice(d_output);
        }
        let mut d_input = vec![F::default(); features.len()];
        let mut params = BTreeMap::new();
        for (index, stage) in stages.iter().enumerate().take(from + 1).rev() {
            let inputs: Vec<&[F]> = stage
                .inputs
                .iter()
                .map(|source| match *source {
                    Source::Input => &features[..],
                    Source::Stage(index) => &forward.stages[index][..],
                })
                .collect();
            let (steps, batch, mask) = (steps_in(stage, checked, &steps_out), checked.batch, mask_of(stage, checked));
            let flow = StageInput { inputs: &inputs, tokens, steps, batch, mask };
            let (output, mut d_output) = (&forward.stages[index], std::mem::take(&mut d_stages[index]));
            (hooks.change)(index, &mut d_output);
            let weights = &self.weights[index];
            let (d_inputs, of_params) = match &stage.kind {
                StageKind::Recurrent(level) => {
                    let rounding = self.roundings[index];
                    let sequence_out = stage.sequence_out;
                    let shape = LevelShape { label: &stage.label, steps, batch, sequence_out, mask, rounding };
                    let (start, d_state) = (&start.layers[level.layer], &mut d_state.layers[level.layer]);
                    let levels = hooks.levels;
                    let run = levels.and_then(|levels| levels.backward(index, stage, level, &flow, &d_output, d_state));
                    let gradients = match run {
                        Some(gradients) => gradients,
                        None => {
                            let start = (&start.h[..], &start.c[..]);
                            let d_state = (&mut d_state.h[..], &mut d_state.c[..]);
                            level_backward(
                                shape,
                                level,
                                weights.recurrent().unwrap_or_default(),
                                inputs[0],
                                start,
                                &d_output,
                                d_state,
                            )?
                        }
                    };
                    (vec![gradients.input], gradients.params)
                }
                _ => {
                    let normalized = hooks.norms.and_then(|norms| norms.backward(index, stage, &flow, &d_output));
                    let gradients = match normalized {
                        Some(gradients) => gradients,
                        None => stateless_backward(network, stage, weights, &flow, output, &d_output)?,
                    };
                    let params = gradients.params.into_iter().map(|(role, numbers)| (0, role, numbers));
                    (gradients.inputs, params.collect())
                }
            };
            for (source, d) in stage.inputs.iter().zip(d_inputs) {
                let to = match *source {
                    Source::Input => &mut d_input,
                    Source::Stage(index) => &mut d_stages[index],
                };
                to.iter_mut().zip(d).for_each(|(to, d)| *to += d);
            }
            for (direction, role, numbers) in of_params {
                // What is folded may come from a tensor that the stage does not have.
                if let Some(param) = stage.param(direction, role) {
                    params.insert(param.name.clone(), numbers);
                }
            }
        }
        self.initial_state_gradients(checked.batch, state.is_none(), &d_state, &mut params);
        Ok(Gradients { params, input: d_input, state: d_state })
    }

    /// The gradients of stored initial states, from which every batch row starts; 0 where the caller's state is used.
    fn initial_state_gradients(
        &self,
        batch: usize,
        used: bool,
        d_state: &State<F>,
        params: &mut BTreeMap<String, Vec<F>>,
    ) {
        for stage in self.network.stages() {
            let Some(level) = stage.recurrent() else { continue };
            let layer = &d_state.layers[level.layer];
            for (role, numbers, [_, _, width]) in
                [(Role::InitialH, &layer.h, layer.h_shape), (Role::InitialC, &layer.c, layer.c_shape)]
            {
                let Some(param) = stage.param(0, role) else { continue };
                let mut sums = Vec::with_capacity(numbers.len() / batch);
                for rows in numbers.chunks_exact(batch * width) {
                    let mut sum = vec![F::default(); width];
                    for row in rows.chunks_exact(width).filter(|_| used) {
                        sum.iter_mut().zip(row).for_each(|(sum, &d)| *sum += d);
                    }
                    sums.extend(sum);
                }
                params.insert(param.name.clone(), sums);
            }
        }
    }
}
