//! Throw-away keys and certificates, written to a directory: the CA that a sender has to trust, and
//! the credentials that it has to use. A directory that has them already keeps them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use x509_parser::der_parser::parse_der;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The team that the simulator's APNs key belongs to.
pub const APNS_TEAM_ID: &str = "SIMTEAM001";
/// The id of the simulator's APNs key.
pub const APNS_KEY_ID: &str = "SIMKEY0001";
/// Every team that the simulator knows, the first being [`APNS_TEAM_ID`].
pub(crate) const APNS_TEAMS: [&str; 2] = [APNS_TEAM_ID, "SIMTEAM002"];
/// Every key id that the simulator knows; they stand for one and the same key.
pub(crate) const APNS_KEYS: [&str; 2] = [APNS_KEY_ID, "SIMKEY0002"];
/// The simulator's Firebase project.
pub const FCM_PROJECT: &str = "proj-1";

/// Apple's extension that lists the topics of a certificate.
const TOPICS_EXTENSION: [u64; 8] = [1, 2, 840, 113_635, 100, 6, 3, 6];
const FCM_KEY_ID: &str = "simulated-key-1";
const FCM_EMAIL: &str = "pusher@proj-1.iam.gserviceaccount.com";

/// The credentials could not be made, written or read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file cannot be written or read.
    #[error("the simulator's credentials in {0} cannot be written or read")]
    File(PathBuf, #[source] std::io::Error),
    /// A certificate or key cannot be made.
    #[error("the simulator's certificates cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// TLS refused the certificate.
    #[error("TLS refused the simulator's certificate")]
    Tls(#[from] rustls::Error),
    /// A stored key cannot be read.
    #[error("a key of the simulator cannot be used; remove its directory")]
    Key,
}

/// What the servers need: their certificate, and the public halves of the senders' keys.
pub(crate) struct Credentials {
    /// For Google.
    pub(crate) tls: Arc<ServerConfig>,
    /// For Apple, who takes a certificate in place of a provider token.
    pub(crate) tls_with_client: Arc<ServerConfig>,
    /// For either, when its certificate has expired.
    pub(crate) tls_expired: Arc<ServerConfig>,
    /// The uncompressed point of the APNs key.
    pub(crate) apns_public: Vec<u8>,
    /// The PKCS#1 form of the service account's key.
    pub(crate) fcm_public: Vec<u8>,
}

/// Where the files are.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    fn ca_key(&self) -> PathBuf {
        self.directory.join("ca-key.pem")
    }

    pub(crate) fn apns_key(&self) -> PathBuf {
        self.directory.join("apns.p8")
    }

    /// Certificate and key in one PEM file.
    pub(crate) fn apns_certificate(&self) -> PathBuf {
        self.directory.join("apns-certificate.pem")
    }

    pub(crate) fn service_account(&self) -> PathBuf {
        self.directory.join("service-account.json")
    }
}

impl Credentials {
    /// Reads the credentials of a directory, and makes what is missing.
    pub(crate) fn load_or_make(files: &Files, topics: &[String]) -> Result<Self, CredentialError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| CredentialError::File(path, error)
        };
        std::fs::create_dir_all(&files.directory).map_err(at(&files.directory))?;
        if !files.service_account().exists() {
            make(files)?;
        }
        let read = |path: PathBuf| std::fs::read_to_string(&path).map_err(at(&path));
        let apns = KeyPair::from_pem(&read(files.apns_key())?)?;
        let account: serde_json::Value =
            serde_json::from_str(&read(files.service_account())?).map_err(|_| CredentialError::Key)?;
        let pem =
            account.get("private_key").and_then(serde_json::Value::as_str).ok_or(CredentialError::Key)?;
        let pkcs8 = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| CredentialError::Key)?;
        let rsa = RsaKeyPair::from_pkcs8(pkcs8.secret_pkcs8_der()).map_err(|_| CredentialError::Key)?;
        let issuer = Issuer::new(authority()?, KeyPair::from_pem(&read(files.ca_key())?)?);
        if !files.apns_certificate().exists() {
            write(&files.apns_certificate(), &client_certificate(&issuer, topics)?)?;
        }
        let ca = CertificateDer::from_pem_file(files.ca()).map_err(|_| CredentialError::Key)?;
        Ok(Self {
            tls: server_config(&issuer, None, false)?,
            tls_with_client: server_config(&issuer, Some(ca), false)?,
            tls_expired: server_config(&issuer, None, true)?,
            apns_public: rcgen::PublicKeyData::der_bytes(&apns).to_vec(),
            fcm_public: rsa.public_key().as_ref().to_vec(),
        })
    }
}

fn make(files: &Files) -> Result<(), CredentialError> {
    let ca_key = KeyPair::generate()?;
    let ca = authority()?.self_signed(&ca_key)?;
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| CredentialError::Key)?;
    let pkcs8: Pkcs8V1Der<'_> = rsa.as_der().map_err(|_| CredentialError::Key)?;
    let account = json!({
        "type": "service_account",
        "project_id": FCM_PROJECT,
        "private_key_id": FCM_KEY_ID,
        "private_key": pem("PRIVATE KEY", pkcs8.as_ref()),
        "client_email": FCM_EMAIL,
        "token_uri": "https://never.followed.invalid/token",
    });
    write(&files.ca_key(), &ca_key.serialize_pem())?;
    write(&files.ca(), &ca.pem())?;
    write(&files.apns_key(), &KeyPair::generate()?.serialize_pem())?;
    write(&files.service_account(), &account.to_string())
}

/// The CA as its certificate describes it: the same each time, but for the key.
fn authority() -> Result<CertificateParams, CredentialError> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(authority)
}

/// Writes a file that only its owner may read.
fn write(path: &Path, text: &str) -> Result<(), CredentialError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| CredentialError::File(path.to_owned(), error))
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A certificate for pushing to these bundle ids, in Apple's form, and its key.
fn client_certificate(issuer: &Issuer<'_, KeyPair>, topics: &[String]) -> Result<String, CredentialError> {
    let mut content = Vec::new();
    for topic in topics {
        for (name, kind) in [(topic.clone(), "app"), (format!("{topic}.voip"), "voip")] {
            content.extend(der(UTF8_STRING, name.as_bytes()));
            content.extend(der(SEQUENCE, &der(UTF8_STRING, kind.as_bytes())));
        }
    }
    let mut parameters = CertificateParams::new(Vec::new())?;
    let subject = topics.first().map_or("", String::as_str);
    parameters.distinguished_name.push(DnType::CommonName, format!("Apple Push Services: {subject}"));
    parameters.distinguished_name.push(DnType::CustomDnType(UID.to_vec()), subject);
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    parameters.not_after = rcgen::date_time_ymd(2046, 1, 1);
    parameters.custom_extensions =
        vec![CustomExtension::from_oid_content(&TOPICS_EXTENSION, der(SEQUENCE, &content))];
    let key = KeyPair::generate()?;
    Ok(parameters.signed_by(&key, issuer)?.pem() + &key.serialize_pem())
}

const UTF8_STRING: u8 = 0x0c;
const SEQUENCE: u8 = 0x30;
/// The attribute of a subject that names its bundle id.
const UID: [u64; 7] = [0, 9, 2342, 19_200_300, 100, 1, 1];

/// Tag, length in the long form, content (X.690, 8.1).
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    let header =
        if content.len() < 128 { vec![tag, length[1]] } else { vec![tag, 0x82, length[0], length[1]] };
    [&header, content].concat()
}

/// Reads the topics of a certificate.
pub(crate) fn topics_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let extension = parsed
        .extensions()
        .iter()
        .find(|extension| extension.oid.iter().is_some_and(|oid| oid.eq(TOPICS_EXTENSION)));
    let Some((_, list)) = extension.and_then(|extension| parse_der(extension.value).ok()) else {
        return Vec::new();
    };
    let parts = list.as_sequence().map(Vec::as_slice).unwrap_or_default();
    parts.iter().filter_map(|part| part.as_str().ok()).map(str::to_owned).collect()
}

fn server_config(
    issuer: &Issuer<'_, KeyPair>,
    clients: Option<CertificateDer<'static>>,
    expired: bool,
) -> Result<Arc<ServerConfig>, CredentialError> {
    let names =
        ["localhost", "127.0.0.1", "api.push.apple.com", "fcm.googleapis.com", "oauth2.googleapis.com"];
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new(names.map(str::to_owned))?;
    // OpenSSL takes a certificate whose subject is its issuer's for one that signed itself.
    parameters.distinguished_name.push(DnType::CommonName, "hpns simulator");
    parameters.use_authority_key_identifier_extension = true;
    if expired {
        parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let certificate = parameters.signed_by(&key, issuer)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(ca)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.allow_unauthenticated().build().map_err(|_| CredentialError::Key)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

impl Files {
    /// Who signs assertions for Google, and with which key.
    pub(crate) const fn fcm_identity() -> (&'static str, &'static str) {
        (FCM_EMAIL, FCM_KEY_ID)
    }
}
