//! Google service account: its key file, and the signed assertion (RFC 7523).

use std::fmt;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use push_domain::{SecretBytes, Timestamp};
use serde::{Deserialize, Serialize};

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const LIFETIME_SECONDS: u64 = 3600;
/// Google refuses an `iat` in the future; our clock may be a little ahead.
const CLOCK_SKEW_SECONDS: u64 = 10;

/// A key file that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAccount {
    /// Not JSON, or a field is missing.
    #[error(
        "the service account file is not JSON with type, client_email, private_key, private_key_id and project_id"
    )]
    File,
    /// Other kinds of account can name URLs, files, even programs.
    #[error("the service account file has to have `type` \"service_account\"")]
    Type,
    /// The key is not an RSA key.
    #[error("`private_key` of the service account file is not a PEM file with an RSA private key")]
    Key,
    /// The key belongs to another project than the app.
    #[error("the service account belongs to project `{found}`, the app to `{expected}`")]
    Project {
        /// What the file says.
        found: String,
        /// What the configuration says.
        expected: String,
    },
}

/// A key of one Firebase project. Of Google's key file only what is needed is read; its URLs never are.
#[derive(Clone)]
pub struct ServiceAccount {
    email: String,
    project: String,
    header: Header,
    key: EncodingKey,
}

#[derive(Deserialize)]
struct KeyFile {
    #[serde(rename = "type")]
    kind: String,
    client_email: String,
    private_key: String,
    private_key_id: String,
    project_id: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'static str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

impl ServiceAccount {
    /// Reads Google's key file and checks that it belongs to `project`.
    pub fn new(json: &SecretBytes, project: &str) -> Result<Self, InvalidAccount> {
        let file: KeyFile = serde_json::from_slice(json.expose()).map_err(|_| InvalidAccount::File)?;
        if file.kind != "service_account" {
            return Err(InvalidAccount::Type);
        }
        if file.project_id != project {
            return Err(InvalidAccount::Project { found: file.project_id, expected: project.to_owned() });
        }
        // Scripts that write the file may have escaped the line breaks twice.
        let pem = file.private_key.replace("\\n", "\n");
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| InvalidAccount::Key)?;
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(file.private_key_id);
        let account = Self { email: file.client_email, project: file.project_id, header, key };
        account.assertion("", Timestamp::from_millis(0))?;
        Ok(account)
    }

    /// Returns the project whose devices it may reach.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }

    /// Signs the assertion that `audience` exchanges for an access token (RFC 7523).
    pub(crate) fn assertion(&self, audience: &str, now: Timestamp) -> Result<String, InvalidAccount> {
        let iat = now.seconds().saturating_sub(CLOCK_SKEW_SECONDS);
        let claims =
            Claims { iss: &self.email, scope: SCOPE, aud: audience, iat, exp: iat + LIFETIME_SECONDS };
        jsonwebtoken::encode(&self.header, &claims, &self.key).map_err(|_| InvalidAccount::Key)
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccount").field("project", &self.project).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> InvalidAccount {
        ServiceAccount::new(&SecretBytes::new(json.into()), "proj-1").unwrap_err()
    }

    #[test]
    fn a_key_file_is_refused_with_the_field_that_is_wrong() {
        let file = |kind: &str, project: &str| {
            format!(
                r#"{{"type":"{kind}","client_email":"a@b","private_key":"junk","private_key_id":"k","project_id":"{project}"}}"#
            )
        };

        assert_eq!(refusal("{}"), InvalidAccount::File);
        assert_eq!(refusal(&file("external_account", "proj-1")), InvalidAccount::Type);
        assert!(matches!(refusal(&file("service_account", "other")), InvalidAccount::Project { .. }));
        assert_eq!(refusal(&file("service_account", "proj-1")), InvalidAccount::Key);
    }
}
