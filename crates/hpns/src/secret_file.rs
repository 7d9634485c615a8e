//! Reading small files that an operator puts in place: keys, accounts, certificates.

use std::io::{self, Read};
use std::path::Path;

/// A chain of certificates is some 10 KiB.
const MAX_BYTES: u64 = 256 * 1024;

/// Reads a regular file of at most 256 KiB; a pipe or a device would hold or flood the process.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let refused = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    if !std::fs::metadata(path)?.is_file() {
        return refused("it is not a regular file");
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return refused("it is larger than 256 KiB");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_directories_and_huge_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (huge, good) = (directory.path().join("huge"), directory.path().join("good"));
        std::fs::write(&huge, vec![b'x'; 300 * 1024]).unwrap();
        std::fs::write(&good, "key").unwrap();

        assert!(read(Path::new("/dev/zero")).is_err());
        assert!(read(directory.path()).is_err());
        assert!(read(&huge).is_err());
        assert_eq!(read(&good).unwrap(), b"key");
    }
}
