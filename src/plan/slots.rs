//! A run over the slots of a pool of streams: how states come from their slots and go back.

use super::builder::{F32, flat_grid};
use super::constants::size;
use super::{
    BufferId, Constants, Dispatch, FeedbackBuffer, Kernel, MemoryPlace, PastBuffer, Plan, PlanLimits, ROW_WORKGROUP,
    Slice,
};
use crate::base::error::{Error, Result};
use crate::network::HiddenOrCell;

/// The dispatches around a run that starts from slots and ends in them.
///
/// Their bindings continue after [`PlanParts::buffers`](super::PlanParts::buffers): first two lists of slots `[B]`, those
/// that are read and those that are written, then a buffer `[S, ..]` for each row of each part of the state, in the order of [`parts`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotMoves {
    /// Slots to the plan's states, before the first step.
    pub gather: Vec<Dispatch>,
    /// The plan's states to slots, after the last.
    pub scatter: Vec<Dispatch>,
}

/// Where one of the rows of a part of a layer's state lies, `[B, ..]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartPlace {
    /// Position of the layer among those that keep something.
    pub layer: usize,
    /// Row of the part's `[R, B, ..]`.
    pub row: usize,
    /// Position of the part in its layer.
    pub part: usize,
    /// Where it lies before the first step; `None` where no step reads it.
    pub start: Option<Slice>,
    /// Where it lies after the last; without a start the last timesteps of a window's input, `[P, B, I]` or as many as there
    /// are.
    pub end: Slice,
}

/// All of the state that `plan` carries, by layer, row, part.
#[must_use]
pub fn parts(plan: &Plan) -> Vec<PartPlace> {
    let mut parts = Vec::new();
    for state in &plan.states {
        let (layer, row) = (state.layer, state.row);
        let [h, c] = [HiddenOrCell::H, HiddenOrCell::C].map(HiddenOrCell::place);
        parts.push(PartPlace { layer, row, part: h, start: Some(state.h[0]), end: state.final_h() });
        let cells = state.c.iter().chain(&state.more);
        parts.extend(cells.enumerate().map(|(at, &place)| PartPlace {
            layer,
            row,
            part: c + at,
            start: Some(place),
            end: place,
        }));
    }
    parts.extend(plan.pasts.iter().map(|&PastBuffer { layer, place, is_read }| {
        let start = is_read.then_some(place);
        PartPlace { layer, row: 0, part: 0, start, end: place }
    }));
    parts.extend(plan.feedbacks.iter().map(|&FeedbackBuffer { layer, place }| PartPlace {
        layer,
        row: 0,
        part: 0,
        start: Some(place),
        end: place,
    }));
    parts.extend(plan.memories.iter().map(|&MemoryPlace { layer, part, place }| PartPlace {
        layer,
        row: 0,
        part,
        start: Some(place),
        end: place,
    }));
    parts.sort_by_key(|place| (place.layer, place.row, place.part));
    parts
}

/// Plans the moves around `plan` for a pool of `slots` slots.
///
/// # Errors
/// [`Error::TooLarge`] if the slots or a dispatch exceed `limits`.
pub fn slot_moves(plan: &Plan, slots: usize, limits: &PlanLimits) -> Result<SlotMoves> {
    let [before, after] =
        [0, 1].map(|list| Slice { buffer: plan.buffers.len() + list, offset: 0, bytes: plan.batch as u64 * F32 });
    let mut moves = SlotMoves { gather: Vec::new(), scatter: Vec::new() };
    for (index, part) in parts(plan).into_iter().enumerate() {
        let Some(start) = part.start else { continue };
        let row_bytes = part.end.bytes / plan.batch as u64;
        let pool = Slice {
            buffer: plan.buffers.len() + 2 + index,
            offset: 0,
            bytes: (slots as u64).saturating_mul(row_bytes),
        };
        check_slots(slots, row_bytes, limits)?;
        let width = usize::try_from(row_bytes / F32).unwrap_or(usize::MAX);
        let whole = |buffer: BufferId| plan.whole(buffer);
        // A lane's rows lie after those of the lanes before it, at no offset that could be bound.
        let first = |slice: Slice| u32::try_from(slice.offset / row_bytes).unwrap_or(u32::MAX);
        let dispatch = |scatter: bool, bindings: [Slice; 3]| -> Result<Dispatch> {
            Ok(Dispatch {
                constants: Constants::sizes([("WIDTH", width)])?
                    .with("SCATTER", scatter)
                    .with("WORKGROUP", ROW_WORKGROUP),
                bindings: bindings.to_vec(),
                rows: size(plan.batch)?,
                input_row: if scatter { first(part.end) } else { 0 },
                output_row: if scatter { 0 } else { first(start) },
                batch: size(plan.batch)?,
                workgroups: flat_grid(limits, plan.batch as u64 * width as u64, "states of a batch")?,
                ..Dispatch::empty(Kernel::Slots)
            })
        };
        moves.gather.push(dispatch(false, [before, pool, whole(start.buffer)])?);
        moves.scatter.push(dispatch(true, [after, whole(part.end.buffer), pool])?);
    }
    Ok(moves)
}

/// An error if a pool of `slots` rows of `row_bytes` is beyond what can be bound.
pub(crate) fn check_slots(slots: usize, row_bytes: u64, limits: &PlanLimits) -> Result<()> {
    let most = most_bytes(limits);
    let needed = (slots as u64).saturating_mul(row_bytes);
    if needed > most {
        return Err(Error::TooLarge {
            what: format!("states of {slots} streams [S, H]"),
            needed,
            limit: most,
            limit_name: "the adapter's largest storage binding, bytes".into(),
        });
    }
    Ok(())
}

/// Most timesteps of `row_bytes` that banks can have.
///
/// # Errors
/// [`Error::TooLarge`] if `steps` are more.
#[cfg(feature = "gpu")]
pub(crate) fn check_banks(steps: usize, row_bytes: u64, limits: &PlanLimits) -> Result<usize> {
    let most = most_bytes(limits);
    let needed = (steps as u64).saturating_mul(row_bytes);
    if needed > most {
        return Err(Error::TooLarge {
            what: format!("banks of {steps} timesteps [R, N]"),
            needed,
            limit: most,
            limit_name: "the adapter's largest storage binding, bytes".into(),
        });
    }
    Ok(usize::try_from(most / row_bytes).unwrap_or(usize::MAX))
}

/// Most slots of `row_bytes` that can be bound.
#[cfg(feature = "gpu")]
pub(crate) fn most_slots(row_bytes: u64, limits: &PlanLimits) -> u64 {
    most_bytes(limits) / row_bytes
}

fn most_bytes(limits: &PlanLimits) -> u64 {
    limits.max_binding.min(limits.max_buffer).min(u64::from(u32::MAX) * F32)
}
