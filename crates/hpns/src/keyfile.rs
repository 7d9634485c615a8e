//! The service's own secret: 32 random bytes in a file that only its owner may read.

use std::fmt::Write as _;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, ensure};
use push_domain::SecretBytes;

const BYTES: usize = 32;

/// Reads the key file, and makes it when it is missing.
pub(crate) fn load_or_make(path: &Path) -> anyhow::Result<SecretBytes> {
    if !path.exists() {
        make(path).with_context(|| format!("registry.key_file: cannot make {}", path.display()))?;
    }
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("registry.key_file: cannot read {}", path.display()))?;
    let digits = text.trim();
    let pairs = digits.as_bytes().chunks_exact(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Option<Vec<u8>> = pairs.collect();
    let bytes = bytes.filter(|bytes| bytes.len() == BYTES && digits.len() == 2 * BYTES);
    ensure!(
        bytes.is_some(),
        "registry.key_file: {} has to hold {} hexadecimal digits",
        path.display(),
        2 * BYTES
    );
    Ok(SecretBytes::new(bytes.unwrap_or_default()))
}

fn make(path: &Path) -> anyhow::Result<()> {
    let mut bytes = [0_u8; BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow::anyhow!("no random bytes"))?;
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    write_private(path, &(text + "\n"))
}

/// Writes a file that did not exist and that only its owner may read.
pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hpns.key");

        let first = load_or_make(&path).unwrap();
        let second = load_or_make(&path).unwrap();

        assert_eq!(first.expose(), second.expose());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_broken_key_file_is_named_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hpns.key");
        for text in ["canary", "", &"zz".repeat(32), &"ab".repeat(33)] {
            std::fs::write(&path, text).unwrap();
            let message = load_or_make(&path).unwrap_err().to_string();
            assert!(message.contains("hpns.key") && !message.contains("canary"), "{message}");
        }
    }
}
