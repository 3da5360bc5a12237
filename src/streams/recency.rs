//! Numbers in the order of their last use.

/// No number.
const NONE: u32 = u32::MAX;

/// A doubly linked list of numbers, each at most once: whatever is done takes the same short time.
#[derive(Debug)]
pub(crate) struct Recency {
    /// Of each number the one used before it and the one used after it.
    links: Vec<[u32; 2]>,
    /// The one used longest ago, and the one used last.
    ends: [u32; 2],
    len: usize,
}

impl Default for Recency {
    fn default() -> Self {
        Self { links: Vec::new(), ends: [NONE; 2], len: 0 }
    }
}

impl Recency {
    pub fn len(&self) -> usize {
        self.len
    }

    /// The number used longest ago.
    pub fn oldest(&self) -> Option<u32> {
        self.iter().next()
    }

    /// All numbers, the one used longest ago first.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let number = |number: u32| (number != NONE).then_some(number);
        std::iter::successors(number(self.ends[0]), move |&at| number(self.links[at as usize][1]))
    }

    /// Adds a number that is not in the list as the one used last.
    pub fn push(&mut self, number: u32) {
        if self.links.len() <= number as usize {
            self.links.resize(number as usize + 1, [NONE; 2]);
        }
        self.links[number as usize] = [self.ends[1], NONE];
        self.join(self.ends[1], number);
        self.ends[1] = number;
        self.len += 1;
    }

    /// Removes a number that is in the list.
    pub fn remove(&mut self, number: u32) {
        let [before, after] = self.links[number as usize];
        self.join(before, after);
        if after == NONE {
            self.ends[1] = before;
        }
        self.len -= 1;
    }

    /// Makes `after` follow `before`; either may be no number.
    fn join(&mut self, before: u32, after: u32) {
        match before {
            NONE => self.ends[0] = after,
            _ => self.links[before as usize][1] = after,
        }
        if after != NONE {
            self.links[after as usize][0] = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a list that is searched.
    #[test]
    fn the_order_is_that_of_use() {
        let mut rng = fastrand::Rng::with_seed(5);
        let (mut recency, mut plain) = (Recency::default(), Vec::new());
        for _ in 0..3000 {
            let number = rng.u32(0..20);
            match plain.iter().position(|&known| known == number) {
                Some(at) => {
                    plain.remove(at);
                    recency.remove(number);
                    if rng.bool() {
                        plain.push(number);
                        recency.push(number);
                    }
                }
                None => {
                    plain.push(number);
                    recency.push(number);
                }
            }
            assert_eq!(recency.iter().collect::<Vec<_>>(), plain);
            assert_eq!((recency.len(), recency.oldest()), (plain.len(), plain.first().copied()));
        }
    }
}
