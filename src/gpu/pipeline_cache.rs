//! What the driver made of kernels, kept from process to process.
//!
//! wgpu and Vulkan trust such data, so that everything handed to them has been seen whole here: a header of our own
//! says who made it, for which adapter and driver, how long it is and what its bytes hash to. What does not fit is
//! not used; it only costs the time of compiling again.

use std::path::Path;

use super::context::{Context, driver_cache};
use crate::device::{Device, DeviceInfo, Kind};
use crate::error::{Error, Result};
use crate::files;
use crate::hash::Fnv;
use crate::lock::lock;

/// What the data begins with; the last byte is the version of the header.
const MAGIC: [u8; 8] = *b"gfpipes\x01";
/// Size of wgpu's header in front of the driver's data, ...
const WGPU_HEADER: usize = 64;
/// ... and of the driver's own, which Vulkan defines.
const DRIVER_HEADER: usize = 32;
/// More than any network's kernels take. A cache only grows; beyond this it begins anew.
const MAX_BYTES: u64 = 64 << 20;

/// Who makes data: only the same reads it again.
fn origin(info: &DeviceInfo) -> String {
    format!("gatefold {}, {}, {}, {}", env!("CARGO_PKG_VERSION"), info.name, info.backend, info.driver)
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut hash = Fnv::default();
    hash.bytes(bytes);
    hash.value()
}

/// `data` behind our header: magic, then the length of what follows, its checksum, and each part with its length.
fn sealed(origin: &str, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(16 + origin.len() + data.len());
    for part in [origin.as_bytes(), data] {
        body.extend((part.len() as u64).to_le_bytes());
        body.extend(part);
    }
    let mut bytes = Vec::with_capacity(MAGIC.len() + 16 + body.len());
    bytes.extend(MAGIC);
    bytes.extend((body.len() as u64).to_le_bytes());
    bytes.extend(checksum(&body).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// What [`sealed`] was given, or why this is not to be used.
fn opened<'a>(expected: &str, bytes: &'a [u8]) -> Result<&'a [u8], String> {
    let number = |bytes: &'a [u8]| {
        let (number, rest) = bytes.split_first_chunk()?;
        Some((usize::try_from(u64::from_le_bytes(*number)).ok()?, rest))
    };
    let part = |bytes: &'a [u8]| {
        let (len, rest) = number(bytes)?;
        rest.split_at_checked(len)
    };
    let rest = bytes.strip_prefix(&MAGIC).ok_or("it is no pipeline cache of this version")?;
    let (len, rest) = number(rest).ok_or("it is cut off")?;
    let (sum, body) = rest.split_first_chunk().ok_or("it is cut off")?;
    if body.len() != len {
        return Err(format!("expected {len} bytes behind its header, got {}", body.len()));
    }
    if checksum(body) != u64::from_le_bytes(*sum) {
        return Err("its checksum is off".into());
    }
    let (origin, rest) = part(body).ok_or("its parts do not fit")?;
    if origin != expected.as_bytes() {
        return Err(format!("expected that of {expected}, got that of {}", String::from_utf8_lossy(origin)));
    }
    match part(rest) {
        Some((data, [])) => Ok(data),
        _ => Err("its parts do not fit".into()),
    }
}

/// Whether `now` is what the driver was given and one more header: SwiftShader keeps no kernels, and hands that out.
fn is_given_back(given: &[u8], now: &[u8]) -> bool {
    given
        .get(WGPU_HEADER..)
        .is_some_and(|given| now.len() == WGPU_HEADER + DRIVER_HEADER + given.len() && now.ends_with(given))
}

impl Context {
    /// The driver's data, if it keeps any.
    fn cache_data(&self) -> Option<Vec<u8>> {
        lock(&self.cache).as_ref()?.get_data()
    }

    /// Compiles from now on through a cache of the driver's that begins with `data`; whether it took them.
    fn begin_cache(&self, data: Option<&[u8]>) -> bool {
        if !self.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return false;
        }
        let begin = |data| {
            let begun = self.scoped("beginning a pipeline cache", || Ok(driver_cache(&self.device, data)));
            pollster::block_on(begun).inspect_err(|error| log::info!("{error}")).ok()
        };
        let taken = data.and_then(|data| begin(Some(data)));
        let used = taken.is_some();
        *lock(&self.cache) = taken.or_else(|| begin(None));
        used
    }
}

impl Device {
    fn context(&self) -> Option<&Context> {
        match self.kind() {
            Kind::Cpu(_) => None,
            Kind::Gpu(context) => Some(context),
        }
    }

    /// Keeps what the driver compiles from now on ready for [`Device::save_pipeline_cache`], and takes from `path` what
    /// an earlier process saved there. Call it before the first session; kernels compiled earlier are not in the cache.
    ///
    /// `true` if what was there is used. `false` if there was no file, or one of another version, adapter or driver, or
    /// a damaged one, which the log says; and always where no cache is to be had: on the CPU, on backends other than
    /// Vulkan, and on a device of the application's own without [`wgpu::Features::PIPELINE_CACHE`].
    ///
    /// Only as trustworthy as the file: damage is noticed, intent is not. Keep it where nobody else writes.
    ///
    /// # Errors
    /// [`Error::Io`] if there is a file that cannot be read; then nothing changes.
    pub fn load_pipeline_cache(&self, path: impl AsRef<Path>) -> Result<bool> {
        let path = path.as_ref();
        let Some(context) = self.context() else { return Ok(false) };
        let read = std::fs::metadata(path).and_then(|file| {
            let small = file.len() <= MAX_BYTES;
            if small { std::fs::read(path).map(Some) } else { Ok(None) }
        });
        let bytes = match read {
            Ok(bytes) => bytes.ok_or_else(|| format!("expected at most {MAX_BYTES} bytes")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                context.begin_cache(None);
                return Ok(false);
            }
            Err(source) => return Err(Error::Io { path: path.into(), source }),
        };
        let origin = origin(self.info());
        let data = bytes.as_ref().map_err(Clone::clone).and_then(|bytes| opened(&origin, bytes));
        let data = data.inspect_err(|why| log::info!("{}: not used: {why}", path.display())).ok();
        Ok(context.begin_cache(data))
    }

    /// As [`Device::load_pipeline_cache`], from bytes that [`Device::pipeline_cache`] gave; none to begin with.
    ///
    /// # Safety
    /// The driver trusts `bytes`: they must be unchanged from [`Device::pipeline_cache`], of whatever process, adapter
    /// and version.
    #[expect(unsafe_code, reason = "the caller vouches for the bytes")]
    pub unsafe fn use_pipeline_cache(&self, bytes: &[u8]) -> bool {
        let Some(context) = self.context() else { return false };
        let data = opened(&origin(self.info()), bytes);
        let data = data.inspect_err(|why| log::info!("pipeline cache: not used: {why}")).ok();
        context.begin_cache(data)
    }

    /// What the driver has compiled since [`Device::load_pipeline_cache`] or [`Device::use_pipeline_cache`], with what it
    /// was given there; `None` before them, and where no cache is to be had.
    #[must_use]
    pub fn pipeline_cache(&self) -> Option<Vec<u8>> {
        Some(sealed(&origin(self.info()), &self.context()?.cache_data()?))
    }

    /// Writes [`Device::pipeline_cache`] to `path`, whole or not at all; missing folders are made. `false`, and nothing
    /// is touched, if there is no cache or the driver has compiled nothing beyond what is there already.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn save_pipeline_cache(&self, path: impl AsRef<Path>) -> Result<bool> {
        let path = path.as_ref();
        let Some(data) = self.context().and_then(Context::cache_data) else { return Ok(false) };
        let origin = origin(self.info());
        let is_there = |there: &[u8]| there == data || is_given_back(there, &data);
        if std::fs::read(path).is_ok_and(|bytes| opened(&origin, &bytes).is_ok_and(is_there)) {
            return Ok(false);
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.into(), source })?;
        }
        files::write(path, &sealed(&origin, &data))?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_here_opens() {
        for data in [&b""[..], b"x", &[7; 1000]] {
            let bytes = sealed("me", data);
            assert_eq!(opened("me", &bytes), Ok(data));
            assert_eq!(opened("you", &bytes), Err("expected that of you, got that of me".into()));
            for len in 0..bytes.len() {
                assert!(opened("me", &bytes[..len]).is_err(), "cut to {len} bytes");
            }
            assert!(opened("me", &[&bytes[..], b"x"].concat()).is_err(), "one byte more");
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut bytes = bytes.clone();
                    bytes[at] ^= 1 << bit;
                    assert!(opened("me", &bytes).is_err(), "bit {bit} of byte {at}");
                }
            }
        }
    }

    /// As SwiftShader answers: 32 bytes more every time. A kernel more is no header.
    #[test]
    fn what_is_given_back_is_told_from_what_is_new() {
        let (wgpu, header, kernel) = ([1; WGPU_HEADER], [2; DRIVER_HEADER], [3; 40]);
        let given = [&wgpu[..], &header].concat();
        assert!(
            is_given_back(&given, &[&[9; WGPU_HEADER][..], &header, &header].concat()),
            "wgpu's header has a length"
        );
        let with_kernel = [&wgpu[..], &header, &kernel].concat();
        assert!(is_given_back(&with_kernel, &[&wgpu[..], &header, &header, &kernel].concat()));
        for new in [&given, &with_kernel, &[&wgpu[..], &header, &header, &header].concat()] {
            assert!(!is_given_back(&given, new), "{} bytes", new.len());
        }
        assert!(!is_given_back(&with_kernel, &[&wgpu[..], &header, &kernel, &header].concat()), "it must end alike");
        assert!(!is_given_back(b"", &given));
    }

    /// Lengths that are wrong although the checksum is right: no overflow, no guess.
    #[test]
    fn lengths_are_not_trusted() {
        let forged = |body: &[u8]| {
            let len = (body.len() as u64).to_le_bytes();
            [&MAGIC[..], &len, &checksum(body).to_le_bytes(), body].concat()
        };
        let huge = u64::MAX.to_le_bytes();
        for body in [&b""[..], b"me", &huge, &[&2_u64.to_le_bytes()[..], b"me", &huge].concat()] {
            assert!(opened("me", &forged(body)).is_err(), "{body:?}");
        }
        assert_eq!(opened("me", &forged(&[&2_u64.to_le_bytes()[..], b"me", &[0; 8]].concat())), Ok(&b""[..]));
    }
}
