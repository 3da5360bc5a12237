//! Matrices that PyTorch stores as directions and lengths: `torch.nn.utils.weight_norm` and its successor in
//! `torch.nn.utils.parametrizations`. A row of the matrix is `g v / |v|`.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::error::{Error, Result};
use crate::network::Tensor;

/// The names of g and v.
pub(super) type Pair = [String; 2];

/// The pairs among the names of tensors, by the names of their matrices.
pub(super) fn pairs(names: &[&str]) -> BTreeMap<String, Pair> {
    let known: BTreeSet<&str> = names.iter().copied().collect();
    let pair = |&g: &&str| {
        let (matrix, v) = match g.strip_suffix("_g") {
            Some(matrix) => (matrix.to_owned(), format!("{matrix}_v")),
            None => {
                let (prefix, rest) = g.strip_suffix(".original0")?.rsplit_once("parametrizations.")?;
                (format!("{prefix}{rest}"), g.replace(".original0", ".original1"))
            }
        };
        let fits = known.contains(v.as_str()) && !known.contains(matrix.as_str());
        fits.then(|| (matrix, [g.to_owned(), v]))
    };
    names.iter().filter_map(pair).collect()
}

/// The matrix `name` from its lengths g `[rows, 1]` and directions v `[rows, ..]`.
pub(super) fn folded(name: &str, g: &Tensor, v: &Tensor) -> Result<Tensor> {
    let rows = v.shape().first().copied().unwrap_or(0);
    if v.data().is_empty() || rows == 0 || g.data().len() != rows || g.shape().first() != Some(&rows) {
        return Err(Error::Malformed {
            what: format!("weight normalization of `{name}`"),
            expected: format!("lengths g [{rows}, 1] of the rows of v {:?}", v.shape()),
            got: format!("{:?}", g.shape()),
        });
    }
    let mut data = Vec::with_capacity(v.data().len());
    for (row, &length) in v.data().chunks_exact(v.data().len() / rows).zip(g.data()) {
        let norm = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        #[expect(clippy::cast_possible_truncation, reason = "rounded once")]
        data.extend(row.iter().map(|&x| (f64::from(x) * f64::from(length) / norm) as f32));
    }
    Tensor::new(v.shape().to_vec(), data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_pytorch_are_found() {
        let names =
            ["a.weight_hh_l0_g", "a.weight_hh_l0_v", "a.bias_g", "b.parametrizations.weight_ih_l0_reverse.original0"];
        let found = pairs(&[&names[..], &["b.parametrizations.weight_ih_l0_reverse.original1"]].concat());
        let matrices: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(matrices, ["a.weight_hh_l0", "b.weight_ih_l0_reverse"]);
    }

    #[test]
    fn rows_have_their_lengths() {
        let tensor = |shape: &[usize], data: &[f32]| Tensor::new(shape.to_vec(), data.to_vec()).expect("a tensor");
        let (g, v) = (tensor(&[2, 1], &[10.0, -1.0]), tensor(&[2, 2], &[3.0, 4.0, 0.0, 2.0]));
        assert_eq!(folded("w", &g, &v).expect("a matrix").data(), [6.0, 8.0, 0.0, -1.0]);
        let error = folded("w", &tensor(&[1, 2], &[1.0, 1.0]), &v).expect_err("columns").to_string();
        assert!(error.contains("lengths g [2, 1]") && error.contains("[1, 2]"), "{error}");
    }
}
