//! Tensors whose bytes lie in a file beside the model. Format:
//! <https://github.com/onnx/onnx/blob/main/docs/ExternalData.md>.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::proto::TensorProto;
use super::{malformed, unsupported};
use crate::base::error::Result;
use crate::base::room::room;

/// Where the bytes of a tensor lie.
struct ExternalBytes<'a> {
    location: &'a str,
    offset: u64,
    /// `None`: up to the file's end.
    length: Option<u64>,
}

fn place<'a>(name: &str, tensor: &'a TensorProto) -> Result<ExternalBytes<'a>> {
    let mut place = ExternalBytes { location: "", offset: 0, length: None };
    for entry in &tensor.external_data {
        let value = entry.value.as_deref().unwrap_or_default();
        let key = entry.key.as_deref().unwrap_or_default();
        let number =
            || value.parse::<u64>().map_err(|_| malformed(name, format!("bytes as {key}"), format!("{value:?}")));
        match key {
            "location" => place.location = value,
            "offset" => place.offset = number()?,
            "length" => place.length = Some(number()?),
            "checksum" => {}
            other => return Err(unsupported(name, format!("external data with the key `{other}`"))),
        }
    }
    Ok(place)
}

/// The `wanted` bytes of `tensor`, which errors call `name`, in a file in `folder`.
pub fn read(name: &str, tensor: &TensorProto, folder: Option<&Path>, wanted: Option<usize>) -> Result<Vec<u8>> {
    let ExternalBytes { location, offset, length } = place(name, tensor)?;
    let Some(folder) = folder else {
        return Err(unsupported(name, format!("external data (`{location}`) without a folder to read them from")));
    };
    let mut file = open(name, location, folder)?;
    let failed = |error: std::io::Error| malformed(name, format!("external data in `{location}`"), error.to_string());
    let size = file.metadata().map_err(failed)?.len();
    let length = length.unwrap_or_else(|| size.saturating_sub(offset));
    let Some(wanted) = wanted.filter(|&wanted| u64::try_from(wanted) == Ok(length)) else {
        let expected =
            wanted.map_or_else(|| "a size in memory".to_owned(), |n| format!("{n} bytes, as its shape says,"));
        return Err(malformed(name, format!("{expected} in `{location}`"), format!("{length} bytes")));
    };
    if offset.checked_add(length).is_none_or(|end| end > size) {
        let expected = format!("a part of `{location}`, which has {size} bytes");
        return Err(malformed(name, expected, format!("{length} bytes at {offset}")));
    }
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    room(|| format!("{name}: external data in `{location}`"), wanted, 1)?;
    let mut bytes = vec![0; wanted];
    file.read_exact(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Opens `location` if it is a file in `folder`, links followed.
fn open(name: &str, location: &str, folder: &Path) -> Result<File> {
    let outside = |got: String| malformed(name, "external data in the model's folder", got);
    let relative = Path::new(location);
    let stays = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if location.is_empty() {
        return Err(outside("no location".to_owned()));
    }
    if !stays {
        return Err(outside(format!("`{location}`")));
    }
    let failed = |error: std::io::Error| {
        let got = match error.kind() {
            ErrorKind::NotFound => "no such file".to_owned(),
            _ => error.to_string(),
        };
        malformed(name, format!("external data in `{location}`"), got)
    };
    let real = |path: PathBuf| path.canonicalize().map_err(failed);
    let root = real(folder.to_owned())?;
    let path = real(root.join(relative))?;
    if !path.starts_with(&root) {
        return Err(outside(format!("`{location}`, a link to {}", path.display())));
    }
    // Before it is opened: opening a pipe would wait.
    let metadata = path.metadata().map_err(failed)?;
    if !metadata.is_file() {
        let got = if metadata.is_dir() { "a folder" } else { "no regular file" };
        return Err(malformed(name, format!("external data in the file `{location}`"), got.to_owned()));
    }
    File::open(&path).map_err(failed)
}
