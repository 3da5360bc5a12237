//! Times per timestep over H as an SVG, both axes logarithmic, a line per strategy, device and kind of network.

use std::fmt::Write as _;

use super::Results;
use super::figures::Figures;
use crate::svg::{COLOURS, escaped, head};
use crate::units::shortened;

const WIDTH: f64 = 960.0;
const TOP: f64 = 72.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 32.0;
const HEIGHT: f64 = 400.0;
/// Between the plot and its legend.
const FOOT: f64 = 64.0;
const LINE: f64 = 22.0;
const DASHES: [&str; 3] = ["", "7 4", "2 3"];

struct Point {
    hidden: f64,
    median: f64,
    lower: f64,
    upper: f64,
}

struct Series {
    name: String,
    points: Vec<Point>,
}

/// An axis.
struct Log {
    from: f64,
    to: f64,
}

impl Log {
    /// An axis that covers all `values`, with a margin.
    fn around(values: impl Iterator<Item = f64> + Clone) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min).max(1e-9);
        let high = values.fold(low, f64::max);
        Self { from: low / 1.35, to: high * 1.35 }
    }

    /// Position of a value on the axis, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        (value.max(1e-9) / self.from).ln() / (self.to / self.from).ln()
    }

    /// Ticks: 1, 2 and 5 times the powers of ten, or only the powers if there are many.
    fn ticks(&self) -> Vec<f64> {
        let steps: &[f64] = if self.to / self.from > 3e3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let all = (-9..=12).flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
        all.filter(|tick| (self.from..=self.to).contains(tick)).collect()
    }
}

/// The picture.
pub fn svg(results: &Results) -> String {
    let series = series(results);
    let points = || series.iter().flat_map(|one| &one.points);
    let (x, y) = (
        Log::around(points().map(|point| point.hidden)),
        Log::around(points().flat_map(|point| [point.lower, point.upper])),
    );
    let (across, up) =
        (|h: f64| LEFT + x.place(h) * (WIDTH - LEFT - RIGHT), |t: f64| TOP + (1.0 - y.place(t)) * HEIGHT);
    #[expect(clippy::cast_precision_loss, reason = "a handful of lines")]
    let row = |index: usize| TOP + HEIGHT + FOOT + LINE * (index as f64 + 0.5);
    let total = row(series.len()) + 14.0;
    let bottom = TOP + HEIGHT;
    let what = format!("wall clock, median of {} runs; bars: quartiles", results.counts.runs);
    let mut text = head([WIDTH, total], LEFT, "Time per timestep", &what);
    let mut add = |line: String| {
        let _ = writeln!(text, "{line}"); // Writing to a string cannot fail.
    };
    for tick in y.ticks() {
        let (at, end) = (up(tick), WIDTH - RIGHT);
        add(format!("<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{end}\" y2=\"{at:.1}\" stroke=\"#e4e4e4\"/>"));
        add(format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>", LEFT - 10.0, at + 5.0));
    }
    let mut widths: Vec<f64> = points().map(|point| point.hidden).collect();
    widths.sort_by(f64::total_cmp);
    let mut last = f64::NEG_INFINITY;
    for hidden in widths {
        let at = across(hidden);
        if at - last < 44.0 {
            continue; // Labels would overlap; the point itself is there.
        }
        last = at;
        add(format!("<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"#f0f0f0\"/>"));
        add(format!("<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{hidden}</text>", bottom + 20.0));
    }
    add(format!("<path d=\"M{LEFT} {TOP}V{bottom}H{}\" fill=\"none\" stroke=\"#888\"/>", WIDTH - RIGHT));
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    add(format!("<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">hidden size H</text>", bottom + 44.0));
    let centre = TOP + HEIGHT / 2.0;
    add(format!(
        "<text transform=\"translate(24 {centre}) rotate(-90)\" text-anchor=\"middle\">µs per timestep</text>"
    ));
    for (index, one) in series.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let dash = DASHES[index / COLOURS.len() % DASHES.len()];
        add(format!("<g class=\"series\" stroke=\"{colour}\" fill=\"{colour}\" stroke-width=\"2\">"));
        add(format!("<title>{}</title>", escaped(&one.name)));
        let places = one.points.iter().map(|point| format!("{:.1},{:.1}", across(point.hidden), up(point.median)));
        let places = places.collect::<Vec<_>>().join(" ");
        add(format!("<polyline points=\"{places}\" fill=\"none\" stroke-dasharray=\"{dash}\"/>"));
        for point in &one.points {
            let (at, low, high) = (across(point.hidden), up(point.lower), up(point.upper));
            add(format!(
                "<path d=\"M{at:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h8M{:.1} {high:.1}h8\" stroke-width=\"1.4\"/>",
                at - 4.0,
                at - 4.0
            ));
            add(format!(
                "<circle cx=\"{at:.1}\" cy=\"{:.1}\" r=\"4\" stroke=\"#fff\" stroke-width=\"1\"/>",
                up(point.median)
            ));
        }
        let at = row(index);
        add(format!(
            "<path d=\"M{LEFT} {at:.1}h34\" stroke-dasharray=\"{dash}\"/><circle cx=\"{}\" cy=\"{at:.1}\" r=\"4\"/>",
            LEFT + 17.0
        ));
        add("</g>".into());
        let name = escaped(&shortened(&one.name, 100));
        add(format!("<text x=\"{}\" y=\"{:.1}\">{name}</text>", LEFT + 46.0, at + 5.0));
    }
    if series.is_empty() {
        add(format!("<text x=\"{middle}\" y=\"{centre}\" text-anchor=\"middle\">nothing was measured</text>"));
    }
    text + "</svg>\n"
}

/// Points that differ only in H form a line.
fn series(results: &Results) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for one in &results.measurements {
        let Some(wall) = Figures::of(one).wall else { continue };
        let (shape, info) = (&one.shape, &one.place.info);
        let layers = if shape.layers == 1 { String::new() } else { format!(" {} layers", shape.layers) };
        let both = if shape.bidirectional { " bidirectional" } else { "" };
        let name = format!("{}{layers}{both}, B {}, {}: {info}", shape.cell, shape.batch, one.strategy);
        #[expect(clippy::cast_precision_loss, reason = "places on paper")]
        let (hidden, steps) = (shape.hidden as f64, shape.steps as f64);
        let [median, lower, upper] = [wall.median, wall.lower, wall.upper].map(|time| time / steps);
        let point = Point { hidden, median, lower, upper };
        match all.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => all.push(Series { name, points: vec![point] }),
        }
    }
    for series in &mut all {
        series.points.sort_by(|a, b| a.hidden.total_cmp(&b.hidden));
    }
    all
}
