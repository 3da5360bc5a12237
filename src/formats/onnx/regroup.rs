//! An axis' meaning through a reshape.

use super::value::{Axis, Dim, Tensor, product};

/// The labels of `tensor` in another shape: runs of its axes, each as long as a target says.
pub fn regrouped(tensor: &Tensor, batch: Dim, target: &[Dim]) -> Option<Vec<Axis>> {
    let mut axes = Vec::new();
    let dims = tensor.dims(batch);
    for (&axis, &size) in tensor.axes.iter().zip(&dims) {
        match axis {
            Axis::Unit => {}
            Axis::Rows { time_first } => {
                let (time, row) = ((Axis::Time, tensor.steps), (Axis::Batch, batch));
                axes.extend(if time_first { [time, row] } else { [row, time] });
            }
            axis => axes.push((axis, size)),
        }
    }
    let target: Vec<Dim> = target
        .iter()
        .enumerate()
        .map(|(at, &d)| if d == Dim::Known(0) { dims.get(at).copied().unwrap_or(Dim::Known(0)) } else { d })
        .collect();
    group(&axes, &target)
}

fn group(axes: &[(Axis, Dim)], target: &[Dim]) -> Option<Vec<Axis>> {
    let Some((&wanted, rest)) = target.split_first() else { return axes.is_empty().then(Vec::new) };
    let open = matches!(wanted, Dim::Any | Dim::Below(-1));
    let fits = |size: Dim| open || (size == wanted && size != Dim::Any);
    let with = |label: Axis, taken: usize| {
        let mut labels = group(&axes[taken..], rest)?;
        labels.insert(0, label);
        Some(labels)
    };
    let one = || axes.first().filter(|(_, size)| fits(*size)).and_then(|(axis, _)| with(*axis, 1));
    let two = || {
        let [(a, m), (b, n), ..] = axes else { return None };
        let label = match (a, b) {
            (Axis::Direction, Axis::Channel) => Axis::Channel,
            (Axis::Time, Axis::Batch) => Axis::Rows { time_first: true },
            (Axis::Batch, Axis::Time) => Axis::Rows { time_first: false },
            // One of them has size 1 and goes.
            (_, Axis::Channel) if *m == Dim::Known(1) => Axis::Channel,
            _ => return None,
        };
        if fits(product(*m, *n)) { with(label, 2) } else { None }
    };
    let none = || if wanted == Dim::Known(1) || open { with(Axis::Unit, 0) } else { None };
    // An axis of size 1 that a shape leaves out has lost its label.
    let dropped = || {
        axes.first()
            .filter(|(axis, size)| *size == Dim::Known(1) && *axis != Axis::Channel)
            .and_then(|_| group(&axes[1..], target))
    };
    one().or_else(two).or_else(none).or_else(dropped)
}
