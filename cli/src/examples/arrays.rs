//! Examples from the arrays of a safetensors file: one row of each array for an example.

use std::path::Path;

use safetensors::SafeTensors;

use super::{Answer, Example, Sequence};
use crate::Result;
use crate::args::{DataArgs, LossKind};
use crate::arrays::Array;
use crate::units::shortened;

/// The array that says how many timesteps of each row count; without it all do.
const LENGTHS: &str = "lengths";
/// What the numbers of a split mean.
const SPLITS: [&str; 3] = ["train", "validation", "test"];

struct Arrays<'a> {
    path: &'a Path,
    file: SafeTensors<'a>,
}

impl Arrays<'_> {
    fn error(&self, name: &str, expected: &str, got: &str) -> Box<dyn std::error::Error> {
        format!("{}: array `{name}`: expected {expected}, got {got}", self.path.display()).into()
    }

    fn array(&self, name: &str) -> Result<Array> {
        let names = || {
            let mut names = self.file.names();
            names.sort_unstable();
            shortened(&names.join(", "), 80)
        };
        let view = self.file.tensor(name).map_err(|_| self.error(name, "an array of this name", &names()))?;
        let wrong = || self.error(name, "F32, F64, I64, I32, U32 or U8", &format!("{:?}", view.dtype()));
        Array::of_tensor(&view).ok_or_else(wrong)
    }

    /// An array `[N, ..]` of `rows` rows, with one of these numbers of dimensions.
    fn of_rows(&self, name: &str, rows: usize, dimensions: std::ops::RangeInclusive<usize>) -> Result<Array> {
        let array = self.array(name)?;
        if dimensions.contains(&array.shape.len()) && array.shape[0] == rows {
            return Ok(array);
        }
        let (from, to) = (dimensions.start(), dimensions.end());
        let expected = if from == to { format!("{from}") } else { format!("{from} to {to}") };
        Err(self.error(name, &format!("{rows} rows and {expected} dimensions"), &format!("{:?}", array.shape)))
    }

    /// Numbers of one row as whole numbers from 0 on.
    fn integers(&self, name: &str, row: usize, numbers: &[f64]) -> Result<Vec<u32>> {
        let integer = |&number: &f64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "compared below")]
            let integer = number as u32;
            let same = f64::from(integer).total_cmp(&number).is_eq();
            let expected = "whole numbers from 0 on";
            same.then_some(integer).ok_or_else(|| self.error(name, expected, &format!("{number} in row {}", row + 1)))
        };
        numbers.iter().map(integer).collect()
    }
}

impl Array {
    fn row(&self, row: usize) -> &[f64] {
        let width = self.numbers.len() / self.shape[0].max(1);
        &self.numbers[row * width..][..width]
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a network reads f32")]
fn narrow(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|&number| number as f32).collect()
}

/// Reads the examples of `args` from the bytes of its file.
pub fn read(args: &DataArgs, bytes: &[u8]) -> Result<Vec<Example>> {
    let path = args.path();
    let failed = |error| format!("{}: expected a safetensors file, got {error}", path.display());
    let arrays = Arrays { path, file: SafeTensors::deserialize(bytes).map_err(failed)? };
    let (name, dimensions) = match (&args.tokens, &args.features) {
        (Some(name), _) => (name, 2..=2),
        (_, Some(name)) => (name, 2..=3),
        _ => {
            let path = path.display();
            return Err(format!("{path}: expected --tokens or --features, which name an array, got neither").into());
        }
    };
    let rows = arrays.array(name)?.shape.first().copied().unwrap_or(0);
    let sequences = arrays.of_rows(name, rows, dimensions)?;
    let (steps, width) = (sequences.shape[1], sequences.shape.get(2).copied().unwrap_or(1));
    let lengths = if arrays.file.tensor(LENGTHS).is_ok() { Some(arrays.of_rows(LENGTHS, rows, 1..=1)?) } else { None };
    let answers = match &args.labels {
        Some(name) => arrays.of_rows(name, rows, 2..=2)?,
        None if args.loss == LossKind::CrossEntropy => arrays.of_rows(&args.label, rows, 1..=1)?,
        None => arrays.of_rows(&args.label, rows, 1..=2)?,
    };
    let splits = args.split.as_ref().map(|name| arrays.of_rows(name, rows, 1..=1)).transpose()?;
    let example = |row: usize| -> Result<Example> {
        let one = |name: &str, array: &Array| {
            Ok::<_, Box<dyn std::error::Error>>(arrays.integers(name, row, array.row(row))?[0])
        };
        let length =
            lengths.as_ref().map_or(Ok(steps), |lengths| one(LENGTHS, lengths).map(|length| length as usize))?;
        if length > steps {
            return Err(arrays.error(
                LENGTHS,
                &format!("at most T = {steps}"),
                &format!("{length} in row {}", row + 1),
            ));
        }
        let numbers = &sequences.row(row)[..length * width];
        let sequence = match args.tokens {
            Some(_) => Sequence::Tokens(arrays.integers(name, row, numbers)?),
            None => Sequence::Features(narrow(numbers), width),
        };
        let answer = match (&args.labels, args.loss) {
            (Some(name), _) if answers.shape[1] == steps => {
                Answer::Steps(arrays.integers(name, row, &answers.row(row)[..length])?)
            }
            (Some(name), _) => {
                return Err(arrays.error(name, &format!("[{rows}, {steps}]"), &format!("{:?}", answers.shape)));
            }
            (None, LossKind::CrossEntropy) => Answer::Label(one(&args.label, &answers)?.to_string()),
            (None, _) => Answer::Numbers(narrow(answers.row(row))),
        };
        let split = match (&args.split, &splits) {
            (Some(name), Some(splits)) => {
                let split = one(name, splits)?;
                let known = SPLITS.get(split as usize).ok_or_else(|| {
                    arrays.error(name, "0 (train), 1 (validation) or 2 (test)", &format!("{split} in row {}", row + 1))
                })?;
                Some((*known).to_owned())
            }
            _ => None,
        };
        Ok(Example { sequence, answer, split, line: row as u64 + 1 })
    };
    (0..rows).map(example).collect()
}
