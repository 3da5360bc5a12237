//! Kernels that each break one rule. A rule that passes its own does not check anything.

use naga::back::PipelineConstants;

use crate::radv::Driver;
use crate::rules::{self, Limits};
use crate::translate::Translated;

macro_rules! controls {
    ($($figure:literal as $name:literal in $file:literal),* $(,)?) => {
        [$(($figure, $name, include_str!(concat!("../controls/", $file, ".wgsl")))),*]
    };
}

/// The figure that breaks, the name under which limits are looked up, and the source.
const CONTROLS: [(&str, &str, &str); 10] = controls![
    "blind_waits" as "lstm resident held" in "blind_waits",
    "instructions_per_product" as "lstm step" in "instructions_per_product",
    "ladder_branches" as "lstm sequence" in "ladder_branches",
    "loads_in_flight" as "lstm f32 H512 B1 step" in "loads_in_flight",
    "narrow_loads" as "lstm step" in "narrow_loads",
    "scratch_bytes" as "lstm step" in "scratch_bytes",
    "spilled" as "lstm step" in "registers",
    "step_barriers" as "lstm sequence held" in "step_barriers",
    "step_instructions" as "lstm f32 H128 sequence held" in "step_instructions",
    "vgprs" as "lstm step" in "registers",
];

/// What gatefold measures how many workgroups run at once with: its registers must be those of kernels that hold weights.
const PROBE: &str = include_str!("../../../shaders/probe.wgsl");

/// What is wrong with the probe.
pub fn probe(driver: &Driver, chip: &str, limits: &mut Limits) -> Result<Vec<String>, String> {
    let constants = PipelineConstants::from_iter([("GROUP".into(), 512.0), ("MAX_LOOKS".into(), 10_000.0)]);
    let kernel = Translated::new(PROBE, "probe", &constants).map_err(|error| format!("probe: {error}"))?;
    let compiled = driver.compile(&kernel, "probe").map_err(|error| format!("probe: {error}"))?;
    Ok(limits.faults(chip, "probe", &rules::figures("probe", &compiled)))
}

/// The controls that break no rule on `chip`. Those for which the table has no limit there are left out.
pub fn unbroken(driver: &Driver, chip: &str, limits: &mut Limits) -> Result<Vec<String>, String> {
    let mut unbroken = Vec::new();
    for (figure, name, source) in CONTROLS {
        // As many invocations as leave each fewer registers than the control needs.
        let group = (figure == "spilled").then(|| ("GROUP".to_owned(), 1024.0));
        let kernel = Translated::new(source, "control", &PipelineConstants::from_iter(group))
            .map_err(|error| format!("{figure}: {error}"))?;
        let compiled = driver.compile(&kernel, "control").map_err(|error| format!("{figure}: {error}"))?;
        let figures = rules::figures(name, &compiled);
        let found = figures.get(figure);
        let faults = limits.faults(chip, name, &figures);
        let broken = faults.iter().any(|fault| fault.contains(&format!(" {figure} ")));
        if !broken && limits.has(chip, name, figure) {
            unbroken.push(format!("{chip}: control {figure}: {found:?} breaks no limit"));
        }
    }
    Ok(unbroken)
}
