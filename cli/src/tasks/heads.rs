//! A picture of what the heads of a memory do over time.

use std::fmt::Write as _;

use gatefold::{Device, Input, Network, Session, State};

use super::MemoryTask;
use super::generate::{Length, Made, Rules};
use crate::Result;
use crate::svg::{COLOURS, head};

const LEFT: f64 = 110.0;
const TOP: f64 = 74.0;
/// Between two panels.
const GAP: f64 = 26.0;
/// Side of a square, and height of a row of the memory.
const CELL: f64 = 9.0;
const ROW: f64 = 3.0;
/// Shares below it are not drawn.
const LEAST: f32 = 0.02;

/// What a network does at every step of a sequence.
struct Trace {
    made: Made,
    /// `[T, O]`, from 0 to 1.
    output: Vec<f32>,
    /// By step: the weights of all heads `[K, N]`; empty without a memory.
    weights: Vec<Vec<f32>>,
    /// K and N.
    shape: [usize; 2],
}

impl Trace {
    fn new(device: &Device, network: &Network, task: MemoryTask, length: Length, seed: u64) -> Result<Self> {
        let session = Session::new(device, network)?;
        let made = Made::of(task, length, 1, seed ^ 0x7e57);
        let width = Rules::of(task).inputs;
        let (mut state, mut output, mut weights, mut shape) =
            (State::initial(network, 1)?, Vec::new(), Vec::new(), [0; 2]);
        for x in made.x.chunks_exact(width) {
            let step = session.run(Input::features(x, [1, 1, width]), Some(&state))?;
            output.extend(step.values.iter().map(|x| 1.0 / (1.0 + (-x).exp())));
            state = step.state;
            if let Some(part) = state.layers.first().and_then(|layer| layer.part("weights")) {
                weights.push(part.data.clone());
                shape = [part.shape[2], part.shape[3]];
            }
        }
        Ok(Self { made, output, weights, shape })
    }
}

/// The picture: input, output and answer, and the weights of each head over the rows of the memory.
pub fn svg(device: &Device, network: &Network, task: MemoryTask, length: Length, seed: u64) -> Result<String> {
    let trace = Trace::new(device, network, task, length, seed)?;
    let rules = Rules::of(task);
    let steps = trace.made.shape[0];
    let [heads, rows] = trace.shape;
    let height = |count: usize, of_one: f64| {
        #[expect(clippy::cast_precision_loss, reason = "places on paper")]
        let count = count as f64;
        count * of_one
    };
    let bits = height(rules.inputs + 2 * rules.outputs, CELL) + 3.0 * GAP;
    let size = [LEFT + height(steps, CELL) + 40.0, TOP + bits + height(heads, rows_height(rows) + GAP) + 20.0];
    let what = format!("a sequence of {length}: time goes to the right");
    let mut text = head(size, 24.0, task.name(), &what);
    let mut top = TOP;
    let mut panel = |name: &str, lines: usize, of_line: f64, shade: &dyn Fn(usize, usize) -> f32, colour: &str| {
        let (width, full) = (height(steps, CELL), height(lines, of_line));
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{full:.1}\" fill=\"#f4f4f4\"/>",
            LEFT - 12.0,
            top + 12.0
        );
        for step in 0..steps {
            for line in 0..lines {
                let share = shade(step, line);
                if share >= LEAST {
                    let _ = writeln!(
                        text,
                        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{CELL}\" height=\"{of_line}\" fill=\"{colour}\" \
                         fill-opacity=\"{:.2}\"/>",
                        LEFT + height(step, CELL),
                        top + height(line, of_line),
                        share.min(1.0)
                    );
                }
            }
        }
        top += full + GAP;
    };
    let made = &trace.made;
    panel("input", rules.inputs, CELL, &|step, at| made.x[step * rules.inputs + at].abs(), "#444");
    let counts = |step: usize| made.weights[step] > 0.0;
    let outputs = rules.outputs;
    panel(
        "output",
        outputs,
        CELL,
        &|step, at| if counts(step) { trace.output[step * outputs + at] } else { 0.0 },
        "#444",
    );
    let answer = |step: usize, at: usize| if counts(step) && made.y[step * outputs + at] == 1 { 1.0 } else { 0.0 };
    panel("answer", outputs, CELL, &answer, "#444");
    for number in 0..heads {
        let reads = number < heads / 2;
        let name = if reads { format!("read {number}") } else { format!("write {}", number - heads / 2) };
        let colour = COLOURS[usize::from(!reads)];
        panel(&name, rows, ROW, &|step, row| trace.weights[step][number * rows + row], colour);
    }
    Ok(text + "</svg>\n")
}

fn rows_height(rows: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "places on paper")]
    let rows = rows as f64;
    rows * ROW
}
