//! Right answers over bytes of state, and over the time of a step, as an SVG with a panel for each task.

use std::fmt::Write as _;

use super::learn::Training;
use super::models::Model;
use super::report::{Cause, Outcome};
use super::task::Task;
use crate::svg::{COLOURS, escaped, head};

const LEFT: f64 = 84.0;
/// Above the first panel: the title and the legend.
const TOP: f64 = 118.0;
const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 220.0;
/// Between two panels.
const ACROSS: f64 = 84.0;
const DOWN: f64 = 84.0;

/// One panel.
struct Panel<'a> {
    title: String,
    unit: &'static str,
    x: fn(&Outcome) -> f64,
    /// Where a network is drawn: the first table alone makes lines over bytes.
    outcomes: Vec<&'a Outcome>,
}

/// The picture.
pub fn svg(outcomes: &[Outcome], training: Training) -> String {
    let mut tasks: Vec<Task> = Vec::new();
    let mut models: Vec<Model> = Vec::new();
    for one in outcomes {
        if !tasks.contains(&one.task) {
            tasks.push(one.task);
        }
        if !models.contains(&one.model) {
            models.push(one.model);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a few panels")]
    let total = [LEFT + 2.0 * WIDTH + ACROSS + 32.0, TOP + tasks.len() as f64 * (HEIGHT + DOWN)];
    let what = format!("right answers after training for {training}; dashed: chance");
    let mut text = head(total, LEFT, "Memory of networks", &what);
    let colour = |model: Model| {
        let place = models.iter().position(|one| *one == model).unwrap_or_default();
        COLOURS[place % COLOURS.len()]
    };
    for (index, &model) in models.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a few kinds")]
        let at = LEFT + 140.0 * index as f64;
        let _ = writeln!(
            text,
            "<circle cx=\"{at}\" cy=\"78\" r=\"5\" fill=\"{}\"/><text x=\"{}\" y=\"83\">{}</text>",
            colour(model),
            at + 12.0,
            escaped(&model.to_string())
        );
    }
    for (row, &task) in tasks.iter().enumerate() {
        let of_task = |bytes: bool| {
            let all = outcomes.iter().filter(move |one| one.task == task);
            all.filter(|one| matches!(one.cause, Cause::Bytes(_)) == bytes).collect::<Vec<_>>()
        };
        let panels = [
            Panel {
                title: format!("{task}: networks of equal state"),
                unit: "bytes of state",
                x: Outcome::bytes,
                outcomes: of_task(true),
            },
            Panel {
                title: format!("{task}: all networks"),
                unit: "µs a step",
                x: |one| one.step_us,
                outcomes: [of_task(true), of_task(false)].concat(),
            },
        ];
        for (column, panel) in panels.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "a few panels")]
            let corner = [LEFT + column as f64 * (WIDTH + ACROSS), TOP + row as f64 * (HEIGHT + DOWN)];
            draw(&mut text, panel, corner, task.chance(), (&models, &colour));
        }
    }
    text + "</svg>\n"
}

fn draw(
    text: &mut String,
    panel: &Panel<'_>,
    [left, top]: [f64; 2],
    chance: f64,
    (models, colour): (&[Model], &dyn Fn(Model) -> &'static str),
) {
    let values = || panel.outcomes.iter().map(|one| (panel.x)(one).max(1e-3));
    let from = values().fold(f64::INFINITY, f64::min) / 1.2;
    let to = values().fold(from * 1.1, f64::max) * 1.2;
    let across = |x: f64| left + (x.max(1e-3) / from).ln() / (to / from).ln() * WIDTH;
    let up = |share: f64| top + (1.0 - share) * HEIGHT;
    let (bottom, end) = (top + HEIGHT, left + WIDTH);
    let mut add = |line: String| {
        let _ = writeln!(text, "{line}"); // Writing to a string cannot fail.
    };
    add(format!("<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{}</text>", top - 10.0, escaped(&panel.title)));
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let at = up(tick);
        add(format!("<path d=\"M{left} {at:.1}H{end}\" stroke=\"#e4e4e4\"/>"));
        add(format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{:.0} %</text>",
            left - 8.0,
            at + 5.0,
            100.0 * tick
        ));
    }
    let ticks = (-3..=7).flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power)));
    for tick in ticks.filter(|tick| (from..=to).contains(tick)) {
        let at = across(tick);
        add(format!("<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#f0f0f0\"/>"));
        add(format!("<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>", bottom + 20.0));
    }
    add(format!("<path d=\"M{left} {top}V{bottom}H{end}\" fill=\"none\" stroke=\"#888\"/>"));
    add(format!(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        left + WIDTH / 2.0,
        bottom + 42.0,
        panel.unit
    ));
    add(format!("<path d=\"M{left} {:.1}H{end}\" stroke=\"#888\" stroke-dasharray=\"4 4\"/>", up(chance)));
    for &model in models {
        let mut points: Vec<[f64; 2]> = panel
            .outcomes
            .iter()
            .filter(|one| one.model == model)
            .map(|one| [across((panel.x)(one)), up(one.learned.score.share())])
            .collect();
        points.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let colour = colour(model);
        add(format!("<g class=\"series\" stroke=\"{colour}\" fill=\"{colour}\">"));
        let line = points.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
        add(format!("<polyline points=\"{line}\" fill=\"none\" stroke-width=\"2\"/>"));
        for [x, y] in points {
            add(format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" stroke=\"#fff\"/>"));
        }
        add("</g>".into());
    }
}
