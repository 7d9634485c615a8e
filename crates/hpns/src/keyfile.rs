//! The service's own secret: 32 random bytes in a file that only its owner may read.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use data_encoding::HEXLOWER_PERMISSIVE;
use push_domain::SecretBytes;
use tenant_registry::Keys;

use crate::secret_file;

const BYTES: usize = 32;

/// Reads the key file, and makes it when it is missing: the master secret, and newer peppers for licence keys, if
/// there are any.
pub(crate) fn load_or_make(path: &Path) -> anyhow::Result<Keys> {
    if !path.exists() {
        make(path).with_context(|| format!("registry.key_file: cannot make {}", path.display()))?;
    }
    let bytes = secret_file::read_key(path)
        .with_context(|| format!("registry.key_file: cannot read {}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let secrets: Option<Vec<_>> = text.split_whitespace().map(secret).collect();
    let secrets = secrets.with_context(|| {
        format!("registry.key_file: {} has to hold {} hexadecimal digits a line", path.display(), 2 * BYTES)
    })?;
    let (master, newer) =
        secrets.split_first().with_context(|| format!("registry.key_file: {} is empty", path.display()))?;
    Ok(Keys::with_peppers(master, newer))
}

fn secret(digits: &str) -> Option<SecretBytes> {
    let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
    (bytes.len() == BYTES).then(|| SecretBytes::new(bytes))
}

fn make(path: &Path) -> anyhow::Result<()> {
    let mut bytes = [0_u8; BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow::anyhow!("no random bytes"))?;
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(secret_file::write(path, &(text + "\n"))?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hpns.key");

        let made = load_or_make(&path).unwrap().purpose_key("test");
        let read = load_or_make(&path).unwrap().purpose_key("test");

        assert_eq!(made.expose(), read.expose());
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
