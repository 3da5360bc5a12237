//! What the streams of a pool attend to, in arenas on a GPU.

use super::context::Context;
use super::engine::GpuEngine;
use super::readback::{Pending, StagedPart, Target};
use super::slots::Slots;
use super::workspace::{Prepared, Ready, bind, buffer};
use crate::base::bits;
use crate::base::error::Result;
use crate::data::banks::{Bank, BankRows};
use crate::data::state::State;
use crate::network::Network;
use crate::plan::check_banks;

const F32: u64 = 4;
/// Timesteps that an arena has room for at first.
const FIRST_ROOM: usize = 16;

/// The banks of all streams of a pool.
#[derive(Debug)]
pub(super) struct BankBuffers {
    inputs: Vec<BankBuffer>,
    /// Timesteps that every arena has room for.
    room: usize,
    /// For each input, where the banks of a batch lie, `[B, 2]`.
    lists: Vec<wgpu::Buffer>,
}

/// The banks of one input.
#[derive(Clone, Debug)]
struct BankBuffer {
    /// Bytes of a timestep.
    bytes: u64,
    /// `[R, N]`
    numbers: wgpu::Buffer,
    /// `[R]`
    mask: wgpu::Buffer,
}

impl BankBuffers {
    /// For batches of up to `rows` rows; `None` for a network that attends to nothing.
    pub fn new(context: &Context, network: &Network, rows: usize) -> Option<Self> {
        let widths = network.inputs().iter().skip(1).map(|input| input.width);
        let inputs: Vec<BankBuffer> =
            widths.map(|width| BankBuffer::new(context, width as u64 * F32, FIRST_ROOM)).collect();
        let lists = lists(context, inputs.len(), rows);
        (!inputs.is_empty()).then_some(Self { inputs, room: FIRST_ROOM, lists })
    }

    /// The same arenas for batches of up to `rows` rows.
    pub fn with_rows(&self, context: &Context, rows: usize) -> Self {
        Self { inputs: self.inputs.clone(), room: self.room, lists: lists(context, self.inputs.len(), rows) }
    }

    /// Says where the banks of the next batch lie.
    pub fn write_rows(&self, context: &Context, rows: &BankRows) {
        write_rows(context, &self.lists, rows);
    }

    /// What the dispatches of a plan need, with these arenas in place of what stands for them.
    pub fn body(&self, context: &Context, prepared: &Prepared, lists: Option<&[wgpu::Buffer]>) -> Vec<Ready> {
        let mut buffers = prepared.buffers.clone();
        let lists = lists.unwrap_or(&self.lists);
        for ((input, bank), list) in prepared.plan.inputs.iter().skip(1).zip(&self.inputs).zip(lists) {
            if let (Some(mask), Some(rows)) = (input.mask, input.rows) {
                buffers[input.numbers] = bank.numbers.clone();
                buffers[mask] = bank.mask.clone();
                buffers[rows] = list.clone();
            }
        }
        bind(context, &prepared.plan.dispatches, &buffers)
    }
}

impl BankBuffer {
    fn new(context: &Context, bytes: u64, room: usize) -> Self {
        let make = |label: &str, bytes: u64| buffer(context, label, bytes * room as u64, usage());
        Self { bytes, numbers: make("banks [R, N]", bytes), mask: make("masks of banks [R]", F32) }
    }
}

impl Slots {
    /// Timesteps that there is room for.
    pub fn bank_room(&self) -> usize {
        self.banks.as_ref().map_or(0, |banks| banks.room)
    }

    /// Puts a bank behind `first` timesteps of the arenas, which have `end` then, or more.
    pub fn put_bank(&mut self, engine: &GpuEngine, bank: &Bank, first: usize, end: usize) -> Result<()> {
        const WHAT: &str = "writing a bank";
        let context = &engine.context;
        context.check()?;
        self.make_bank_room(engine, end)?;
        let Some(banks) = &self.banks else { return Ok(()) };
        let write = || {
            for (to, part) in banks.inputs.iter().zip(&bank.parts) {
                let mask: Vec<u32> = part.counts.iter().map(|&counts| if counts { bits::VALID } else { 0 }).collect();
                let numbers: (&wgpu::Buffer, u64, &[u8]) = (&to.numbers, to.bytes, bytemuck::cast_slice(&part.values));
                for (buffer, each, bytes) in [numbers, (&to.mask, F32, bytemuck::cast_slice(&mask))] {
                    let Some(size) = wgpu::BufferSize::new(bytes.len() as u64) else { continue };
                    let mut view = context
                        .queue
                        .write_buffer_with(buffer, first as u64 * each, size)
                        .ok_or_else(|| context.failed(WHAT, &"the device takes no writes"))?;
                    view.copy_from_slice(bytes);
                    engine.meter.sent(size.get());
                }
            }
            Ok(())
        };
        context.scoped_now(WHAT, write)
    }

    /// Moves the arenas to larger ones if they are too small.
    fn make_bank_room(&mut self, engine: &GpuEngine, end: usize) -> Result<()> {
        const WHAT: &str = "moving banks to larger arenas";
        let (context, limits) = (&engine.context, engine.context.limits());
        let Some(banks) = self.banks.as_mut().filter(|banks| banks.room < end) else { return Ok(()) };
        let widest = banks.inputs.iter().map(|input| input.bytes).max().unwrap_or(F32);
        let most = check_banks(end, widest, &limits)?;
        let room = end.max(2 * banks.room).min(most);
        context.check_by_asking(WHAT)?;
        let grow = || {
            let larger: Vec<BankBuffer> =
                banks.inputs.iter().map(|input| BankBuffer::new(context, input.bytes, room)).collect();
            let mut encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for (from, to) in banks.inputs.iter().zip(&larger) {
                encoder.copy_buffer_to_buffer(&from.numbers, 0, &to.numbers, 0, from.numbers.size());
                encoder.copy_buffer_to_buffer(&from.mask, 0, &to.mask, 0, from.mask.size());
            }
            context.submit_unread(WHAT, encoder)?;
            Ok(larger)
        };
        banks.inputs = context.scoped_now(WHAT, grow)?;
        banks.room = room;
        // What is bound are the smaller ones.
        self.forget();
        Ok(())
    }

    /// Starts reading the numbers of a bank, `steps` timesteps of each input.
    pub fn read_bank<'a>(&self, engine: &'a GpuEngine, first: usize, steps: &[usize]) -> Result<Pending<'a>> {
        engine.context.check()?;
        let read = || {
            let mut parts = Vec::with_capacity(steps.len());
            let mut offset = 0;
            let inputs = || self.banks.iter().flat_map(|banks| &banks.inputs);
            for (input, &steps) in inputs().zip(steps) {
                let bytes = input.bytes * steps as u64;
                parts.push(StagedPart { target: Target::Stage, offset, bytes });
                offset += bytes;
            }
            let staging = engine.staging(offset.max(F32));
            engine.meter.fetched(offset);
            let mut encoder = engine.context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for (input, part) in inputs().zip(&parts).filter(|(_, part)| part.bytes > 0) {
                let from = first as u64 * input.bytes;
                encoder.copy_buffer_to_buffer(&input.numbers, from, &staging, part.offset, part.bytes);
            }
            let submission = engine.context.queue.submit([encoder.finish()]);
            let (state, encoding) = (State::default(), std::time::Duration::ZERO);
            Ok(Pending { engine, staging, parts, submission, state, encoding })
        };
        engine.context.scoped_now("reading a bank", read)
    }
}

/// Lists of where the banks of `rows` rows lie, one for each input.
pub(super) fn lists(context: &Context, inputs: usize, rows: usize) -> Vec<wgpu::Buffer> {
    (0..inputs).map(|_| buffer(context, "banks of rows [B, 2]", rows as u64 * 2 * F32, usage())).collect()
}

/// Says where the banks of rows lie.
pub(super) fn write_rows(context: &Context, lists: &[wgpu::Buffer], rows: &BankRows) {
    for (list, rows) in lists.iter().zip(&rows.0) {
        context.queue.write_buffer(list, 0, bytemuck::cast_slice(rows));
    }
}

fn usage() -> wgpu::BufferUsages {
    wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC
}
