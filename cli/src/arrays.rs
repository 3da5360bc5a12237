//! Arrays in files: NumPy's `.npy`, safetensors, and JSON.

use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::Result;

/// An array, row-major. Integers of up to 53 bits are exact.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub numbers: Vec<f64>,
}

const NPY_MAGIC: &[u8] = b"\x93NUMPY";

/// Numbers of N bytes each.
fn numbers<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    let chunks = bytes.chunks_exact(N).filter_map(|chunk| <[u8; N]>::try_from(chunk).ok());
    chunks.map(read).collect()
}

#[expect(clippy::cast_precision_loss, reason = "ids and classes are small")]
fn wide(number: i64) -> f64 {
    number as f64
}

impl Array {
    /// A tensor of a safetensors file; `None` for a kind of numbers that is not read.
    pub fn of_tensor(view: &TensorView<'_>) -> Option<Self> {
        let bytes = view.data();
        let numbers = match view.dtype() {
            Dtype::F32 => numbers(bytes, |bytes| f32::from_le_bytes(bytes).into()),
            Dtype::F64 => numbers(bytes, f64::from_le_bytes),
            Dtype::U8 | Dtype::BOOL => numbers(bytes, |bytes| u8::from_le_bytes(bytes).into()),
            Dtype::I32 => numbers(bytes, |bytes| i32::from_le_bytes(bytes).into()),
            Dtype::U32 => numbers(bytes, |bytes| u32::from_le_bytes(bytes).into()),
            Dtype::I64 => numbers(bytes, |bytes| wide(i64::from_le_bytes(bytes))),
            _ => return None,
        };
        Some(Self { shape: view.shape().to_vec(), numbers })
    }
}

/// The arrays of a file with their names; the one of a `.npy` or of a JSON array has none.
pub fn load(path: &Path) -> Result<Vec<(String, Array)>> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let failed = |expected: &str, got: &str| format!("{}: expected {expected}, got {got}", path.display());
    if bytes.starts_with(NPY_MAGIC) {
        let array = npy(&bytes).map_err(|got| failed("an array of numbers in NumPy's format", &got))?;
        return Ok(vec![(String::new(), array)]);
    }
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| b"[{".contains(byte)) {
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| failed("JSON", &error.to_string()))?;
        return json(&value)
            .map_err(|got| failed("numbers in nested lists, or {\"shape\": [..], \"values\": [..]}", &got).into());
    }
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| failed("a .npy, .safetensors or .json file", &error.to_string()))?;
    let tensors = file.tensors().into_iter().map(|(name, view)| {
        let kind = || failed("arrays of F32, F64, I64, I32, U32 or U8", &format!("`{name}` of {:?}", view.dtype()));
        Array::of_tensor(&view).map(|array| (name.clone(), array)).ok_or_else(|| kind().into())
    });
    tensors.collect()
}

/// An array in NumPy's format (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).
fn npy(bytes: &[u8]) -> std::result::Result<Array, String> {
    let cut = || "a file that is cut short".to_owned();
    let version = *bytes.get(6).ok_or_else(cut)?;
    // The length of the header takes 2 bytes in version 1, then 4.
    let (start, length) = match version {
        1 => (10, bytes.get(8..10).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])))),
        _ => (12, bytes.get(8..12).and_then(|b| usize::try_from(u32::from_le_bytes([b[0], b[1], b[2], b[3]])).ok())),
    };
    let end = start + length.ok_or_else(cut)?;
    let header = std::str::from_utf8(bytes.get(start..end).ok_or_else(cut)?).map_err(|error| error.to_string())?;
    let after = |key: &str| header.split_once(&format!("'{key}':")).map_or("", |(_, rest)| rest.trim_start());
    let kind = after("descr").split('\'').nth(1).unwrap_or_default();
    if !after("fortran_order").starts_with("False") {
        return Err("an array in Fortran's order; numpy.ascontiguousarray gives it in C's".into());
    }
    let sizes = after("shape").trim_start_matches('(').split(')').next().unwrap_or_default();
    let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape: Vec<usize> = sizes
        .map(|size| size.parse().map_err(|_| format!("the size {size}")))
        .collect::<std::result::Result<_, _>>()?;
    let data = &bytes[end..];
    let numbers = match kind {
        "<f2" => numbers(data, |bytes| half::f16::from_le_bytes(bytes).into()),
        "<f4" => numbers(data, |bytes| f32::from_le_bytes(bytes).into()),
        "<f8" => numbers(data, f64::from_le_bytes),
        "<i8" => numbers(data, |bytes| wide(i64::from_le_bytes(bytes))),
        "<i4" => numbers(data, |bytes| i32::from_le_bytes(bytes).into()),
        "<u4" => numbers(data, |bytes| u32::from_le_bytes(bytes).into()),
        "|u1" | "|b1" => numbers(data, |bytes| u8::from_le_bytes(bytes).into()),
        other => return Err(format!("numbers of the kind {other}; expected f2, f4, f8, i4, i8, u4 or u1")),
    };
    let wanted = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    if wanted != Some(numbers.len()) {
        return Err(format!("{} numbers for the shape {shape:?}", numbers.len()));
    }
    Ok(Array { shape, numbers })
}

/// An array as a file in NumPy's format; its numbers start at a multiple of 64 bytes.
pub fn to_npy(shape: &[usize], numbers: &[f32]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", sizes.trim_end());
    // Magic, version, length and the line break take 11 bytes.
    let length = (header.len() + 11).next_multiple_of(64) - 10;
    let mut bytes = [NPY_MAGIC, &[1, 0]].concat();
    #[expect(clippy::cast_possible_truncation, reason = "a shape has few axes")]
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(format!("{header:<width$}\n", width = length - 1).into_bytes());
    bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

/// Nested lists of numbers, `{"shape", "values"}`, or an object of such arrays by their names.
fn json(value: &Value) -> std::result::Result<Vec<(String, Array)>, String> {
    let Some(fields) = value.as_object() else { return Ok(vec![(String::new(), lists(value)?)]) };
    let numbers = fields.get("values").or_else(|| fields.get("tokens"));
    let (Some(shape), Some(numbers)) = (fields.get("shape"), numbers) else {
        let named = fields.iter().map(|(name, value)| match &mut json(value)?[..] {
            [(own, array)] if own.is_empty() => Ok((name.clone(), array.clone())),
            _ => Err(format!("arrays within `{name}`")),
        });
        return named.collect();
    };
    let shape: Option<Vec<usize>> = shape
        .as_array()
        .and_then(|sizes| sizes.iter().map(|size| size.as_u64().and_then(|size| usize::try_from(size).ok())).collect());
    let shape = shape.ok_or_else(|| format!("the shape {}", value["shape"]))?;
    let Array { numbers, .. } = lists(numbers)?;
    let wanted = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    if wanted != Some(numbers.len()) {
        return Err(format!("{} numbers for the shape {shape:?}", numbers.len()));
    }
    Ok(vec![(String::new(), Array { shape, numbers })])
}

fn lists(value: &Value) -> std::result::Result<Array, String> {
    let Some(items) = value.as_array() else {
        // JSON has no NaN.
        let number = if value.is_null() { Some(f64::NAN) } else { value.as_f64() };
        let number = number.ok_or_else(|| format!("{value} instead of a number"))?;
        return Ok(Array { shape: Vec::new(), numbers: vec![number] });
    };
    let mut array = Array { shape: vec![items.len()], numbers: Vec::new() };
    for (index, item) in items.iter().enumerate() {
        let inner = lists(item)?;
        if index == 0 {
            array.shape.extend(&inner.shape);
        } else if array.shape[1..] != inner.shape {
            return Err(format!("lists of different lengths, {:?} and {:?}", &array.shape[1..], inner.shape));
        }
        array.numbers.extend(inner.numbers);
    }
    Ok(array)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy_file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = [NPY_MAGIC, &[1, 0]].concat();
        bytes.extend(u16::try_from(header.len()).expect("short").to_le_bytes());
        [bytes, header.as_bytes().to_vec(), data.to_vec()].concat()
    }

    #[test]
    fn arrays_of_numpy() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }\n";
        let data: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let array = npy(&npy_file(header, &data)).expect("an array");
        assert_eq!(array, Array { shape: vec![2, 1], numbers: vec![1.5, -2.0] });
        for shape in [&[2usize, 1][..], &[2], &[1, 2, 1]] {
            let written = to_npy(shape, &[1.5, -2.0]);
            assert_eq!(written.len() % 64, 8, "{shape:?}");
            let expected = Array { shape: shape.to_vec(), numbers: vec![1.5, -2.0] };
            assert_eq!(npy(&written).expect("an array"), expected);
        }
        let halves = npy(&npy_file("{'descr': '<f2', 'fortran_order': False, 'shape': (2,), }", &[0, 0x3e, 0, 0xc0]));
        assert_eq!(halves.expect("an array").numbers, [1.5, -2.0]);
        let scalar = npy(&npy_file("{'descr': '<i8', 'fortran_order': False, 'shape': (), }", &7i64.to_le_bytes()));
        assert_eq!(scalar.expect("an array"), Array { shape: vec![], numbers: vec![7.0] });
        assert_eq!(npy(&npy_file(header, &data[..4])).expect_err("cut"), "1 numbers for the shape [2, 1]");
        let fortran = npy(&npy_file("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 1), }", &data));
        assert!(fortran.expect_err("turned").contains("Fortran's order"));
        assert!(npy(&npy_file("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", &data)).is_err());
        assert_eq!(npy(b"\x93NUMPY\x01\x00\xff").expect_err("cut"), "a file that is cut short");
    }

    #[test]
    fn arrays_of_json() {
        let one = |text: &str| json(&serde_json::from_str(text).expect("JSON")).map(|mut all| all.remove(0).1);
        let expected = Array { shape: vec![2, 2], numbers: vec![1.0, 2.0, 3.0, 4.0] };
        assert_eq!(one("[[1, 2], [3, 4]]"), Ok(expected.clone()));
        assert_eq!(one(r#"{"shape": [2, 2], "values": [1, 2, 3, 4]}"#), Ok(expected));
        assert!(one("[[1, 2], [3]]").expect_err("ragged").contains("different lengths"));
        assert!(one(r#"{"shape": [3], "values": [1]}"#).expect_err("short").contains("1 numbers"));
        let named = json(&serde_json::from_str(r#"{"b": [1], "a": {"shape": [1], "tokens": [2]}}"#).expect("JSON"));
        let names: Vec<String> = named.expect("two").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
