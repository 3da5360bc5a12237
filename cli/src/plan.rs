//! `gatefold plan`: what a run will dispatch, and why.

use gatefold::train::{Loss, TrainOptions};
use gatefold::unstable::plan::{Chip, Dispatch, PlanParts, Repetition};
use gatefold::{
    Device, DeviceChoice, DeviceKind, Network, Plan, PlanLimits, PlanOptions, RunShape, Session, printable,
};

use crate::Result;
use crate::args::PlanArgs;
use crate::chip;
use crate::report::Report;
use crate::source;
use crate::table::bold;
use crate::units::mebibytes;

/// T where none is asked for.
const STEPS: usize = 20;

/// Most characters of a stage's name in a comment of WGSL.
const NAME: usize = 100;

/// Prints the plan, or the WGSL of one of its kernels, for the chosen device; on the CPU for WebGPU's default limits.
pub fn run(args: &PlanArgs, choice: &DeviceChoice) -> Result<Report> {
    let network = source::network(args.model.as_deref())?;
    let mut options = PlanOptions::default().arithmetic(args.arithmetic);
    if let Some(mib) = args.budget {
        options = options.projection_budget(mebibytes("--budget", mib)?);
    }
    if let Some(split) = args.split {
        options = options.split(split);
    }
    if let Some(strategy) = args.strategy {
        options = options.strategy(strategy);
    }
    if let Some(name) = &args.chip {
        return for_chip(args, &chip::named(name)?, &network, &options);
    }
    let device = source::open(choice)?;
    if args.train {
        return training(args, &device, &network);
    }
    let session = Session::with_options(&device, &network, options)?;
    let steps = source::steps(&network, args.steps, STEPS);
    let (place, plan) = match session.plan(steps, args.batch)? {
        Some(plan) => {
            let on_cpu = session.prefers_cpu(steps, args.batch);
            let on_cpu = on_cpu.map_or_else(String::new, |why| format!(", but such runs go to the CPU: {why}"));
            (format!("{}{on_cpu}", device.info()), plan)
        }
        None => {
            let place = source::place(choice, device.info());
            let plan = Plan::new(&network, RunShape::new(steps, args.batch), &PlanLimits::default(), &options)?;
            (format!("WebGPU's default limits, since the {place} needs no plan"), plan)
        }
    };
    if let Some(kernel) = &args.wgsl {
        return Ok(Report::data(wgsl(&plan, kernel)?));
    }
    Ok(Report::new(format!("{} on {place}\n\n{plan}", bold(&source::name(args.model.as_deref())))))
}

/// The plan for a GPU that is not here.
fn for_chip(args: &PlanArgs, chip: &Chip, network: &Network, options: &PlanOptions) -> Result<Report> {
    let shape = RunShape::new(source::steps(network, args.steps, STEPS), args.batch);
    let plan = Plan::new(network, shape, &chip.limits, options)?;
    if let Some(kernel) = &args.wgsl {
        return Ok(Report::data(wgsl(&plan, kernel)?));
    }
    let name = bold(&source::name(args.model.as_deref()));
    let figures = chip::figures(chip, &plan);
    Ok(Report::new(format!("{name} for {} ({}), which is not here\n\n{plan}\n{figures}", chip.name, chip.card)))
}

/// The plan of a step of training.
fn training(args: &PlanArgs, device: &Device, network: &Network) -> Result<Report> {
    let classes = network.stages().last().is_some_and(|stage| stage.is_softmax());
    let loss = if classes { Loss::CrossEntropy } else { Loss::Mse };
    let shape = RunShape::new(source::steps(network, args.steps, STEPS), args.batch);
    let mut options = TrainOptions::new(loss);
    if let Some(mib) = args.memory {
        options = options.memory(mebibytes("--memory", mib)?);
    }
    (options.strategy, options.split) = (args.strategy, args.split);
    let plan = options.plan(network, shape, &device.limits())?;
    if let Some(kernel) = &args.wgsl {
        return Ok(Report::data(wgsl(&plan, kernel)?));
    }
    let place = match device.info().kind {
        DeviceKind::Cpu => "WebGPU's default limits, since the CPU needs no plan".to_owned(),
        _ => device.info().to_string(),
    };
    Ok(Report::new(format!("{}: a step of training on {place}\n\n{plan}", bold(&source::name(args.model.as_deref())))))
}

/// A kernel's name as it is compared: the command line may have `-` or `_` for a space.
fn plain(name: &str) -> String {
    name.replace(['-', '_'], " ").to_lowercase()
}

/// The joined WGSL of the plan's first dispatch of the kernel `name`, after a comment that gives its constants.
///
/// The number of the repetition comes from a uniform, which every adapter can do and every parser of WGSL knows.
fn wgsl(plan: &Plan, name: &str) -> Result<String> {
    let mut named = PlanParts::of(plan).dispatches.iter().map(|dispatch| (dispatch.kernel.spec(), dispatch));
    let Some((spec, dispatch)) = named.find(|(spec, _)| plain(&spec.name) == plain(name)) else {
        let mut names: Vec<String> = Vec::new();
        for dispatch in PlanParts::of(plan).dispatches {
            let name = dispatch.kernel.spec().name;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        return Err(format!("--wgsl: expected a kernel of this plan ({}), got {name:?}", names.join(", ")).into());
    };
    let stage = |dispatch: &Dispatch| plan.stages.get(dispatch.stage).map(|stage| printable(stage, NAME));
    let others = named.filter(|(_, other)| other.kernel == dispatch.kernel && other.constants != dispatch.constants);
    let others: Vec<String> = others.filter_map(|(_, other)| stage(other)).collect();
    let others =
        if others.is_empty() { String::new() } else { format!("// Other constants in: {}\n", others.join(", ")) };
    Ok(format!(
        "// Kernel {} of stage {}, entry point {}.\n// Constants: {}\n{others}\n{}",
        spec.name,
        stage(dispatch).unwrap_or_default(),
        spec.entry_point,
        dispatch.constants_text(),
        dispatch.kernel.source(&dispatch.constants, Repetition::Uniform)
    ))
}
