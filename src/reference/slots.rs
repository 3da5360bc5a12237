//! Reference implementation of `shaders/slots.wgsl`.

use super::Real;
pub use crate::base::bits::NO_SLOT;

/// `rows[r] = pool[slots[r]]`; `pool` is `[S, width]`, `rows` `[B, width]`.
pub fn gather<F: Real>(pool: &[F], slots: &[u32], width: usize, rows: &mut [F]) {
    for (&slot, row) in slots.iter().zip(rows.chunks_exact_mut(width)) {
        match place(slot, width) {
            Some(at) => row.copy_from_slice(&pool[at..][..width]),
            None => row.fill(F::default()),
        }
    }
}

/// `pool[slots[r]] = rows[r]`, the other slots untouched.
pub fn scatter<F: Real>(rows: &[F], slots: &[u32], width: usize, pool: &mut [F]) {
    for (&slot, row) in slots.iter().zip(rows.chunks_exact(width)) {
        if let Some(at) = place(slot, width) {
            pool[at..][..width].copy_from_slice(row);
        }
    }
}

/// Where a slot begins.
fn place(slot: u32, width: usize) -> Option<usize> {
    (slot != NO_SLOT).then(|| slot as usize * width)
}
