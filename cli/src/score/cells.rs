//! Values of columns as text: JSON, or the fields of CSV files.

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, ArrayRef};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;

use crate::Result;

enum Kind<'a> {
    /// Text that is JSON already.
    Json,
    /// What JSON writes as CSV does: integers, booleans.
    Plain,
    /// Numbers that may be NaN or infinite, which JSON has not.
    Float,
    Text,
    List(Box<Cells<'a>>),
}

/// A column whose values are written one by one.
pub struct Cells<'a> {
    array: &'a dyn Array,
    kind: Kind<'a>,
    formatter: ArrayFormatter<'a>,
}

impl<'a> Cells<'a> {
    /// `json` says that the texts of the column are JSON.
    pub fn new(array: &'a ArrayRef, json: bool) -> Result<Self> {
        let formatter = ArrayFormatter::try_new(array, &FormatOptions::new())?;
        let kind = match array.data_type() {
            DataType::Utf8 if json => Kind::Json,
            DataType::Boolean => Kind::Plain,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Kind::Float,
            data_type if data_type.is_integer() => Kind::Plain,
            DataType::List(_) => Kind::List(Box::new(Self::new(array.as_list::<i32>().values(), false)?)),
            DataType::LargeList(_) => Kind::List(Box::new(Self::new(array.as_list::<i64>().values(), false)?)),
            DataType::FixedSizeList(..) => Kind::List(Box::new(Self::new(array.as_fixed_size_list().values(), false)?)),
            _ => Kind::Text,
        };
        Ok(Self { array, kind, formatter })
    }

    fn shown(&self, row: usize) -> Result<String> {
        Ok(self.formatter.value(row).try_to_string()?)
    }

    /// Elements of a list.
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        if let Some(list) = self.array.as_list_opt::<i32>() {
            let bound = |at: usize| usize::try_from(list.value_offsets()[at]).unwrap_or_default();
            return bound(row)..bound(row + 1);
        }
        if let Some(list) = self.array.as_list_opt::<i64>() {
            let bound = |at: usize| usize::try_from(list.value_offsets()[at]).unwrap_or_default();
            return bound(row)..bound(row + 1);
        }
        let list = self.array.as_fixed_size_list();
        let size = usize::try_from(list.value_length()).unwrap_or_default();
        let start = list.value_offset_at(row);
        start..start + size
    }

    /// Adds a value in JSON.
    pub fn json(&self, row: usize, out: &mut String) -> Result<()> {
        if self.array.is_null(row) {
            out.push_str("null");
            return Ok(());
        }
        match &self.kind {
            Kind::List(elements) => {
                out.push('[');
                for (at, element) in self.range(row).enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    elements.json(element, out)?;
                }
                out.push(']');
            }
            Kind::Text => out.push_str(&serde_json::to_string(&self.shown(row)?)?),
            Kind::Float => match self.shown(row)? {
                number if number.ends_with(|last: char| last.is_ascii_digit()) => out.push_str(&number),
                _ => out.push_str("null"),
            },
            Kind::Json | Kind::Plain => out.push_str(&self.shown(row)?),
        }
        Ok(())
    }

    /// A value as a field of a CSV file: empty for null, numbers of a list with spaces between them.
    pub fn field(&self, row: usize) -> Result<String> {
        if self.array.is_null(row) {
            return Ok(String::new());
        }
        match &self.kind {
            Kind::List(elements) if matches!(elements.kind, Kind::Plain | Kind::Float) => {
                let fields = self.range(row).map(|element| elements.field(element));
                Ok(fields.collect::<Result<Vec<_>>>()?.join(" "))
            }
            Kind::List(_) => {
                let mut json = String::new();
                self.json(row, &mut json)?;
                Ok(json)
            }
            Kind::Json => match self.shown(row)? {
                text if text.starts_with('"') => Ok(serde_json::from_str(&text)?),
                other => Ok(other),
            },
            _ => self.shown(row),
        }
    }
}
