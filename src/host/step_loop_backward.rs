//! The gradients of the stages of a loop: backpropagation through time over all of them together.

use super::backward::starts_backward;
use super::step_loop::LoopInputs;
use super::{Forward, Hooks, ParamGradients, ReferenceRun};
use crate::base::Real;
use crate::base::error::Result;
use crate::base::room::room;
use crate::data::state::State;
use crate::network::{InputKind, Network, Role, Source, Stage, StepLoop};
use crate::reference::StageInput;

/// The gradients of the network's first input, of the outputs of all stages, and of the state.
pub(super) type LoopGradients<'a, F> = (&'a mut Vec<F>, &'a mut Vec<Vec<F>>, &'a mut State<F>);

impl<F: Real> ReferenceRun<'_, F> {
    /// The gradients of a loop of `steps`, which ran from `start`, from those of the outputs of its stages.
    #[expect(clippy::too_many_arguments, reason = "what a backward pass of a network reads and adds to")]
    pub(super) fn loop_gradients(
        &self,
        from: &LoopInputs<'_, F>,
        steps: usize,
        forward: &Forward<F>,
        start: &State<F>,
        hooks: Hooks<'_, F>,
        (d_network, d_stages, d_state): LoopGradients<'_, F>,
        params: &mut dyn ParamGradients<F>,
    ) -> Result<()> {
        let (network, batch, all) = (self.network, from.checked.batch, from.steps_loop.stages.clone());
        let stages = network.stages();
        let states = self.states(from, steps, forward, start, hooks)?;
        let mut d_fed: Vec<Vec<F>> = from
            .steps_loop
            .feedbacks
            .iter()
            .map(|feedback| vec![F::default(); batch * stages[feedback.stage].out_features])
            .collect();
        let mut of_params: Vec<Vec<(usize, Role, Vec<F>)>> = vec![Vec::new(); all.len()];
        for step in (0..steps).rev() {
            let place = |index: usize| {
                let numbers = batch * stages[index].out_features;
                step * numbers..(step + 1) * numbers
            };
            for (feedback, d_fed) in from.steps_loop.feedbacks.iter().zip(&mut d_fed) {
                let width = stages[feedback.from].out_features;
                let d = &mut d_stages[feedback.from][place(feedback.from)];
                for (row, (d, d_fed)) in d.chunks_exact_mut(width).zip(d_fed.chunks_exact_mut(width)).enumerate() {
                    if from.changes(feedback.stage, step, row) {
                        d.iter_mut().zip(&*d_fed).for_each(|(d, &fed)| *d += fed);
                        d_fed.fill(F::default());
                    }
                }
            }
            let now: Vec<Vec<F>> = all.clone().map(|index| forward.stages[index][place(index)].to_vec()).collect();
            for index in all.clone().rev() {
                let stage = &stages[index];
                let mut d_output = d_stages[index][place(index)].to_vec();
                if let Some(at) = from.steps_loop.feedbacks.iter().position(|feedback| feedback.stage == index) {
                    d_fed[at].iter_mut().zip(&d_output).for_each(|(to, &d)| *to += d);
                    continue;
                }
                let reads = from.at(stage, step, &now, &forward.stages);
                let flow = reads.flow();
                (hooks.change)(index, &mut d_output);
                let output = &now[index - all.start];
                let (d_inputs, found) =
                    self.stage_gradients((index, stage), &flow, output, &d_output, (&states[step], &mut *d_state))?;
                for ((at, source), d) in stage.inputs.iter().enumerate().zip(d_inputs) {
                    let to = match place_of(network, stage, (at, *source), step, batch) {
                        (Source::Input(0), _) if d_network.is_empty() => continue,
                        (Source::Input(0), Some(range)) => &mut d_network[range],
                        (Source::Input(0), None) => &mut d_network[..],
                        (Source::Input(_), _) => continue,
                        (Source::Stage(index), Some(range)) => &mut d_stages[index][range],
                        (Source::Stage(index), None) => &mut d_stages[index][..],
                    };
                    to.iter_mut().zip(d).for_each(|(to, d)| *to += d);
                }
                add(&mut of_params[index - all.start], found);
                if step == 0 {
                    starts_backward(stage, batch, d_state, d_stages);
                }
            }
        }
        for (feedback, d_fed) in from.steps_loop.feedbacks.iter().zip(&d_fed) {
            let to = match stages[feedback.stage].inputs.get(1) {
                Some(&Source::Stage(initial)) => &mut d_stages[initial][..],
                Some(Source::Input(0)) => &mut d_network[..],
                _ => continue,
            };
            to.iter_mut().zip(d_fed).for_each(|(to, &d)| *to += d);
        }
        for (index, found) in all.zip(of_params) {
            for (direction, role, numbers) in found {
                if let Some(to) = stages[index].param(direction, role).and_then(|param| params.place(param)) {
                    to.copy_from_slice(&numbers);
                }
            }
        }
        Ok(())
    }

    /// Runs a loop again and keeps the state in front of every step.
    fn states(
        &self,
        from: &LoopInputs<'_, F>,
        steps: usize,
        forward: &Forward<F>,
        start: &State<F>,
        hooks: Hooks<'_, F>,
    ) -> Result<Vec<State<F>>> {
        let numbers: usize = start.parts().map(|part| part.data.len()).sum();
        room(|| "states of every step of a loop".into(), steps.saturating_mul(numbers), size_of::<F>())?;
        let mut outputs: Vec<Vec<F>> = forward.stages.clone();
        let (mut state, mut states) = (start.clone(), Vec::with_capacity(steps));
        let mut run =
            |index: usize, stage: &Stage, flow: &StageInput<'_, F>, state: &mut State<F>, output: &mut Vec<F>| {
                self.stage(index, stage, flow, state, output)?;
                (hooks.change)(index, output);
                Ok(())
            };
        from.run(&mut state, (&mut outputs, steps), &mut run, &mut |state| states.push(state.clone()))?;
        Ok(states)
    }
}

/// Where the gradient of an input of a stage of the loop goes at one step; no range for all of it.
fn place_of(
    network: &Network,
    stage: &Stage,
    (at, source): (usize, Source),
    step: usize,
    batch: usize,
) -> (Source, Option<std::ops::Range<usize>>) {
    let (is_sequence, width) = match source {
        Source::Stage(index) => (network.stages()[index].sequence_out, network.stages()[index].out_features),
        Source::Input(number) => (network.inputs()[number].kind != InputKind::Row, network.inputs()[number].width),
    };
    let range = step * batch * width..(step + 1) * batch * width;
    (source, (!StepLoop::reads_whole(stage, at, is_sequence)).then_some(range))
}

/// Adds gradients of the same parameters in the same order.
fn add<F: Real>(sums: &mut Vec<(usize, Role, Vec<F>)>, found: super::backward::DirectionGradients<F>) {
    if sums.is_empty() {
        *sums = found;
        return;
    }
    for ((.., to), (.., numbers)) in sums.iter_mut().zip(found) {
        to.iter_mut().zip(numbers).for_each(|(to, number)| *to += number);
    }
}
