//! Loss and accuracy over the epochs as an SVG.

use std::fmt::Write as _;
use std::time::Duration;

use super::log::EpochRow;
use crate::svg::{COLOURS, escaped, head};
use crate::units::{count, duration};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 32.0;
/// Above the first panel.
const TOP: f64 = 104.0;
const HEIGHT: f64 = 260.0;
/// Between two panels, and below the last.
const GAP: f64 = 64.0;

/// One plot: its title and the lines in it, a value for each row.
struct Panel<'a> {
    title: &'a str,
    lines: [Vec<Option<f64>>; 2],
}

/// What the two lines of a panel are.
const LINES: [&str; 2] = ["train (with dropout)", "validation"];

/// An even axis.
struct Axis {
    from: f64,
    to: f64,
    /// Between two ticks: 1, 2 or 5 times a power of ten.
    step: f64,
}

impl Axis {
    /// Covers all `values` from tick to tick.
    fn around(values: impl Iterator<Item = f64> + Clone) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low.is_finite() && high.is_finite() { (low, high) } else { (0.0, 1.0) };
        let range = (high - low).max(low.abs() * 1e-3).max(1e-9);
        let power = 10_f64.powf((range / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| range / step <= 6.0);
        let step = step.unwrap_or(power);
        let from = (low / step).floor() * step;
        let to = ((high / step).ceil() * step).max(from + step);
        Self { from, to, step }
    }

    /// Position of a value on the axis, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        (value - self.from) / (self.to - self.from)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (from, to, step) = (self.from, self.to, self.step);
        (0..12).map(move |index| from + f64::from(index) * step).take_while(move |tick| *tick <= to + step / 2.0)
    }

    /// As many digits as the ticks differ in.
    fn label(&self, tick: f64) -> String {
        let digits = (0..9).find(|&digits| self.step * 10_f64.powi(digits) >= 0.999).unwrap_or(9);
        format!("{tick:.*}", usize::try_from(digits).unwrap_or_default())
    }
}

/// The picture of `rows`, of which there is at least one.
pub fn svg(title: &str, rows: &[EpochRow]) -> String {
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    let lines = |of: [fn(&EpochRow) -> Option<f64>; 2]| of.map(|of| rows.iter().map(|row| finite(of(row))).collect());
    let panels = [
        Panel { title: "loss", lines: lines([|row| Some(row.loss), |row| row.validation_loss]) },
        Panel {
            title: "accuracy, %",
            lines: lines([|row| row.accuracy.map(|x| 100.0 * x), |row| row.validation_accuracy.map(|x| 100.0 * x)]),
        },
    ];
    let panels: Vec<&Panel> = panels.iter().filter(|panel| panel.lines.iter().flatten().any(Option::is_some)).collect();
    #[expect(clippy::cast_precision_loss, reason = "two panels")]
    let top = |index: usize| TOP + (HEIGHT + GAP) * index as f64;
    let time = Duration::try_from_secs_f64(rows.last().map_or(0.0, |row| row.seconds)).unwrap_or_default();
    let what = format!("{} in {}", count(rows.len(), "epoch"), duration(time));
    let mut text = head([WIDTH, top(panels.len())], LEFT, title, &what);
    for (index, (name, colour)) in LINES.iter().zip(COLOURS).enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "two lines")]
        let at = LEFT + 220.0 * index as f64;
        let _ = writeln!(
            text,
            "<path d=\"M{at} 78h34\" stroke=\"{colour}\" stroke-width=\"2\"/><text x=\"{}\" y=\"83\">{}</text>",
            at + 44.0,
            escaped(name)
        );
    }
    let best = rows.iter().rfind(|row| row.best && row.validation_loss.is_some());
    if best.is_some() {
        let at = LEFT + 400.0;
        let _ = writeln!(
            text,
            "<path d=\"M{at} 78h34\" stroke=\"#888\" stroke-dasharray=\"3 4\"/><text x=\"{}\" y=\"83\">best epoch</text>",
            at + 44.0
        );
    }
    for (index, panel) in panels.into_iter().enumerate() {
        draw(&mut text, panel, top(index), rows, best.map(|row| row.epoch));
    }
    text + "</svg>\n"
}

fn draw(text: &mut String, panel: &Panel<'_>, top: f64, rows: &[EpochRow], best: Option<usize>) {
    #[expect(clippy::cast_precision_loss, reason = "places on paper")]
    let epoch = |epoch: usize| epoch as f64;
    let epochs = rows.iter().map(|row| epoch(row.epoch));
    let (first, last) = (epochs.clone().fold(f64::INFINITY, f64::min), epochs.fold(1.0, f64::max));
    let across = |x: f64| LEFT + (x - first) / (last - first).max(1.0) * (WIDTH - LEFT - RIGHT);
    let y = Axis::around(panel.lines.iter().flatten().flatten().copied());
    let up = |value: f64| top + (1.0 - y.place(value)) * HEIGHT;
    let (bottom, end) = (top + HEIGHT, WIDTH - RIGHT);
    let mut add = |line: String| {
        let _ = writeln!(text, "{line}"); // Writing to a string cannot fail.
    };
    for tick in y.ticks() {
        let at = up(tick);
        add(format!("<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{end}\" y2=\"{at:.1}\" stroke=\"#e4e4e4\"/>"));
        let label = y.label(tick);
        add(format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 10.0, at + 5.0));
    }
    let mut taken = f64::NEG_INFINITY;
    for row in rows {
        let at = across(epoch(row.epoch));
        if at - taken >= 40.0 {
            taken = at;
            add(format!("<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>", bottom + 20.0, row.epoch));
        }
    }
    if let Some(best) = best {
        let at = across(epoch(best));
        add(format!(
            "<path class=\"best\" d=\"M{at:.1} {top}V{bottom}\" stroke=\"#888\" stroke-dasharray=\"3 4\">\
             <title>best epoch: {best}</title></path>"
        ));
    }
    add(format!("<path d=\"M{LEFT} {top}V{bottom}H{end}\" fill=\"none\" stroke=\"#888\"/>"));
    let (middle, centre) = ((LEFT + end) / 2.0, top + HEIGHT / 2.0);
    add(format!("<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">epoch</text>", bottom + 40.0));
    let title = escaped(panel.title);
    add(format!("<text transform=\"translate(24 {centre}) rotate(-90)\" text-anchor=\"middle\">{title}</text>"));
    for (values, colour) in panel.lines.iter().zip(COLOURS) {
        let points: Vec<(f64, f64)> = rows
            .iter()
            .zip(values)
            .filter_map(|(row, value)| Some((across(epoch(row.epoch)), up((*value)?))))
            .collect();
        let places: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let places = places.join(" ");
        add(format!("<polyline points=\"{places}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"));
        if points.len() <= 40 {
            for (x, y) in points {
                add(format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_go_from_tick_to_tick() {
        let axis = Axis::around([0.31, 0.69].into_iter());
        let labels: Vec<String> = axis.ticks().map(|tick| axis.label(tick)).collect();
        assert_eq!(labels, ["0.3", "0.4", "0.5", "0.6", "0.7"]);
        let axis = Axis::around([98.0, 98.0].into_iter());
        assert!(axis.place(98.0) >= 0.0 && axis.place(98.0) <= 1.0 && axis.ticks().count() > 1);
        let none = Axis::around(std::iter::empty());
        assert!((none.place(0.0), none.place(1.0)) == (0.0, 1.0));
    }
}
