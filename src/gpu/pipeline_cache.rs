//! What the driver made of kernels, kept from process to process.
//!
//! wgpu and Vulkan trust such data, so that everything handed to them has been seen whole here: a header of our own
//! says who made it, for which adapter and driver, how long it is and what its bytes hash to. What does not fit is
//! not used; it only costs the time of compiling again.

use super::context::{Context, driver_cache};
use crate::adapter::DeviceInfo;
use crate::base::hash::Fnv;
use crate::base::lock::lock;

/// What the data begins with; the last byte is the version of the header.
const MAGIC: [u8; 8] = *b"gfpipes\x01";
/// Size of wgpu's header in front of the driver's data, ...
const WGPU_HEADER: usize = 64;
/// ... and of the driver's own, which Vulkan defines.
const DRIVER_HEADER: usize = 32;
/// More than any network's kernels take. A cache only grows; beyond this it is started empty.
pub(crate) const MAX_BYTES: u64 = 64 << 20;

/// Who makes data: only the same reads it again.
pub(crate) fn origin(info: &DeviceInfo) -> String {
    format!("gatefold {}, {}, {}, {}", env!("CARGO_PKG_VERSION"), info.name, info.backend, info.driver)
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut hash = Fnv::default();
    hash.bytes(bytes);
    hash.value()
}

/// `data` after our header: magic, then the length of what follows, its checksum, and each part with its length.
pub(crate) fn sealed(origin: &str, data: &[u8]) -> Vec<u8> {
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
pub(crate) fn opened<'a>(expected: &str, bytes: &'a [u8]) -> Result<&'a [u8], String> {
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
        return Err(format!("expected {len} bytes after its header, got {}", body.len()));
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
pub(crate) fn is_given_back(given: &[u8], now: &[u8]) -> bool {
    given
        .get(WGPU_HEADER..)
        .is_some_and(|given| now.len() == WGPU_HEADER + DRIVER_HEADER + given.len() && now.ends_with(given))
}

impl Context {
    /// The driver's data, if it keeps any.
    pub(crate) fn cache_data(&self) -> Option<Vec<u8>> {
        lock(&self.cache).as_ref()?.get_data()
    }

    /// Compiles from now on through a cache of the driver's that begins with `data`; whether it took them.
    pub(crate) fn begin_cache(&self, data: Option<&[u8]>) -> bool {
        if !self.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return false;
        }
        let begin = |data| {
            let begun = self.scoped_now("beginning a pipeline cache", || Ok(driver_cache(&self.device, data)));
            begun.inspect_err(|error| log::info!("{error}")).ok()
        };
        let taken = data.and_then(|data| begin(Some(data)));
        let used = taken.is_some();
        *lock(&self.cache) = taken.or_else(|| begin(None));
        used
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
