//! Reference implementation of `shaders/choose.wgsl`: the next token. Sampling uses integers alone, so that every device
//! draws the same token from equal logits.

use super::best;

/// A halving of a token's probability, in units of distance.
const HALVING: u32 = 1 << 20;
/// Distance from which a token's weight is 0: less than 2^-31 of the best.
const FARTHEST: u32 = 31 * HALVING;
/// Distance of one unit of logits can be no more, which stands for temperatures near 0.
const LARGEST_SCALE: f32 = 1e15;
/// `2^31 ln(2)^n / n!`, the series of 2^-t.
const SERIES: [u32; 9] =
    [2_147_483_648, 1_488_522_236, 515_882_496, 119_194_166, 20_654_775, 2_863_360, 330_788, 32_755, 2_838];

/// Which tokens may be drawn, and how much their probabilities differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Filter {
    /// Distance of one unit of logits.
    pub scale: f32,
    /// How many of the most probable tokens are kept; 0 for all.
    pub top_k: u32,
    /// The probability that the kept tokens have together at least, times 2^32; 0 for all.
    pub top_p: u32,
}

impl Filter {
    /// Temperature above 0, `top_k` (all tokens for `None`) and `top_p` in (0, 1].
    #[must_use]
    pub fn new(temperature: f32, top_k: Option<usize>, top_p: f32) -> Self {
        let scale = (std::f32::consts::LOG2_E * 1_048_576.0 / temperature).min(LARGEST_SCALE);
        let top_k = top_k.map_or(0, |top_k| u32::try_from(top_k).unwrap_or(u32::MAX));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in [0, 2^32)")]
        let share = (f64::from(top_p) * 4_294_967_296.0) as u32;
        Self { scale, top_k, top_p: if top_p >= 1.0 { 0 } else { share.max(1) } }
    }
}

/// 32 random bits for a step of a stream: pcg4d (Jarzynski & Olano 2020, Hash Functions for GPU Rendering,
/// JCGT 9(3)).
#[must_use]
pub fn random(seed: u64, stream: u32, step: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = seed.to_le_bytes();
    let words = [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]), stream, step];
    let mut v = words.map(|word| word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let mix = |v: &mut [u32; 4]| {
        v[0] = v[0].wrapping_add(v[1].wrapping_mul(v[3]));
        v[1] = v[1].wrapping_add(v[2].wrapping_mul(v[0]));
        v[2] = v[2].wrapping_add(v[0].wrapping_mul(v[1]));
        v[3] = v[3].wrapping_add(v[1].wrapping_mul(v[2]));
    };
    mix(&mut v);
    v = v.map(|word| word ^ (word >> 16));
    mix(&mut v);
    v[0]
}

/// Of a dropout of the share `rate`: the least number of [`random`] that keeps, and what is kept is multiplied by.
#[must_use]
pub fn keeping(rate: f32) -> (u32, f32) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2^32")]
    let least = (f64::from(rate) * 4_294_967_296.0) as u32;
    (least, 1.0 / (1.0 - rate))
}

/// The most probable token of a row of finite logits `[V]` (the lowest of equals), or the one that `random` draws
/// of those that the filter keeps. Tokens as probable as the last one kept are kept too.
pub fn choose(row: &[f32], drawn: Option<(Filter, u32)>) -> usize {
    let likeliest = best(row, None).unwrap_or(0);
    let Some((filter, random)) = drawn else { return likeliest };
    let distances: Vec<u32> = row.iter().map(|&x| distance(row[likeliest] - x, filter.scale)).collect();
    let mut sorted = distances.clone();
    sorted.sort_unstable();
    let mut most = FARTHEST;
    if filter.top_k > 0 {
        let last = (filter.top_k as usize).min(sorted.len());
        most = sorted[last - 1];
    }
    if filter.top_p > 0 {
        let total = sorted.iter().filter(|&&distance| distance <= most).map(|&d| weight(d)).sum();
        let needed = part(total, filter.top_p);
        let mut sum = 0;
        let enough = sorted.iter().find(|&&distance| {
            sum += weight(distance);
            sum >= needed
        });
        most = enough.map_or(most, |&distance| distance.min(most));
    }
    let weights = distances.iter().map(|&distance| if distance <= most { weight(distance) } else { 0 });
    let target = part(weights.clone().sum(), random);
    let mut sum = 0;
    let reached = weights.enumerate().find(|&(_, weight)| {
        sum += weight;
        sum > target
    });
    reached.map_or(likeliest, |(token, _)| token)
}

/// How much less probable than the best a token is that lies `below` it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in [0, FARTHEST]")]
fn distance(below: f32, scale: f32) -> u32 {
    // FARTHEST is exact in f32.
    (below.min(1e20) * scale).min(32_505_856.0) as u32
}

/// `2^31` for the best, half for each halving.
fn weight(distance: u32) -> u64 {
    if distance >= FARTHEST {
        return 0;
    }
    let t = u64::from(distance % HALVING) << 12;
    let series = SERIES.iter().rev().fold(0, |sum, &term| u64::from(term) - ((sum * t) >> 32));
    series >> (distance / HALVING)
}

/// `total * share / 2^32`
fn part(total: u64, share: u32) -> u64 {
    // Sums of up to 2^24 weights of up to 2^31.
    u64::try_from((u128::from(total) * u128::from(share)) >> 32).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_powers_of_two() {
        for distance in (0..FARTHEST).step_by(9_973) {
            let exact = 2f64.powf(31.0 - f64::from(distance) / f64::from(HALVING));
            let got = weight(distance) as f64;
            assert!((got - exact).abs() <= 1.0 + exact * 2e-7, "{distance}: {got}, expected {exact}");
        }
        assert_eq!((weight(0), weight(HALVING), weight(FARTHEST)), (1 << 31, 1 << 30, 0));
    }

    /// Computed once; every device has the same.
    #[test]
    fn random_numbers_are_the_same_everywhere() {
        let numbers: Vec<u32> = (0..3).map(|step| random(0x1234_5678_9abc_def0, 7, step)).collect();
        assert_eq!(numbers, [3_016_901_408, 3_375_574_429, 273_622_255]);
    }

    #[test]
    fn filters_keep_what_they_say() {
        // Probabilities 1/2, 1/4, 1/8, 1/8.
        let row = [3.0f32, 4.0, 2.0, 2.0].map(|x| x * std::f32::consts::LN_2);
        let kept = |top_k, top_p| {
            let filter = Filter::new(1.0, top_k, top_p);
            let mut seen: Vec<usize> = (0..64).map(|i| choose(&row, Some((filter, i << 26)))).collect();
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        assert_eq!(kept(None, 1.0), [0, 1, 2, 3]);
        assert_eq!(kept(Some(1), 1.0), [1]);
        assert_eq!(kept(Some(2), 1.0), [0, 1]);
        assert_eq!(kept(Some(3), 1.0), [0, 1, 2, 3], "equals stay together");
        assert_eq!(kept(Some(9), 1.0), [0, 1, 2, 3]);
        assert_eq!(kept(None, 0.49), [1]);
        assert_eq!(kept(None, 0.6), [0, 1]);
        // Of the two that top_k keeps the first has 2/3.
        assert_eq!(kept(Some(2), 0.6), [1]);
        assert_eq!(kept(None, 0.76), [0, 1, 2, 3]);
        let cold = Filter::new(1e-30, None, 1.0);
        assert_eq!(choose(&row, Some((cold, u32::MAX))), 1, "near temperature 0 the best is all");
        assert_eq!((choose(&[1.0, 2.0, 2.0], None), choose(&[2.0, 2.0], None)), (1, 0), "the lowest of equals");
    }
}
