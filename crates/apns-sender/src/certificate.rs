//! Certificate authentication: one certificate for one app, in place of a provider token.
//!
//! Apple writes the topics that a certificate is good for into an extension of its own; a certificate
//! without it is good for the bundle id of its subject ("Establishing a certificate-based connection").

use std::fmt;

use push_domain::{SecretBytes, Timestamp};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::der_parser::ber::BerObjectContent;
use x509_parser::der_parser::der::parse_der_sequence;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::InvalidCredentials;

/// Apple's list of topics.
const TOPICS: [u64; 8] = [1, 2, 840, 113_635, 100, 6, 3, 6];
/// The attribute of the subject that names the bundle id.
const USER_ID: [u64; 7] = [0, 9, 2342, 19_200_300, 100, 1, 1];

/// A client certificate with its key.
pub struct Certificate {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    topics: Vec<String>,
    expires_at: Timestamp,
}

impl Certificate {
    /// Reads PEM: the certificate and its chain from `certificate`, the key from `key`, which may be
    /// the same file.
    pub fn new(certificate: &SecretBytes, key: &SecretBytes) -> Result<Self, InvalidCredentials> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.expose())
            .collect::<Result<_, _>>()
            .map_err(|_| InvalidCredentials::Certificate)?;
        let key =
            PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| InvalidCredentials::CertificateKey)?;
        let first = chain.first().ok_or(InvalidCredentials::Certificate)?;
        let (_, parsed) = X509Certificate::from_der(first).map_err(|_| InvalidCredentials::Certificate)?;
        let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let topics = topics(&parsed);
        let expires_at = Timestamp::from_millis(seconds.saturating_mul(1000));
        Ok(Self { chain, key, topics, expires_at })
    }

    /// Returns the topics that it is good for, suffixes such as `.voip` included.
    #[must_use]
    pub fn topics(&self) -> &[String] {
        &self.topics
    }

    /// Returns when it ends to be good.
    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

fn topics(certificate: &X509Certificate<'_>) -> Vec<String> {
    let is = |oid: &x509_parser::der_parser::oid::Oid<'_>, numbers: &[u64]| {
        oid.iter().is_some_and(|parts| parts.eq(numbers.iter().copied()))
    };
    if let Some(extension) = certificate.extensions().iter().find(|extension| is(&extension.oid, &TOPICS)) {
        // Names, each followed by a list of what it is for; only the names count.
        let Ok((_, list)) = parse_der_sequence(extension.value) else {
            return Vec::new();
        };
        let parts = list.as_sequence().map(Vec::as_slice).unwrap_or_default();
        return parts.iter().filter_map(|part| text(&part.content)).collect();
    }
    let subject =
        certificate.subject().iter_attributes().find(|attribute| is(attribute.attr_type(), &USER_ID));
    subject.and_then(|attribute| attribute.as_str().ok()).map(str::to_owned).into_iter().collect()
}

fn text(content: &BerObjectContent<'_>) -> Option<String> {
    match content {
        BerObjectContent::UTF8String(text)
        | BerObjectContent::PrintableString(text)
        | BerObjectContent::IA5String(text) => Some((*text).to_owned()),
        _ => None,
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("topics", &self.topics).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair};

    use super::*;

    /// Two names, one with its uses behind it, as Apple writes them.
    const TWO_TOPICS: &[u8] = b"\x30\x16\x0c\x05com.a\x30\x05\x0c\x03app\x0c\x06com.a2";

    fn pem(extension: Option<&[u8]>) -> SecretBytes {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CustomDnType(USER_ID.to_vec()), "com.subject");
        parameters.not_after = rcgen::date_time_ymd(2030, 1, 1);
        parameters.custom_extensions =
            extension.map(|it| CustomExtension::from_oid_content(&TOPICS, it.to_vec())).into_iter().collect();
        let key = KeyPair::generate().unwrap();
        let text = parameters.self_signed(&key).unwrap().pem() + &key.serialize_pem();
        SecretBytes::new(text.into())
    }

    #[test]
    fn the_topics_are_those_of_apples_extension_or_the_subject() {
        let (listed, bare) = (pem(Some(TWO_TOPICS)), pem(None));

        assert_eq!(Certificate::new(&listed, &listed).unwrap().topics(), ["com.a", "com.a2"]);
        assert_eq!(Certificate::new(&bare, &bare).unwrap().topics(), ["com.subject"]);
    }

    #[test]
    fn the_end_is_read_and_a_broken_extension_allows_nothing() {
        let broken = pem(Some(b"\x30\x7fjunk"));

        let certificate = Certificate::new(&broken, &broken).unwrap();

        assert!(certificate.topics().is_empty());
        assert_eq!(certificate.expires_at().seconds(), 1_893_456_000);
    }

    #[test]
    fn what_is_no_certificate_or_no_key_is_named() {
        let (good, junk) = (pem(None), SecretBytes::new(b"junk".to_vec()));

        assert_eq!(Certificate::new(&junk, &good).unwrap_err(), InvalidCredentials::Certificate);
        assert_eq!(Certificate::new(&good, &junk).unwrap_err(), InvalidCredentials::CertificateKey);
    }
}
