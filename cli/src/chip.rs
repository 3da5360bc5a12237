//! `gatefold plan --chip`: what a compiler made of a plan's kernels for a GPU that is not here, and an estimate of the time.

use std::time::Duration;

use gatefold::Plan;
use gatefold::network::WeightFormat;
use gatefold::unstable::plan::{CHIPS, Chip, CodeRecord, Dispatch, Held, PlanParts, Rung};

use crate::Result;
use crate::table::{Table, left, right};
use crate::units::duration;

/// Multiply-adds that the invocations of one workgroup start per clock: 4 SIMDs of 32 lanes of an RDNA workgroup processor or of
/// a multiprocessor of Hopper. GCN's compute units and the multiprocessors of an A100 have 64 lanes.
const LANES: f64 = 128.0;
const FEWER_LANES: f64 = 64.0;
/// Bytes that a workgroup reads from the L2 cache per clock.
const BYTES_PER_CLOCK: f64 = 64.0;
/// Clocks from a barrier to the first number that another invocation left in workgroup memory.
const BARRIER: f64 = 130.0;
/// Clocks of what a step does one after the other beside its sums: the functions of a cell.
const CELL: f64 = 350.0;
/// Nanoseconds that h takes from one workgroup to another.
const MESSAGE: f64 = 350.0;
/// Nanoseconds of a launch that waits for the one before.
const LAUNCH: f64 = 3000.0;
/// Instructions for a multiply-add where a kernel has no loop of sums: those of held weights are written out.
const WRITTEN_OUT: f64 = 1.3;

/// The chip called `name`.
pub fn named(name: &str) -> Result<Chip> {
    Chip::named(name).ok_or_else(|| {
        let names: Vec<&str> = CHIPS.iter().map(|chip| chip.name).collect();
        format!("--chip: expected one of {}, got {name:?}", names.join(", ")).into()
    })
}

/// The figures of the plan's kernels with the estimates, and what these assume.
pub fn figures(chip: &Chip, plan: &Plan) -> String {
    let mut table = Table::new([
        left("kernel"),
        right("registers"),
        right("in memory"),
        right("waves"),
        right("instructions"),
        right("barriers"),
        right("runs"),
        right("estimate"),
    ]);
    let (mut total, mut whole) = (0.0, true);
    for dispatch in PlanParts::of(plan).dispatches {
        let Some(code) = chip.code_of(dispatch) else {
            let unknown = std::iter::repeat_n("-".to_owned(), 5);
            let name = dispatch.kernel.spec().name;
            table.row([name].into_iter().chain(unknown).chain([dispatch.repeat.to_string(), "not recorded".into()]));
            whole = false;
            continue;
        };
        let time = nanoseconds(chip, dispatch, &code);
        total += time;
        let shown = |name: &str| code.figure(name).map_or_else(|| "-".into(), |value| format!("{value:.0}"));
        // Of a step where a dispatch has many, else of the loop that sums.
        let instructions = match (code.figure("step_instructions"), code.figure("sum_instructions")) {
            (Some(step), _) => format!("{step:.0} a step"),
            (None, Some(sum)) => format!("{sum:.0} per {:.0}", code.figure("sum_multiply_adds").unwrap_or(0.0)),
            _ => shown("code_instructions"),
        };
        let name = dispatch.kernel.spec().name + if code.current { "" } else { " (another version)" };
        let time = duration(Duration::from_secs_f64(time * 1e-9));
        table.row([
            name,
            shown("vgprs"),
            shown("spilled"),
            // Only Mesa counts them.
            code.figure("waves").filter(|&waves| waves > 0.0).map_or_else(|| "-".into(), |waves| format!("{waves:.0}")),
            instructions,
            shown("step_barriers"),
            dispatch.repeat.to_string(),
            time,
        ]);
    }
    let total = duration(Duration::from_secs_f64(total * 1e-9));
    let total = if whole { total } else { format!("{total} without the kernels that are not recorded") };
    format!(
        "{table}\nEstimate for a {}, not measured: {total}. It assumes {} GHz, {LANES} multiply-adds and {BYTES_PER_CLOCK} bytes of L2 a clock for a\n\
         workgroup ({FEWER_LANES} multiply-adds on GCN and sm_80), {BARRIER} clocks a barrier, {CELL} a cell, {MESSAGE} ns for h from workgroup to workgroup, {LAUNCH} ns a\n\
         launch, {} GB/s of memory, and that nothing overlaps. Figures: benches/record/static-gpu/{}.csv.\n",
        chip.card, chip.gigahertz, chip.bytes_per_nanosecond, chip.name
    )
}

#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn nanoseconds(chip: &Chip, dispatch: &Dispatch, code: &CodeRecord) -> f64 {
    let lanes = if matches!(chip.name, "vega20" | "sm_80") { FEWER_LANES } else { LANES };
    // Two compute units of RDNA are a workgroup processor.
    let processors = if chip.name.starts_with("sm_") || chip.name == "vega20" { chip.units } else { chip.units / 2 };
    let workgroups: u64 = dispatch.workgroups.iter().map(|&count| u64::from(count)).product();
    let used = workgroups.min(processors.into()) as f64;
    let instructions = code.figure("instructions_per_product").unwrap_or(WRITTEN_OUT).max(1.0);
    let steps = dispatch.recurrence.map_or(1, |steps| steps.stride);
    let arithmetic = dispatch.work as f64 * instructions / (lanes * used);
    let kernel = dispatch.kernel.recurrent();
    let holds = kernel.is_some_and(|kernel| kernel.held != Held::Not);
    let bytes_each = match kernel.map(|kernel| kernel.format) {
        Some(WeightFormat::Int8) => 1.0,
        Some(WeightFormat::F16) => 2.0,
        _ => 4.0,
    };
    let bytes = if holds { 0.0 } else { dispatch.work as f64 / f64::from(dispatch.rows.max(1)) * bytes_each };
    let reading = bytes / (BYTES_PER_CLOCK * used);
    let waiting = match kernel {
        Some(_) => f64::from(steps) * (code.figure("step_barriers").unwrap_or(2.0) * BARRIER + CELL),
        None => 0.0,
    };
    let clocks = arithmetic.max(reading) + waiting;
    let messages = kernel.filter(|kernel| kernel.rung == Rung::Resident).map_or(0.0, |_| f64::from(steps) * MESSAGE);
    let once = clocks / chip.gigahertz + messages + LAUNCH;
    // More than the caches hold comes from memory each time.
    let once = once.max(if bytes > 4e6 { bytes / chip.bytes_per_nanosecond } else { 0.0 });
    f64::from(dispatch.repeat) * once
}
