//! Sizes rounded up, so that there are few of them.

/// The next number with no more than `digits` leading binary digits before its zeros.
pub(crate) fn rounded(n: usize, digits: u32) -> usize {
    let shift = (usize::BITS - n.leading_zeros()).saturating_sub(digits);
    n.div_ceil(1 << shift) << shift
}
