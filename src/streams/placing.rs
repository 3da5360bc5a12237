//! Where the states of a pool lie: what a batch reads and writes, and what makes room for it.

use super::options::MOST_STREAMS;
use super::pool::{DEVICE, Inner, StreamPool};
use super::states::{StatePlace, Tier};
use super::store::Store;
use crate::base::error::{Error, Result};
use crate::base::rounded::rounded;
use crate::data::state::{PartShape, State};
use crate::network::Network;
use crate::reference::NO_SLOT;

/// The slots of a batch.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Where each row begins; [`NO_SLOT`] for a state of zeros.
    pub from: Vec<u32>,
    /// Where it ends.
    pub to: Vec<u32>,
    /// Whether that is the slot of a new state: the one before has other holders, or lies elsewhere.
    new: Vec<bool>,
}

/// States, by their tiers.
type TierCounts = [usize; 3];

impl StreamPool {
    /// Slots for a batch of streams, each once. A state that only its stream holds is changed in its slot, of any other a new one is
    /// made; with `keeps` of all. `reads` says of which rows the numbers are read. No stream changes before [`Inner::commit`];
    /// otherwise the claim is given to [`Inner::abandon`].
    pub(crate) fn claim(
        &self,
        inner: &mut Inner,
        streams: &[u32],
        keeps: bool,
        reads: impl Fn(usize) -> bool,
    ) -> Result<Claim> {
        let states = &mut inner.table.states;
        states.begin_call();
        let mut claim = Claim { from: Vec::new(), to: Vec::new(), new: Vec::with_capacity(streams.len()) };
        let mut leaving = TierCounts::default();
        let of = |inner: &Inner, stream: u32| inner.table.now(stream).state;
        for &stream in streams {
            let state = of(inner, stream);
            let alone = inner.table.states.leave(state) && !keeps;
            let place = inner.table.states.place(state);
            claim.new.push(!alone || !matches!(place, StatePlace::At(Tier::Device, _)));
            if let (StatePlace::At(tier, _), true) = (place, alone) {
                leaving[tier as usize] += 1;
            }
        }
        for &stream in streams {
            let state = of(inner, stream);
            inner.table.states.settle(state);
        }
        let count = claim.new.iter().filter(|&&new| new).count();
        self.make_room(inner, count, leaving)?;
        // Rows that come from elsewhere.
        let (mut slots, mut rows) = (Vec::new(), Vec::new());
        let mut loaded = Ok(());
        for (row, &stream) in streams.iter().enumerate() {
            let place = inner.table.states.place(of(inner, stream));
            let taken = if claim.new[row] { inner.table.states.take_row(Tier::Device) } else { None };
            let (from, to) = match (place, taken) {
                (StatePlace::At(_, slot), None) => (slot, slot),
                (StatePlace::Zero, taken) => (NO_SLOT, taken.unwrap_or(NO_SLOT)),
                (StatePlace::At(Tier::Device, from), Some(to)) => (if reads(row) { from } else { to }, to),
                (StatePlace::At(tier, from), Some(to)) => {
                    if reads(row) && loaded.is_ok() {
                        slots.push(to);
                        inner.counters.read_from_file += u64::from(tier == Tier::File);
                        loaded = inner.pages.read(tier, from, &mut rows);
                    }
                    (to, to)
                }
            };
            claim.from.push(from);
            claim.to.push(to);
        }
        inner.counters.paged_in += slots.len() as u64;
        match loaded.and_then(|()| inner.store.put_rows(&self.session, &slots, &rows)) {
            Ok(()) => Ok(claim),
            Err(error) => {
                inner.abandon(&claim);
                Err(error)
            }
        }
    }

    /// Gives each of these streams a state on the device that it alone holds, and returns the slots. As [`StreamPool::claim`].
    pub(crate) fn own(&self, inner: &mut Inner, streams: &[u32], reads: impl Fn(usize) -> bool) -> Result<Vec<u32>> {
        let claim = self.claim(inner, streams, false, reads)?;
        if let Err(error) = inner.store.copy(&self.session, &claim.from, &claim.to) {
            inner.abandon(&claim);
            return Err(error);
        }
        let seen: Vec<bool> = streams.iter().map(|&stream| inner.table.seen(stream)).collect();
        inner.commit(streams, &claim, &seen, 0);
        Ok(claim.to)
    }

    /// Gives a stream a state of one row of numbers.
    pub(super) fn set_row(&self, inner: &mut Inner, stream: u32, row: &[f32]) -> Result<()> {
        let keep = self.options.keep_last;
        let claim = self.claim(inner, &[stream], keep > 0, |_| false)?;
        if let Err(error) = inner.store.put_rows(&self.session, &claim.to, row) {
            inner.abandon(&claim);
            return Err(error);
        }
        inner.commit(&[stream], &claim, &[true], keep);
        Ok(())
    }

    /// The numbers of states, one after the other.
    pub(super) fn rows(&self, inner: &mut Inner, states: &[u32]) -> Result<Vec<f32>> {
        let slot = |&state: &u32| match inner.table.states.place(state) {
            StatePlace::At(Tier::Device, slot) => Some(slot),
            _ => None,
        };
        let slots: Vec<u32> = states.iter().filter_map(slot).collect();
        let on_device = inner.store.rows(&self.session, &slots)?;
        if slots.len() == states.len() {
            return Ok(on_device);
        }
        let width = inner.width;
        let mut on_device = on_device.chunks_exact(width);
        let mut rows = Vec::with_capacity(states.len() * width);
        for &state in states {
            match inner.table.states.place(state) {
                StatePlace::Zero => rows.resize(rows.len() + width, 0.0),
                StatePlace::At(Tier::Device, _) => rows.extend_from_slice(on_device.next().unwrap_or_default()),
                StatePlace::At(tier, row) => inner.pages.read(tier, row, &mut rows)?,
            }
        }
        Ok(rows)
    }

    /// Frees so many slots on the device; `leaving` states of each tier will be gone when they are filled.
    pub(super) fn make_room(&self, inner: &mut Inner, count: usize, leaving: TierCounts) -> Result<()> {
        let states = &inner.table.states;
        let missing = |inner: &Inner| count.saturating_sub(inner.table.states.free_rows(Tier::Device));
        let (needed, most) = (states.rows(Tier::Device) + missing(inner), self.most[0]);
        if missing(inner) > 0 && states.rows(Tier::Device) < most {
            self.grow(inner, needed.min(most))?;
        }
        match (missing(inner), &self.options.paging) {
            (0, _) => Ok(()),
            (_, None) => Err(too_many("states on the device", needed, most, DEVICE)),
            (missing, Some(_)) => self.page_out(inner, missing, leaving),
        }
    }

    /// Moves so many states away from the device, and as many as that needs from the host's memory into the file.
    fn page_out(&self, inner: &mut Inner, count: usize, leaving: TierCounts) -> Result<()> {
        let states = &inner.table.states;
        let victims = states.unused(Tier::Device, count);
        if victims.len() < count {
            let needed = states.rows(Tier::Device) + count - victims.len();
            return Err(too_many("states of one batch", needed, self.most[0], "device_bytes"));
        }
        let [_, host, file] = self.most;
        let room = |most: usize, tier: Tier| (most + leaving[tier as usize]).saturating_sub(states.movable(tier));
        // The host's memory takes what it can, and gives to the file what lay there longest.
        let into_host = count.min(host);
        let spilled = into_host.saturating_sub(room(host, Tier::Host));
        let into_file = count - into_host + spilled;
        if into_file > room(file, Tier::File) {
            let needed = [Tier::Device, Tier::Host, Tier::File].map(|tier| states.movable(tier)).iter().sum::<usize>();
            let most = self.most.iter().sum();
            return Err(too_many("states", needed + count, most, "device_bytes, host_bytes and file_bytes"));
        }
        let rows = self.rows(inner, &victims)?;
        for state in inner.table.states.oldest(Tier::Host, spilled) {
            let row = self.rows(inner, &[state])?;
            inner.move_away(state, Tier::File, &row)?;
        }
        for (number, (state, row)) in victims.into_iter().zip(rows.chunks_exact(inner.width)).enumerate() {
            let tier = if number < count - into_host { Tier::File } else { Tier::Host };
            inner.move_away(state, tier, row)?;
        }
        inner.counters.paged_out += count as u64;
        Ok(())
    }

    /// Room on the device for at least so many states, twice as many as now if the pool may hold so many streams.
    pub(super) fn grow(&self, inner: &mut Inner, least: usize) -> Result<()> {
        let now = inner.table.states.rows(Tier::Device);
        let twice = now.saturating_mul(2).min(self.options.limit);
        let capacity = twice.max(least).min(self.most[0].max(least));
        match &mut inner.store {
            Store::Cpu(slots) => slots.grow(self.session.network(), capacity)?,
            Store::Gpu(slots) => *slots = slots.grown(self.session.engine()?, capacity, rounded(capacity, 3))?,
        }
        inner.table.states.grow(Tier::Device, capacity)?;
        inner.growth += 1;
        log::debug!("a pool grew from {now} to {capacity} states, {} bytes", inner.store.bytes());
        Ok(())
    }
}

impl Inner {
    /// A state in the host's memory that stays there, with one holder.
    pub fn add_fixed(&mut self, network: &Network, state: &State) -> Result<u32> {
        let mut numbers = Vec::with_capacity(self.width);
        PartShape::take_row(&PartShape::all(network), state, 0, &mut numbers);
        let row = self.free_row(Tier::Host)?;
        if let Err(error) = self.pages.write(Tier::Host, row, &numbers) {
            self.table.states.give_row_back(Tier::Host, row);
            return Err(error);
        }
        Ok(self.table.states.add_fixed(StatePlace::At(Tier::Host, row)))
    }

    /// Makes the states of a claim those of its streams, whose steps have counted as `seen` says; `keep` states before stay.
    pub fn commit(&mut self, streams: &[u32], claim: &Claim, seen: &[bool], keep: usize) {
        for (row, (&stream, &seen)) in streams.iter().zip(seen).enumerate() {
            if claim.new[row] {
                let state = self.table.states.add(StatePlace::At(Tier::Device, claim.to[row]), seen);
                self.table.set_state(stream, state, keep);
                self.table.states.release(state);
            } else {
                let state = self.table.now(stream).state;
                self.table.states.set_seen(state, seen);
            }
        }
    }

    /// Gives back what a claim took.
    pub fn abandon(&mut self, claim: &Claim) {
        for (&slot, _) in claim.to.iter().zip(&claim.new).filter(|(slot, new)| **new && **slot != NO_SLOT) {
            self.table.states.give_row_back(Tier::Device, slot);
        }
    }

    /// The slots of these streams, if all of them are on the device.
    pub fn slots_of(&self, streams: &[u32]) -> Option<Vec<u32>> {
        let slot = |&stream: &u32| match self.table.states.place(self.table.now(stream).state) {
            StatePlace::At(Tier::Device, slot) => Some(slot),
            _ => None,
        };
        streams.iter().map(slot).collect()
    }

    fn free_row(&mut self, tier: Tier) -> Result<u32> {
        let states = &mut self.table.states;
        if states.free_rows(tier) == 0 {
            let count = states.rows(tier).saturating_mul(2).clamp(16, MOST_STREAMS);
            states.grow(tier, count)?;
        }
        states.take_row(tier).ok_or_else(|| too_many("idle states", states.rows(tier), MOST_STREAMS, "their numbers"))
    }

    /// Moves a state, whose numbers are given, to another tier.
    fn move_away(&mut self, state: u32, tier: Tier, numbers: &[f32]) -> Result<()> {
        let row = self.free_row(tier)?;
        if let Err(error) = self.pages.write(tier, row, numbers) {
            self.table.states.give_row_back(tier, row);
            return Err(error);
        }
        self.table.states.move_to(state, StatePlace::At(tier, row));
        Ok(())
    }
}

pub(super) fn too_many(what: &str, needed: usize, limit: usize, limit_name: &str) -> Error {
    Error::TooLarge { what: what.into(), needed: needed as u64, limit: limit as u64, limit_name: limit_name.into() }
}
