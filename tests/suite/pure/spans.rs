//! The spans that the feature `tracing` gives.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use gatefold::network::{LayerSpec, RecurrentSpec};
use gatefold::{Device, Input, Network, Session, StreamPool};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::common::{in_repository, spec};

/// Collects the names of spans.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<Vec<&'static str>>>, Arc<AtomicU64>);

impl Subscriber for Names {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "gatefold"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.0.lock().unwrap().push(span.metadata().name());
        Id::from_u64(self.1.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn names(work: impl FnOnce()) -> Vec<&'static str> {
    let names = Names::default();
    tracing::subscriber::with_default(names.clone(), work);
    names.0.lock().unwrap().clone()
}

#[test]
fn loading_runs_and_batches_have_spans() {
    let loaded = names(|| drop(Network::load(in_repository("models/sentiment/sentiment.safetensors")).unwrap()));
    assert_eq!(loaded, ["load"]);
    let network = Network::random(spec(vec![LayerSpec::Gru(RecurrentSpec::new("gru", 2, 3))]), 1).unwrap();
    let session = Session::new(&Device::cpu(), &network).unwrap();
    let input = Input::features(&[0.5; 8], [4, 1, 2]);
    assert_eq!(names(|| drop(session.run(input, None).unwrap())), ["run"]);
    let mut output = session.run(input, None).unwrap();
    assert_eq!(names(|| session.run_into(input, None, &mut output).unwrap()), ["run"]);
    assert_eq!(names(|| drop(pollster::block_on(session.run_async(input, None)).unwrap())), ["run"]);
    let pool = StreamPool::new(session, 1).unwrap();
    let stream = pool.open().unwrap();
    assert_eq!(names(|| drop(pool.advance(&[(stream, input)]).unwrap())), ["batch"]);
}
