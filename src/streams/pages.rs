//! States away from the device: rows of the host's memory, and rows of a file.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::states::Tier;
use crate::base::error::{Error, Result};
use crate::base::hash::Fnv;
use crate::base::room::room;

/// Bytes of a block of rows in the host's memory, or one row if it has more.
const BLOCK_BYTES: usize = 1 << 20;
const F32: usize = size_of::<f32>();

/// The states of a pool that are not on its device, each a row of W numbers.
#[derive(Debug)]
pub(crate) struct Pages {
    width: usize,
    blocks: Vec<Vec<f32>>,
    file: Option<PageFile>,
}

impl Pages {
    /// For rows of `width` numbers.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be made.
    pub fn new(width: usize, file: Option<&Path>) -> Result<Self> {
        let file = file.map(|path| PageFile::create(path, width)).transpose()?;
        Ok(Self { width, blocks: Vec::new(), file })
    }

    fn rows_of_block(&self) -> usize {
        (BLOCK_BYTES / F32 / self.width.max(1)).max(1)
    }

    /// Writes a row.
    pub fn write(&mut self, tier: Tier, row: u32, numbers: &[f32]) -> Result<()> {
        if let (Tier::File, Some(file)) = (tier, &mut self.file) {
            return file.write(row, numbers);
        }
        let (block, at) = (row as usize / self.rows_of_block(), row as usize % self.rows_of_block());
        if self.blocks.len() <= block {
            let numbers = self.rows_of_block() * self.width;
            room(|| "states in the host's memory".into(), (block + 1 - self.blocks.len()) * numbers, F32)?;
            self.blocks.resize_with(block + 1, || vec![0.0; numbers]);
        }
        self.blocks[block][at * self.width..][..self.width].copy_from_slice(numbers);
        Ok(())
    }

    /// Puts a row that was written behind `numbers`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Malformed`] for a file that another program has changed.
    pub fn read(&mut self, tier: Tier, row: u32, numbers: &mut Vec<f32>) -> Result<()> {
        if let (Tier::File, Some(file)) = (tier, &mut self.file) {
            return file.read(row, numbers);
        }
        let (block, at) = (row as usize / self.rows_of_block(), row as usize % self.rows_of_block());
        numbers.extend_from_slice(&self.blocks[block][at * self.width..][..self.width]);
        Ok(())
    }
}

/// A file of rows, each behind its checksum.
#[derive(Debug)]
struct PageFile {
    file: File,
    path: PathBuf,
    /// Whether it is a file of this pool alone, to be removed with it.
    own: bool,
    bytes: Vec<u8>,
}

impl PageFile {
    const SUM: usize = size_of::<u64>();

    fn create(path: &Path, width: usize) -> Result<Self> {
        let failed = |source| Error::Io { path: path.into(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let (file, own) = match options.clone().create_new(true).open(path) {
            Ok(file) => (file, true),
            // What is there already is written only if it is no file: a disk without a file system.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let there = std::fs::metadata(path).map_err(failed)?;
                if there.is_file() || there.is_dir() {
                    return Err(failed(error));
                }
                (options.open(path).map_err(failed)?, false)
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { file, path: path.into(), own, bytes: vec![0; Self::SUM + width * F32] })
    }

    fn seek(&mut self, row: u32) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(u64::from(row) * self.bytes.len() as u64)).map(drop)
    }

    fn write(&mut self, row: u32, numbers: &[f32]) -> Result<()> {
        self.bytes.truncate(Self::SUM);
        self.bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        let sum = checksum(row, numbers);
        self.bytes[..Self::SUM].copy_from_slice(&sum.to_le_bytes());
        let written = self.seek(row).and_then(|()| self.file.write_all(&self.bytes));
        written.map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    fn read(&mut self, row: u32, numbers: &mut Vec<f32>) -> Result<()> {
        let read = self.seek(row).and_then(|()| self.file.read_exact(&mut self.bytes));
        let malformed = |got: &str| {
            let (what, expected) = (self.path.display().to_string(), "the states that were written there".into());
            Err(Error::Malformed { what, expected, got: got.into() })
        };
        match read {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return malformed("a file that was cut"),
            Err(source) => return Err(Error::Io { path: self.path.clone(), source }),
            Ok(()) => {}
        }
        let (sum, bytes) = self.bytes.split_at(Self::SUM);
        let first = numbers.len();
        numbers.extend(bytes.chunks_exact(F32).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])));
        if checksum(row, &numbers[first..]).to_le_bytes() != sum {
            numbers.truncate(first);
            return malformed("a row with another checksum");
        }
        Ok(())
    }
}

/// Of a row at its place: a row in another's place has another checksum.
fn checksum(row: u32, numbers: &[f32]) -> u64 {
    let mut sum = Fnv::default();
    sum.add(row);
    numbers.iter().for_each(|number| sum.add(number.to_bits()));
    sum.value()
}

impl Drop for PageFile {
    fn drop(&mut self) {
        if self.own {
            // If it cannot be removed, nothing more can be done.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
