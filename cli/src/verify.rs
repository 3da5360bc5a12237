//! `gatefold verify`: a device's numbers against the f64 reference.

use gatefold::compare::{REFERENCE_SHARE, REFERENCE_TIMES, REFERENCE_TIMES_MEAN};
use gatefold::network::{Activation, Role, Stage, StageKind};
use gatefold::unstable::reference::Reference;
use gatefold::{
    Arithmetic, DeviceChoice, DeviceKind, Error, Network, Output, PlanOptions, RandomInput, Session, Tensor,
    TextVectorizer, Verdict, Verification, verify,
};

use crate::args::VerifyArgs;
use crate::given::Given;
use crate::report::{ERROR, FAILED, Report};
use crate::source;
use crate::table::{Table, bad, bold, good, left, right};
use crate::terminal::one_line;
use crate::units::{count, shape};
use crate::{Result, given, gradients};

/// Amount that the planted fault adds to one weight.
const FAULT: f32 = 1e-2;

/// T of a random input where none is asked for.
const STEPS: usize = 20;

/// A random input, and its description.
pub struct Drawn {
    pub input: RandomInput,
    pub origin: String,
}

/// The random input that the options ask for. Where the network has no number for some of it, as the square root of a
/// negative number, one without negative numbers.
pub fn random(args: &VerifyArgs, network: &Network) -> Result<Drawn> {
    let (batch, seed) = (args.batch, args.seed);
    let steps = source::steps(network, args.steps, STEPS);
    let origin = format!("random input, T = {steps}, B = {batch}, seed {seed}");
    let input = RandomInput::new(network, steps, batch, seed)?;
    let partial = |stage: &Stage| match stage.kind {
        StageKind::Dense { activation }
        | StageKind::Conv1d { activation, .. }
        | StageKind::Channelwise { activation, .. } => {
            matches!(activation, Activation::Sqrt | Activation::Log)
        }
        _ => false,
    };
    if !network.stages().iter().any(partial) {
        return Ok(Drawn { input, origin });
    }
    let forward = Reference::<f32>::new(network).forward(input.as_input(), None)?;
    if !forward.stages.iter().flatten().any(|x| x.is_nan()) {
        return Ok(Drawn { input, origin });
    }
    let input = RandomInput::non_negative(network, steps, batch, seed)?;
    Ok(Drawn { input, origin: format!("{origin}, no negative numbers") })
}

/// Compares one device, or all of them.
pub fn run(args: &VerifyArgs, choice: &DeviceChoice) -> Result<Report> {
    let network = source::network(args.model.as_deref())?;
    let reference = if args.plant_fault { with_fault(&network)? } else { network.clone() };
    if args.gradients {
        return gradients::run(args, choice, &network, &reference);
    }
    let (Given { input, lengths, state }, origin) = input(args, &network)?;
    let given = || {
        let input = input.as_input().with_axes(network.input_axes());
        lengths.as_deref().map_or(input, |lengths| input.with_lengths(lengths))
    };
    let check = |choice: &DeviceChoice| -> Result<(Verification, Output)> {
        let device = source::open(choice)?;
        let options = PlanOptions::default().arithmetic(args.arithmetic);
        let session = Session::with_options(&device, &network, options)?;
        let verification = verify(&session, &reference, given(), state.as_ref())?;
        let output = session.run(given(), state.as_ref())?;
        source::keep_pipelines(&device);
        Ok((verification, output))
    };
    let mut report = Report::new(format!("{} on {origin}\n", bold(&source::name(args.model.as_deref()))));
    if !args.all {
        let (verification, output) = check(choice)?;
        show(&mut report, &verification);
        if let Some(path) = &args.output {
            given::write(path, &network, &output, args.axes)?;
        }
        if !args.expected.is_empty() {
            given::show(&mut report, args, &network, (&output, verification.steps))?;
        }
        if verification.device.kind == DeviceKind::Cpu && args.arithmetic != Arithmetic::F32 {
            report.text += &format!("this CPU takes products in f32, not as --arithmetic {} says\n", args.arithmetic);
        }
        if source::fell_back(choice, &verification.device) {
            report.text += "no GPU found, so this checked the CPU device in f32; --device software checks a software \
                            graphics adapter, where one is installed\n";
        }
        return Ok(report);
    }
    let devices = source::everywhere()?;
    for info in &devices {
        match check(&source::exactly(info)) {
            Ok((verification, output)) => {
                show(&mut report, &verification);
                if !args.expected.is_empty() {
                    given::show(&mut report, args, &network, (&output, verification.steps))?;
                }
            }
            Err(error) => {
                report.text += &format!("\n{info}\n{}\n", bad("not verified"));
                report.notes += &format!("gatefold: {}\n", one_line(&format!("{info}: {error}")));
                report.code = ERROR;
            }
        }
    }
    if devices.iter().all(|info| info.kind == DeviceKind::Cpu) {
        report.text += "no graphics adapter found, so only the CPU was checked\n";
    }
    Ok(report)
}

/// What the run is given, and its name in the output.
fn input(args: &VerifyArgs, network: &Network) -> Result<(Given, String)> {
    let alone = |input| Given { input, lengths: None, state: None };
    if !args.input.is_empty() {
        let files: Vec<String> = args.input.iter().map(|file| file.display().to_string()).collect();
        return Ok((given::input(&args.input, network, args.axes)?, files.join(", ")));
    }
    let Some(text) = &args.text else {
        let Drawn { input, origin } = random(args, network)?;
        return Ok((alone(input), origin));
    };
    let Some(spec) = &network.spec().text else {
        return Err("--text: expected a model that reads text, got one without a vocabulary".into());
    };
    let tokens = TextVectorizer::new(spec)?.encode(text);
    if tokens.is_empty() {
        return Err(Error::EmptyText { index: 1, got: format!("{:?}", crate::units::shortened(text, 40)) }.into());
    }
    let steps = tokens.len();
    let shape = if network.batch_first() { [1, steps] } else { [steps, 1] };
    Ok((
        alone(RandomInput::Tokens(tokens, shape)),
        format!("{:?}, T = {steps}, B = 1", crate::units::shortened(text, 40)),
    ))
}

/// The negative control: adds [`FAULT`] to the first number of the bias (or the weights) of the last dense or recurrent
/// stage. A check that still passes proves nothing.
fn with_fault(network: &Network) -> Result<Network> {
    let params = network.stages().iter().rev().find_map(|stage| match &stage.kind {
        StageKind::Dense { .. } => Some([stage.param(0, Role::Bias), stage.param(0, Role::Weight)]),
        StageKind::Recurrent(_) => Some([stage.param(0, Role::BiasIh), stage.param(0, Role::WeightIh)]),
        _ => None,
    });
    let mut tensors = network.tensors().clone();
    let param = params.into_iter().flatten().flatten().next();
    let Some((name, tensor)) = param.and_then(|param| tensors.remove_entry(&param.name)) else {
        return Err("--plant-fault: expected a network with a dense or a recurrent layer, got one without".into());
    };
    let mut data = tensor.data().to_vec();
    if let Some(first) = data.first_mut() {
        *first += FAULT;
    }
    tensors.insert(name, Tensor::new(tensor.shape().to_vec(), data)?);
    Ok(Network::new(network.spec().clone(), tensors)?)
}

/// Error of the device as a multiple of the error of the f32 reference.
fn times(error: f64, reference: f64) -> String {
    if error == 0.0 { "0.0".into() } else { format!("{:.1}", error / reference) }
}

/// Adds the table of one device.
fn show(report: &mut Report, verification: &Verification) {
    let mut table = Table::new([
        left("stage"),
        right("shape"),
        right("max error"),
        right("mean error"),
        right("worst at"),
        right("tolerance"),
        right("used"),
        right("f32 reference"),
        right("times"),
        left("result"),
    ]);
    for check in &verification.checks {
        let comparison = &check.comparison;
        let worst: Vec<String> = check.position().iter().map(ToString::to_string).collect();
        table.row([
            check.label.clone(),
            shape(&check.shape),
            format!("{:.1e}", comparison.max_error),
            format!("{:.1e}", comparison.mean_error),
            format!("[{}]", worst.join(",")),
            format!("{:.1e}+{:.0e}|x|", check.tolerance.atol, check.tolerance.rtol),
            format!("{:.0} %", 100.0 * comparison.used),
            format!("{:.1e}", check.reference.max_error),
            times(comparison.max_error, check.reference.max_error),
            match check.verdict {
                Verdict::WithinTolerance => good("pass"),
                Verdict::AsF32 => good("pass as f32"),
                _ => bad("FAIL"),
            },
        ]);
    }
    let of = |verdict: Verdict| verification.checks.iter().filter(|check| check.verdict == verdict).count();
    let (within, as_f32) = (of(Verdict::WithinTolerance), of(Verdict::AsF32));
    let all = count(verification.checks.len(), "tensor");
    let by_f32 = match as_f32 {
        0 => String::new(),
        n => format!(
            ", {n} beyond it and off by at most {REFERENCE_TIMES} times the largest and {REFERENCE_TIMES_MEAN} times the \
             mean error of the f32 reference"
        ),
    };
    let verdict = match (verification.passed(), as_f32) {
        (true, 0) => good(&format!("pass: all of {all} within tolerance of the f64 reference")),
        (true, _) => good(&format!("pass: {within} of {all} within tolerance of the f64 reference{by_f32}")),
        (false, _) => bad(&format!("FAIL: {within} of {all} within tolerance of the f64 reference{by_f32}")),
    };
    report.text += &format!("\n{}\n{table}{verdict}\n", bold(&verification.device.to_string()));
    let failed = || verification.checks.iter().filter(|check| check.verdict == Verdict::Failed);
    if failed().any(|check| check.undefined) {
        report.text +=
            "the f64 reference itself has NaN: the network has no numbers for this input; give another by --input\n";
    } else if failed().any(|check| !check.f32_can()) {
        report.text += &format!(
            "the f32 reference itself is off by more than {REFERENCE_SHARE} of a tensor's largest number: with so many steps \
             f32 cannot tell right from wrong here; fewer --steps can\n"
        );
    }
    if !verification.passed() && report.code != ERROR {
        report.code = FAILED;
    }
}
