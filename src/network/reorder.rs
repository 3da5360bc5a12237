//! Numbers in another order of their axes.

use super::Axis;

/// `values` of the axes and shape `from` with the axes `to`, where both hold the same numbers; else `None`. Directions lie
/// side by side in the features, `directions` of them. With `row_of_batch` it is that row alone.
pub(crate) fn reorder(
    values: &[f32],
    (from, shape): (&[Axis], &[usize]),
    (to, row_of_batch): (&[Axis], Option<i64>),
    directions: usize,
) -> Option<(Vec<usize>, Vec<f32>)> {
    if from.len() != shape.len() || shape.iter().product::<usize>() != values.len() || values.is_empty() {
        return None;
    }
    let place = |wanted: Axis| from.iter().position(|&axis| axis == wanted);
    let of = |wanted: Axis| place(wanted).map_or((1, 0), |at| (shape[at], shape[at + 1..].iter().product::<usize>()));
    let [(steps, step), (batch, row), (width, feature)] = [Axis::Time, Axis::Batch, Axis::Feature].map(of);
    let (first, rows) = match row_of_batch {
        None => (0, batch),
        Some(index) => {
            let from_end = usize::try_from(index.unsigned_abs()).ok()?;
            let at = if index < 0 { batch.checked_sub(from_end)? } else { from_end };
            (at.checked_mul(row).filter(|_| at < batch)?, 1)
        }
    };
    let parts = to.iter().find_map(|axis| match axis {
        Axis::Direction => Some(directions),
        Axis::Part(count) => Some(*count),
        _ => None,
    });
    let directions = parts.unwrap_or(1).max(1);
    if !width.is_multiple_of(directions) {
        return None;
    }
    let units = width / directions;
    let sizes: Vec<usize> = to
        .iter()
        .map(|axis| match axis {
            Axis::Time => steps,
            Axis::Batch => rows,
            Axis::Direction | Axis::Part(_) => directions,
            Axis::Feature => units,
            Axis::One => 1,
            Axis::TimeBatch | Axis::BatchTime => steps * rows,
        })
        .collect();
    let count = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size))?;
    if Some(count) != (values.len() / batch.max(1)).checked_mul(rows) {
        return None;
    }
    let mut reordered = Vec::with_capacity(count);
    for index in 0..count {
        let (mut rest, mut at) = (index, first);
        for (axis, &size) in to.iter().zip(&sizes).rev() {
            let i = rest % size;
            rest /= size;
            at += match axis {
                Axis::Time => i * step,
                Axis::Batch => i * row,
                Axis::Direction | Axis::Part(_) => i * units * feature,
                Axis::Feature => i * feature,
                Axis::One => 0,
                Axis::TimeBatch => i / rows * step + i % rows * row,
                Axis::BatchTime => i / steps * row + i % steps * step,
            };
        }
        reordered.push(*values.get(at)?);
    }
    Some((sizes, reordered))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_exchanged_split_and_joined() {
        use Axis::{Batch, BatchTime, Direction, Feature, One, Part, Time, TimeBatch};
        // 100 t + 10 b + n of [T, B, N] = [2, 2, 2].
        let values: Vec<f32> = [0u8, 1, 10, 11, 100, 101, 110, 111].map(f32::from).to_vec();
        let from = (&[Time, Batch, Feature][..], &[2, 2, 2][..]);
        let check = |to: &[Axis], shape: &[usize], expected: [u8; 8]| {
            let got = reorder(&values, from, (to, None), 2).expect("the same numbers");
            assert_eq!(got, (shape.to_vec(), expected.map(f32::from).to_vec()), "{to:?}");
        };
        check(&[Batch, Time, Feature], &[2, 2, 2], [0, 1, 100, 101, 10, 11, 110, 111]);
        check(&[Time, Direction, Batch, Feature], &[2, 2, 2, 1], [0, 10, 1, 11, 100, 110, 101, 111]);
        check(&[Batch, Feature, Time], &[2, 2, 2], [0, 100, 1, 101, 10, 110, 11, 111]);
        check(&[TimeBatch, Feature], &[4, 2], [0, 1, 10, 11, 100, 101, 110, 111]);
        check(&[One, BatchTime, Feature], &[1, 4, 2], [0, 1, 100, 101, 10, 11, 110, 111]);
        check(&[Batch, Time, Part(2), Feature], &[2, 2, 2, 1], [0, 1, 100, 101, 10, 11, 110, 111]);
        let row = |index: i64| reorder(&values, from, (&[Time, Feature], Some(index)), 1);
        assert_eq!(row(-1), Some((vec![2, 2], vec![10.0, 11.0, 110.0, 111.0])));
        assert_eq!((row(0), row(2), row(-3)), (row(-2), None, None));
        assert_eq!(reorder(&values, from, (&[Batch, Feature], None), 2), None, "a time axis cannot vanish");
        assert_eq!(
            reorder(&[1.0, 2.0], (&[Batch, Feature], &[2, 1]), (&[Batch], None), 1),
            Some((vec![2], vec![1.0, 2.0]))
        );
    }
}
