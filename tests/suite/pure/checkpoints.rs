//! Checkpoints: training that goes on from one comes to the same bits, and what is no checkpoint is refused.

use std::fs;
use std::path::Path;

use gatefold::network::Cell;
use gatefold::train::{
    Adagrad, Adam, AdamW, Clip, Convention, Dataset, Decay, Dropout, Event, Fit, Fitted, Loss, Next, Optimizer,
    RmsProp, Schedule, Sgd, TrainOptions, Trainer,
};
use gatefold::{Device, Error, Network};

use super::training::{summing, sums};

/// Dropout, clipping and a schedule around `optimizer`.
fn options(optimizer: impl Into<Optimizer>) -> TrainOptions {
    let mut optimizer = optimizer.into();
    // A number whose decimal form is long.
    optimizer.clip = Some(Clip::GlobalNorm { max: 0.1 + 0.2, convention: Convention::PyTorch });
    TrainOptions::new(Loss::CrossEntropy)
        .optimizer(optimizer)
        .schedule(Schedule { warm_up: 3, then: Decay::Cosine { steps: 40, lowest: 0.1 } })
        .dropout(Dropout::elements("cell", 0.3))
        .seed(9)
}

/// Events as text, bits of the numbers included.
#[derive(Debug, PartialEq)]
struct Done {
    fitted: Fitted,
    events: Vec<String>,
    weights: Vec<Vec<u32>>,
    last: Vec<u8>,
}

fn weights(network: &Network) -> Vec<Vec<u32>> {
    network.tensors().values().map(|tensor| tensor.data().iter().map(|x| x.to_bits()).collect()).collect()
}

/// A fit that is stopped behind `steps` steps.
fn fit(trainer: &mut Trainer, sets: (&Dataset, &Dataset), fit: &Fit, steps: usize) -> Done {
    let (mut left, mut events) = (steps, Vec::new());
    let fitted = trainer.fit(sets.0, Some(sets.1), fit, |event| {
        events.push(format!("{event:?}"));
        left -= usize::from(matches!(event, Event::Step { .. }));
        if left == 0 { Next::Stop } else { Next::Continue }
    });
    let last = fs::read(fit.checkpoint.as_ref().unwrap().join("last.safetensors")).unwrap();
    Done { fitted: fitted.unwrap(), events, weights: weights(&trainer.network().unwrap()), last }
}

/// 20 steps at once, and 20 with a stop behind `stops`. An epoch has 6 steps, the last batch is short.
fn both(options: &TrainOptions, stops: &[usize], folder: &Path) -> [Done; 2] {
    let (train, valid) = (sums(44, 5), sums(20, 6));
    let [whole, parts] =
        ["whole", "parts"].map(|name| Fit::new(8).epochs(50).patience(9).checkpoint(folder.join(name)));
    let network = summing(Cell::Lstm);
    let fresh = || Trainer::new(&Device::cpu(), &network, options.clone()).unwrap();
    let at_once = fit(&mut fresh(), (&train, &valid), &whole, 20);
    let mut done = fit(&mut fresh(), (&train, &valid), &parts, stops[0]);
    let ends = stops.iter().copied().chain([20]);
    for (from, to) in stops.iter().copied().zip(ends.skip(1)) {
        let mut trainer = Trainer::resume(&Device::cpu(), parts.checkpoint.as_ref().unwrap()).unwrap();
        assert_eq!(trainer.steps(), from as u64);
        let more = fit(&mut trainer, (&train, &valid), &parts, to - from);
        done = Done { events: [done.events, more.events].concat(), ..more };
    }
    [at_once, done]
}

#[test]
fn a_run_that_goes_on_comes_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    // In the middle of an epoch, behind the last step of one before its validation, behind the first of the next.
    for stops in [&[7][..], &[6], &[1, 6, 13], &[12, 19]] {
        let [at_once, parts] = both(&options(Adam { learning_rate: 0.02, ..Adam::default() }), stops, folder.path());
        assert_eq!(at_once.events, parts.events, "{stops:?}");
        assert!(at_once == parts, "{stops:?}: {:?}, {:?}", at_once.fitted, parts.fitted);
        assert_eq!(at_once.fitted.epochs, 3);
    }
    let best = Network::load(folder.path().join("parts/best.safetensors")).unwrap();
    let trained = Trainer::resume(&Device::cpu(), folder.path().join("parts/last.safetensors")).unwrap();
    assert_eq!(best.spec(), trained.network().unwrap().spec());
    assert_ne!(best, *trained.network().unwrap(), "the best epoch was not the last step");
}

#[test]
fn every_optimizers_state_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let momentum = 0.9;
    let mut value = Optimizer::from(AdamW::default());
    value.l2 = 1e-3;
    let optimizers = [
        Sgd::default().into(),
        Sgd { momentum, nesterov: true, ..Sgd::keras() }.into(),
        value,
        RmsProp { momentum, centered: true, ..RmsProp::default() }.into(),
        RmsProp::keras().into(),
        Adagrad::keras().into(),
    ];
    for optimizer in optimizers {
        let [at_once, parts] = both(&options(optimizer), &[7], folder.path());
        assert!(at_once == parts, "{optimizer:?}");
    }
}

/// Negative control: with the weights alone, or with one bit of the optimizer's state changed, a run comes to other bits.
#[test]
fn a_state_that_is_lost_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (train, valid) = (sums(44, 5), sums(20, 6));
    let options_of_both = || options(Adam { learning_rate: 0.02, ..Adam::default() });
    let options = options_of_both();
    let of = |name: &str| Fit::new(8).epochs(50).checkpoint(folder.path().join(name));
    let network = summing(Cell::Lstm);
    let at_once =
        fit(&mut Trainer::new(&Device::cpu(), &network, options.clone()).unwrap(), (&train, &valid), &of("a"), 20);
    fit(&mut Trainer::new(&Device::cpu(), &network, options.clone()).unwrap(), (&train, &valid), &of("b"), 7);
    let resumed = Trainer::resume(&Device::cpu(), folder.path().join("b")).unwrap();
    let mut weights_alone = Trainer::new(&Device::cpu(), &resumed.network().unwrap(), options).unwrap();
    let other = fit(&mut weights_alone, (&train, &valid), &of("b"), 13);
    assert_ne!(at_once.weights, other.weights);

    fit(&mut Trainer::new(&Device::cpu(), &network, options_of_both()).unwrap(), (&train, &valid), &of("b"), 7);
    let path = folder.path().join("b/last.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let start = 8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    let at = header["moment1.cell.weight_hh_l0"]["data_offsets"][0].as_u64().unwrap();
    // The highest bit of the mantissa of one number.
    bytes[start + usize::try_from(at).unwrap() + 2] ^= 0x40;
    fs::write(&path, bytes).unwrap();
    let other = fit(&mut Trainer::resume(&Device::cpu(), &path).unwrap(), (&train, &valid), &of("b"), 13);
    assert_ne!(at_once.weights, other.weights);
    assert_eq!(at_once.fitted.epochs, other.fitted.epochs);
}

/// A trainer outside of a fit: single steps go on, and a checkpoint that is read and written is the same file.
#[test]
fn single_steps_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    let set = sums(40, 5);
    let options = options(Adam::default());
    let mut trainer = Trainer::new(&Device::cpu(), &summing(Cell::Gru), options).unwrap();
    trainer.fit(&set, None, &Fit::new(8), |_| Next::Continue).unwrap();
    trainer.save_checkpoint(&path).unwrap();
    let mut resumed = Trainer::resume(&Device::cpu(), &path).unwrap();
    assert_eq!((resumed.steps(), resumed.options()), (5, trainer.options()));
    let again = folder.path().join("again.safetensors");
    resumed.save_checkpoint(&again).unwrap();
    assert!(fs::read(&path).unwrap() == fs::read(&again).unwrap());
    for trainer in [&mut trainer, &mut resumed] {
        trainer.fit(&set, None, &Fit::new(8), |_| Next::Continue).unwrap();
    }
    assert_eq!(weights(&trainer.network().unwrap()), weights(&resumed.network().unwrap()));
    assert_eq!(resumed.steps(), 10);
}

#[test]
fn a_checkpoint_comes_every_so_many_steps() {
    let folder = tempfile::tempdir().unwrap();
    let set = sums(40, 5);
    let mut trainer = Trainer::new(&Device::cpu(), &summing(Cell::Rnn), options(Adam::default())).unwrap();
    let last = folder.path().join("run/last.safetensors");
    let plan = Fit::new(8).checkpoint(folder.path().join("run")).checkpoint_steps(2);
    let mut seen = Vec::new();
    trainer
        .fit(&set, None, &plan, |_| {
            seen.push(Trainer::resume(&Device::cpu(), &last).map_or(0, |trainer| trainer.steps()));
            Next::Continue
        })
        .unwrap();
    // Before the checkpoint of the same step, and then the epoch's.
    assert_eq!(seen, [0, 0, 2, 2, 4, 4]);
    assert_eq!(Trainer::resume(&Device::cpu(), &last).unwrap().steps(), 5);
    assert!(!folder.path().join("run/best.safetensors").exists(), "without a validation set no epoch is the best");
    // It is over: no step follows, but for more epochs.
    let steps = |plan: &Fit| {
        let mut trainer = Trainer::resume(&Device::cpu(), &last).unwrap();
        trainer.fit(&set, None, plan, |_| Next::Continue).unwrap();
        trainer.steps()
    };
    assert_eq!((steps(&plan), steps(&plan.clone().epochs(2))), (5, 10));
}

#[test]
fn another_fit_does_not_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (train, valid) = (sums(44, 5), sums(20, 6));
    let plan = Fit::new(8).epochs(50).checkpoint(folder.path());
    fit(
        &mut Trainer::new(&Device::cpu(), &summing(Cell::Gru), options(Adam::default())).unwrap(),
        (&train, &valid),
        &plan,
        7,
    );
    let before = fs::read(folder.path().join("last.safetensors")).unwrap();
    let refused = |train: &Dataset, valid: Option<&Dataset>, plan: &Fit| {
        let mut trainer = Trainer::resume(&Device::cpu(), folder.path()).unwrap();
        trainer.fit(train, valid, plan, |_| Next::Continue).unwrap_err().to_string()
    };
    let error = refused(&train, Some(&valid), &Fit::new(4));
    assert_eq!(error, "option batch_size: expected 8, as in the checkpoint, got 4");
    let mut in_order = plan.clone();
    in_order.shuffle = false;
    assert_eq!(
        refused(&train, Some(&valid), &in_order),
        "option shuffle: expected true, as in the checkpoint, got false"
    );
    let error = refused(&sums(44, 7), Some(&valid), &plan);
    assert!(error.starts_with("training set: expected data ") && error.contains("as in the checkpoint"), "{error}");
    let error = refused(&train, None, &plan);
    assert!(error.starts_with("validation set: expected data ") && error.ends_with("got none"), "{error}");
    let error = refused(&train, Some(&valid), &Fit::new(8).checkpoint_steps(2));
    assert!(error.contains("checkpoint_steps") && error.contains("a checkpoint folder"), "{error}");
    let error = refused(&train, Some(&valid), &plan.clone().checkpoint_steps(0));
    assert!(error.contains("checkpoint_steps") && error.contains("at least 1"), "{error}");
    assert!(before == fs::read(folder.path().join("last.safetensors")).unwrap(), "a refusal writes nothing");
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let plan = Fit::new(8).epochs(50).checkpoint(folder.path());
    let (train, valid) = (sums(44, 5), sums(20, 6));
    fit(
        &mut Trainer::new(&Device::cpu(), &summing(Cell::Gru), options(Adam::default())).unwrap(),
        (&train, &valid),
        &plan,
        7,
    );
    let bytes = fs::read(at("last.safetensors")).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(at("other"), bytes).unwrap();
        Trainer::resume(&Device::cpu(), at("other")).unwrap_err()
    };
    assert!(matches!(Trainer::resume(&Device::cpu(), at("none")), Err(Error::Io { .. })));
    for end in [0, 7, 40, bytes.len() / 2, bytes.len() - 1] {
        let error = refused(&bytes[..end]);
        assert!(matches!(error, Error::Malformed { .. }), "{end}: {error}");
    }
    let error = refused(&fs::read(at("best.safetensors")).unwrap()).to_string();
    assert!(error.contains("expected a checkpoint") && error.contains("gatefold.checkpoint"), "{error}");
    let error = Network::load(at("last.safetensors")).unwrap_err().to_string();
    assert!(error.contains("expected a model file, got a checkpoint"), "{error}");
    // The same length, so that the header stays whole.
    let place_of = |part: &str| bytes.windows(part.len()).position(|window| window == part.as_bytes()).unwrap();
    let replaced = |from: &str, to: &str| {
        let place = place_of(from);
        let mut bytes = bytes.clone();
        bytes[place..place + from.len()].copy_from_slice(to.as_bytes());
        refused(&bytes).to_string()
    };
    let error = replaced(r#"{\"format\":2,"#, r#"{\"format\":7,"#);
    assert!(error.contains("a checkpoint of format 1 or 2") && error.contains("format 7, of gatefold"), "{error}");
    let error = replaced(r#"\"hidden_size\":16"#, r#"\"hidden_size\":17"#);
    assert!(error.contains("expected shape") || error.contains("expected"), "{error}");
    assert!(replaced("network.cell.weight_ih_l0", "network.cell.weight_ih_lx").contains("cell.weight_ih_l0"));
    assert!(replaced("best.cell.weight_ih_l0", "best.cell.weight_ih_lx").contains("cell.weight_ih_l0"));
    assert!(replaced("moment1.cell.weight_ih_l0", "moment2.cell.weight_ih_l0").contains("moment1.cell.weight_ih_l0"));
    assert!(replaced(r#"\"steps\":7"#, r#"\"steps\":x"#).contains("JSON of a checkpoint"));
    assert_eq!(Trainer::resume(&Device::cpu(), at("last.safetensors")).unwrap().steps(), 7, "the file itself is well");
    // The format before, which knew no carried state, is read.
    let [format, carries] = [r#"{\"format\":"#, r#",\"carries\":false"#];
    let mut older = bytes.clone();
    older[place_of(format) + format.len()] = b'1';
    // Spaces in its place, so that the header stays whole.
    older[place_of(carries)..][..carries.len()].fill(b' ');
    fs::write(at("other"), older).unwrap();
    assert_eq!(Trainer::resume(&Device::cpu(), at("other")).unwrap().steps(), 7);
}

/// Whatever bytes a file has, they are an error or a trainer.
#[test]
fn damaged_files_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let plan = Fit::new(8).epochs(50).checkpoint(folder.path());
    let (train, valid) = (sums(12, 5), sums(4, 6));
    fit(
        &mut Trainer::new(&Device::cpu(), &summing(Cell::Rnn), options(Adam::default())).unwrap(),
        (&train, &valid),
        &plan,
        3,
    );
    let bytes = fs::read(&path).unwrap();
    let header = 8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    let mut taken = 0;
    for _ in 0..2000 {
        let mut damaged = bytes.clone();
        damaged[rng.usize(8..header)] = b"0123456789\",:{}[]- ex"[rng.usize(..21)];
        fs::write(&path, damaged).unwrap();
        if let Ok(mut trainer) = Trainer::resume(&Device::cpu(), &path) {
            taken += 1;
            let _ = trainer.fit(&train, Some(&valid), &Fit::new(8).epochs(3).patience(2), |_| Next::Stop);
        }
    }
    assert!(taken > 20, "only {taken} were taken");
}

/// A disk that is full is an error of the fit.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join("last.safetensors")).unwrap();
    let mut trainer = Trainer::new(&Device::cpu(), &summing(Cell::Rnn), options(Adam::default())).unwrap();
    let plan = Fit::new(8).checkpoint(folder.path());
    let error = trainer.fit(&sums(16, 5), None, &plan, |_| Next::Continue).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path.ends_with("last.safetensors")), "{error}");
    let error = trainer.save_checkpoint("/dev/full").unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    // A file where the folder should be.
    fs::write(folder.path().join("file"), "").unwrap();
    let plan = Fit::new(8).checkpoint(folder.path().join("file"));
    assert!(matches!(trainer.fit(&sums(16, 5), None, &plan, |_| Next::Continue), Err(Error::Io { .. })));
}
