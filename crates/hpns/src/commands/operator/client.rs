//! HTTP client of the admin API.

use std::time::Duration;

use anyhow::Context;
use http::header::{ETAG, IF_MATCH};
use http::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::Connection;
use crate::outbound::is_loopback;
use crate::secret_file;

const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// A list is read so many at a time.
const PAGE: usize = 100;

/// Error of a command, with the exit status that says so.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) exit_code: u8,
    text: String,
}

impl Refused {
    fn answered(status: StatusCode, text: String) -> Self {
        let exit_code = match status {
            StatusCode::NOT_FOUND => 3,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => 4,
            _ if status.is_server_error() => 1,
            _ => 5,
        };
        Self { exit_code, text }
    }

    /// A push was not accepted, or somebody did not say yes.
    pub(super) fn declined(text: &str) -> Self {
        Self { exit_code: 5, text: text.to_owned() }
    }

    /// The audit log does not hold together.
    pub(super) fn broken(text: &str) -> Self {
        Self { exit_code: 6, text: text.to_owned() }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refused {}

/// HTTP client of the admin API, with the operator's token.
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    token: SecretString,
    pub(super) json: bool,
}

/// Resource with its `ETag`, which a change of it has to bring.
pub(super) struct Tagged {
    pub(super) value: Value,
    pub(super) tag: String,
}

/// The token, where it stands neither in a file nor, for everybody to read, on the command line.
#[expect(clippy::disallowed_methods, reason = "the one secret that commands take from a variable")]
fn token_of_environment() -> Option<SecretString> {
    std::env::var("HPNS_ADMIN_TOKEN").ok().filter(|token| !token.is_empty()).map(SecretString::from)
}

/// Says whether a token would go over plain HTTP; refuses it where others may listen, unless that is wanted.
fn is_in_the_clear(url: &str, is_wanted: bool) -> anyhow::Result<bool> {
    let url = reqwest::Url::parse(url).context("--url is no URL")?;
    match url.scheme() {
        "https" => Ok(false),
        "http" if is_wanted || is_loopback(&url) => Ok(true),
        "http" => anyhow::bail!(
            "--url: the token would travel in the clear to {}; use https://, or say --plain-http",
            url.host_str().unwrap_or_default()
        ),
        _ => anyhow::bail!("--url has to begin with https:// or http://"),
    }
}

impl Client {
    pub(super) fn new(connection: &Connection) -> anyhow::Result<Self> {
        let token = match (token_of_environment(), &connection.token_file) {
            (_, Some(file)) => {
                let bytes = secret_file::read_key(file)
                    .with_context(|| format!("--token-file {}", file.display()))?;
                SecretString::from(String::from_utf8(bytes).context("--token-file")?.trim().to_owned())
            }
            (Some(token), None) => token,
            (None, None) => anyhow::bail!("an admin token is needed: HPNS_ADMIN_TOKEN, or --token-file"),
        };
        let mut builder =
            reqwest::Client::builder().timeout(REQUEST_TIMEOUT).redirect(reqwest::redirect::Policy::none());
        if let Some(file) = &connection.ca_file {
            let pem = std::fs::read(file).with_context(|| format!("--ca-file {}", file.display()))?;
            builder =
                builder.add_root_certificate(reqwest::Certificate::from_pem(&pem).context("--ca-file")?);
        }
        let url = connection.url.trim_end_matches('/').to_owned();
        if is_in_the_clear(&url, connection.plain_http)? {
            // No proxy is to read the token.
            builder = builder.no_proxy();
        }
        Ok(Self { http: builder.build()?, url, token, json: connection.json })
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        tag: Option<&str>,
        body: Option<&Value>,
    ) -> anyhow::Result<Tagged> {
        let mut request = self
            .http
            .request(method, format!("{}/v1{path}", self.url))
            .bearer_auth(self.token.expose_secret());
        if let Some(tag) = tag {
            request = request.header(IF_MATCH, tag);
        }
        if let Some(body) = body {
            request = request.body(body.to_string()).header("content-type", "application/json");
        }
        let response = request.send().await.with_context(|| format!("{} does not answer", self.url))?;
        let status = response.status();
        let tag = response.headers().get(ETAG).and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
        let text = response.text().await.context("the answer broke off")?;
        // What is no JSON is text: hours come as CSV.
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if status.is_success() {
            return Ok(Tagged { value, tag });
        }
        let (code, detail) = (value["code"].as_str(), value["detail"].as_str());
        let text = match (code, detail) {
            (Some(code), Some(detail)) => format!("{detail} ({code})"),
            _ => format!("HTTP {status}: this is not the admin API; is --url right?"),
        };
        Err(Refused::answered(status, text).into())
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.get_tagged(path).await?.value)
    }

    pub(super) async fn get_tagged(&self, path: &str) -> anyhow::Result<Tagged> {
        self.ask(Method::GET, path, None, None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        Ok(self.ask(Method::POST, path, None, Some(body)).await?.value)
    }

    /// Changes a thing, if it is still as it was looked at.
    pub(super) async fn put(
        &self,
        path: &str,
        tag: Option<&str>,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        Ok(self.ask(Method::PUT, path, tag, body).await?.value)
    }

    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.ask(Method::DELETE, path, None, None).await?.value)
    }

    /// Reads a list page by page, at most `limit` of it. `path` ends with `?` or `&`.
    pub(super) async fn list(&self, path: &str, limit: usize) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        while items.len() < limit {
            let wanted = (limit - items.len()).min(PAGE);
            let page = self.get(&format!("{path}limit={wanted}{cursor}")).await?;
            items.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        Ok(items)
    }
}

/// A text as it stands in a path or a query.
pub(super) fn encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_leave_its_place_in_a_path() {
        assert_eq!(encoded("ten_1-a.b"), "ten_1-a.b");
        assert_eq!(encoded("a/../b?c=d&e"), "a%2F..%2Fb%3Fc%3Dd%26e");
    }

    #[test]
    fn each_kind_of_refusal_has_an_exit_code() {
        for (status, code) in [(404, 3), (401, 4), (403, 4), (409, 5), (412, 5), (400, 5), (503, 1)] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Refused::answered(status, String::new()).exit_code, code);
        }
    }

    #[test]
    fn a_token_goes_in_the_clear_to_this_machine_alone_unless_told() {
        for url in ["http://127.0.0.1:8067", "HTTP://localhost", "http://[::1]:8067", "http://127.9.9.9"] {
            assert!(is_in_the_clear(url, false).unwrap(), "{url}");
        }
        for url in ["http://admin.example", "http://127.0.0.1.evil.example", "http://127.0.0.1@evil.example/"]
        {
            assert!(is_in_the_clear(url, false).is_err(), "{url}");
            assert!(is_in_the_clear(url, true).unwrap(), "{url}");
        }
        assert!(!is_in_the_clear("https://admin.example", false).unwrap());
        assert!(is_in_the_clear("ftp://127.0.0.1", true).is_err() && is_in_the_clear("x", true).is_err());
    }
}
