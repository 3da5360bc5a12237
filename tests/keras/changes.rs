//! Models with one option, name or array changed (`tests/goldens/generate_keras_mutations.py`): each is refused, or
//! answers as Keras does. What Keras refuses is refused here too.

use std::collections::BTreeMap;

use gatefold::compare::{Tolerance, compare};
use gatefold::formats::keras;
use gatefold::{Device, Input, Session};
use safetensors::SafeTensors;

use crate::bundle::{Files, file, unzip, zip};
use crate::support::{Golden, Outcome, Tally, bundle, cpu, far_apart};

/// f32 against f32; a network that was read wrongly is off by far more.
const TOLERANCE: Tolerance = Tolerance { atol: 2e-5, rtol: 1e-4 };

type Numbers = (Vec<f32>, Vec<usize>);

/// An entry of an archive in the place of the model's own, and Keras' answer, if it gives one.
struct Mutant {
    label: String,
    entry: (String, Vec<u8>),
    output: Option<Numbers>,
}

fn mutants(bytes: &[u8]) -> Vec<Mutant> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let golden = Golden::new(bytes);
    let mut mutants: BTreeMap<String, Mutant> = BTreeMap::new();
    for name in file.names() {
        let (label, part) = name.rsplit_once('|').unwrap();
        let mutant = mutants.entry(label.to_owned()).or_insert_with(|| Mutant {
            label: label.to_owned(),
            entry: Default::default(),
            output: None,
        });
        match part {
            "output" => mutant.output = golden.numbers(name),
            entry => mutant.entry = (entry.to_owned(), file.tensor(name).unwrap().data().to_vec()),
        }
    }
    mutants.into_values().collect()
}

fn answer(device: &Device, archive: &[u8], golden: &Golden<'_>) -> Result<Numbers, String> {
    let network = keras::from_bytes("mutant", archive).map_err(|error| error.to_string())?;
    let session = Session::new(device, &network).map_err(|error| error.to_string())?;
    let (numbers, ids) = (golden.numbers("input"), golden.ids("input"));
    let input = match (&numbers, &ids) {
        (Some((values, s)), _) => Input::features(values, [s[0], s[1], s[2]]),
        (_, Some((ids, s))) => Input::tokens(ids, [s[0], s[1]]),
        _ => panic!("no input"),
    };
    let output = session.run(input, None).map_err(|error| error.to_string())?;
    Ok((output.values, output.shape))
}

fn check(device: &Device, entries: &Files, expected: Option<&Numbers>, golden: &Golden<'_>) -> Outcome {
    let Ok((got, shape)) = answer(device, &zip(entries), golden) else { return Outcome::Refused };
    let Some((expected, expected_shape)) = expected else {
        return Outcome::Fault("Keras refuses it, gatefold answers".into());
    };
    if shape != *expected_shape {
        return Outcome::Fault(format!("expected {expected_shape:?}, got {shape:?}"));
    }
    let expected: Vec<f64> = expected.iter().map(|&x| x.into()).collect();
    let comparison = compare(&got, &expected, TOLERANCE);
    if comparison.passed { Outcome::Agrees } else { Outcome::Fault(format!("off by {:e}", comparison.max_error)) }
}

/// Calls `each` with every model's name, golden, entries and changes.
fn for_all(mut each: impl FnMut(&str, &Golden<'_>, &Files, Vec<Mutant>)) {
    for (name, bytes) in &bundle("keras_mutations.zip") {
        let name = name.strip_suffix(".safetensors").unwrap();
        let golden = Golden::new(file(&format!("{name}.golden.safetensors")));
        each(name, &golden, &unzip(file(&format!("{name}.keras"))), mutants(bytes));
    }
}

#[test]
fn every_change_is_answered_as_keras_does_or_refused() {
    let device = cpu();
    let mut tally = Tally::default();
    for_all(|name, golden, entries, mutants| {
        for Mutant { label, entry: (entry, data), output } in mutants {
            let mut entries = entries.clone();
            entries.insert(entry, data);
            tally.add(&format!("{name}, {label}"), check(&device, &entries, output.as_ref(), golden));
        }
    });
    tally.assert_right(250);
}

/// Negative control: the unchanged model in the place of one that answers something else must be seen.
#[test]
fn a_change_that_is_not_read_is_seen() {
    let device = cpu();
    let mut tried = 0;
    for_all(|name, golden, entries, mutants| {
        let (right, _) = golden.numbers("output").unwrap();
        for Mutant { label, output, .. } in mutants {
            if output.as_ref().is_some_and(|(numbers, _)| far_apart(numbers, &right, TOLERANCE)) {
                let outcome = check(&device, entries, output.as_ref(), golden);
                assert!(!matches!(outcome, Outcome::Agrees), "{name}, {label}: went unseen");
                tried += u32::from(matches!(outcome, Outcome::Fault(_)));
            }
        }
    });
    assert!(tried >= 100, "{tried}");
}
