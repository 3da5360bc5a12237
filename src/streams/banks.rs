//! The table of banks: where each lies, and how many streams hold it.

/// Banks by number. One that no stream holds is gone.
#[derive(Debug)]
pub(crate) struct BankTable {
    banks: Vec<BankPlace>,
    free: Vec<u32>,
    gaps: Gaps,
    /// Inputs that a stream attends to.
    inputs: usize,
}

/// Where a bank lies.
#[derive(Debug, Default)]
pub(crate) struct BankPlace {
    /// Streams that attend to it, now or in a past that they keep.
    holders: usize,
    /// First of its timesteps in every arena.
    pub first: usize,
    /// Timesteps that it takes in every arena.
    taken: usize,
    /// Bits of the timesteps that it has, of each input.
    pub masks: Vec<Vec<u32>>,
    /// The state that its streams begin with, if it gives one.
    pub start: Option<u32>,
}

impl BankPlace {
    /// First timestep of an input, and how many.
    pub fn row(&self, input: usize) -> [u32; 2] {
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        [narrow(self.first), self.masks.get(input).map_or(0, |mask| narrow(mask.len()))]
    }
}

impl BankTable {
    pub fn new(inputs: usize) -> Self {
        Self { banks: Vec::new(), free: Vec::new(), gaps: Gaps::default(), inputs }
    }

    /// Inputs that a stream attends to.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn at(&self, bank: u32) -> &BankPlace {
        &self.banks[bank as usize]
    }

    /// Timesteps up to the last that belongs to a bank.
    pub fn end(&self) -> usize {
        self.gaps.end
    }

    /// A place for a bank that no stream holds yet.
    pub fn add(&mut self, masks: Vec<Vec<u32>>, start: Option<u32>) -> u32 {
        let taken = masks.iter().map(Vec::len).max().unwrap_or(0);
        let place = BankPlace { holders: 0, first: self.gaps.take(taken), taken, masks, start };
        if let Some(bank) = self.free.pop() {
            self.banks[bank as usize] = place;
            return bank;
        }
        self.banks.push(place);
        u32::try_from(self.banks.len() - 1).unwrap_or(u32::MAX)
    }

    pub fn hold(&mut self, bank: u32) {
        self.banks[bank as usize].holders += 1;
    }

    /// One stream less holds a bank. Without any it is gone, and the state that its streams began with, which it held, is
    /// returned.
    pub fn release(&mut self, bank: u32) -> Option<u32> {
        let place = &mut self.banks[bank as usize];
        place.holders = place.holders.saturating_sub(1);
        if place.holders == 0 { self.remove(bank) } else { None }
    }

    /// Removes a bank that no stream holds; returns the state that it held.
    pub fn remove(&mut self, bank: u32) -> Option<u32> {
        let BankPlace { first, taken, start, .. } = std::mem::take(&mut self.banks[bank as usize]);
        self.gaps.give_back(first, taken);
        self.free.push(bank);
        start
    }
}

/// Timesteps of an arena that belong to no bank, below its end.
#[derive(Debug, Default)]
struct Gaps {
    /// First and length, in order; none touches another or the end.
    gaps: Vec<(usize, usize)>,
    end: usize,
}

impl Gaps {
    /// The first of `count` timesteps that lie side by side.
    fn take(&mut self, count: usize) -> usize {
        if count == 0 {
            return 0;
        }
        let Some(at) = self.gaps.iter().position(|gap| gap.1 >= count) else {
            self.end += count;
            return self.end - count;
        };
        let first = self.gaps[at].0;
        self.gaps[at] = (first + count, self.gaps[at].1 - count);
        if self.gaps[at].1 == 0 {
            self.gaps.remove(at);
        }
        first
    }

    fn give_back(&mut self, first: usize, count: usize) {
        if count == 0 {
            return;
        }
        let at = self.gaps.partition_point(|gap| gap.0 < first);
        self.gaps.insert(at, (first, count));
        if let Some(&(next, more)) = self.gaps.get(at + 1).filter(|gap| gap.0 == first + count) {
            self.gaps[at].1 = next + more - first;
            self.gaps.remove(at + 1);
        }
        let (first, count) = self.gaps[at];
        if let Some(before) = at.checked_sub(1).filter(|&before| self.gaps[before].0 + self.gaps[before].1 == first) {
            self.gaps[before].1 += count;
            self.gaps.remove(at);
        }
        if let Some(&(first, count)) = self.gaps.last().filter(|gap| gap.0 + gap.1 == self.end) {
            self.end = first;
            debug_assert!(count > 0);
            self.gaps.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is taken and given back, no two banks share a timestep, and in the end nothing is taken.
    #[test]
    fn no_timestep_belongs_to_two_banks() {
        let mut rng = fastrand::Rng::with_seed(3);
        let (mut gaps, mut taken, mut most) = (Gaps::default(), Vec::<(usize, usize)>::new(), 0);
        for _ in 0..4000 {
            if taken.len() < 30 && rng.bool() {
                let count = rng.usize(0..9);
                let first = gaps.take(count);
                let apart = |&(other, len): &(usize, usize)| first + count <= other || other + len <= first;
                assert!(count == 0 || taken.iter().filter(|bank| bank.1 > 0).all(apart), "{taken:?} {first} {count}");
                assert!(first + count <= gaps.end.max(count));
                taken.push((first, count));
            } else if !taken.is_empty() {
                let (first, count) = taken.swap_remove(rng.usize(..taken.len()));
                gaps.give_back(first, count);
            }
            most = most.max(gaps.end);
        }
        assert!(most > 100 && most < 400, "{most}");
        taken.drain(..).for_each(|(first, count)| gaps.give_back(first, count));
        assert_eq!((gaps.end, gaps.gaps.len()), (0, 0));
    }
}
