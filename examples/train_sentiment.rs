//! Trains a classifier of sentences: Embedding, LSTM, Dense(softmax), categorical cross-entropy, Adam, accuracy; with a
//! validation set and early stopping. Then it is evaluated on sentences that it has not seen and used on two more.
//!
//! `cargo run --release --example train_sentiment -- reviews.csv`: a file with the columns `text` and `label`
//! (film reviews do best with `--dropout 0.5`). Without one the sentences are those that this program makes from a few words.
#![allow(clippy::print_stdout, reason = "an example talks")]

mod arguments;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use arguments::{Arguments, Result, finish};
use gatefold::network::{
    Activation, DenseSpec, EmbeddingSpec, Init, LayerSpec, RecurrentOutput, RecurrentSpec, Split, Standardize, TextSpec,
};
use gatefold::train::{Adam, Answers, Dataset, Dropout, Event, Fit, Loss, Next, TrainOptions, Trainer};
use gatefold::{Classifier, Device, DeviceChoice, Network, NetworkSpec, TextVectorizer};

const TEXTS: [&str; 2] = ["the music is never dull", "this story was really weak"];
const BATCH: usize = 32;

fn main() -> ExitCode {
    finish("train_sentiment", Arguments::read(&["--device", "--epochs", "--seed", "--dropout"]).and_then(run))
}

fn run((args, files): (Arguments, Vec<String>)) -> Result<()> {
    let (epochs, seed) = (args.get("--epochs", 12usize)?, args.get("--seed", 1u64)?);
    let dropout = args.get("--dropout", 0.2f32)?;
    let device = Device::open(&args.get("--device", DeviceChoice::Auto)?)?;
    let all = match files.as_slice() {
        [] => made_sentences(),
        [file] => read(file).map_err(|error| format!("{file}: {error}"))?,
        _ => return Err(format!("expected one file, got {}", files.len()).into()),
    };
    let labels: Vec<String> = all.iter().map(|(_, label)| label.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    let parts = divided(&all);
    if parts.iter().any(Vec::is_empty) {
        return Err(format!("expected at least 11 texts with the same label, got {} in all", all.len()).into());
    }
    let text = TextSpec {
        standardize: Standardize::LowerAndStripPunctuation,
        split: Split::Whitespace,
        vocabulary: vocabulary(&parts[0]),
        output_sequence_length: None,
    };
    let words = TextVectorizer::new(&text)?;
    let set = |part: &[&(String, String)]| {
        let class = |label: &String| labels.iter().zip(0..).find(|(known, _)| *known == label).map(|(_, class)| class);
        let classes = part.iter().filter_map(|(_, label)| class(label)).collect();
        Dataset::tokens(part.iter().map(|(text, _)| words.encode(text)).collect(), Answers::Classes(classes))
    };
    let [train, valid, test] = [set(&parts[0])?, set(&parts[1])?, set(&parts[2])?];

    let layers = vec![
        LayerSpec::Embedding(EmbeddingSpec {
            name: "embedding".into(),
            num_embeddings: text.vocabulary.len(),
            embedding_dim: 32,
            mask_zero: true,
        }),
        LayerSpec::Lstm(RecurrentSpec { output: RecurrentOutput::Last, ..RecurrentSpec::new("lstm", 32, 64) }),
        LayerSpec::Dense(DenseSpec {
            name: "dense".into(),
            in_features: 64,
            out_features: labels.len(),
            bias: true,
            activation: Activation::Linear,
        }),
        LayerSpec::Softmax,
    ];
    let network = Network::initialized(NetworkSpec { format: 1, layers, text: Some(text), labels }, Init::Keras, seed)?;
    let options = TrainOptions::new(Loss::CrossEntropy).optimizer(Adam::keras()).one_bias(true).seed(seed);
    let options = options.dropout(Dropout::channels("embedding", dropout)).dropout(Dropout::elements("lstm", dropout));
    let mut trainer = Trainer::new(&device, &network, options)?;
    println!("{} sentences to train on, {} to validate, {} to test", train.len(), valid.len(), test.len());
    let fitted = trainer.fit(&train, Some(&valid), &Fit::new(BATCH).epochs(epochs).patience(3), |event| {
        if let Event::Epoch { epoch, train, valid: Some(valid), .. } = event {
            let (loss, accuracy) = (valid.loss, 100.0 * valid.accuracy);
            println!("epoch {epoch:2}: loss {:.3}; validation loss {loss:.3}, accuracy {accuracy:.1} %", train.loss);
        }
        Next::Continue
    })?;
    let tested = trainer.evaluate_all(&test, BATCH)?;
    println!(
        "test, with epoch {}: loss {:.3}, accuracy {:.1} %",
        fitted.best_epoch,
        tested.loss,
        100.0 * tested.accuracy
    );
    let classifier = Classifier::new(&device, &*trainer.network()?)?;
    for (text, answer) in TEXTS.iter().zip(classifier.classify(&TEXTS)?) {
        println!("{:8} {:.3}  {text}", answer.label, answer.probability());
    }
    Ok(())
}

/// Texts with their labels from a CSV file.
fn read(file: &str) -> Result<Vec<(String, String)>> {
    let mut reader = csv::Reader::from_path(file)?;
    let header = reader.headers()?.clone();
    let column = |name: &str| header.iter().position(|found| found == name).ok_or(format!("expected a column {name}"));
    let (text, label) = (column("text")?, column("label")?);
    let mut all = Vec::new();
    for (record, number) in reader.records().zip(1..) {
        let record = record?;
        if TextVectorizer::words(&record[text]).next().is_none() {
            return Err(format!("expected words in text {number}, got {:?}", &record[text]).into());
        }
        all.push((record[text].to_owned(), record[label].to_owned()));
    }
    Ok(all)
}

/// Sentences on films that this program makes itself: `never` turns their meaning around.
fn made_sentences() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for subject in ["the film", "the plot", "the cast", "the ending", "this story", "the music", "the first half"] {
        for verb in ["is", "was", "feels"] {
            for adverb in ["", "very", "really", "quite", "never", "never really"] {
                for (good, bad) in [("good", "bad"), ("warm", "dull"), ("funny", "weak"), ("clever", "boring")] {
                    let labels = [("negative", bad), ("positive", good)];
                    let turned = usize::from(adverb.starts_with("never"));
                    for (at, (label, _)) in labels.into_iter().enumerate() {
                        let sentence = [subject, verb, adverb, labels[at ^ turned].1].join(" ");
                        all.push((sentence, label.to_owned()));
                    }
                }
            }
        }
    }
    all
}

/// The texts to train on, then every eleventh of each label to validate with, and as many to test.
fn divided(all: &[(String, String)]) -> [Vec<&(String, String)>; 3] {
    let (mut seen, mut parts) = (BTreeMap::new(), [const { Vec::new() }; 3]);
    for example in all {
        let number = seen.entry(&example.1).or_insert(0usize);
        *number += 1;
        parts[match *number % 11 {
            3 => 1,
            7 => 2,
            _ => 0,
        }]
        .push(example);
    }
    parts
}

/// Padding, the unknown word, and the 10,000 commonest words, those of equal count in order.
fn vocabulary(train: &[&(String, String)]) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    train
        .iter()
        .flat_map(|(text, _)| TextVectorizer::words(text))
        .for_each(|word| *counts.entry(word).or_default() += 1);
    let mut words: Vec<(String, usize)> = counts.into_iter().collect();
    words.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    ["", "[UNK]"].map(Into::into).into_iter().chain(words.into_iter().take(10_000).map(|(word, _)| word)).collect()
}
