//! `gatefold plan`: what a run will do, and why.

use gatefold::plan::{PlanLimits, RunShape, plan};
use gatefold::{DeviceChoice, PlanOptions, Session};

use crate::Result;
use crate::args::PlanArgs;
use crate::report::Report;
use crate::source;
use crate::table::bold;

/// Prints the plan for the chosen device, or for WebGPU's limits where that is the CPU.
pub fn run(args: &PlanArgs, choice: &DeviceChoice) -> Result<Report> {
    let network = source::network(args.model.as_deref())?;
    let mut options = PlanOptions::default().arithmetic(args.arithmetic);
    if let Some(mib) = args.budget {
        let bytes =
            mib.checked_mul(1 << 20).ok_or_else(|| format!("--budget: expected at most 2^44 MiB, got {mib}"))?;
        options = options.projection_budget(bytes);
    }
    if let Some(split) = args.split {
        options = options.split(split);
    }
    if let Some(strategy) = args.strategy {
        options = options.strategy(strategy);
    }
    let device = source::open(choice)?;
    let session = Session::with_options(&device, &network, options)?;
    let (place, plan) = match session.plan(args.steps, args.batch)? {
        Some(plan) => {
            let aside = session.prefers_cpu(args.steps, args.batch);
            let aside = aside.map_or_else(String::new, |why| format!(", but such runs go to the CPU: {why}"));
            (format!("{}{aside}", device.info()), plan)
        }
        None => {
            let place = source::place(choice, device.info());
            let plan = plan(&network, RunShape::new(args.steps, args.batch), &PlanLimits::default(), &options)?;
            (format!("WebGPU's default limits, since the {place} needs no plan"), plan)
        }
    };
    Ok(Report::new(format!("{} on {place}\n\n{plan}", bold(&source::name(args.model.as_deref())))))
}
