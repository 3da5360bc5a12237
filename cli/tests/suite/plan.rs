//! `gatefold plan --wgsl`: the source of one kernel, for an editor.

use std::collections::BTreeSet;

use gatefold::unstable::plan::{CHIPS, Kernel, PlanParts, Repetition};
use gatefold::{Network, Plan, PlanLimits, PlanOptions, RunShape, Strategy};

use crate::support::{answer, refusal};

const ARGS: [&str; 8] = ["plan", "--device", "cpu", "--steps", "7", "--strategy", "step", "--wgsl"];

fn wgsl(name: &str) -> String {
    answer(ARGS.iter().chain(&[name]))
}

#[test]
fn a_kernel_is_printed_as_the_plan_uses_it() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/sentiment/sentiment.safetensors");
    let network = Network::load(path).unwrap();
    let options = PlanOptions::default().strategy(Strategy::Step);
    let plan = Plan::new(&network, RunShape::new(7, 1), &PlanLimits::default(), &options).unwrap();
    let mut seen = BTreeSet::new();
    for dispatch in PlanParts::of(&plan).dispatches {
        let spec = dispatch.kernel.spec();
        if !seen.insert(spec.name.clone()) {
            continue;
        }
        let text = wgsl(&spec.name);
        let source = dispatch.kernel.source(&dispatch.constants, Repetition::Uniform);
        assert!(text.ends_with(&source) && source.contains(&format!("fn {}(", spec.entry_point)), "{text}");
        let comment = text.strip_suffix(source.as_str()).unwrap();
        assert!(comment.lines().all(|line| line.is_empty() || line.starts_with("// ")), "{comment}");
        for constant in &spec.constants {
            assert!(comment.contains(&format!(" {}=", constant.name)), "{} in {comment}", constant.name);
        }
    }
    assert!(seen.len() > 3 && seen.contains("lstm step"), "{seen:?}");
    let lstm = wgsl("lstm step");
    assert!(lstm.contains(include_str!("../../../shaders/cells/lstm.wgsl")) && lstm.contains("WIDTH=64"), "{lstm}");
    assert_eq!((wgsl("lstm-step"), wgsl("LSTM_step")), (lstm.clone(), lstm));
    assert!(Kernel::all().count() > seen.len());
}

#[test]
fn an_unknown_kernel_lists_those_of_the_plan() {
    refusal(ARGS.iter().chain(&["gru step"]), &["--wgsl", "gru step", "lstm step", "linear", "softmax"]);
    refusal(ARGS, &["--wgsl"]);
}

#[test]
fn a_step_of_training_is_planned_with_its_memory() {
    let text = answer(["plan", "--device", "cpu", "--train", "--steps", "7", "--batch", "4"]);
    for words in ["parameters", "gradients", "optimizer state", "arrays of one step", "lstm backward", "optimizer_step"]
    {
        assert!(text.contains(words), "{words} in {text}");
    }
    let train = ["plan", "--device", "cpu", "--train", "--strategy"];
    let wgsl = answer(train.iter().chain(&["step", "--wgsl", "lstm backward"]).copied());
    assert!(wgsl.contains(include_str!("../../../shaders/cells/lstm_backward.wgsl")), "{wgsl}");
    for strategy in ["step", "tile", "sequence"] {
        let text = answer(train.iter().chain(&[strategy]).copied());
        let asked = format!("backward: {strategy}: asked for");
        assert!(text.contains(&asked), "{asked} in {text}");
        let others = ["backward tile", "backward sequence"].into_iter().filter(|name| !name.ends_with(strategy));
        others.for_each(|other| assert!(!text.contains(&format!("lstm {other}")), "{other} in {text}"));
    }
    refusal(train.iter().chain(&["wavefront"]), &["strategy", "step, tile or sequence"]);
    // Within less memory, a long sequence is trained in intervals.
    let long = ["plan", "--device", "cpu", "--train", "--steps", "20000"];
    assert!(!answer(long).contains("intervals"));
    let text = answer(long.iter().chain(&["--memory", "64"]).copied());
    assert!(text.contains("intervals of"), "{text}");
    refusal(long.iter().chain(&["--memory", "1"]), &["memory of a training step", "the memory budget"]);
    // A run has none of it.
    assert!(!answer(["plan", "--device", "cpu"]).contains("gradients"));
}

/// A plan for a GPU that is not here, with the figures of its kernels.
#[test]
fn a_chip_is_planned_for_without_it() {
    for chip in CHIPS {
        let text = answer(["plan", "--chip", chip.name, "--steps", "100"]);
        assert!(text.contains(chip.card) && text.contains("not measured") && text.contains("registers"), "{text}");
        assert!(!text.contains("another version"), "{text}");
    }
    refusal(["plan", "--chip", "navi99"], &["expected one of navi21, navi31", "navi99"]);
}
