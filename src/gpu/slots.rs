//! States of many streams on a GPU, a slot for each.

use std::sync::{Arc, Weak};

use super::banks::BankBuffers;
use super::context::Context;
use super::engine::GpuEngine;
use super::readback::{Pending, StagedPart, Target};
use super::workspace::{Prepared, Ready, bind, buffer};
use crate::base::bits::NO_SLOT;
use crate::base::error::Result;
use crate::data::banks::BankRows;
use crate::data::state::{PartShape, State};
use crate::plan::{Dispatch, check_slots, most_slots, slot_moves};

const F32: u64 = 4;

/// A buffer `[S, ..]` for each row of each part of a network's state, and the list of the slots of a batch.
#[derive(Debug)]
pub(crate) struct Slots {
    parts: Vec<PartBuffer>,
    /// Rows on their way from slots to others of the same buffer.
    spare: wgpu::Buffer,
    /// Slots of the rows of a batch: where they are read, and where they are written.
    lists: [wgpu::Buffer; 2],
    count: usize,
    /// What its streams attend to, if the network does.
    pub(super) banks: Option<BankBuffers>,
    /// The moves around each plan that the workspace keeps ready.
    ready: Vec<(Weak<Prepared>, Arc<Moves>)>,
}

/// A row of a part of the state, in the order of [`parts`](crate::plan::parts).
#[derive(Clone, Debug)]
struct PartBuffer {
    shape: PartShape,
    buffer: wgpu::Buffer,
}

impl PartBuffer {
    fn row_bytes(&self) -> u64 {
        row_bytes(self.shape)
    }
}

fn row_bytes(shape: PartShape) -> u64 {
    shape.width as u64 * F32
}

/// What is done before and after the steps.
#[derive(Debug)]
pub(super) struct Moves {
    pub gather: (Vec<Dispatch>, Vec<Ready>),
    /// What the steps themselves need, where they read banks.
    pub body: Option<Vec<Ready>>,
    pub scatter: (Vec<Dispatch>, Vec<Ready>),
}

impl Slots {
    /// Room for `count` streams and batches of up to `rows` rows.
    pub fn new(engine: &GpuEngine, count: usize, rows: usize) -> Result<Self> {
        const WHAT: &str = "making room for streams";
        let context = &engine.context;
        context.check_by_asking(WHAT)?;
        let shapes = PartShape::all(engine.network());
        let widest = shapes.iter().map(|&shape| row_bytes(shape)).max().unwrap_or(F32);
        check_slots(count, widest, &context.limits())?;
        let make = || {
            let usage = usage();
            let part = |&shape: &PartShape| PartBuffer {
                shape,
                buffer: buffer(context, "states [S, ..]", row_bytes(shape) * count as u64, usage),
            };
            Ok(Self {
                parts: shapes.iter().map(part).collect(),
                spare: buffer(context, "a state", widest, usage),
                lists: [(); 2].map(|()| buffer(context, "slots [B]", rows as u64 * F32, usage)),
                count,
                banks: BankBuffers::new(context, engine.network(), rows),
                ready: Vec::new(),
            })
        };
        context.scoped_now(WHAT, make)
    }

    /// Most slots that the adapter can bind.
    pub fn most(engine: &GpuEngine) -> usize {
        let widest = PartShape::all(engine.network()).into_iter().map(row_bytes).max().unwrap_or(F32);
        usize::try_from(most_slots(widest, &engine.context.limits())).unwrap_or(usize::MAX)
    }

    /// Bytes of all slots.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.buffer.size()).sum()
    }

    /// A larger pool with the same streams in the same slots.
    pub fn grown(&self, engine: &GpuEngine, count: usize, rows: usize) -> Result<Self> {
        const WHAT: &str = "moving streams to a larger pool";
        let mut larger = Self::new(engine, count, rows)?;
        larger.banks = self.banks.as_ref().map(|banks| banks.with_rows(&engine.context, rows));
        let copy = || {
            let mut encoder = encoder(&engine.context);
            for (from, to) in self.parts.iter().zip(&larger.parts) {
                encoder.copy_buffer_to_buffer(&from.buffer, 0, &to.buffer, 0, from.buffer.size());
            }
            engine.context.submit_unread(WHAT, encoder)
        };
        engine.context.scoped_now(WHAT, copy)?;
        Ok(larger)
    }

    /// Puts rows of all parts, slot after slot, into slots.
    pub fn write(&self, engine: &GpuEngine, slots: &[u32], rows: &[f32]) -> Result<()> {
        const WHAT: &str = "writing states";
        let Context { queue, .. } = &*engine.context;
        engine.context.check()?;
        let write = || {
            let mut rest = rows;
            for &slot in slots {
                for part in &self.parts {
                    let (row, behind) = rest.split_at(part.shape.width);
                    rest = behind;
                    let Some(bytes) = wgpu::BufferSize::new(part.row_bytes()) else { continue };
                    // The only way to write that returns an error when the device is lost.
                    let mut view = queue
                        .write_buffer_with(&part.buffer, u64::from(slot) * bytes.get(), bytes)
                        .ok_or_else(|| engine.context.failed(WHAT, &"the device takes no writes"))?;
                    view.copy_from_slice(bytemuck::cast_slice(row));
                    engine.meter.sent(part.row_bytes());
                }
            }
            Ok(())
        };
        engine.context.scoped_now(WHAT, write)
    }

    /// Copies states from slots to slots, none of which is both; from [`NO_SLOT`] zeros.
    pub fn copy(&self, engine: &GpuEngine, from: &[u32], to: &[u32]) -> Result<()> {
        const WHAT: &str = "copying states";
        engine.context.check()?;
        let copy = || {
            let mut encoder = encoder(&engine.context);
            for part in &self.parts {
                for (&from, &to) in from.iter().zip(to).filter(|(from, to)| from != to) {
                    let bytes = part.row_bytes();
                    let to = u64::from(to) * bytes;
                    if from == NO_SLOT {
                        encoder.clear_buffer(&part.buffer, to, Some(bytes));
                    } else {
                        encoder.copy_buffer_to_buffer(&part.buffer, u64::from(from) * bytes, &self.spare, 0, bytes);
                        encoder.copy_buffer_to_buffer(&self.spare, 0, &part.buffer, to, bytes);
                    }
                }
            }
            engine.context.submit_unread(WHAT, encoder)
        };
        engine.context.scoped_now(WHAT, copy)
    }

    /// Copies the states of recurrent layers from slots of another pool, whose parts have the same sizes.
    pub fn copy_from(&self, engine: &GpuEngine, other: &Self, from: &[u32], to: &[u32]) -> Result<()> {
        let recurrent = engine.network().stepping_layers();
        let ours = self.parts.iter().take_while(|part| part.shape.layer < recurrent);
        const WHAT: &str = "handing states over";
        engine.context.check()?;
        let copy = || {
            let mut encoder = encoder(&engine.context);
            for (theirs, ours) in other.parts.iter().zip(ours.clone()) {
                let bytes = ours.row_bytes();
                for (&from, &to) in from.iter().zip(to) {
                    let [from, to] = [from, to].map(|slot| u64::from(slot) * bytes);
                    encoder.copy_buffer_to_buffer(&theirs.buffer, from, &ours.buffer, to, bytes);
                }
            }
            engine.context.submit_unread(WHAT, encoder)
        };
        engine.context.scoped_now(WHAT, copy)
    }

    /// Starts reading the states of slots, slot after slot, as one stage.
    pub fn read<'a>(&self, engine: &'a GpuEngine, slots: &[u32]) -> Result<Pending<'a>> {
        engine.context.check()?;
        let read = || {
            let bytes = slots.len() as u64 * self.parts.iter().map(PartBuffer::row_bytes).sum::<u64>();
            let staging = engine.staging(bytes);
            engine.meter.fetched(bytes);
            let mut encoder = encoder(&engine.context);
            let mut offset = 0;
            for &slot in slots {
                for part in &self.parts {
                    let (at, bytes) = (u64::from(slot) * part.row_bytes(), part.row_bytes());
                    encoder.copy_buffer_to_buffer(&part.buffer, at, &staging, offset, bytes);
                    offset += bytes;
                }
            }
            let submission = engine.context.queue.submit([encoder.finish()]);
            let parts = vec![StagedPart { target: Target::Stage, offset: 0, bytes }];
            let (state, encoding) = (State::default(), std::time::Duration::ZERO);
            Ok(Pending { engine, staging, parts, submission, state, encoding })
        };
        engine.context.scoped_now("reading states", read)
    }

    /// Says from and into which slot each row of the next batch goes, and where its banks lie.
    pub fn write_lists(&self, context: &Context, lists: [&[u32]; 2], rows: Option<&BankRows>) {
        for (buffer, list) in self.lists.iter().zip(lists) {
            context.queue.write_buffer(buffer, 0, bytemuck::cast_slice(list));
        }
        if let (Some(banks), Some(rows)) = (&self.banks, rows) {
            banks.write_rows(context, rows);
        }
    }

    /// The moves around a prepared plan, whose rows belong to the slots that [`Slots::write_lists`] wrote.
    pub(super) fn moves(&mut self, context: &Context, prepared: &Arc<Prepared>) -> Result<Arc<Moves>> {
        if let Some((_, moves)) = self.ready.iter().find(|(plan, _)| plan.as_ptr() == Arc::as_ptr(prepared)) {
            return Ok(moves.clone());
        }
        let moves = Arc::new(self.moves_by(context, prepared, self.lists.each_ref(), None)?);
        // Plans without an owner will not run again.
        self.ready.retain(|(plan, _)| plan.strong_count() > 0);
        self.ready.push((Arc::downgrade(prepared), moves.clone()));
        Ok(moves)
    }

    /// Forgets what is bound, after buffers have changed.
    pub(super) fn forget(&mut self) {
        self.ready.clear();
    }

    /// The moves around a prepared plan by lists of one's own (slots before and after), and by lists of banks of one's own, if any.
    pub(super) fn moves_by(
        &self,
        context: &Context,
        prepared: &Prepared,
        lists: [&wgpu::Buffer; 2],
        banks: Option<&[wgpu::Buffer]>,
    ) -> Result<Moves> {
        let moves = slot_moves(&prepared.plan, self.count, &context.limits())?;
        let mut buffers = prepared.buffers.clone();
        buffers.extend(lists.map(Clone::clone));
        buffers.extend(self.parts.iter().map(|part| part.buffer.clone()));
        let ready = |dispatches: Vec<Dispatch>| {
            let ready = bind(context, &dispatches, &buffers);
            (dispatches, ready)
        };
        let body = self.banks.as_ref().map(|own| own.body(context, prepared, banks));
        Ok(Moves { gather: ready(moves.gather), body, scatter: ready(moves.scatter) })
    }
}

fn usage() -> wgpu::BufferUsages {
    wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC
}

fn encoder(context: &Context) -> wgpu::CommandEncoder {
    context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
}
