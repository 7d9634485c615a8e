//! Secret-file I/O: bounded reads with permission checks, and atomic writes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

/// A chain of certificates is some 10 KiB.
const MAX_BYTES: u64 = 256 * 1024;
/// Links on the way to one file.
const MAX_LINKS: usize = 40;

fn refused<T>(why: &'static str) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

/// Reads a regular file of at most 256 KiB; a pipe or a device would hold or flood the process.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_opened(open(path)?)
}

/// Reads a file with a key in it. One that others may read or replace is refused: its owner is this process's user or
/// root, others have no right to it, its group may read at most, and no link of a stranger leads to it.
pub(crate) fn read_key(path: &Path) -> io::Result<Vec<u8>> {
    links_are_ours(path)?;
    let file = open(path)?;
    let facts = file.metadata()?;
    if !is_ours(facts.uid()) {
        return refused("it belongs to another user; give it to the one that runs hpns, or to root");
    }
    if facts.mode() & 0o027 != 0 {
        return refused("others may read or change it; `chmod 600` it (640 where a group has to read it)");
    }
    read_opened(file)
}

/// Opens a file, and looks at what was opened, not at what stood there before.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { refused("it is not a regular file") }
}

fn read_opened(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES { refused("it is larger than 256 KiB") } else { Ok(bytes) }
}

/// Root's and the process's own; to root every user's are.
fn is_ours(uid: u32) -> bool {
    let me = rustix::process::geteuid();
    uid == 0 || me.is_root() || uid == me.as_raw()
}

/// Follows the path as the kernel does, and looks at each link on it.
fn links_are_ours(path: &Path) -> io::Result<()> {
    let mut rest: Vec<PathBuf> = parts(path);
    let mut at = if path.is_absolute() { PathBuf::from("/") } else { std::env::current_dir()? };
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == Path::new("..") {
            at.pop();
            continue;
        }
        let next = at.join(part);
        let facts = std::fs::symlink_metadata(&next)?;
        if !facts.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return refused("too many links lead to it");
        }
        if !is_ours(facts.uid()) {
            return refused("a link of another user leads to it");
        }
        let target = std::fs::read_link(&next)?;
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        rest.extend(parts(&target));
    }
    Ok(())
}

/// The parts of a path, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let named = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    let mut parts: Vec<_> = named.map(|part| PathBuf::from(part.as_os_str())).collect();
    parts.reverse();
    parts
}

/// Writes a file that did not exist and that only its owner may read. It is there whole, on the disk, or not at all.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let draft = directory.join(format!(".{}.{}.new", name.to_string_lossy(), std::process::id()));
    let _ = std::fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    // A link takes no name that is taken, as a renaming would.
    let linked = written.and_then(|()| std::fs::hard_link(&draft, path));
    let _ = std::fs::remove_file(&draft);
    linked?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    use super::*;

    #[test]
    fn devices_directories_pipes_and_huge_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (huge, good) = (directory.path().join("huge"), directory.path().join("good"));
        std::fs::write(&huge, vec![b'x'; 300 * 1024]).unwrap();
        std::fs::write(&good, "key").unwrap();
        let pipe = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());

        for bad in [Path::new("/dev/zero"), directory.path(), &huge, &pipe] {
            assert!(read(bad).is_err(), "{}", bad.display());
        }
        assert_eq!(read(&good).unwrap(), b"key");
    }

    #[test]
    fn a_key_that_others_may_read_or_a_stranger_could_swap_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        write(&key, "key").unwrap();
        let with = |mode| {
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
            read_key(&key).is_ok()
        };
        for (mode, is_taken) in [(0o644, false), (0o660, false), (0o604, false), (0o640, true), (0o600, true)]
        {
            assert_eq!(with(mode), is_taken, "{mode:o}");
        }

        // As a cluster mounts them: a link to a directory of the day.
        std::fs::create_dir(directory.path().join("day")).unwrap();
        std::fs::rename(&key, directory.path().join("day/key")).unwrap();
        symlink("day", directory.path().join("data")).unwrap();
        symlink("data/key", &key).unwrap();
        assert_eq!(read_key(&key).unwrap(), b"key");
        // Root may read what the service's user owns: it makes tokens for it.
        if rustix::process::geteuid().is_root() {
            lchown(directory.path().join("data"), Some(65_534), Some(65_534)).unwrap();
            assert_eq!(read_key(&key).unwrap(), b"key");
        }
    }

    #[test]
    fn a_key_file_is_whole_or_not_there_and_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        write(&key, "first").unwrap();

        assert_eq!(write(&key, "second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read_key(&key).unwrap(), b"first");
        assert_eq!(std::fs::metadata(&key).unwrap().mode() & 0o777, 0o600);
        let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
