//! A tensor of a request: its elements are read from JSON or from binary data once it is known what they are for.

use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use half::{bf16, f16};
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::datatype::Datatype;
use crate::failure::{Failure, Result};

/// A tensor that a client sent.
#[derive(Debug)]
pub struct Tensor {
    pub name: String,
    pub datatype: Datatype,
    pub shape: Vec<usize>,
    pub content: Content,
}

/// Where the elements are.
#[derive(Debug)]
pub enum Content {
    /// Row-major, little-endian; of BYTES each element is preceded by its length in 4 bytes.
    Binary(Bytes),
    /// Nested arrays, or one flat array.
    Json(Box<RawValue>),
}

/// One element, as it was sent.
enum Scalar<'a> {
    Float(f64),
    Signed(i64),
    Unsigned(u64),
    Bool(bool),
    Text(&'a str),
}

impl Tensor {
    /// Number of elements.
    pub fn elements(&self) -> Result<usize> {
        let product = self.shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        product.ok_or_else(|| self.wrong("fewer elements", &format!("shape {:?}", self.shape)))
    }

    /// As f32, all of them finite.
    pub fn floats(&self) -> Result<Vec<f32>> {
        if !self.datatype.is_float() {
            return Err(self.wrong("FP32, FP64, FP16 or BF16", self.datatype.name()));
        }
        #[expect(clippy::cast_possible_truncation, reason = "networks read f32")]
        let numbers = match &self.content {
            Content::Binary(bytes) => {
                self.check_size(bytes)?;
                match self.datatype {
                    Datatype::Fp16 => chunks(bytes).map(|bytes| f16::from_le_bytes(bytes).to_f32()).collect(),
                    Datatype::Bf16 => chunks(bytes).map(|bytes| bf16::from_le_bytes(bytes).to_f32()).collect(),
                    Datatype::Fp64 => chunks(bytes).map(|bytes| f64::from_le_bytes(bytes) as f32).collect(),
                    _ => chunks(bytes).map(f32::from_le_bytes).collect(),
                }
            }
            Content::Json(raw) => self.read(raw, |scalar| match scalar {
                Scalar::Float(x) => Ok(x as f32),
                #[expect(clippy::cast_precision_loss, reason = "networks read f32")]
                Scalar::Signed(x) => Ok(x as f32),
                #[expect(clippy::cast_precision_loss, reason = "networks read f32")]
                Scalar::Unsigned(x) => Ok(x as f32),
                _ => Err("numbers"),
            })?,
        };
        let numbers: Vec<f32> = numbers;
        match numbers.iter().position(|number| !number.is_finite()) {
            Some(at) => Err(self.wrong("finite numbers", &format!("{} at element {at}", numbers[at]))),
            None => Ok(numbers),
        }
    }

    /// As whole numbers that fit u32: token ids, or lengths.
    pub fn whole(&self) -> Result<Vec<u32>> {
        if !self.datatype.is_integer() {
            return Err(self.wrong("INT64, INT32 or another type of integers", self.datatype.name()));
        }
        // The number that does not fit, and where it is.
        let (read, outside) = (Cell::new(0usize), Cell::new(None));
        let all = self.integers(|number| {
            let at = read.replace(read.get() + 1);
            u32::try_from(number).map_err(|_| outside.set(Some((at, number)))).ok()
        });
        match outside.get() {
            None => all,
            Some((at, number)) => {
                Err(self.wrong(&format!("numbers from 0 to {}", u32::MAX), &format!("{number} at element {at}")))
            }
        }
    }

    /// Each integer as what `of` makes of it; after a `None` no more are read.
    fn integers<T>(&self, of: impl Fn(i128) -> Option<T>) -> Result<Vec<T>> {
        match &self.content {
            Content::Binary(bytes) => {
                self.check_size(bytes)?;
                let all: Option<Vec<T>> = match self.datatype {
                    Datatype::Uint8 => bytes.iter().map(|&byte| of(byte.into())).collect(),
                    Datatype::Int8 => chunks(bytes).map(|bytes| of(i8::from_le_bytes(bytes).into())).collect(),
                    Datatype::Uint16 => chunks(bytes).map(|bytes| of(u16::from_le_bytes(bytes).into())).collect(),
                    Datatype::Int16 => chunks(bytes).map(|bytes| of(i16::from_le_bytes(bytes).into())).collect(),
                    Datatype::Uint32 => chunks(bytes).map(|bytes| of(u32::from_le_bytes(bytes).into())).collect(),
                    Datatype::Int32 => chunks(bytes).map(|bytes| of(i32::from_le_bytes(bytes).into())).collect(),
                    Datatype::Uint64 => chunks(bytes).map(|bytes| of(u64::from_le_bytes(bytes).into())).collect(),
                    _ => chunks(bytes).map(|bytes| of(i64::from_le_bytes(bytes).into())).collect(),
                };
                all.ok_or_else(|| self.wrong("integers that fit", "another"))
            }
            Content::Json(raw) => self.read(raw, |scalar| match scalar {
                Scalar::Signed(x) => of(x.into()).ok_or("integers that fit"),
                Scalar::Unsigned(x) => of(x.into()).ok_or("integers that fit"),
                _ => Err("integers"),
            }),
        }
    }

    /// As truth values.
    pub fn bools(&self) -> Result<Vec<bool>> {
        if self.datatype != Datatype::Bool {
            return Err(self.wrong("BOOL", self.datatype.name()));
        }
        match &self.content {
            Content::Binary(bytes) => {
                self.check_size(bytes)?;
                Ok(bytes.iter().map(|&byte| byte != 0).collect())
            }
            Content::Json(raw) => self.read(raw, |scalar| match scalar {
                Scalar::Bool(x) => Ok(x),
                Scalar::Unsigned(x @ (0 | 1)) => Ok(x == 1),
                _ => Err("true or false"),
            }),
        }
    }

    /// As texts.
    pub fn texts(&self) -> Result<Vec<String>> {
        if self.datatype != Datatype::Bytes {
            return Err(self.wrong("BYTES", self.datatype.name()));
        }
        let Content::Binary(bytes) = &self.content else {
            let Content::Json(raw) = &self.content else { return Ok(Vec::new()) };
            return self.read(raw, |scalar| match scalar {
                Scalar::Text(text) => Ok(text.to_owned()),
                _ => Err("strings"),
            });
        };
        let (mut rest, count) = (&bytes[..], self.elements()?);
        let mut texts = Vec::with_capacity(count.min(bytes.len() / 4));
        while !rest.is_empty() {
            let parts = rest.split_first_chunk::<4>().and_then(|(length, rest)| {
                let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
                rest.split_at_checked(length)
            });
            let Some((text, behind)) = parts else {
                let got = format!("{} bytes that end within element {}", bytes.len(), texts.len());
                return Err(self.wrong("elements with their length in 4 bytes before each", &got));
            };
            let text = std::str::from_utf8(text)
                .map_err(|_| self.wrong("UTF-8", &format!("other bytes in element {}", texts.len())))?;
            texts.push(text.to_owned());
            rest = behind;
        }
        if texts.len() != count {
            return Err(self.count_differs(texts.len()));
        }
        Ok(texts)
    }

    /// As the names of sequences: texts or integers.
    pub fn names(&self) -> Result<Vec<String>> {
        if self.datatype == Datatype::Bytes {
            return self.texts();
        }
        if !self.datatype.is_integer() {
            return Err(self.wrong("BYTES or a type of integers", self.datatype.name()));
        }
        self.integers(|number| Some(number.to_string()))
    }

    /// An error about this tensor.
    pub fn wrong(&self, expected: &str, got: &str) -> Failure {
        Failure::bad(format!("input `{}`: expected {expected}, got {got}", self.name))
    }

    fn count_differs(&self, got: usize) -> Failure {
        let expected = self.elements().map_or_else(|_| String::new(), |count| count.to_string());
        self.wrong(&format!("{expected} elements, as shape {:?} says", self.shape), &got.to_string())
    }

    fn check_size(&self, bytes: &Bytes) -> Result<()> {
        let size = self.datatype.size().unwrap_or(1);
        let expected = self.elements()?.checked_mul(size);
        if expected != Some(bytes.len()) {
            let expected = expected.map_or_else(|| "fewer".into(), |bytes| bytes.to_string());
            let expected = format!("{expected} bytes, as {} {:?} has", self.datatype.name(), self.shape);
            return Err(self.wrong(&expected, &bytes.len().to_string()));
        }
        Ok(())
    }

    /// The elements of nested arrays, in order.
    fn read<T>(
        &self,
        raw: &RawValue,
        element: impl Fn(Scalar<'_>) -> std::result::Result<T, &'static str>,
    ) -> Result<Vec<T>> {
        let most = self.elements()?;
        let mut found = Vec::with_capacity(most.min(raw.get().len() / 2 + 1));
        let add = &mut |scalar: Scalar<'_>| {
            if found.len() == most {
                return Err(format!("more than {most} elements, which shape {:?} says", self.shape));
            }
            found.push(element(scalar).map_err(|expected| format!("other elements than {expected}"))?);
            Ok(())
        };
        let mut parser = serde_json::Deserializer::from_str(raw.get());
        Elements { add, nested: false }
            .deserialize(&mut parser)
            .map_err(|error| Failure::bad(format!("data of input `{}`: {error}", self.name)))?;
        if found.len() != most {
            return Err(self.count_differs(found.len()));
        }
        Ok(found)
    }
}

/// Pieces of N bytes.
fn chunks<const N: usize>(bytes: &Bytes) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks().0.iter().copied()
}

/// Calls `add` for each element of nested arrays.
struct Elements<'f, F> {
    add: &'f mut F,
    nested: bool,
}

impl<'de, F: FnMut(Scalar<'_>) -> std::result::Result<(), String>> DeserializeSeed<'de> for Elements<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<F: FnMut(Scalar<'_>) -> std::result::Result<(), String>> Elements<'_, F> {
    fn give<E: serde::de::Error>(self, scalar: Scalar<'_>) -> std::result::Result<(), E> {
        if !self.nested {
            return Err(E::custom("expected an array"));
        }
        (self.add)(scalar).map_err(E::custom)
    }
}

impl<'de, F: FnMut(Scalar<'_>) -> std::result::Result<(), String>> Visitor<'de> for Elements<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> std::result::Result<(), A::Error> {
        while array.next_element_seed(Elements { add: &mut *self.add, nested: true })?.is_some() {}
        Ok(())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> std::result::Result<(), E> {
        self.give(Scalar::Float(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> std::result::Result<(), E> {
        self.give(Scalar::Signed(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> std::result::Result<(), E> {
        self.give(Scalar::Unsigned(value))
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> std::result::Result<(), E> {
        self.give(Scalar::Bool(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> std::result::Result<(), E> {
        self.give(Scalar::Text(value))
    }

    fn visit_unit<E: serde::de::Error>(self) -> std::result::Result<(), E> {
        Err(E::custom("null in an array"))
    }
}
