//! Log messages: plans, a fall-back, the loss of a device; and that the counters agree.

use std::sync::{Mutex, OnceLock};

use gatefold::network::{LayerSpec, RecurrentSpec};
use gatefold::{Device, Error, Network, PlanOptions, RandomInput, Session, State, Strategy, StreamPool};
use log::{Level, Log, Metadata, Record};

use crate::common::{device, lstm, own_device, spec};

/// A log that keeps the messages of this crate.
#[derive(Default)]
struct Messages(Mutex<Vec<(Level, String)>>);

impl Log for Messages {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("gatefold")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push((record.level(), record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// The messages that are logged while `work` runs.
fn during(work: impl FnOnce()) -> Vec<(Level, String)> {
    static MESSAGES: OnceLock<Messages> = OnceLock::new();
    let messages = MESSAGES.get_or_init(Messages::default);
    // From the second call on, the log is already set.
    let _ = log::set_logger(messages);
    log::set_max_level(log::LevelFilter::Debug);
    messages.0.lock().unwrap().clear();
    work();
    messages.0.lock().unwrap().clone()
}

fn said(events: &[(Level, String)], level: Level, words: &str) -> bool {
    events.iter().any(|(of, text)| *of == level && text.contains(words))
}

#[test]
fn plans_fallbacks_and_losses_are_logged() {
    let device = device();
    let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(9, 64))]), 3).unwrap();
    let input = RandomInput::new(&network, 30, 2, 4).unwrap();

    let resident = PlanOptions::default().strategy(Strategy::Resident).units(8).split(1).spins(1);
    for (options, falls_back) in [(resident, true), (PlanOptions::default().strategy(Strategy::Step), false)] {
        let session = Session::with_options(device, &network, options).unwrap();
        let run = || drop(session.run(input.as_input(), None).unwrap());
        let events = during(run);
        assert!(said(&events, Level::Debug, "plan for T = 30, B = 2"), "{events:?}");
        assert_eq!(said(&events, Level::Warn, "a resident run timed out"), falls_back, "{events:?}");
        let counters = session.counters();
        assert_eq!((counters.fall_backs, counters.runs), if falls_back { (1, 2) } else { (0, 1) });
        // The plan is ready, and no workgroup waits again.
        let events = during(run);
        assert!(events.is_empty(), "{events:?}");
        assert_eq!(session.counters().fall_backs, counters.fall_backs);
    }

    let (_instance, own, queue) = own_device(device.info());
    let layers = vec![LayerSpec::Gru(RecurrentSpec::new("gru", 9, 5))];
    let small = Network::random(spec(layers), 1).unwrap();
    let session = Session::new(&Device::from_wgpu(own.clone(), queue), &small).unwrap();
    let pool = StreamPool::new(session, 1).unwrap();
    let id = pool.open().unwrap();
    let events = during(|| {
        pool.open().unwrap();
    });
    assert!(said(&events, Level::Debug, "a pool grew from 1 to 2 states"), "{events:?}");
    let state = State::initial(&small, 1).unwrap();
    own.destroy();
    let events = during(|| assert!(matches!(pool.restore(id, &state), Err(Error::DeviceLost { .. }))));
    assert!(said(&events, Level::Error, "lost while writing states"), "{events:?}");
    let events = during(|| assert!(matches!(pool.restore(id, &state), Err(Error::DeviceLost { .. }))));
    assert!(events.is_empty(), "it is said once: {events:?}");
}
