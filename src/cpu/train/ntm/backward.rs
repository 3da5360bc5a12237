//! The backward pass of a cell with a memory.

use super::address_backward::{address_backward, read_backward, write_backward};
use super::sizes::NtmSizes;
use super::{MemoryShare, NtmMemory, NtmRun, NtmTensors, narrow, pack_transposed, turn_in, turn_out, widen, z_stride};
use crate::cpu::packed::Panels;
use crate::cpu::product::InputRows;
use crate::cpu::simd::Wide;
use crate::cpu::threads::share;
use crate::cpu::train::cells::{GateBlocks, cell_backward};
use crate::cpu::train::product::{ProductRows, StoreMode, product};
use crate::cpu::train::rows::{RowParts, Rows};
use crate::cpu::train::share_memory::ShareMemory;
use crate::cpu::train::weight_gradient::{GradientFactor, WeightGradient};
use crate::host::StageBackward;
use crate::network::{Network, Role};

impl NtmRun<'_> {
    /// The gradients of a run of [`NtmRun::forward`] that kept what they need, from that of the output and that of the final
    /// state `[B, ..]`, which becomes that of the initial one.
    pub fn backward<S: Wide>(
        &self,
        simd: S,
        network: &Network,
        memory: &mut NtmMemory,
        pass: &mut StageBackward<'_, f32>,
        d_state: [&mut [f32]; 5],
    ) {
        let tensors = NtmTensors::new::<S>(network, self.stage, self.ntm);
        let sizes = tensors.sizes;
        let threads = self.threads_for(3);
        let NtmMemory { shares, memories, backward, gradients } = memory;
        pack_transposed::<S>(backward, &tensors, threads);
        let [d_h, d_c, d_read, d_weights, d_memory] = d_state;
        {
            let last = [&*d_h, &*d_c, &*d_read, &*d_weights, &*d_memory];
            let (d_output, panels) = (pass.d_output, &*backward);
            let all = shares.iter_mut().zip(&mut *memories);
            share(threads, all, |(share, memory)| {
                self.backward_share(simd, &sizes, panels, (share, memory), d_output, last);
            });
        }
        let read_size = self.ntm.read_size();
        let z_stride = z_stride::<S>(&sizes);
        for (share, memory) in shares.iter().zip(&*memories) {
            let own = |len: usize| share.rows.start * len..share.rows.end * len;
            let (hidden, padded) = (sizes.hidden, sizes.padded_hidden);
            narrow(&share.d_h, padded, &mut d_h[own(hidden)], hidden);
            if !d_c.is_empty() {
                narrow(&share.d_c, padded, &mut d_c[own(hidden)], hidden);
            }
            d_read[own(read_size)].copy_from_slice(&memory.read);
            let to = &mut d_weights[own(sizes.heads() * sizes.rows)];
            narrow(&memory.d_weights, sizes.padded_rows, to, sizes.rows);
            let to = d_memory[own(sizes.rows * sizes.columns)].chunks_exact_mut(sizes.rows * sizes.columns);
            memory.d_memory.chunks_exact(sizes.memory()).zip(to).for_each(|(from, to)| turn_out(&sizes, from, to));
        }
        let (steps, batch, inputs) = (self.flow.steps, self.flow.batch, sizes.inputs);
        if let Some(to) = &mut pass.d_input {
            for share in &*shares {
                let rows = share.rows.len();
                for (at, d) in share.d_input.chunks_exact(z_stride).enumerate() {
                    let row = at / rows * batch + share.rows.start + at % rows;
                    to[row * inputs..][..inputs].iter_mut().zip(d).for_each(|(to, d)| *to += d);
                }
            }
        }
        let shares = &shares[..];
        let of = |parts, stride, width| Rows { parts, batch, stride, width };
        let (blocks, padded) = (tensors.blocks, sizes.padded_hidden);
        let stride = blocks.count * padded;
        let d_sums = of(RowParts::Shares(shares, |share| &share.values, None), stride, stride);
        let z = of(RowParts::Shares(shares, |share| &share.z, None), z_stride, sizes.z);
        let h = of(RowParts::Shares(shares, |share| &share.h, None), padded, sizes.hidden);
        let lines = |first: usize, blocks: &[usize]| first * padded..(first + blocks.len()) * padded;
        let factors = [
            Some(GradientFactor { rows: z, lines: lines(0, blocks.of_input) }),
            Some(GradientFactor { rows: h, lines: lines(blocks.first_of_state, blocks.of_state) }),
        ];
        let [of_cell, of_heads] = gradients;
        of_cell.compute(simd, threads, steps * batch, d_sums, &factors);
        let controls = self.ntm.control_size();
        let d_controls = of(RowParts::Shares(shares, |share| &share.controls, None), sizes.padded_controls, controls);
        // What the controls were made from is h after the step.
        let after = of(
            RowParts::Shares(shares, |share| &share.h[share.h.len() / share.steps_and_one..], None),
            padded,
            sizes.hidden,
        );
        let factors = [Some(GradientFactor { rows: after, lines: 0..controls }), None];
        of_heads.compute(simd, threads, steps * batch, d_controls, &factors);
        self.write_gradients(&tensors, gradients, pass);
    }

    fn write_gradients(
        &self,
        tensors: &NtmTensors<'_>,
        [of_cell, of_heads]: &[WeightGradient; 2],
        pass: &mut StageBackward<'_, f32>,
    ) {
        let NtmSizes { hidden, padded_hidden: padded, z, .. } = tensors.sizes;
        let blocks = tensors.blocks;
        let place = |blocks: &[usize], row: usize| blocks[row / hidden] * padded + row % hidden;
        let cell = |blocks: &'static [usize]| (of_cell, Some(blocks));
        for (role, factor, (gradient, blocks), width) in [
            (Role::WeightIh, Some(0), cell(blocks.of_input), z),
            (Role::WeightHh, Some(1), cell(blocks.of_state), hidden),
            (Role::BiasIh, None, cell(blocks.of_input), 1),
            (Role::BiasHh, None, cell(blocks.of_state), 1),
            (Role::HeadsWeight, Some(0), (of_heads, None), hidden),
            (Role::HeadsBias, None, (of_heads, None), 1),
        ] {
            let param = self.stage.param(0, role);
            let Some(to) = param.and_then(|param| pass.params.place(param)) else { continue };
            for (row, to) in to.chunks_exact_mut(width).enumerate() {
                let line = blocks.map_or(row, |blocks| place(blocks, row));
                match factor {
                    Some(factor) => to.copy_from_slice(&gradient.line(factor, line)[..width]),
                    None => to.fill(gradient.sum(line)),
                }
            }
        }
    }

    /// All steps of the rows of a share, the last first.
    fn backward_share<S: Wide>(
        &self,
        simd: S,
        sizes: &NtmSizes<'_>,
        [of_z, of_state, of_heads]: &[Panels; 3],
        (share, memory): (&mut ShareMemory, &mut MemoryShare),
        d_output: &[f32],
        [last_h, last_c, last_read, last_weights, last_memory]: [&[f32]; 5],
    ) {
        let &NtmSizes { inputs, hidden, padded_hidden: padded, padded_controls, .. } = sizes;
        let cell = self.ntm.controller.cell();
        let blocks = GateBlocks::of(cell);
        let (steps, batch, read_size) = (self.flow.steps, self.flow.batch, self.ntm.read_size());
        let (first_row, rows) = (share.rows.start, share.rows.len());
        let own = |len: usize| first_row * len..(first_row + rows) * len;
        let (stride, state, z_stride) = (blocks.count * padded, rows * padded, z_stride::<S>(sizes));
        share.steps_and_one = steps + 1;
        share.d_h.resize(state, 0.0);
        widen(&last_h[own(hidden)], hidden, &mut share.d_h, padded);
        share.d_c.resize(if cell.keeps_c() { state } else { 0 }, 0.0);
        if cell.keeps_c() {
            widen(&last_c[own(hidden)], hidden, &mut share.d_c, padded);
        }
        share.d_input.resize(steps * rows * z_stride, 0.0);
        memory.read.clear();
        memory.read.extend_from_slice(&last_read[own(read_size)]);
        memory.d_weights.resize(rows * sizes.weights(), 0.0);
        let of_heads_rows = sizes.heads() * sizes.rows;
        widen(&last_weights[own(of_heads_rows)], sizes.rows, &mut memory.d_weights, sizes.padded_rows);
        memory.d_memory.resize(rows * sizes.memory(), 0.0);
        let of_row = sizes.rows * sizes.columns;
        let to = memory.d_memory.chunks_exact_mut(sizes.memory());
        last_memory[own(of_row)].chunks_exact(of_row).zip(to).for_each(|(from, to)| turn_in(sizes, from, to));
        let width = self.stage.out_features;
        for step in (0..steps).rev() {
            let controls = &mut share.controls[step * rows * padded_controls..][..rows * padded_controls];
            for (row, controls) in controls.chunks_exact_mut(padded_controls).enumerate() {
                let at = step * batch + first_row + row;
                let is_valid = self.is_valid(at);
                let seen = if self.stage.sequence_out { is_valid } else { step + 1 == steps };
                if seen {
                    let at = if self.stage.sequence_out { at } else { first_row + row };
                    let (of_h, of_read) = d_output[at * width..][..width].split_at(hidden);
                    let d_h = &mut share.d_h[row * padded..][..hidden];
                    d_h.iter_mut().zip(of_h).for_each(|(to, d)| *to += d);
                    let d_read = &mut memory.read[row * read_size..][..read_size];
                    d_read.iter_mut().zip(of_read).for_each(|(to, d)| *to += d);
                }
                if is_valid {
                    memory_step_backward(simd, sizes, memory, [step, row, rows], controls);
                } else {
                    controls.fill(0.0);
                }
            }
            let to = ProductRows { to: &mut share.d_h, stride: padded, width: padded, store: StoreMode::Add };
            product(simd, of_heads, (InputRows::even(controls, padded_controls), rows), to);
            let values = &mut share.values[step * rows * stride..][..rows * stride];
            for (row, values) in values.chunks_exact_mut(stride).enumerate() {
                if !self.is_valid(step * batch + first_row + row) {
                    values.fill(0.0);
                    continue;
                }
                let before = step * state + row * padded;
                let h = &share.h[before..][..padded];
                let (c, c_after, d_c): (&[f32], &[f32], &mut [f32]) = if cell.keeps_c() {
                    let d_c = &mut share.d_c[row * padded..][..padded];
                    (&share.c[before..][..padded], &share.c[before + state..][..padded], d_c)
                } else {
                    (&[], &[], &mut [])
                };
                cell_backward(simd, cell, values, [h, c, c_after], [&mut share.d_h[row * padded..][..padded], d_c]);
            }
            let d_sums = &values[blocks.first_of_state * padded..];
            let to = ProductRows { to: &mut share.d_h, stride: padded, width: padded, store: StoreMode::Add };
            product(simd, of_state, (InputRows::even(d_sums, stride), rows), to);
            let d_z = &mut share.d_input[step * rows * z_stride..][..rows * z_stride];
            let to = ProductRows { to: &mut *d_z, stride: z_stride, width: z_stride, store: StoreMode::Replace };
            product(simd, of_z, (InputRows::even(values, stride), rows), to);
            for (row, d_z) in d_z.chunks_exact(z_stride).enumerate() {
                if self.is_valid(step * batch + first_row + row) {
                    memory.read[row * read_size..][..read_size].copy_from_slice(&d_z[inputs..inputs + read_size]);
                }
            }
        }
    }
}

/// The gradients of one step of the memory of one row: the controls `[P]` become those of their numbers.
fn memory_step_backward<S: Wide>(
    simd: S,
    sizes: &NtmSizes<'_>,
    memory: &mut MemoryShare,
    [at, row, rows]: [usize; 3],
    controls: &mut [f32],
) {
    let (stage, of_memory, of_weights) = (sizes.stage, sizes.memory(), sizes.weights());
    let (writes, columns, padded) = (stage.write_heads, sizes.columns, sizes.padded_rows);
    let MemoryShare { weights, memory, norms, records, read: d_read, d_weights, d_memory, heads, scratch, .. } = memory;
    let (before, after) = weights[at * rows * of_weights..].split_at(rows * of_weights);
    let (before, after) = (&before[row * of_weights..][..of_weights], &after[row * of_weights..][..of_weights]);
    let d_weights = &mut d_weights[row * of_weights..][..of_weights];
    let d_memory = &mut d_memory[row * of_memory..][..of_memory];
    let d_read = &d_read[row * stage.read_size()..][..stage.read_size()];
    simd.vectorize(
        #[inline(always)]
        || {
            heads.fill(simd, sizes, controls);
            scratch.make_room(sizes);
            // Bounded ones have no gradient.
            let bound = stage.clip.unwrap_or(f32::INFINITY);
            let raw: &mut [f32] = controls;
            for version in (0..=writes).rev() {
                let addressed = &memory[((at * writes + version) * rows + row) * of_memory..][..of_memory];
                let norms = &norms[((at * (writes + 1) + version) * rows + row) * padded..][..padded];
                if version < writes {
                    let of_head = (stage.read_heads + version) * padded;
                    let of_head = of_head..of_head + padded;
                    let d_of_head = &mut d_weights[of_head.clone()];
                    let numbers = (addressed, &after[of_head]);
                    write_backward(
                        simd,
                        sizes,
                        (heads, version),
                        numbers,
                        (d_memory, d_of_head),
                        &mut scratch.controls,
                    );
                }
                for head in 0..sizes.heads() {
                    if stage.writes_before(head) != version {
                        continue;
                    }
                    let of_head = head * padded..(head + 1) * padded;
                    let d_of_head = &mut d_weights[of_head.clone()];
                    if head < stage.read_heads {
                        let d_read = &d_read[head * columns..][..columns];
                        let numbers = (addressed, &after[of_head.clone()]);
                        read_backward(simd, sizes, d_read, numbers, (d_memory, &mut *d_of_head));
                    }
                    let record = ((at * rows + row) * sizes.heads() + head) * sizes.record();
                    let of_record = &records[record..][..sizes.record()];
                    address_backward(
                        simd,
                        sizes,
                        (heads, head),
                        (addressed, norms),
                        (of_record, &before[of_head.clone()], &after[of_head]),
                        (d_of_head, d_memory),
                        scratch,
                    );
                }
            }
            for (x, &d) in raw.iter_mut().zip(&scratch.controls) {
                *x = if x.abs() > bound { 0.0 } else { d };
            }
            raw[stage.control_size()..].fill(0.0);
        },
    );
}
