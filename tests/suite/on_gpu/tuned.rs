//! Measured choices: made, kept, applied, refused on another adapter.

use gatefold::network::{LayerSpec, RecurrentSpec};
use gatefold::tuning::{Tuning, tune};
use gatefold::{Arithmetic, DeviceInfo, Error, Network, PlanOptions, RandomInput, Session, Strategy, verify};

use crate::common::{device, lstm, spec};

fn network() -> Network {
    Network::random(spec(vec![LayerSpec::Lstm(RecurrentSpec { num_layers: 2, ..lstm(6, 12) })]), 3).unwrap()
}

#[test]
fn what_was_measured_is_what_runs() {
    let device = device();
    let network = network();
    let measured = tune(device, &network, Arithmetic::F32, 20, 2, 2).unwrap().expect("a GPU has choices");
    assert!(measured.microseconds > 0.0 && measured.microseconds <= measured.untuned_microseconds);
    // Another choice than the plan's own, so that following it can be seen.
    let own = Session::new(device, &network).unwrap().plan(20, 2).unwrap().unwrap().choices[0].strategy;
    let other = if own == Strategy::Tile { Strategy::Step } else { Strategy::Tile };
    let mut tuning = Tuning::new(device.info());
    tuning.keep(measured.clone());
    tuning.keep(gatefold::tuning::Tuned {
        strategy: other,
        split: None,
        units: None,
        four_rows: None,
        held: None,
        ..measured
    });
    assert_eq!(tuning.entries().len(), 1, "a later result takes the place of an earlier one");
    let path = tempfile::tempdir().unwrap();
    let path = path.path().join("tuning.json");
    tuning.save(&path).unwrap();
    let tuned = device.clone().tuned(Tuning::load(&path).unwrap()).unwrap();
    let session = Session::new(&tuned, &network).unwrap();
    let choice = |steps, batch| session.plan(steps, batch).unwrap().unwrap().choices[0].clone();
    assert_eq!(choice(20, 2).strategy, other);
    assert!(choice(20, 2).reason.starts_with("measured to be the fastest"), "{}", choice(20, 2).reason);
    // The same power of two stands for it; another one, or another batch, does not.
    assert_eq!(choice(32, 2).strategy, other);
    assert_eq!((choice(33, 2).strategy, choice(20, 3).strategy), (own, own));
    let input = RandomInput::new(&network, 20, 2, 4).unwrap();
    assert!(verify(&session, &network, input.as_input(), None).unwrap().passed());
    // A strategy that the caller sets takes precedence.
    let options = PlanOptions::default().strategy(Strategy::Sequence);
    let forced = Session::with_options(&tuned, &network, options).unwrap();
    assert_eq!(forced.plan(20, 2).unwrap().unwrap().choices[0].strategy, Strategy::Sequence);
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let device = device();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tuning.json");
    let error = Tuning::load(&path).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    let refused = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Tuning::load(&path).unwrap_err().to_string()
    };
    assert!(refused("{").contains("what `gatefold tune` writes"));
    assert!(refused("{\"format\": 2}").contains("missing field"));
    Tuning::new(device.info()).save(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let older = text.replace(&format!("\"{version}\""), "\"0.0.9\"");
    assert_ne!(older, text);
    assert!(refused(&older).contains("format 2 of gatefold 0.0.9"));
    let mut elsewhere = DeviceInfo::clone(device.info());
    elsewhere.name = "another GPU".into();
    let error = device.clone().tuned(Tuning::new(&elsewhere)).unwrap_err().to_string();
    assert!(error.contains("another GPU") && error.contains(&device.info().name), "{error}");
}

#[test]
fn some_workgroup_runs() {
    let device = device();
    let count = device.workgroups_at_once().unwrap().expect("a GPU has workgroups");
    eprintln!("{count} workgroups at once");
    assert!((1..=4096).contains(&count), "{count}");
    assert_eq!(gatefold::Device::cpu().workgroups_at_once().unwrap(), None);
}

/// A run goes to the CPU where that was measured to be faster and the choice was free, and only there.
#[test]
fn what_is_faster_on_the_cpu_goes_there() {
    let device = device();
    let network = network();
    let mut measured = tune(device, &network, Arithmetic::F32, 8, 1, 1).unwrap().expect("a GPU has choices");
    measured.microseconds = 2.0 * measured.cpu_microseconds;
    assert!(measured.prefers_cpu().is_some());
    let mut tuning = Tuning::new(device.info());
    tuning.keep(measured.clone());
    let input = RandomInput::new(&network, 8, 1, 1).unwrap();
    let chosen = Session::new(&device.clone().tuned(tuning.clone()).unwrap(), &network).unwrap();
    assert_eq!(chosen.prefers_cpu(8, 1), None, "the caller chose this device");
    assert_eq!(&chosen.run(input.as_input(), None).unwrap().device, device.info());
    assert_eq!(chosen.counters().runs_on_cpu, 0);
    // The device that `auto` takes, if it is the one under test.
    let free = gatefold::Device::open(&gatefold::DeviceChoice::Auto).unwrap();
    if free.info() != device.info() {
        eprintln!("the free choice is seen by the command's test of `tune` alone: auto is {}", free.info());
        return;
    }
    let session = Session::new(&free.tuned(tuning).unwrap(), &network).unwrap();
    let output = session.run(input.as_input(), None).unwrap();
    assert_eq!((output.device.to_string().as_str(), session.counters().runs_on_cpu), ("CPU", 1));
    measured.microseconds = 0.5 * measured.cpu_microseconds;
    assert_eq!(measured.prefers_cpu(), None);
}
