//! Streams of decoders that attend: what they attend to is read once, and held as long as a stream needs it.

use std::sync::Arc;

use super::pool::{Inner, StreamPool};
use super::store::Store;
use super::table::{StreamId, StreamVersion};
use crate::base::bits;
use crate::base::error::{Error, Result};
use crate::base::lock::lock;
use crate::data::banks::{Bank, BankPart};
use crate::data::input::{Checked, Input};
use crate::data::run::RunRequest;
use crate::data::state::State;
use crate::network::{BankSource, Division, Network, StartSource};
use crate::session::Session;

/// The part of a network that reads what its decoder attends to.
#[derive(Debug)]
pub(super) struct BankReader {
    session: Session,
    banks: Vec<BankSource>,
    starts: Vec<StartSource>,
}

/// The session of the decoder, and what reads for it, where the network has several inputs.
pub(super) fn divided(session: Arc<Session>) -> Result<(Arc<Session>, Option<BankReader>)> {
    if session.network().inputs().len() == 1 {
        return Ok((session, None));
    }
    let Division { reader, decoder, banks, starts } = session.network().divided()?;
    let reader = BankReader { session: session.of_part(&reader)?, banks, starts };
    Ok((Arc::new(session.of_part(&decoder)?), Some(reader)))
}

impl BankReader {
    /// A bank of `decoder` for each batch row.
    fn read(&self, decoder: &Network, sources: Input<'_>) -> Result<Vec<Bank>> {
        let network = self.session.network();
        let checked = Checked::new(network, sources, None)?;
        let outputs = self.session.execute(&checked, None, RunRequest::default())?.stages;
        let batch = checked.batch;
        let of = |output: usize| {
            let width = network.stages()[network.outputs()[output].stage].out_features;
            (&outputs[output], width)
        };
        let steps = |bank: &BankSource| of(bank.output).0.len() / batch / of(bank.output).1;
        for bank in &self.banks {
            let (expected, name) = (steps(bank), &network.outputs()[bank.output].name);
            let other = bank.values.iter().map(|&at| steps(&self.banks[at])).find(|&steps| steps != expected);
            if let Some(other) = other {
                let what = format!("values of the keys `{name}`");
                return Err(Error::shape(what, format!("{expected} timesteps"), other.to_string()));
            }
        }
        let row = |row: usize| {
            let counts = |bank: &BankSource| -> Vec<bool> {
                let mask = bank.mask.and_then(|input| checked.mask_of(input));
                let valid = |step: usize| mask.is_none_or(|mask| mask[step * batch + row] & bits::VALID != 0);
                (0..steps(bank)).map(valid).collect()
            };
            let all: Vec<Vec<bool>> = self.banks.iter().map(counts).collect();
            // What lies behind the last timestep that counts is left out, of values behind that of their keys.
            let last = |at: usize| all[at].iter().rposition(|&counts| counts).map_or(0, |last| last + 1);
            let mut lengths = vec![0; self.banks.len()];
            for (at, bank) in self.banks.iter().enumerate() {
                bank.values.iter().chain((!bank.values.is_empty()).then_some(&at)).for_each(|&to| {
                    lengths[to] = lengths[to].max(last(at));
                });
            }
            let parts = self.banks.iter().zip(decoder.inputs().iter().skip(1)).zip(all).zip(lengths);
            let parts = parts.map(|(((bank, input), mut counts), length)| {
                let (values, width) = of(bank.output);
                let rows = (0..length).flat_map(|step| &values[(step * batch + row) * width..][..width]);
                counts.truncate(length);
                BankPart { name: input.name.clone(), width, values: rows.copied().collect(), counts }
            });
            let parts = parts.collect();
            let mut start = State::initial(decoder, 1)?;
            for source in &self.starts {
                // `[B, D*H]` to `[D, 1, H]`
                let (values, width) = of(source.output);
                let part = &mut start.layers[source.layer].parts[source.part];
                part.data.copy_from_slice(&values[row * width..][..width]);
            }
            Ok(Bank { parts, start: (!self.starts.is_empty()).then_some(start) })
        };
        (0..batch).map(row).collect()
    }
}

impl StreamPool {
    /// New streams of a decoder that attends, one for each batch row of `sources`: what the other inputs of its network read,
    /// by the shapes and names that a run of the whole network has; the first of them, in the network's order, is the input
    /// itself, the rest are its others. An encoder in the network runs once, here. What it leaves is a bank, which a stream
    /// and its forks share until the last of them is closed.
    ///
    /// # Errors
    /// What [`Session::run`] refuses of an input; as [`StreamPool::open`]; [`Error::TooLarge`] for more timesteps than the device
    /// can hold; [`Error::Unsupported`] if the network has only one input. After an error no new stream stays open.
    pub fn open_reading(&self, sources: Input<'_>) -> Result<Vec<StreamId>> {
        let banks = self.banks(sources)?;
        let streams = self.open_all(banks.len())?;
        if let Err(error) = self.give(&streams, &banks) {
            streams.into_iter().try_for_each(|id| self.close(id))?;
            return Err(error);
        }
        Ok(streams)
    }

    /// Gives open streams, each once, a new bank: that of a batch row of `sources`, as for [`StreamPool::open_reading`]. Streams
    /// whose bank gives a state begin again from it; the state of others does not change.
    ///
    /// # Errors
    /// As [`StreamPool::open_reading`]; [`Error::Stream`] for a stream that is not open or that comes twice, [`Error::Shape`] if
    /// there are not as many batch rows. After an error every stream is unchanged.
    pub fn read(&self, streams: &[StreamId], sources: Input<'_>) -> Result<()> {
        self.give(streams, &self.banks(sources)?)
    }

    /// What a stream attends to, in the host's memory.
    ///
    /// # Errors
    /// [`Error::Stream`] if it is not open or has no bank; a lost device.
    pub fn bank(&self, id: StreamId) -> Result<Bank> {
        let mut inner = lock(&self.inner);
        let stream = inner.table.number(id)?;
        inner.table.check_bank(id)?;
        let Some(place) = inner.table.now(stream).bank.map(|bank| inner.table.banks.at(bank)) else {
            return Err(id.error("a stream of a decoder that attends", "one of another network"));
        };
        let (first, masks, start) = (place.first, place.masks.clone(), place.start);
        let start = match start {
            Some(start) => Some(self.state_of(&self.rows(&mut inner, &[start])?, 1)?),
            None => None,
        };
        let inputs = || self.session().network().inputs().iter().skip(1);
        let values: Vec<Vec<f32>> = match &inner.store {
            Store::Cpu(slots) => {
                let parts = slots.banks.iter().zip(inputs()).zip(&masks);
                parts
                    .map(|((bank, input), mask)| {
                        bank.numbers[first * input.width..][..mask.len() * input.width].to_vec()
                    })
                    .collect()
            }
            Store::Gpu(slots) => {
                let steps: Vec<usize> = masks.iter().map(Vec::len).collect();
                let pending = slots.read_bank(self.session().engine()?, first, &steps)?;
                drop(inner);
                pending.wait()?.stages
            }
        };
        let parts = inputs().zip(values).zip(masks).map(|((input, values), mask)| BankPart {
            name: input.name.clone(),
            width: input.width,
            values,
            counts: mask.iter().map(|mask| mask & bits::VALID != 0).collect(),
        });
        Ok(Bank { parts: parts.collect(), start })
    }

    /// Gives an open stream a bank that [`StreamPool::bank`] returned, of this or of another pool of the same network. The
    /// stream's state does not change.
    ///
    /// # Errors
    /// [`Error::Stream`] if it is not open; [`Error::Shape`] for a bank of another network; [`Error::NonFinite`];
    /// [`Error::TooLarge`]. After an error the stream is unchanged.
    pub fn set_bank(&self, id: StreamId, bank: &Bank) -> Result<()> {
        bank.check(self.session().network())?;
        let mut inner = lock(&self.inner);
        let stream = inner.table.number(id)?;
        let added = self.add_bank(&mut inner, bank)?;
        inner.table.set_bank(stream, added);
        Ok(())
    }

    /// Timesteps of all banks, and how many the pool has room for.
    #[must_use]
    pub fn bank_steps(&self) -> [usize; 2] {
        let inner = lock(&self.inner);
        let width = self.session().network().inputs().get(1).map_or(1, |input| input.width);
        let room = match &inner.store {
            Store::Cpu(slots) => slots.banks.first().map_or(0, |bank| bank.numbers.len() / width),
            Store::Gpu(slots) => slots.bank_room(),
        };
        [inner.table.banks.end(), room]
    }

    fn banks(&self, sources: Input<'_>) -> Result<Vec<Bank>> {
        let Some(reader) = &self.reader else {
            let what = "reading for a decoder that attends to nothing".into();
            return Err(Error::Unsupported { place: "network".into(), what });
        };
        reader.read(self.session().network(), sources)
    }

    fn give(&self, streams: &[StreamId], banks: &[Bank]) -> Result<()> {
        if streams.len() != banks.len() {
            return Err(Error::shape(
                "batch rows to read",
                format!("{}, one for each stream", streams.len()),
                banks.len().to_string(),
            ));
        }
        let mut inner = lock(&self.inner);
        let numbers = inner.table.batch(streams.iter().copied())?;
        let mut added = Vec::with_capacity(banks.len());
        for bank in banks {
            match self.add_bank(&mut inner, bank) {
                Ok(bank) => added.push(bank),
                Err(error) => {
                    added.into_iter().for_each(|bank| inner.table.remove_bank(bank));
                    return Err(error);
                }
            }
        }
        for (stream, bank) in numbers.into_iter().zip(added) {
            match inner.table.banks.at(bank).start {
                None => inner.table.set_bank(stream, bank),
                Some(state) => {
                    let version = StreamVersion { state, bank: Some(bank) };
                    inner.table.set_version(stream, version, self.options.keep_last);
                }
            }
        }
        Ok(())
    }

    /// Puts a bank where there is room; no stream holds it yet.
    fn add_bank(&self, inner: &mut Inner, bank: &Bank) -> Result<u32> {
        let mask = |part: &BankPart| part.counts.iter().map(|&counts| if counts { bits::VALID } else { 0 }).collect();
        let masks: Vec<Vec<u32>> = bank.parts.iter().map(mask).collect();
        let start = match &bank.start {
            Some(start) => Some(inner.add_fixed(self.session().network(), start)?),
            None => None,
        };
        let Inner { table, store, .. } = inner;
        let added = table.banks.add(masks, start);
        let (first, end) = (table.banks.at(added).first, table.banks.end());
        let written = match store {
            Store::Cpu(slots) => slots.put_bank(bank, first, end),
            Store::Gpu(slots) => slots.put_bank(self.session().engine()?, bank, first, end),
        };
        if let Err(error) = written {
            table.remove_bank(added);
            return Err(error);
        }
        Ok(added)
    }
}
