//! Files are written completely or not at all, also if several threads, processes or containers write them at once.
//!
//! The content is written to a temporary file in the same folder, which is renamed when everything is on the disk. Its
//! temporary name is random and it is created exclusively, so that two writers never share one.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use crate::base::error::{Error, Result};
use crate::base::lock::lock;
use crate::base::room::asking;

/// Links that are followed to a file, as many as Linux follows.
const MOST_LINKS: usize = 40;
/// Random names that are tried.
const MOST_NAMES: usize = 100;

/// Writes `bytes` to `path`. An existing file is replaced in one step: a reader sees all of the old content or all of the
/// new content, and an error leaves the old content.
///
/// The permissions of an existing file are kept, and a symbolic link is followed: the file that it points at is
/// written. A device or a pipe is written directly.
///
/// # Errors
/// [`Error::Io`] with `path`.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = match place(path) {
        Ok(WriteTarget::Direct) => fs::write(path, bytes),
        Ok(WriteTarget::File(target)) => {
            Temporary::beside(&target).and_then(|temporary| temporary.fill(bytes)?.replace(&target))
        }
        Err(error) => Err(error),
    };
    written.map_err(|source| Error::Io { path: path.into(), source })
}

/// As [`write()`], but it is an error if the name exists, even as a symbolic link that points nowhere, or if another
/// writer creates it meanwhile.
///
/// # Errors
/// [`Error::Io`] with `path`, of the kind [`ErrorKind::AlreadyExists`] if the name is taken.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = vacant(path)
        .and_then(|()| Temporary::beside(path))
        .and_then(|temporary| temporary.fill(bytes)?.take_free_name(path));
    written.map_err(|source| Error::Io { path: path.into(), source })
}

/// An error if the name `path` exists, even as a symbolic link that points nowhere.
fn vacant(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The content of a file. It is an error if there is not enough memory for it.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    asking(|| fs::read(path)).map_err(|source| Error::Io { path: path.into(), source })
}

/// Finds out whether [`write()`] can write `path`, without changing an existing file: for long work whose result is written
/// at the end.
///
/// # Errors
/// [`Error::Io`] with `path`.
pub fn check(path: &Path) -> Result<()> {
    let checked = match place(path) {
        Ok(WriteTarget::Direct) => Ok(()),
        Ok(WriteTarget::File(target)) if target.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(WriteTarget::File(target)) => Temporary::beside(&target).map(drop),
        Err(error) => Err(error),
    };
    checked.map_err(|source| Error::Io { path: path.into(), source })
}

/// What the bytes for a path are written to.
enum WriteTarget {
    /// The existing device or pipe.
    Direct,
    /// A regular file of this name, which is no link.
    File(PathBuf),
}

fn place(path: &Path) -> io::Result<WriteTarget> {
    match fs::metadata(path) {
        Ok(there) if !there.is_file() && !there.is_dir() => return Ok(WriteTarget::Direct),
        _ => {}
    }
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        // Links of /proc, such as /dev/stdout leads to, stand for open files.
        if target.starts_with("/proc") {
            return Ok(WriteTarget::Direct);
        }
        match fs::read_link(&target) {
            Ok(link) => target = folder(&target).join(link),
            // Not a link, or it does not exist: other errors are found when the file is written.
            Err(_) => return Ok(WriteTarget::File(target)),
        }
    }
    Err(io::Error::other(format!("expected at most {MOST_LINKS} symbolic links to a file")))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Paths of the temporary files that exist, where a program asked for it.
static LISTED: OnceLock<Mutex<Listed>> = OnceLock::new();

#[derive(Default)]
struct Listed {
    paths: Vec<PathBuf>,
    closed: bool,
}

/// Keeps a list of temporary files from now on, for [`remove_unfinished`]. For programs that handle signals; the library
/// handles none.
pub fn list_unfinished() {
    LISTED.get_or_init(Mutex::default);
}

/// Removes the temporary files of writes that have not ended, and fails all later writes: for a program that is about to
/// exit while other threads may be writing. Does nothing before [`list_unfinished`].
pub fn remove_unfinished() {
    if let Some(listed) = LISTED.get() {
        let mut listed = lock(listed);
        listed.closed = true;
        for path in listed.paths.drain(..) {
            // If a file cannot be removed, nothing more can be done.
            let _ = fs::remove_file(path);
        }
    }
}

/// A temporary file; removed when dropped, unless it took its final name.
struct Temporary {
    file: File,
    path: PathBuf,
    kept: bool,
}

impl Temporary {
    /// Creates it in the folder of `target`, with the permissions of an existing target.
    fn beside(target: &Path) -> io::Result<Self> {
        #[cfg(unix)]
        let there = fs::metadata(target).ok();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        // Other users cannot read it before it has the permissions of the file that it replaces.
        #[cfg(unix)]
        if there.is_some() {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        let (file, path) = Self::create(folder(target), &options)?;
        let temporary = Self { file, path, kept: false };
        #[cfg(unix)]
        if let Some(there) = there {
            keep_permissions(&temporary.file, &there);
        }
        Ok(temporary)
    }

    fn create(folder: &Path, options: &OpenOptions) -> io::Result<(File, PathBuf)> {
        let mut last = ErrorKind::AlreadyExists.into();
        for _ in 0..MOST_NAMES {
            // Each hasher state has its own random keys from the system.
            let name = format!(".gatefold-{:016x}.partial", RandomState::new().hash_one(0));
            let path = folder.join(name);
            // The list is locked meanwhile: otherwise a file could be made after the last look at the list.
            let mut listed = LISTED.get().map(lock);
            if listed.as_ref().is_some_and(|listed| listed.closed) {
                return Err(io::Error::new(ErrorKind::Interrupted, "the program is being stopped"));
            }
            match options.open(&path) {
                Ok(file) => {
                    if let Some(listed) = &mut listed {
                        listed.paths.push(path.clone());
                    }
                    return Ok((file, path));
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Writes `bytes` and waits until they are on the disk.
    fn fill(mut self, bytes: &[u8]) -> io::Result<Self> {
        self.file.write_all(bytes)?;
        match self.file.sync_all() {
            // Some file systems have no such call.
            Err(error) if !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Err(error),
            _ => Ok(self),
        }
    }

    /// Renames the file to `target` and replaces an existing one.
    fn replace(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.kept = true;
        sync_folder(target);
        Ok(())
    }

    /// Renames the file to `target`, which must not exist.
    fn take_free_name(self, target: &Path) -> io::Result<()> {
        match fs::hard_link(&self.path, target) {
            Ok(()) => {
                sync_folder(target);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
            // Without hard links there is a moment in which another writer's file is not noticed.
            Err(_) => vacant(target).and_then(|()| self.replace(target)),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // If this fails too, the first error is the more important one.
            let _ = fs::remove_file(&self.path);
        }
        if let Some(listed) = LISTED.get() {
            lock(listed).paths.retain(|path| *path != self.path);
        }
    }
}

/// Gives `file` the owner and the mode of the file that it will replace, as far as the system allows. If something is
/// not allowed, the permissions become narrower, never wider.
#[cfg(unix)]
fn keep_permissions(file: &File, there: &fs::Metadata) {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let Ok(own) = file.metadata() else { return };
    let mut mode = there.mode() & 0o777;
    let same_group = own.gid() == there.gid() || std::os::unix::fs::fchown(file, None, Some(there.gid())).is_ok();
    if !same_group {
        // What the group of the old file may do, another group may only do if all others may.
        mode = (mode & !0o070) | ((mode & 0o007) << 3);
    }
    if own.uid() != there.uid() {
        let _ = std::os::unix::fs::fchown(file, Some(there.uid()), None);
    }
    let _ = file.set_permissions(fs::Permissions::from_mode(mode));
}

/// Writes the new directory entry to the disk, if the system can do that.
fn sync_folder(path: &Path) {
    #[cfg(unix)]
    if let Ok(folder) = File::open(folder(path)) {
        let _ = folder.sync_all();
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// The right to read, change and write a file, held by one process and one thread at a time. It does not
/// prevent code that does not ask for the lock from reading or writing.
pub(crate) struct Turn {
    file: Option<File>,
    path: PathBuf,
}

impl Turn {
    /// Waits until no other thread or process holds it. It is the lock of a file beside `path`, which is removed afterwards. Where
    /// locks do not work, as on some network file systems, a message is logged and the call does not wait.
    pub fn wait(path: &Path) -> Result<Self> {
        // A link and the file that it points at have one lock.
        let place = place(path).map_err(|source| Error::Io { path: path.into(), source })?;
        let mut name = if let WriteTarget::File(target) = place { target } else { path.into() }.into_os_string();
        name.push(".lock");
        let lock = PathBuf::from(name);
        let failed = |source| Error::Io { path: lock.clone(), source };
        loop {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&lock).map_err(failed)?;
            if let Err(error) = file.lock() {
                log::warn!("{}: not locked, so that results of another process may be lost: {error}", lock.display());
                return Ok(Self { file: None, path: lock });
            }
            // The previous holder may have removed this file; then its lock does not exclude later callers.
            if same_file(&file, &lock).map_err(failed)? {
                return Ok(Self { file: Some(file), path: lock });
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // On other systems an open file cannot be distinguished from a new one of the same name, so the lock file is kept.
        if cfg!(unix) && self.file.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the name `path` still refers to `file`.
#[cfg(unix)]
fn same_file(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let own = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((own.dev(), own.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn same_file(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}
