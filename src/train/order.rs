//! Targets in the order of time.

/// `[B, T, ..]` as `[T, B, ..]`.
pub(super) struct Order {
    pub batch: usize,
    pub steps: usize,
}

impl Order {
    pub fn time_major<T: Copy>(&self, given: &[T], width: usize) -> Vec<T> {
        if given.len() != self.batch * self.steps * width {
            // Of another size: the loss names it.
            return given.to_vec();
        }
        let places = (0..self.steps).flat_map(|step| (0..self.batch).map(move |row| row * self.steps + step));
        places.flat_map(|at| &given[at * width..][..width]).copied().collect()
    }
}
