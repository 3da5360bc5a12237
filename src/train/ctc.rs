//! CTC as the loss of a network.

use std::collections::BTreeMap;

use super::data::Batch;
use super::measured::Measured;
use super::options::TrainOptions;
use crate::base::bits;
use crate::base::error::{Error, Result};
use crate::data::input::Checked;
use crate::network::Network;
use crate::reference::{Counts, CtcInput, Loss, Reduction, Targets, ctc, ctc_best_path, ctc_least_steps, ctc_places};

/// Checks what CTC needs of a network and of the other options.
pub(super) fn check_ctc(network: &Network, options: &TrainOptions) -> Result<()> {
    let Loss::Ctc { blank } = options.loss else { return Ok(()) };
    if !network.output_is_sequence() {
        return Err(Error::option("loss", "a network whose output has a time dimension with CTC", &"one without"));
    }
    let classes = network.output_size();
    if usize::try_from(blank).ok().is_none_or(|blank| blank >= classes) {
        return Err(Error::option("blank", &format!("a class below {classes}"), &blank));
    }
    if options.label_smoothing != 0.0 {
        return Err(Error::option("label_smoothing", "0 with CTC", &options.label_smoothing));
    }
    if !options.class_weights.is_empty() {
        return Err(Error::option("class_weights", "none with CTC", &options.class_weights.len()));
    }
    match options.reduction {
        Reduction::WeightedMean => Ok(()),
        Reduction::Count => Err(Error::option("reduction", "the default with CTC", &"count")),
    }
}

/// The labels of the rows of a batch, and the steps of each row, once they fit the network.
fn checked_labels<'a>(
    checked: &Checked<'_>,
    shape: [usize; 3],
    blank: u32,
    batch: &Batch<'a>,
) -> Result<(Vec<&'a [u32]>, Vec<usize>)> {
    let Targets::Labels(labels) = batch.targets else {
        return Err(Error::option("targets", "the labels of each sequence with CTC", &"classes or numbers"));
    };
    if batch.weights.is_some() {
        return Err(Error::option("weights", "none with CTC", &"some"));
    }
    let lengths = lengths(checked, shape)?;
    let rows: Vec<&[u32]> = labels.iter().map(Vec::as_slice).collect();
    if rows.len() != lengths.len() {
        return Err(Error::shape("rows of labels [B]", lengths.len().to_string(), rows.len().to_string()));
    }
    for (row, (&length, labels)) in lengths.iter().zip(&rows).enumerate() {
        ctc_places(labels, (row, shape[2]), blank)?;
        let least = ctc_least_steps(labels);
        if least > length {
            let expected = format!("at least {least} steps for {} labels", labels.len());
            return Err(Error::shape(format!("labels of row {row}"), expected, length.to_string()));
        }
    }
    Ok((rows, lengths))
}

/// The loss of the logits `[T, B, C]` of a run; `d_logits` becomes their gradient. An answer is right if the labels on the
/// most probable path are those of the batch.
pub(super) fn ctc_loss(
    (logits, shape): (&[f32], [usize; 3]),
    checked: &Checked<'_>,
    blank: u32,
    batch: &Batch<'_>,
    d_logits: &mut Vec<f32>,
) -> Result<Measured> {
    let (labels, lengths) = checked_labels(checked, shape, blank, batch)?;
    let found = ctc(CtcInput { logits, shape, lengths: &lengths, labels: &labels, blank })?;
    let answers = ctc_best_path(logits, shape, &lengths, blank);
    let correct = answers.iter().zip(&labels).filter(|(answer, labels)| answer == *labels).count() as u64;
    d_logits.clear();
    d_logits.extend_from_slice(&found.d_logits);
    let counts = Counts { correct, counted: labels.len() as u64 };
    Ok(Measured { loss: found.value.into(), counts, ..Measured::default() })
}

/// In the words of a GPU's targets: set where a label is the first of its kind in its row.
const FIRST: u32 = 1 << 31;

/// Labels as `shaders/common/ctc.wgsl` reads them, with room for so many in each row.
pub(super) struct DeviceLabels {
    pub words: Vec<u32>,
    pub room: usize,
}

impl DeviceLabels {
    /// Those of a batch: of every row its steps, its number of labels, then pairs of a label and the position of the next
    /// equal one, counted from 1.
    pub fn new(checked: &Checked<'_>, shape: [usize; 3], blank: u32, batch: &Batch<'_>) -> Result<Self> {
        let (rows, lengths) = checked_labels(checked, shape, blank, batch)?;
        // Few sizes, so that few plans are made.
        let room = rows.iter().map(|labels| labels.len()).max().unwrap_or(0).next_power_of_two();
        let mut words = Vec::with_capacity(rows.len() * 2 * (1 + room));
        for (labels, length) in rows.iter().zip(lengths) {
            #[expect(clippy::cast_possible_truncation, reason = "a row has fewer than 2^31 steps")]
            words.extend([length as u32, labels.len() as u32]);
            let pairs = words.len();
            let mut latest = BTreeMap::<u32, usize>::new();
            for (index, &label) in labels.iter().enumerate() {
                words.extend([label, FIRST]);
                if let Some(earlier) = latest.insert(label, index) {
                    words[pairs + 2 * index + 1] = 0;
                    #[expect(clippy::cast_possible_truncation, reason = "as above")]
                    let next = index as u32 + 1;
                    words[pairs + 2 * earlier + 1] |= next;
                }
            }
            words.resize(pairs + 2 * room, 0);
        }
        Ok(Self { words, room })
    }
}

/// Steps of each row that count.
fn lengths(checked: &Checked<'_>, [steps, batch, _]: [usize; 3]) -> Result<Vec<usize>> {
    let Some(mask) = &checked.mask else { return Ok(vec![steps; batch]) };
    if steps != checked.steps {
        let what = "CTC with lengths or a mask behind a layer that changes the number of timesteps".into();
        return Err(Error::Unsupported { place: "options".into(), what });
    }
    let counts = |row: usize| move |step: &usize| mask[step * batch + row] & bits::VALID != 0;
    let of_row = |row: usize| {
        let length = (0..steps).take_while(counts(row)).count();
        match (length..steps).find(counts(row)) {
            Some(step) => {
                let got = format!("step {step} behind one that does not");
                Err(Error::shape(format!("mask of row {row}"), "the steps that count first with CTC", got))
            }
            None => Ok(length),
        }
    };
    (0..batch).map(of_row).collect()
}
