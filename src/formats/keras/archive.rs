//! Entries of a `.keras` file, which is a zip archive. Nothing is ever written to disk.

use std::io::Read;

use flate2::bufread::DeflateDecoder;
use rawzip::{CompressionMethod, ZipArchive};

use super::{limit, malformed};
use crate::base::error::{Error, Result};

/// The names of all entries that are UTF-8.
pub(super) fn names(name: &str, archive: &[u8]) -> Result<Vec<String>> {
    let broken = |error: rawzip::Error| malformed(name, "a zip archive", &error);
    let zip = ZipArchive::from_slice(archive).map_err(broken)?;
    let mut entries = zip.entries();
    let mut names = Vec::new();
    while let Some(record) = entries.next_entry().map_err(broken)? {
        names.extend(std::str::from_utf8(record.file_path().as_bytes()).ok().map(str::to_owned));
    }
    Ok(names)
}

/// The bytes of the entry called `entry`; `None` if there is none. As Python does, the last of
/// several entries of one name counts.
pub(super) fn read(name: &str, archive: &[u8], entry: &str) -> Result<Option<Vec<u8>>> {
    let broken = |error: rawzip::Error| malformed(name, "a zip archive", &error);
    let zip = ZipArchive::from_slice(archive).map_err(broken)?;
    let mut entries = zip.entries();
    let mut found = None;
    while let Some(record) = entries.next_entry().map_err(broken)? {
        if record.file_path().as_bytes() == entry.as_bytes() {
            found = Some((record.wayfinder(), record.compression_method()));
        }
    }
    let Some((wayfinder, method)) = found else { return Ok(None) };
    let place = format!("{name}: {entry}");
    let stored = zip.get_entry(wayfinder).map_err(broken)?;
    let most = limit(stored.data().len());
    let declared = stored.claim_verifier().uncompressed_size;
    if declared > most {
        return Err(Error::TooLarge {
            what: place,
            needed: declared,
            limit: most,
            limit_name: format!("what {} compressed bytes may hold", stored.data().len()),
        });
    }
    let data: Box<dyn Read + '_> = match method {
        CompressionMethod::STORE => Box::new(stored.data()),
        CompressionMethod::DEFLATE => Box::new(DeflateDecoder::new(stored.data())),
        other => return Err(Error::Unsupported { place, what: format!("zip compression {other:?}") }),
    };
    // Weights are hardly compressed: room for them at once, so that it does not grow to twice their size.
    let room = usize::try_from(declared).unwrap_or(usize::MAX).min(stored.data().len().saturating_mul(2));
    let mut bytes = Vec::with_capacity(room);
    // Decompression stops right after the declared size; the verifier then detects that there is more.
    let read = stored.verifying_reader(data).take(declared.saturating_add(1)).read_to_end(&mut bytes);
    match read {
        Ok(_) if bytes.len() as u64 == declared => Ok(Some(bytes)),
        Ok(_) => Err(malformed(&place, &format!("{declared} bytes"), &"another number of them")),
        Err(error) => Err(malformed(&place, "an intact zip entry", &error)),
    }
}
