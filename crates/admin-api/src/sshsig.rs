//! Detached signatures in the format of OpenSSH (PROTOCOL.sshsig): whoever has `ssh-keygen` can check them.

use aws_lc_rs::digest::{SHA512, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::BASE64;

/// What the signatures are for; one of another namespace is none of ours.
pub const NAMESPACE: &str = "sla-report@hpns";
const MAGIC: &[u8] = b"SSHSIG";
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
const ALGORITHM: &[u8] = b"ssh-ed25519";
const HASH: &[u8] = b"sha512";
const WIDTH: usize = 70;

/// A text as the format writes it: four bytes of length, and the text.
fn put(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(text);
}

fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (text, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *bytes = rest;
    Some(text)
}

fn public_key(key: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    put(&mut blob, ALGORITHM);
    put(&mut blob, key);
    blob
}

/// What is signed: not the message, but its hash with what it is for.
fn signed(message: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for part in [NAMESPACE.as_bytes(), b"", HASH, digest(&SHA512, message).as_ref()] {
        put(&mut bytes, part);
    }
    bytes
}

/// Signs a message; the signature is a text of its own.
pub(crate) fn sign(pair: &Ed25519KeyPair, message: &[u8]) -> String {
    let mut signature = Vec::new();
    put(&mut signature, ALGORITHM);
    put(&mut signature, pair.sign(&signed(message)).as_ref());
    let mut bytes = [MAGIC, &1_u32.to_be_bytes()].concat();
    put(&mut bytes, &public_key(pair.public_key().as_ref()));
    for part in [NAMESPACE.as_bytes(), b"", HASH, &signature] {
        put(&mut bytes, part);
    }
    let digits = BASE64.encode(&bytes);
    let lines: Vec<_> = digits.as_bytes().chunks(WIDTH).map(String::from_utf8_lossy).collect();
    format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
}

/// A line of a file of allowed signers, as `ssh-keygen -Y verify -f` reads it.
pub(crate) fn allowed_signer(name: &str, pair: &Ed25519KeyPair) -> String {
    let key = BASE64.encode(&public_key(pair.public_key().as_ref()));
    format!("{name} namespaces=\"{NAMESPACE}\" ssh-ed25519 {key}\n")
}

/// Says whether a signature over a message is one of ours by a key that a file of allowed signers names.
#[must_use]
pub fn verify(message: &[u8], signature: &str, signers: &str) -> bool {
    let read = || {
        let body = signature.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
        let digits: Vec<u8> = body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let bytes = BASE64.decode(&digits).ok()?;
        let mut rest = bytes.strip_prefix(MAGIC)?.strip_prefix(&1_u32.to_be_bytes())?;
        let key = take(&mut rest)?;
        let is_ours = take(&mut rest)? == NAMESPACE.as_bytes();
        let (_reserved, hash) = (take(&mut rest)?, take(&mut rest)?);
        let mut signature = take(&mut rest)?;
        let is_known = signers.lines().any(|line| is_signer(line, key));
        let algorithms = [take(&mut signature)? == ALGORITHM, hash == HASH, rest.is_empty()];
        let code = take(&mut signature)?;
        (is_ours && is_known && algorithms == [true; 3]).then(|| (key.to_vec(), code.to_vec()))
    };
    let Some((key, code)) = read() else { return false };
    let mut blob = &*key;
    let (Some(ALGORITHM), Some(key)) = (take(&mut blob), take(&mut blob)) else { return false };
    UnparsedPublicKey::new(&ED25519, key).verify(&signed(message), &code).is_ok()
}

/// A signer's line is what we write ourselves: a name, for which use, the key. Others (comments, authorities, options that
/// limit a key) name no signer.
fn is_signer(line: &str, key: &[u8]) -> bool {
    let mut parts = line.split_whitespace();
    let is_name = parts.next().is_some_and(|name| !name.starts_with('#'));
    let is_for_reports = parts.next() == Some(&*format!("namespaces=\"{NAMESPACE}\""));
    let is_ed25519 = parts.next().map(str::as_bytes) == Some(ALGORITHM);
    let known = parts.next().and_then(|digits| BASE64.decode(digits.as_bytes()).ok());
    is_name && is_for_reports && is_ed25519 && known.is_some_and(|known| known == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_pair(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    #[test]
    fn a_signature_holds_for_its_message_and_its_signer_alone() {
        let (pair, other) = (a_pair(1), a_pair(2));
        let (signature, signers) = (sign(&pair, b"report"), allowed_signer("hpns", &pair));

        assert!(verify(b"report", &signature, &signers));
        assert!(!verify(b"report.", &signature, &signers));
        assert!(!verify(b"report", &signature, &allowed_signer("hpns", &other)));
        assert!(!verify(b"report", &sign(&other, b"report"), &signers));
        assert!(!verify(b"report", &signature.replacen('A', "B", 1), &signers));
        assert!(!verify(b"report", "", &signers));
    }

    #[test]
    fn a_line_that_is_a_comment_or_limits_the_key_names_no_signer() {
        let pair = a_pair(1);
        let (signature, line) = (sign(&pair, b"report"), allowed_signer("hpns", &pair));
        let with = |options: &str| line.replace("namespaces=\"sla-report@hpns\"", options);

        for line in [
            format!("#{line}"),
            format!("# {line}"),
            with(""),
            with("namespaces=\"file\""),
            with("cert-authority"),
            with("valid-before=\"20200101\" namespaces=\"sla-report@hpns\""),
        ] {
            assert!(!verify(b"report", &signature, &line), "{line}");
        }
        assert!(verify(b"report", &signature, &format!("# the keys\n\n{line}")));
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_signature_by_chance(text: String, bytes: Vec<u8>) {
            let signers = allowed_signer("hpns", &a_pair(1));
            assert!(!verify(&bytes, &text, &signers));
            assert!(!verify(&bytes, &format!("{BEGIN}\n{}\n{END}\n", BASE64.encode(&bytes)), &signers));
        }
    }
}
