//! The text that Prometheus reads at `/metrics`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gatefold::streams::Histogram;

use crate::app::App;
use crate::failure::Kind;
use crate::model::Loaded;
use crate::sequences::lock;

/// What the server counts beside its models.
#[derive(Default)]
pub struct Metrics {
    answers: Mutex<BTreeMap<u16, u64>>,
    errors: Mutex<BTreeMap<Kind, u64>>,
    pub connections: AtomicU64,
    pub accepted: AtomicU64,
}

impl Metrics {
    /// Counts an answer, and its error if it is one.
    pub fn count(&self, status: u16, error: Option<Kind>) {
        *lock(&self.answers).entry(status).or_default() += 1;
        if let Some(kind) = error {
            *lock(&self.errors).entry(kind).or_default() += 1;
        }
    }
}

/// A text in Prometheus' format, one family after the other.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(self.0, "# HELP gatefold_{name} {help}\n# TYPE gatefold_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(self.0, "gatefold_{name}{labels} {value}");
    }

    fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let mut below = 0;
        let ends = histogram.bounds().iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (end, count) in ends.zip(histogram.counts()) {
            below += count;
            self.sample(&format!("{name}_bucket"), &format!("{labels},le=\"{end}\""), below);
        }
        self.sample(&format!("{name}_sum"), labels, histogram.sum());
        self.sample(&format!("{name}_count"), labels, below);
    }
}

/// Everything that is counted.
pub fn text(app: &App) -> String {
    let mut text = Text::default();
    text.family("http_answers_total", "counter", "Answers by HTTP status.");
    for (status, count) in &*lock(&app.metrics.answers) {
        text.sample("http_answers_total", &format!("status=\"{status}\""), count);
    }
    text.family("errors_total", "counter", "Answers that are errors, by kind.");
    for (kind, count) in &*lock(&app.metrics.errors) {
        text.sample("errors_total", &format!("kind=\"{}\"", kind.name()), count);
    }
    text.family("connections", "gauge", "Open connections.");
    text.sample("connections", "", app.metrics.connections.load(Relaxed));
    text.family("connections_total", "counter", "Connections that were accepted.");
    text.sample("connections_total", "", app.metrics.accepted.load(Relaxed));
    // The names of models need no escapes.
    let models: Vec<(String, &Loaded)> =
        app.models.values().map(|model| (format!("model=\"{}\"", model.name), &**model)).collect();
    text.family("model_loads_total", "counter", "How often a model was loaded.");
    models.iter().for_each(|(labels, _)| text.sample("model_loads_total", labels, 1));
    text.family("model_loaded_timestamp_seconds", "gauge", "Unix time at which a model was loaded.");
    models.iter().for_each(|(labels, model)| text.sample("model_loaded_timestamp_seconds", labels, model.loaded_at()));
    text.family("infer_seconds", "histogram", "Time of inference requests, from the headers to the answer.");
    for (labels, model) in &models {
        let latency = lock(&model.latency).clone();
        text.histogram("infer_seconds", labels, &latency);
    }
    text.family("runs_total", "counter", "Runs of a network, batches of sequences included.");
    models.iter().for_each(|(labels, model)| text.sample("runs_total", labels, model.session.counters().runs));
    streams(&mut text, &models);
    text.0
}

/// What is counted of sequences and their queues.
fn streams(text: &mut Text, models: &[(String, &Loaded)]) {
    let streams: Vec<_> = models
        .iter()
        .filter_map(|(labels, model)| {
            let streams = model.streams.as_ref().ok()?;
            Some((labels, streams, streams.queue.counters(), streams.sequences.counts()))
        })
        .collect();
    let mut histogram = |name: &str, help: &str, of: &dyn Fn(usize) -> Histogram| {
        text.family(name, "histogram", help);
        for (at, (labels, ..)) in streams.iter().enumerate() {
            text.histogram(name, labels, &of(at));
        }
    };
    histogram("queue_wait_seconds", "Time that requests of sequences waited for their batch.", &|at| {
        streams[at].2.waited.clone()
    });
    histogram("batch_seconds", "Time of batches of sequences.", &|at| streams[at].2.ran.clone());
    histogram("batch_sequences", "Sequences of a batch.", &|at| streams[at].2.batches.clone());
    let mut numbers = |name: &str, kind: &str, help: &str, of: &dyn Fn(usize) -> u64| {
        text.family(name, kind, help);
        for (at, (labels, ..)) in streams.iter().enumerate() {
            text.sample(name, labels, of(at));
        }
    };
    numbers("sequences_open", "gauge", "Open sequences.", &|at| streams[at].3[0]);
    numbers("sequences_opened_total", "counter", "Sequences that were opened, forks included.", &|at| streams[at].3[1]);
    numbers("sequences_expired_total", "counter", "Sequences that ended because they were idle.", &|at| {
        streams[at].3[2]
    });
    numbers("queue_requests", "gauge", "Requests of sequences that wait.", &|at| streams[at].1.queue.waiting() as u64);
    numbers("queue_answered_total", "counter", "Requests of sequences that were answered.", &|at| {
        streams[at].2.answered
    });
    numbers("queue_failed_total", "counter", "Requests of sequences that failed.", &|at| streams[at].2.failed);
    numbers("queue_cancelled_total", "counter", "Requests of sequences whose clients went away.", &|at| {
        streams[at].2.cancelled
    });
    numbers("queue_refused_total", "counter", "Requests of sequences that found the queue full.", &|at| {
        streams[at].2.refused
    });
}
