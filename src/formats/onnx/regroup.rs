//! An axis' meaning through a reshape.

use super::value::{AxisLabel, Dim, LabelledTensor, product};

/// The labels of `tensor` in another shape: runs of its axes, each as long as a target says.
pub fn regrouped(tensor: &LabelledTensor, batch: Dim, target: &[Dim]) -> Option<Vec<AxisLabel>> {
    let mut axes = Vec::new();
    let stacked = tensor.stacked();
    let dims = tensor.dims(batch);
    for (&axis, &size) in tensor.axes.iter().zip(&dims) {
        match axis {
            AxisLabel::Unit => {}
            AxisLabel::Rows { time_first } => {
                let (time, row) = ((AxisLabel::Time, tensor.steps), (AxisLabel::Batch, batch));
                axes.extend(if time_first { [time, row] } else { [row, time] });
            }
            AxisLabel::BatchHeads => {
                axes.extend([(AxisLabel::Batch, batch), (AxisLabel::Head, Dim::Known(tensor.heads()))]);
            }
            // One axis of all states may become one of the layers and one of their directions.
            AxisLabel::Direction
                if stacked > 1 && !tensor.axes.contains(&AxisLabel::Stack) && target.len() > tensor.axes.len() =>
            {
                let directions = Dim::Known(tensor.directions() / stacked);
                axes.extend([(AxisLabel::Stack, Dim::Known(stacked)), (AxisLabel::Direction, directions)]);
            }
            axis => axes.push((axis, size)),
        }
    }
    let target: Vec<Dim> = target
        .iter()
        .enumerate()
        .map(|(at, &d)| if d == Dim::Known(0) { dims.get(at).copied().unwrap_or(Dim::Known(0)) } else { d })
        .collect();
    let cut = axes.iter().any(|(axis, _)| *axis == AxisLabel::Head);
    group(&axes, &target, cut)
}

/// `cut` says that the channels are in parts. Then a size that is computed is that of two axes: sizes of one are known as such.
fn group(axes: &[(AxisLabel, Dim)], target: &[Dim], cut: bool) -> Option<Vec<AxisLabel>> {
    let Some((&wanted, rest)) = target.split_first() else {
        return axes.iter().all(|(_, size)| *size == Dim::Known(1)).then(Vec::new);
    };
    let open = matches!(wanted, Dim::Any | Dim::Below(-1));
    let fits = |size: Dim| open || (size == wanted && size != Dim::Any);
    let with = |label: AxisLabel, taken: usize| {
        let mut labels = group(&axes[taken..], rest, cut)?;
        labels.insert(0, label);
        Some(labels)
    };
    let of_two = cut && wanted == Dim::Any;
    let one = || axes.first().filter(|(_, size)| fits(*size) && !of_two).and_then(|(axis, _)| with(*axis, 1));
    let two = || {
        let [(a, m), (b, n), ..] = axes else { return None };
        let label = match (a, b) {
            (AxisLabel::Direction | AxisLabel::Head, AxisLabel::Channel) => AxisLabel::Channel,
            (AxisLabel::Channel, AxisLabel::Head) => AxisLabel::Channel,
            (AxisLabel::Batch, AxisLabel::Head) => AxisLabel::BatchHeads,
            (AxisLabel::Time, AxisLabel::Batch) => AxisLabel::Rows { time_first: true },
            (AxisLabel::Batch, AxisLabel::Time) => AxisLabel::Rows { time_first: false },
            // One of them has size 1 and goes.
            (_, AxisLabel::Channel) if *m == Dim::Known(1) => AxisLabel::Channel,
            _ => return None,
        };
        if fits(product(*m, *n)) { with(label, 2) } else { None }
    };
    let none = || if wanted == Dim::Known(1) || (open && !of_two) { with(AxisLabel::Unit, 0) } else { None };
    // An axis of size 1 that a shape leaves out has lost its label.
    let dropped =
        || axes.first().filter(|(_, size)| *size == Dim::Known(1)).and_then(|_| group(&axes[1..], target, cut));
    // The only row's axis goes where another takes its place.
    let moved = || axes.first().filter(|(axis, _)| *axis == AxisLabel::Batch).and_then(|_| dropped());
    one().or_else(moved).or_else(two).or_else(none).or_else(dropped)
}
