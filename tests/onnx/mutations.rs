//! Models with one attribute, shape, name or initializer changed, in loops and branches too
//! (`tests/goldens/generate_onnx_mutations.py`): each is
//! refused, or answers as ONNX Runtime does. What ONNX Runtime refuses is refused here too.

use std::collections::BTreeMap;

use gatefold::compare::{Tolerance, compare};
use gatefold::formats::onnx;
use gatefold::network::Axis;
use gatefold::{Device, Input, Network, Session, State, StatePart};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::axes::in_order_of_the_file;
use crate::support::{Files, Golden, Outcome, Tally, bundle, cpu, far_apart, swapped};

/// f32 against f32; a network that was read wrongly is off by far more.
const TOLERANCE: Tolerance = Tolerance { atol: 2e-5, rtol: 1e-4 };

/// Numbers and shapes by the names of outputs.
type Outputs = BTreeMap<String, (Vec<f32>, Vec<usize>)>;

/// A changed model and what ONNX Runtime makes of it: no outputs if it refuses.
struct Mutant {
    label: String,
    model: Vec<u8>,
    outputs: Outputs,
}

/// Integers as numbers.
fn integers(view: &TensorView<'_>) -> Option<(Vec<f32>, Vec<usize>)> {
    let of = |bytes: &[u8]| match view.dtype() {
        Dtype::I32 => Some(i32::from_le_bytes(bytes.try_into().ok()?) as f32),
        Dtype::I64 => Some(i64::from_le_bytes(bytes.try_into().ok()?) as f32),
        _ => None,
    };
    let numbers = view.data().chunks_exact(view.dtype().bitsize() / 8).map(of).collect::<Option<_>>()?;
    Some((numbers, view.shape().to_vec()))
}

fn mutants(bytes: &[u8]) -> Vec<Mutant> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let golden = Golden::new(bytes);
    let mut mutants: BTreeMap<String, Mutant> = BTreeMap::new();
    for name in file.names() {
        let (label, part) = name.rsplit_once('|').unwrap();
        let mutant = mutants.entry(label.to_owned()).or_insert_with(|| Mutant {
            label: label.to_owned(),
            model: Vec::new(),
            outputs: BTreeMap::new(),
        });
        if part == "model" {
            mutant.model = file.tensor(name).unwrap().data().to_vec();
        } else {
            // Classes are integers; an answer of another type is none that gatefold could give.
            let numbers = golden.numbers(name).or_else(|| integers(&file.tensor(name).unwrap()));
            let numbers = numbers.unwrap_or_else(|| (vec![f32::NAN], vec![0]));
            mutant.outputs.insert(part.to_owned(), numbers);
        }
    }
    mutants.into_values().collect()
}

/// What gatefold answers, by the names of the file's outputs; `Err` if it refuses.
fn answer(device: &Device, network: &Network, golden: &Golden<'_>) -> Result<BTreeMap<String, Vec<f32>>, String> {
    let (numbers, ids) = (golden.numbers("input").or_else(|| golden.numbers("X")), golden.ids("input"));
    let two = |shape: &[usize]| if let [a, b, ..] = *shape { [a, b] } else { panic!("{shape:?}") };
    let (mut input, [outer, inner]) = match (&numbers, &ids) {
        (Some((values, s)), _) => (Input::features(values, [s[0], s[1], s[2]]), two(s)),
        (_, Some((ids, s))) => (Input::tokens(ids, [s[0], s[1]]), two(s)),
        _ => panic!("no input"),
    };
    let axes = &network.file_axes().unwrap().input.axes;
    let batch = if axes[0] == Axis::Batch { outer } else { inner };
    input = input.with_axes(axes);
    let lengths: Option<Vec<usize>> =
        golden.ids("sequence_lens").map(|(ids, _)| ids.iter().map(|&id| id as usize).collect());
    if let Some(lengths) = &lengths {
        input = input.with_lengths(lengths);
    }
    let mut state = State::zeros(network, batch).map_err(|error| error.to_string())?;
    let mut given = false;
    if let [layer] = &mut state.layers[..] {
        for part in &mut layer.parts {
            if let Some((found, shape)) = golden.numbers(&format!("initial_{}", part.name)) {
                part.data = if network.batch_first() { swapped(&found, [shape[0], shape[1], shape[2]]) } else { found };
                given = true;
            }
        }
    }
    let session = Session::new(device, network).map_err(|error| error.to_string())?;
    let output = session.run(input, given.then_some(&state)).map_err(|error| error.to_string())?;
    let mut answers = BTreeMap::new();
    if let [layer] = &output.state.layers[..] {
        for StatePart { name, shape, data } in &layer.parts {
            let shape = shape[..].try_into().unwrap();
            let numbers = if network.batch_first() { swapped(data, shape) } else { data.clone() };
            answers.insert(format!("Y_{name}"), numbers);
        }
    }
    let file = &network.file_axes().unwrap().output;
    answers.insert(file.name.clone(), in_order_of_the_file(network, &output).0);
    // Other outputs have the order of a run.
    answers.extend(output.others.iter().map(|other| (other.name.clone(), other.values.clone())));
    Ok(answers)
}

/// How gatefold treats a model of which ONNX Runtime makes `outputs`.
fn check(device: &Device, model: &[u8], outputs: &Outputs, golden: &Golden<'_>) -> Outcome {
    let Ok(network) = onnx::from_bytes("mutant", model) else { return Outcome::Refused };
    let answers = match golden.numbers("state") {
        Some(_) => voice_answer(device, &network, golden),
        None => answer(device, &network, golden),
    };
    let Ok(answers) = answers else { return Outcome::Refused };
    if outputs.is_empty() {
        return Outcome::Fault("ONNX Runtime refuses it, gatefold answers".into());
    }
    for (name, (expected, _)) in outputs {
        let Some(got) = answers.get(name) else {
            return Outcome::Fault(format!("no output `{name}` among {:?}", answers.keys()));
        };
        // NaN is a right answer where ONNX Runtime gives it.
        let numbers = |x: &f32| if x.is_nan() { 0.0 } else { *x };
        let (got_nan, expected_nan): (Vec<bool>, Vec<bool>) =
            (got.iter().map(|x| x.is_nan()).collect(), expected.iter().map(|x| x.is_nan()).collect());
        let got: Vec<f32> = got.iter().map(numbers).collect();
        let expected: Vec<f64> = expected.iter().map(|x| numbers(x).into()).collect();
        let comparison = compare(&got, &expected, TOLERANCE);
        if got_nan != expected_nan || !comparison.passed {
            return Outcome::Fault(format!("output `{name}` is off by {:e}", comparison.max_error));
        }
    }
    Outcome::Agrees
}

/// Answers of a voice detector to a frame `[B, N]` from a state `[2, B, H]`.
fn voice_answer(device: &Device, network: &Network, golden: &Golden<'_>) -> Result<BTreeMap<String, Vec<f32>>, String> {
    let of = |name: &str| golden.numbers(name).unwrap_or_else(|| panic!("no {name}"));
    let ((samples, shape), (states, _)) = (of("input"), of("state"));
    let &[frames, rows, count] = &shape[..] else { panic!("{shape:?}") };
    let (frame, start) = (&samples[samples.len() / frames..][..rows * count], &states[..states.len() / frames]);
    let mut state = State::zeros(network, rows).map_err(|error| error.to_string())?;
    let [layer] = &mut state.layers[..] else { return Err("layers".into()) };
    let (h, c) = start.split_at(start.len() / 2);
    if (layer.h().len(), layer.c().len()) != (h.len(), c.len()) {
        return Err("another state".into());
    }
    layer.numbers_mut().zip(start).for_each(|(to, &from)| *to = from);
    let session = Session::new(device, network).map_err(|error| error.to_string())?;
    let input = Input::features(frame, [rows, count, 1]);
    let output = session.run(input, Some(&state)).map_err(|error| error.to_string())?;
    let file = network.file_axes().map_or("output", |axes| &axes.output.name);
    let next = output.state.layers[0].numbers().copied().collect();
    let mut answers = BTreeMap::from([(file.to_owned(), output.values), ("stateN".to_owned(), next)]);
    answers.extend(output.others.iter().map(|other| (other.name.clone(), other.values.clone())));
    Ok(answers)
}

fn goldens() -> Files {
    let mut files = bundle("onnx_models.zip");
    files.extend(bundle("onnx_nodes.zip"));
    files.extend(bundle("onnx_grid.zip"));
    files.extend(bundle("onnx_files.zip"));
    files.extend(bundle("onnx_voice.zip"));
    files
}

/// Calls `each` with every model's name, golden and changed copies.
fn for_all(mut each: impl FnMut(&str, &Golden<'_>, &[u8], Vec<Mutant>)) {
    let goldens = goldens();
    let mut files = bundle("onnx_mutations.zip");
    files.extend(bundle("onnx_file_mutations.zip"));
    files.extend(bundle("onnx_voice_mutations.zip"));
    for (file, bytes) in &files {
        let name = file.strip_suffix(".safetensors").unwrap();
        let golden = Golden::new(&goldens[&format!("{name}.golden.safetensors")]);
        each(name, &golden, &goldens[&format!("{name}.onnx")], mutants(bytes));
    }
}

#[test]
fn every_change_is_answered_as_onnx_runtime_does_or_refused() {
    let device = cpu();
    let mut tally = Tally::default();
    for_all(|name, golden, _, mutants| {
        for mutant in mutants {
            let outcome = check(&device, &mutant.model, &mutant.outputs, golden);
            tally.add(&format!("{name}, {}", mutant.label), outcome);
        }
    });
    tally.assert_right(800);
}

/// Negative control: the unchanged model in the place of one that answers something else must be seen.
#[test]
fn a_change_that_is_not_read_is_seen() {
    let device = cpu();
    let mut tried = 0;
    for_all(|name, golden, original, mutants| {
        for mutant in mutants {
            // Of a voice detector, that of the frame fed, the second.
            let frame = |name: &str| {
                let (all, shape) = golden.numbers(name)?;
                let frame = all.len() / shape[0];
                Some((all[frame..][..frame].to_vec(), shape))
            };
            let right = |output: &str| match (golden.numbers("state"), output) {
                (Some(_), "output") => frame("output"),
                (Some(_), "stateN") => frame("state"),
                (Some(_), _) => None,
                (None, _) => golden.numbers(output).or_else(|| golden.numbers("output")),
            };
            let other = |(output, (numbers, _)): (&String, &(Vec<f32>, _))| {
                right(output).is_some_and(|(right, _)| far_apart(numbers, &right, TOLERANCE))
            };
            if mutant.outputs.iter().any(other) {
                let outcome = check(&device, original, &mutant.outputs, golden);
                assert!(!matches!(outcome, Outcome::Agrees), "{name}, {}: went unseen", mutant.label);
                tried += u32::from(matches!(outcome, Outcome::Fault(_)));
            }
        }
    });
    assert!(tried >= 400, "{tried}");
}
