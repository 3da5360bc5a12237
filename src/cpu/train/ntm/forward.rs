//! The forward pass of a cell with a memory.

use std::sync::Mutex;

use super::address::{address, read, row_norms, write};
use super::sizes::NtmSizes;
use super::{MemoryShare, NtmMemory, NtmPanels, NtmRun, narrow, turn_in, turn_out, widen, z_stride};
use crate::base::bits;
use crate::base::lock::lock;
use crate::cpu::product::InputRows;
use crate::cpu::simd::Wide;
use crate::cpu::threads::{share, worth};
use crate::cpu::train::cells::{GateBlocks, cell_forward};
use crate::cpu::train::product::{ProductRows, StoreMode, product};
use crate::cpu::train::share_memory::ShareMemory;

impl<'a> NtmRun<'a> {
    pub(super) fn sizes<S: Wide>(&self) -> NtmSizes<'a> {
        NtmSizes::new::<S>(self.ntm, self.stage.in_features)
    }

    pub(super) fn is_valid(&self, at: usize) -> bool {
        self.flow.mask.is_none_or(|mask| mask[at] & bits::VALID != 0)
    }

    /// Threads for a pass that does so many times the work of the forward pass.
    pub(super) fn threads_for(&self, times: usize) -> usize {
        let of_row = self.ntm.work(self.stage.in_features);
        self.threads.min(worth(times * self.flow.steps * self.flow.batch * of_row))
    }

    /// Runs all steps from the state h, c, what was read, weights and memory `[B, ..]`, which becomes the final one. What
    /// the gradients need is kept if `keeps`.
    pub fn forward<S: Wide>(
        &self,
        simd: S,
        (panels, memory): (&NtmPanels, &mut NtmMemory),
        keeps: bool,
        state: [&mut [f32]; 5],
        output: &mut Vec<f32>,
    ) {
        let sizes = self.sizes::<S>();
        let (batch, width) = (self.flow.batch, self.stage.out_features);
        output.clear();
        output.resize(if self.stage.sequence_out { self.flow.steps } else { 1 } * batch * width, 0.0);
        memory.set_shares(batch);
        let [h, c, of_read, weights, of_memory] = state;
        {
            let start = [&*h, &*c, &*of_read, &*weights, &*of_memory];
            let output = &Mutex::new(&mut output[..]);
            let shares = memory.shares.iter_mut().zip(&mut memory.memories);
            share(self.threads_for(1), shares, |(share, memory)| {
                self.forward_share(simd, &sizes, panels, (share, memory), keeps, start, output);
            });
        }
        let steps = if keeps { self.flow.steps } else { 0 };
        for (share, memory) in memory.shares.iter().zip(&memory.memories) {
            let rows = share.rows.len();
            let own = |len: usize| share.rows.start * len..share.rows.end * len;
            let (hidden, padded, heads) = (sizes.hidden, sizes.padded_hidden, sizes.heads());
            narrow(&share.h[steps * rows * padded..], padded, &mut h[own(hidden)], hidden);
            if !c.is_empty() {
                narrow(&share.c[steps * rows * padded..], padded, &mut c[own(hidden)], hidden);
            }
            of_read[own(self.ntm.read_size())].copy_from_slice(&memory.read);
            let last = &memory.weights[steps * rows * sizes.weights()..];
            narrow(last, sizes.padded_rows, &mut weights[own(heads * sizes.rows)], sizes.rows);
            let last = &memory.memory[steps * self.ntm.write_heads * rows * sizes.memory()..];
            let to = of_memory[own(sizes.rows * sizes.columns)].chunks_exact_mut(sizes.rows * sizes.columns);
            last.chunks_exact(sizes.memory()).zip(to).for_each(|(from, to)| turn_out(&sizes, from, to));
        }
    }

    /// All steps of the rows of a share.
    #[expect(clippy::too_many_arguments, reason = "what all shares read, and what is the share's own")]
    fn forward_share<S: Wide>(
        &self,
        simd: S,
        sizes: &NtmSizes<'_>,
        panels: &NtmPanels,
        (share, memory): (&mut ShareMemory, &mut MemoryShare),
        keeps: bool,
        [start_h, start_c, start_read, start_weights, start_memory]: [&[f32]; 5],
        output: &Mutex<&mut [f32]>,
    ) {
        let &NtmSizes { inputs, hidden, padded_hidden: padded, padded_controls, .. } = sizes;
        let (cell, writes) = (self.ntm.controller.cell(), self.ntm.write_heads);
        let blocks = GateBlocks::of(cell);
        let (steps, batch) = (self.flow.steps, self.flow.batch);
        let rows = share.rows.len();
        let own = |len: usize| share.rows.start * len..share.rows.end * len;
        let kept = if keeps { steps } else { 1 };
        let (stride, z_stride, read_size) = (blocks.count * padded, z_stride::<S>(sizes), self.ntm.read_size());
        let state = rows * padded;
        share.values.resize(kept * rows * stride, 0.0);
        share.h.resize((kept + 1) * state, 0.0);
        share.c.resize(if cell.keeps_c() { (kept + 1) * state } else { 0 }, 0.0);
        let sums_stride = blocks.of_state.len() * padded;
        share.sums.resize(rows * sums_stride, 0.0);
        share.z.resize(kept * rows * z_stride, 0.0);
        share.controls.resize(kept * rows * padded_controls, 0.0);
        memory.weights.resize((kept + 1) * rows * sizes.weights(), 0.0);
        memory.memory.resize((kept * writes + 1) * rows * sizes.memory(), 0.0);
        memory.norms.resize(kept * (writes + 1) * rows * sizes.padded_rows, 0.0);
        memory.records.resize(kept * rows * sizes.heads() * sizes.record(), 0.0);
        widen(&start_h[own(hidden)], hidden, &mut share.h[..state], padded);
        if cell.keeps_c() {
            widen(&start_c[own(hidden)], hidden, &mut share.c[..state], padded);
        }
        memory.read.clear();
        memory.read.extend_from_slice(&start_read[own(read_size)]);
        let first = &mut memory.weights[..rows * sizes.weights()];
        widen(&start_weights[own(sizes.heads() * sizes.rows)], sizes.rows, first, sizes.padded_rows);
        let of_row = sizes.rows * sizes.columns;
        let first = memory.memory[..rows * sizes.memory()].chunks_exact_mut(sizes.memory());
        start_memory[own(of_row)].chunks_exact(of_row).zip(first).for_each(|(from, to)| turn_in(sizes, from, to));
        for step in 0..steps {
            let at = if keeps { step } else { 0 };
            let z = &mut share.z[at * rows * z_stride..][..rows * z_stride];
            for (local, z) in z.chunks_exact_mut(z_stride).enumerate() {
                let x = &self.flow.inputs[0][(step * batch + share.rows.start + local) * inputs..][..inputs];
                z[..inputs].copy_from_slice(x);
                z[inputs..inputs + read_size].copy_from_slice(&memory.read[local * read_size..][..read_size]);
            }
            let (before, after) = share.h[at * state..].split_at_mut(state);
            let after = &mut after[..state];
            let values = &mut share.values[at * rows * stride..];
            let width = blocks.of_input.len() * padded;
            let to = ProductRows { to: &mut *values, stride, width, store: StoreMode::Replace };
            product(simd, &panels.of_input, (InputRows::even(z, z_stride), rows), to);
            let sums = &mut share.sums;
            let to = ProductRows { to: &mut *sums, stride: sums_stride, width: sums_stride, store: StoreMode::Replace };
            product(simd, &panels.of_state, (InputRows::even(before, padded), rows), to);
            for row in 0..rows {
                let of_row = row * padded..(row + 1) * padded;
                let (before, after) = (&before[of_row.clone()], &mut after[of_row.clone()]);
                let (c_before, c_after): (&[f32], &mut [f32]) = if cell.keeps_c() {
                    let (before, after) = share.c[at * state..].split_at_mut(state);
                    (&before[of_row.clone()], &mut after[of_row])
                } else {
                    (&[], &mut [])
                };
                if self.is_valid(step * batch + share.rows.start + row) {
                    let values = &mut values[row * stride..][..stride];
                    let sums = &sums[row * sums_stride..][..sums_stride];
                    cell_forward(simd, cell, values, [sums, &panels.bias], [before, c_before], [after, c_after]);
                } else {
                    after.copy_from_slice(before);
                    c_after.copy_from_slice(c_before);
                }
            }
            let controls = &mut share.controls[at * rows * padded_controls..][..rows * padded_controls];
            let (stride, width) = (padded_controls, padded_controls);
            let to = ProductRows { to: &mut *controls, stride, width, store: StoreMode::Replace };
            product(simd, &panels.heads, (InputRows::even(after, padded), rows), to);
            for (row, controls) in controls.chunks_exact_mut(padded_controls).enumerate() {
                controls.iter_mut().zip(&panels.heads_bias).for_each(|(x, bias)| *x += bias);
                let is_valid = self.is_valid(step * batch + share.rows.start + row);
                memory_step(simd, sizes, memory, [at, row, rows], is_valid, controls);
            }
            if !keeps {
                share.h.copy_within(state.., 0);
                if cell.keeps_c() {
                    share.c.copy_within(state.., 0);
                }
                memory.weights.copy_within(rows * sizes.weights().., 0);
                memory.memory.copy_within(writes * rows * sizes.memory().., 0);
            }
            self.put_output(sizes, (share, memory), step, if keeps { step + 1 } else { 0 }, output);
        }
    }

    /// Writes the output of a step, whose h is the one at `place`.
    fn put_output(
        &self,
        sizes: &NtmSizes<'_>,
        (share, memory): (&ShareMemory, &MemoryShare),
        step: usize,
        place: usize,
        output: &Mutex<&mut [f32]>,
    ) {
        let sequence_out = self.stage.sequence_out;
        if !sequence_out && step + 1 < self.flow.steps {
            return;
        }
        let (width, read_size) = (self.stage.out_features, self.ntm.read_size());
        let mut output = lock(output);
        let state = &share.h[place * share.rows.len() * sizes.padded_hidden..];
        for (local, row) in share.rows.clone().enumerate() {
            let at = if sequence_out { step * self.flow.batch + row } else { row };
            if sequence_out && !self.is_valid(at) {
                continue;
            }
            let (of_h, of_read) = output[at * width..][..width].split_at_mut(sizes.hidden);
            of_h.copy_from_slice(&state[local * sizes.padded_hidden..][..sizes.hidden]);
            of_read.copy_from_slice(&memory.read[local * read_size..][..read_size]);
        }
    }
}

/// One step of the memory of one row. `at` is where what it leaves is kept.
fn memory_step<S: Wide>(
    simd: S,
    sizes: &NtmSizes<'_>,
    memory: &mut MemoryShare,
    [at, row, rows]: [usize; 3],
    is_valid: bool,
    controls: &[f32],
) {
    let (stage, of_memory, of_weights) = (sizes.stage, sizes.memory(), sizes.weights());
    let (writes, columns, padded) = (stage.write_heads, sizes.columns, sizes.padded_rows);
    let MemoryShare { weights, memory, norms, records, read: of_reads, heads, .. } = memory;
    let (before, after) = weights[at * rows * of_weights..].split_at_mut(rows * of_weights);
    let (before, after) = (&before[row * of_weights..][..of_weights], &mut after[row * of_weights..][..of_weights]);
    let place = |version: usize| ((at * writes + version) * rows + row) * of_memory;
    if !is_valid {
        after.copy_from_slice(before);
        for version in 1..=writes {
            memory.copy_within(place(0)..place(0) + of_memory, place(version));
        }
        return;
    }
    simd.vectorize(
        #[inline(always)]
        || {
            heads.fill(simd, sizes, controls);
            for version in 0..=writes {
                let (addressed, written) = memory[place(version)..].split_at_mut(of_memory);
                let norms = &mut norms[((at * (writes + 1) + version) * rows + row) * padded..][..padded];
                let mut is_first = true;
                for head in 0..sizes.heads() {
                    if stage.writes_before(head) != version {
                        continue;
                    }
                    if is_first {
                        row_norms(simd, sizes, addressed, norms);
                        is_first = false;
                    }
                    let record = ((at * rows + row) * sizes.heads() + head) * sizes.record();
                    let of_head = head * padded..(head + 1) * padded;
                    address(
                        simd,
                        sizes,
                        (heads, head),
                        (addressed, norms),
                        &before[of_head.clone()],
                        (&mut records[record..][..sizes.record()], &mut after[of_head.clone()]),
                    );
                    if head < stage.read_heads {
                        let to = &mut of_reads[row * stage.read_size() + head * columns..][..columns];
                        read(simd, sizes, addressed, &after[of_head], to);
                    }
                }
                if version < writes {
                    let head = stage.read_heads + version;
                    let own = version * columns..(version + 1) * columns;
                    let vectors = [&heads.erase[own.clone()], &heads.add[own]];
                    // The versions of a row lie as far apart as all rows' memories.
                    let written = &mut written[(rows - 1) * of_memory..][..of_memory];
                    write(simd, sizes, vectors, &after[head * padded..][..padded], addressed, written);
                }
            }
        },
    );
}
