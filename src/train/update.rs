//! A step of the optimizer, shared among threads. Its result is that of the reference, bit by bit.

use std::ops::Range;

use crate::cpu::Cpu;
use crate::network::Network;
use crate::reference::{Optimizer, OptimizerState, Part, StepReport, square_blocks, square_sum, sum_of};

/// Parameters that a thread moves before it takes others.
const PART: usize = 1 << 14;

/// Copies `parameters` to the tensors of `network`, each from its place.
pub(super) fn copy_weights(cpu: Cpu, network: &mut Network, places: &[(String, Range<usize>)], parameters: &[f32]) {
    let parts = network.weights_mut().flat_map(|(name, numbers)| {
        let place = places.iter().find(|(place, _)| place == name);
        let from = place.map_or(&[][..], |(_, range)| &parameters[range.clone()]);
        numbers.chunks_mut(PART).zip(from.chunks(PART))
    });
    cpu.share(parameters.len(), parts, |(to, from)| to.copy_from_slice(from));
}

/// Memory of the steps.
#[derive(Debug, Default)]
pub(super) struct UpdateMemory {
    /// Of each block of each part that is trained.
    squares: Vec<f32>,
    /// The norm of each part.
    norms: Vec<f32>,
}

/// As [`Optimizer::step`], by several threads.
pub(super) fn update(
    (cpu, memory): (Cpu, &mut UpdateMemory),
    (optimizer, learning_rate): (&Optimizer, f64),
    parts: &[Part],
    (params, gradient): (&mut [f32], &[f32]),
    state: &mut OptimizerState<f32>,
) -> StepReport<f32> {
    let UpdateMemory { squares, norms } = memory;
    let blocks = |part: &Part| square_blocks(&gradient[part.range.clone()]);
    let trained = || parts.iter().filter(|part| !part.frozen);
    squares.resize(trained().map(|part| blocks(part).len()).sum(), 0.0);
    cpu.share(params.len(), trained().flat_map(blocks).zip(&mut *squares), |(block, square)| {
        cpu.vectorize(
            #[inline(always)]
            || *square = square_sum(block),
        );
    });
    norms.clear();
    let mut first = 0;
    let of_parts = parts.iter().map(|part| {
        let own = first..first + if part.frozen { 0 } else { blocks(part).len() };
        first = own.end;
        sum_of(squares[own].iter().copied())
    });
    norms.extend(of_parts);
    let of_trained = parts.iter().zip(&*norms).filter(|(part, _)| !part.frozen);
    let norm = sum_of(of_trained.map(|(_, &square)| square)).sqrt();
    norms.iter_mut().for_each(|square| *square = square.sqrt());
    if !optimizer.begin(norm, state) {
        return StepReport { norm, skipped: true };
    }
    let (steps, len) = (state.steps, params.len());
    // A moment that is not kept has no numbers.
    let [first, second, third] = state.moments.each_mut().map(|moments| {
        let none = std::iter::repeat_with(<&mut [f32]>::default);
        moments.chunks_mut(PART).chain(none)
    });
    let items = params.chunks_mut(PART).zip(gradient.chunks(PART)).zip(first.zip(second.zip(third))).enumerate();
    cpu.share(len, items, |(index, ((params, gradient), (first, (second, third))))| {
        let own = index * PART..index * PART + params.len();
        for (part, &norm_of_part) in parts.iter().zip(&*norms).filter(|(part, _)| !part.frozen) {
            let range = own.start.max(part.range.start)..own.end.min(part.range.end);
            if range.is_empty() {
                continue;
            }
            let at = range.start - own.start..range.end - own.start;
            let step = optimizer.part_step(learning_rate, part, steps, norm, norm_of_part);
            let moments = [&mut *first, &mut *second, &mut *third];
            let moments = moments.map(|moments| moments.get_mut(at.clone()).unwrap_or_default());
            cpu.vectorize(
                #[inline(always)]
                || optimizer.update(&step, &mut params[at.clone()], &gradient[at], moments),
            );
        }
    });
    StepReport { norm, skipped: false }
}
