//! The pipeline cache of a device: read from a file, given, and written.

use std::path::Path;
use std::sync::Arc;

use crate::base::error::{Error, Result};
use crate::base::files;
use crate::device::Device;
use crate::gpu::Context;
use crate::gpu::pipeline_cache::{MAX_BYTES, is_given_back, opened, origin, sealed};

impl Device {
    fn context(&self) -> Option<&Context> {
        self.handle.gpu().map(Arc::as_ref)
    }

    /// Collects what the driver compiles from now on for [`Device::save_pipeline_cache`], and loads from `path` what
    /// an earlier process saved there. Call it before the first session; kernels compiled earlier are not in the cache.
    ///
    /// Returns `true` if the content of the file is used, `false` if there was no file, or one of another version, adapter or
    /// driver, or a damaged one (this is logged). It is always `false` where there is no cache: on the CPU, on backends other
    /// than Vulkan, and on a device of the application without [`wgpu::Features::PIPELINE_CACHE`].
    ///
    /// Accidental damage of the file is detected, deliberate changes are not. Keep it where no other user can write.
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

    /// As [`Device::load_pipeline_cache`], from bytes that [`Device::pipeline_cache`] returned; empty for a new cache.
    ///
    /// # Safety
    /// The driver trusts `bytes`: they must be unchanged from [`Device::pipeline_cache`], of any process, adapter
    /// and version.
    #[expect(unsafe_code, reason = "the caller guarantees that the bytes are unchanged")]
    pub unsafe fn use_pipeline_cache(&self, bytes: &[u8]) -> bool {
        let Some(context) = self.context() else { return false };
        let data = opened(&origin(self.info()), bytes);
        let data = data.inspect_err(|why| log::info!("pipeline cache: not used: {why}")).ok();
        context.begin_cache(data)
    }

    /// What the driver has compiled since [`Device::load_pipeline_cache`] or [`Device::use_pipeline_cache`], with what it
    /// was given there; `None` before them, and where there is no cache.
    #[must_use]
    pub fn pipeline_cache(&self) -> Option<Vec<u8>> {
        Some(sealed(&origin(self.info()), &self.context()?.cache_data()?))
    }

    /// Writes [`Device::pipeline_cache`] to `path`, completely or not at all; missing folders are created. Returns `false` and
    /// writes nothing if there is no cache or the driver has compiled nothing new.
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
