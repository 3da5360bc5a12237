//! The ring of staging buffers: what one run has read out of, a later one is copied into.

/// Buffers kept between two uses, so many runs in flight make none.
const MOST: usize = 4;

/// Staging buffers that no run is in.
#[derive(Debug)]
pub(super) struct Staging<B = wgpu::Buffer> {
    /// With their sizes in bytes.
    kept: Vec<(u64, B)>,
}

impl<B> Default for Staging<B> {
    fn default() -> Self {
        Self { kept: Vec::new() }
    }
}

impl<B> Staging<B> {
    /// The smallest buffer that holds `bytes`: the larger ones stay for larger runs.
    pub fn take(&mut self, bytes: u64) -> Option<B> {
        let fitting = self.kept.iter().enumerate().filter(|(_, (size, _))| *size >= bytes);
        let at = fitting.min_by_key(|(_, (size, _))| *size)?.0;
        Some(self.kept.swap_remove(at).1)
    }

    /// Keeps a buffer. Where there are too many the smallest goes: a larger one serves in its place.
    pub fn keep(&mut self, bytes: u64, buffer: B) {
        self.kept.push((bytes, buffer));
        if self.kept.len() > MOST {
            let smallest = self.kept.iter().enumerate().min_by_key(|(_, (size, _))| *size);
            if let Some((at, _)) = smallest {
                self.kept.swap_remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of `sizes` in flight together, read in this order; how many buffers had to be made.
    fn round(staging: &mut Staging<u64>, sizes: &[u64]) -> usize {
        let taken: Vec<Option<u64>> = sizes.iter().map(|&bytes| staging.take(bytes)).collect();
        let made = taken.iter().filter(|taken| taken.is_none()).count();
        for (taken, &bytes) in taken.into_iter().zip(sizes) {
            let size = taken.unwrap_or(bytes);
            assert!(size >= bytes);
            staging.keep(size, size);
        }
        made
    }

    #[test]
    fn runs_in_flight_make_no_buffers_after_the_first_round() {
        let mut staging = Staging::default();
        assert_eq!(round(&mut staging, &[8, 8, 8, 8]), 4);
        assert_eq!(round(&mut staging, &[8, 8, 8, 8]), 0);
        // Small ones may stay: they take little room.
        assert_eq!(round(&mut staging, &[100]), 1);
        assert_eq!(round(&mut staging, &[100]), 0);
        assert_eq!(round(&mut staging, &[8, 100, 8, 8]), 0, "a small run leaves the large buffer alone");
        assert_eq!(round(&mut staging, &[100, 100]), 1);
        for _ in 0..3 {
            assert_eq!(round(&mut staging, &[8, 100, 100, 8]), 0);
        }
        // The count itself must be able to rise.
        assert_eq!(round(&mut staging, &[101]), 1);
        assert_eq!(round(&mut staging, &[8; MOST + 1]), 1);
    }
}
