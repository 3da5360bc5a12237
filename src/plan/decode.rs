//! What is done with the logits of a run of one timestep: the next token chosen, or candidates listed.

use super::builder::{F32, flat_grid};
use super::constants::size;
use super::{
    BufferId, Constants, Dispatch, Kernel, MAX_SUBMISSION_DISPATCHES, MAX_SUBMISSION_WORK, Plan, PlanLimits,
    ROW_WORKGROUP, SOFTWARE_LOOP_LIMIT, Slice,
};
use crate::base::error::{Error, Result};

/// Words of the settings of `shaders/choose.wgsl` before the tokens that end a row.
pub const CHOICE_HEAD: usize = 7;
/// State of a row of the progress that chose a token that ends it (`shaders/choose.wgsl`).
pub const CHOICE_STOPPED: u32 = 1;
/// State of a row of the progress whose logits are not finite.
pub const CHOICE_BAD: u32 = 2;

/// The choice of the next token of every row. Its bindings continue after [`PlanParts::buffers`](super::PlanParts::buffers): the list of slots `[B]`,
/// settings ([`CHOICE_HEAD`] + E words), progress `[B, 4]` and output `[B, most]`.
///
/// # Errors
/// [`Error::TooLarge`] for what `limits` do not allow.
pub fn choose(plan: &Plan, sample: bool, ends: usize, most: usize, limits: &PlanLimits) -> Result<Dispatch> {
    let vocabulary = vocabulary(plan);
    let own = plan.buffers.len();
    let slice = |index: BufferId, words: usize| Slice {
        buffer: own + index,
        offset: 0,
        bytes: (words as u64).saturating_mul(F32),
    };
    let output = slice(3, plan.batch.saturating_mul(most));
    if output.bytes > limits.max_binding.min(limits.max_buffer) {
        return Err(Error::TooLarge {
            what: "tokens of a call [B, N]".into(),
            needed: output.bytes,
            limit: limits.max_binding.min(limits.max_buffer),
            limit_name: "the adapter's largest storage binding, bytes".into(),
        });
    }
    let bindings = vec![
        logits(plan),
        slice(1, CHOICE_HEAD + ends),
        whole_input(plan),
        slice(0, plan.batch),
        slice(2, 4 * plan.batch),
        output,
    ];
    let (lanes, lane) = (u64::from(ROW_WORKGROUP), vocabulary.div_ceil(ROW_WORKGROUP.into()));
    // Of a draw: two searches of 25 halvings, two sums and a walk.
    let draw = if sample { 52 * (lane + lanes) + 2 * lane + 50 } else { 0 };
    let constants = Constants::default()
        .with("FEATURES", narrow(vocabulary)?)
        .with("SAMPLE", sample)
        .with("WORKGROUP", ROW_WORKGROUP);
    let iterations = 3 * (lane + lanes) + draw + ends as u64;
    row_wise(plan, Kernel::Choose, constants, bindings, iterations, limits)
}

/// The `count` most probable tokens of every row. Binds the buffer after [`PlanParts::buffers`](super::PlanParts::buffers) to `[B, 2 + 2M]`.
///
/// # Errors
/// [`Error::TooLarge`] for what `limits` do not allow.
pub fn candidates(plan: &Plan, count: usize, limits: &PlanLimits) -> Result<Dispatch> {
    let vocabulary = vocabulary(plan);
    let (lanes, lane) = (u64::from(ROW_WORKGROUP), vocabulary.div_ceil(ROW_WORKGROUP.into()));
    let words = plan.batch.saturating_mul(count.saturating_mul(2).saturating_add(2));
    let output = Slice { buffer: plan.buffers.len(), offset: 0, bytes: (words as u64).saturating_mul(F32) };
    let constants =
        Constants::sizes([("COUNT", count)])?.with("FEATURES", narrow(vocabulary)?).with("WORKGROUP", ROW_WORKGROUP);
    let iterations = (count as u64).saturating_add(3).saturating_mul(lane + lanes + 1);
    row_wise(plan, Kernel::Candidates, constants, vec![logits(plan), output], iterations, limits)
}

/// How many runs of `plan`, with what comes around each, one submission may hold.
#[must_use]
pub fn steps_at_once(plan: &Plan, around: usize) -> usize {
    let by_work = MAX_SUBMISSION_WORK / plan.work().max(1);
    let by_dispatches = MAX_SUBMISSION_DISPATCHES / plan.dispatch_count().saturating_add(around as u64).max(1);
    usize::try_from(by_work.min(by_dispatches)).unwrap_or(usize::MAX).max(1)
}

fn row_wise(
    plan: &Plan,
    kernel: Kernel,
    constants: Constants,
    bindings: Vec<Slice>,
    iterations: u64,
    limits: &PlanLimits,
) -> Result<Dispatch> {
    if limits.software && iterations > SOFTWARE_LOOP_LIMIT {
        return Err(Error::TooLarge {
            what: "choice among the vocabulary: loop iterations of one invocation".into(),
            needed: iterations,
            limit: SOFTWARE_LOOP_LIMIT,
            limit_name: "software adapters stop a shader there without a word".into(),
        });
    }
    Ok(Dispatch {
        stage: plan.stages.len().saturating_sub(1),
        constants,
        bindings,
        rows: size(plan.batch)?,
        steps: 1,
        batch: size(plan.batch)?,
        workgroups: flat_grid(limits, plan.batch as u64 * u64::from(ROW_WORKGROUP), "rows of a choice")?,
        iterations,
        work: plan.batch as u64 * vocabulary(plan),
        ..Dispatch::empty(kernel)
    })
}

/// `[B, V]`
fn logits(plan: &Plan) -> Slice {
    plan.outputs.last().copied().unwrap_or(Slice { buffer: 0, offset: 0, bytes: 0 })
}

fn whole_input(plan: &Plan) -> Slice {
    plan.whole(plan.inputs[0].numbers)
}

/// V, of a plan of one timestep.
fn vocabulary(plan: &Plan) -> u64 {
    logits(plan).bytes / F32 / plan.batch as u64
}

fn narrow(vocabulary: u64) -> Result<u32> {
    size(usize::try_from(vocabulary).unwrap_or(usize::MAX))
}
