//! `gatefold verify --input FILE --expected FILE`: inputs and outputs that another framework gave.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use gatefold::compare::{Tolerance, compare_with_nan};
use gatefold::network::InputKind;
use gatefold::{NamedInput, Network, Output, RandomInput, State, StatePart, files};

use crate::Result;
use crate::args::{AxesOrder, VerifyArgs};
use crate::arrays::{Array, load, to_npy};
use crate::report::{ERROR, FAILED, Report};
use crate::table::{Table, bad, good, left, right};
use crate::units::shape;

/// An array with its name, and the file that it is in.
struct Named {
    name: String,
    array: Array,
    path: PathBuf,
    /// Whether the name was given with the file.
    explicit: bool,
}

/// Lengths of the rows of the first input.
const LENGTHS: &str = "lengths";
/// What follows the names of the parts of the state after the last step.
const FINAL: &str = "_n";

/// Arrays by the names of inputs or outputs. A name goes before its file, `NAME=FILE`, or is in the file. The first is called
/// `first` here and may have one of the names `own`, as in the model's file.
fn named(files: &[PathBuf], option: &str, first: &str, own: &[&str]) -> Result<Vec<Named>> {
    let mut all = Vec::new();
    for file in files {
        let text = file.to_string_lossy();
        let (name, path) = match text.split_once('=') {
            Some((name, path)) if !file.exists() => (Some(name), Path::new(path)),
            _ => (None, file.as_path()),
        };
        let mut arrays = load(path)?;
        if let (Some(name), [(own, _)]) = (name, &mut arrays[..]) {
            name.clone_into(own);
        } else if let (None, [(own, _)]) = (name, &mut arrays[..]) {
            // One array needs no name.
            first.clone_into(own);
        } else if name.is_some() {
            return Err(format!("{option} {text}: expected a file of one array, got {}", arrays.len()).into());
        }
        let (path, explicit) = (path.to_owned(), name.is_some());
        let here = |name: String| if own.contains(&name.as_str()) { first.to_owned() } else { name };
        all.extend(arrays.into_iter().map(|(name, array)| Named {
            name: here(name),
            array,
            path: path.clone(),
            explicit,
        }));
    }
    Ok(all)
}

/// What a run is given.
pub struct Given {
    pub input: RandomInput,
    /// Lengths of the rows of the first input.
    pub lengths: Option<Vec<usize>>,
    /// The state that the run starts from, where it is not the network's own.
    pub state: Option<State>,
}

/// The inputs of `network` from files; also the lengths of the rows of the first and parts of the state,
/// `LAYER.PART`, where there are arrays of these names.
pub fn input(files: &[PathBuf], network: &Network, order: AxesOrder) -> Result<Given> {
    let inputs = network.inputs();
    let of_file: Vec<&str> = network.file_axes().map(|axes| axes.input.name.as_str()).into_iter().collect();
    let mut arrays = named(files, "--input", &inputs[0].name, &of_file)?;
    let lengths = network.file_axes().and_then(|axes| axes.lengths.as_ref());
    for named in arrays.iter_mut().filter(|named| Some(&named.name) == lengths) {
        LENGTHS.clone_into(&mut named.name);
    }
    // Of one row, to know its parts.
    let parts: Vec<String> = state_parts(&State::zeros(network, 1)?, "").map(|(name, _)| name).collect();
    let known = |name: &str| name == LENGTHS || inputs.iter().any(|input| input.name == name);
    let own = file_states(network);
    let known = |name: &str| known(name) || parts.iter().chain(&own).any(|part| part == name);
    if let Some(unknown) = arrays.iter().find(|named| named.explicit && !known(&named.name)) {
        let names = inputs.iter().map(|input| &input.name).chain(&parts).chain(&own);
        let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
        let got = &unknown.name;
        return Err(format!("--input: expected one of {} or `{LENGTHS}`, got `{got}`", names.join(", ")).into());
    }
    let lengths = arrays.iter().find(|named| named.name == LENGTHS);
    let lengths = lengths.map(|named| tokens(&named.array, &named.path)).transpose()?;
    let lengths = lengths.map(|lengths| lengths.into_iter().map(|length| length as usize).collect());
    let mut read = Vec::with_capacity(inputs.len());
    for (number, input) in inputs.iter().enumerate() {
        let Some(Named { array, path, .. }) = arrays.iter().find(|named| named.name == input.name) else {
            let names: Vec<String> = arrays.iter().map(|named| format!("`{}`", named.name)).collect();
            return Err(format!("--input: expected an array `{}`, got {}", input.name, names.join(", ")).into());
        };
        let wrong = || {
            let axes = gatefold::network::letters(network.axes_of_input(number));
            let width = input.width.to_string();
            let expected = if input.kind == InputKind::Tokens { axes } else { axes.replace('N', &width) };
            format!("{}: expected {expected} for `{}`, got {:?}", path.display(), input.name, array.shape)
        };
        let of_file = number == 0 && order == AxesOrder::File;
        let own = of_file.then(|| network.input_from_file(&narrow(&array.numbers), &array.shape)).flatten();
        let own = own.map(|(shape, values)| Array { shape, numbers: values.into_iter().map(f64::from).collect() });
        let array = own.as_ref().unwrap_or(array);
        read.push(match (input.kind, &array.shape[..]) {
            (InputKind::Tokens, &[outer, inner]) => RandomInput::Tokens(tokens(array, path)?, [outer, inner]),
            (InputKind::Sequence, &[outer, inner, width]) => {
                RandomInput::Features(narrow(&array.numbers), [outer, inner, width])
            }
            // Of one feature, whose axis may be left out.
            (InputKind::Sequence, &[outer, inner]) if input.width == 1 => {
                RandomInput::Features(narrow(&array.numbers), [outer, inner, 1])
            }
            (InputKind::Row, &[batch, width]) => RandomInput::Rows(narrow(&array.numbers), [batch, width]),
            _ => return Err(wrong().into()),
        });
    }
    let mut read = read.into_iter();
    let Some(first) = read.next() else {
        return Err("--input: expected a model with an input, got one without".into());
    };
    let batch = match &first {
        RandomInput::Tokens(_, [outer, inner]) | RandomInput::Features(_, [outer, inner, _]) => {
            if network.batch_first() { *outer } else { *inner }
        }
        RandomInput::Rows(_, [batch, _]) => *batch,
        RandomInput::Several(..) => 0,
    };
    let state = state(&arrays, network, batch)?;
    let others: Vec<NamedInput<'static>> = read
        .zip(&inputs[1..])
        .filter_map(|(read, input)| {
            let name = input.name.clone();
            match read {
                RandomInput::Tokens(ids, shape) => Some(NamedInput::tokens(name, ids, shape)),
                RandomInput::Features(values, shape) => Some(NamedInput::features(name, values, shape)),
                RandomInput::Rows(values, shape) => Some(NamedInput::rows(name, values, shape)),
                RandomInput::Several(..) => None,
            }
        })
        .collect();
    let input = if others.is_empty() { first } else { RandomInput::Several(Box::new(first), others) };
    Ok(Given { input, lengths, state })
}

/// The file's own names of the tensors of a state.
fn file_states(network: &Network) -> Vec<String> {
    network.file_axes().into_iter().flat_map(|axes| &axes.states).map(|state| state.name.clone()).collect()
}

/// The parts of a state by name, `LAYER.PART`, which `suffix` follows.
fn state_parts<'a>(state: &'a State, suffix: &str) -> impl Iterator<Item = (String, &'a StatePart)> {
    state.layers.iter().flat_map(move |layer| {
        layer.parts.iter().map(move |part| (format!("{}.{}{suffix}", layer.name, part.name), part))
    })
}

/// The network's own initial state with the parts that are given, `[R, B, ..]`, or `[B, ..]` where R is 1; parts by their
/// names here, or the file's tensors by theirs.
fn state(arrays: &[Named], network: &Network, batch: usize) -> Result<Option<State>> {
    let mut state = State::initial(network, batch)?;
    let mut given = false;
    let own = file_states(network);
    for Named { name, array, path, .. } in arrays.iter().filter(|named| own.contains(&named.name)) {
        let set = state.set_from_file(network, name, &array.shape, &narrow(&array.numbers));
        set.map_err(|error| format!("{}: {error}", path.display()))?;
        given = true;
    }
    for layer in &mut state.layers {
        for StatePart { name: part, shape, data } in &mut layer.parts {
            let name = format!("{}.{part}", layer.name);
            let found = arrays.iter().find(|named| named.name == name);
            let Some(Named { array, path, .. }) = found else { continue };
            if array.shape[..] != shape[..] && (shape[0] != 1 || array.shape != shape[1..]) {
                let got = &array.shape;
                return Err(format!("{}: expected {shape:?} for `{name}`, got {got:?}", path.display()).into());
            }
            *data = narrow(&array.numbers);
            given = true;
        }
    }
    Ok(given.then_some(state))
}

#[expect(clippy::cast_possible_truncation, reason = "a network reads f32")]
fn narrow(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|&number| number as f32).collect()
}

fn tokens(array: &Array, path: &Path) -> Result<Vec<u32>> {
    let token = |&number: &f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "compared below")]
        let token = number as u32;
        let expected = || format!("{}: expected token ids, whole numbers from 0 on, got {number}", path.display());
        if f64::from(token).total_cmp(&number).is_eq() { Ok(token) } else { Err(expected().into()) }
    };
    array.numbers.iter().map(token).collect()
}

/// An output in some order of its axes.
struct Ordered<'a> {
    shape: Vec<usize>,
    values: Cow<'a, [f32]>,
}

/// An output in the order of the model's file, where that is known, and in that of a run.
fn both_orders<'a>(network: &Network, output: &'a Output, name: &str) -> (Option<Ordered<'a>>, Ordered<'a>) {
    if let Some((_, part)) = state_parts(&output.state, FINAL).find(|(part, _)| part == name) {
        return (None, Ordered { shape: part.shape.to_vec(), values: (&part.data[..]).into() });
    }
    if let Some(tensor) = output.state.in_file_tensors(network).into_iter().find(|tensor| tensor.name == name) {
        return (None, Ordered { shape: tensor.shape.to_vec(), values: tensor.values.into() });
    }
    let (of_file, shape, values) = match output.others.iter().find(|other| other.name == name) {
        Some(other) => (other.in_file_axes(network), &other.shape, &other.values),
        None => (output.in_file_axes(network), &output.shape, &output.values),
    };
    let of_file = of_file.map(|(shape, values)| Ordered { shape, values: values.into() });
    (of_file, Ordered { shape: shape.clone(), values: values.into() })
}

/// Writes the first output as a .npy file, its axes in the order asked for.
pub fn write(path: &Path, network: &Network, output: &Output, order: AxesOrder) -> Result<()> {
    let (of_file, of_run) = both_orders(network, output, "");
    let Ordered { shape, values } = of_file.filter(|_| order == AxesOrder::File).unwrap_or(of_run);
    Ok(files::write(path, &to_npy(&shape, &values))?)
}

/// The largest difference, or where one of the two sides has NaN, how many.
fn difference(largest: f64, got: &[f32], expected: &[f64]) -> String {
    let counts = [got.iter().filter(|x| x.is_nan()).count(), expected.iter().filter(|x| x.is_nan()).count()];
    if counts == [0; 2] || !largest.is_nan() {
        return format!("{largest:.1e}");
    }
    format!("{} NaN, expected {}", counts[0], counts[1])
}

/// Adds the comparison of outputs with those that were expected.
pub fn show(
    report: &mut Report,
    args: &VerifyArgs,
    network: &Network,
    (output, steps): (&Output, usize),
) -> Result<()> {
    if let Some(got) = args.tolerance.filter(|x| !x.is_finite() || *x < 0.0) {
        return Err(format!("--tolerance: expected a number of at least 0, got {got}").into());
    }
    let files = &args.expected;
    // Keras calls an output as the layer that gives it.
    let of_file = network.file_axes().map(|axes| axes.output.name.as_str());
    let of_layer = network.spec().layers.last().map(|layer| layer.name()).filter(|name| !name.is_empty());
    let all = named(files, "--expected", "output", &of_file.into_iter().chain(of_layer).collect::<Vec<_>>())?;
    let own = output.state.in_file_tensors(network).into_iter().map(|tensor| tensor.name);
    let states: Vec<String> = state_parts(&output.state, FINAL).map(|(name, _)| name).chain(own).collect();
    let named_outputs = || output.others.iter().map(|other| &other.name).chain(&states);
    let known = |name: &str| name == "output" || named_outputs().any(|other| other == name);
    let mut expected: Vec<&Named> = all.iter().filter(|named| named.explicit || known(&named.name)).collect();
    if expected.is_empty() || expected.iter().any(|named| !known(&named.name)) {
        let names = |names: &mut dyn Iterator<Item = &String>| {
            names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        };
        let others = names(&mut named_outputs());
        let expected = if others.is_empty() { String::new() } else { format!(" or {others}") };
        let got = names(&mut all.iter().map(|named| &named.name));
        return Err(format!("--expected: expected an array `output`{expected}, got {got}").into());
    }
    // The output first, the final state last.
    expected.sort_by_key(|named| (states.contains(&named.name), named.name != "output"));
    let mut table =
        Table::new([left("output"), right("shape"), right("max difference"), right("largest"), left("result")]);
    let mut failed = false;
    for Named { name, array, path, .. } in expected {
        // The file's own order is what its framework gives; an array that fits only a run's order is in that.
        let (of_file, of_run) = both_orders(network, output, name);
        let fits = |ordered: &Ordered<'_>| ordered.shape == array.shape;
        let of_file = of_file.filter(|of_file| args.axes == AxesOrder::File && (fits(of_file) || !fits(&of_run)));
        let Ordered { shape: mut got_shape, values } = of_file.unwrap_or(of_run);
        // A file's state of one row may be without the axis of rows, as it may be given.
        if states.contains(name) && got_shape[0] == 1 && got_shape[1..] == array.shape {
            got_shape.remove(0);
        }
        // An output of one feature may be without its axis.
        if let [outer @ .., 1] = &got_shape[..]
            && outer == array.shape
        {
            got_shape.pop();
        }
        if got_shape != array.shape {
            let path = path.display();
            return Err(format!("{path}: expected {got_shape:?} for `{name}`, got {:?}", array.shape).into());
        }
        // A framework's NaN is expected to be one here.
        let tolerance = args.tolerance.map_or(Tolerance::f32(steps), |atol| Tolerance { atol, rtol: 0.0 });
        let comparison = compare_with_nan(&values, &array.numbers, tolerance);
        failed |= !comparison.passed;
        let largest = array.numbers.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        table.row([
            name.clone(),
            shape(&got_shape),
            difference(comparison.max_error, &values, &array.numbers),
            format!("{largest:.3}"),
            if comparison.passed { good("pass") } else { bad("FAIL") },
        ]);
    }
    let verdict =
        if failed { bad("FAIL: not the expected output") } else { good("pass: the expected output, within tolerance") };
    report.text += &format!("\n{table}{verdict}\n");
    if failed && report.code != ERROR {
        report.code = FAILED;
    }
    Ok(())
}
