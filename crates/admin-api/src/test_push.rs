//! Test push: tries a licence key through a gateway of the region, with the latency of every hop.

use std::time::Duration;

use http_edge::{ErrorKind, Problem};
use push_domain::Privacy;
use serde::Deserialize;
use serde_json::json;
use tenant_registry::{AuditContext, LicenceKey};
use tokio::time::Instant;

use crate::failure::{Failure, invalid};
use crate::rules;
use crate::state::Admin;
use crate::wire::{HopView, TestPushInput, TestPushView};

const ROUTE: &str = "/api/v1/send_push";
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// The server id of a test push, where the licence is bound to none: of the form that every privacy policy lets pass.
const SERVER: &str = "8wfsxkz1ntr1ue8yf6sba9anqc";

#[derive(Deserialize)]
struct Answer {
    status: String,
    error: Option<String>,
}

impl Admin {
    /// Sends one push. Only the gateway of the configuration is asked, whatever URL came with the key.
    pub(crate) async fn test_push(
        &self,
        input: TestPushInput,
        audit: AuditContext<'_>,
    ) -> Result<TestPushView, Failure> {
        let given = input.key.trim().trim_end_matches('/');
        let given = given.strip_suffix(ROUTE).unwrap_or(given);
        let key = LicenceKey::parse(given.rsplit('/').next().unwrap_or_default())
            .map_err(|_| invalid("key", "has to be a licence key, or a push URL with one at its end"))?;
        let message = rules::text("message", &input.message, 0, 200)?;
        let platform = rules::text("platform", &input.platform, 1, 64)?;
        let licence = self.control.licence_of_key(key.kid()).await?;
        let (mut server, mut tenant, mut ids_only) = (SERVER.to_owned(), None, false);
        if let Some(licence) = licence {
            server = self.control.servers_of(licence).await?.into_iter().next().unwrap_or(server);
            if let Some(licence) = self.control.licence(licence).await? {
                tenant = Some(licence.terms.tenant);
                ids_only = licence.terms.privacy == Privacy::IdOnlyReject;
            }
        }
        self.note("push.test", key.kid(), tenant, json!({}), audit).await?;
        let body = json!({
            "server_id": server,
            "platform": platform,
            "device_id": input.token,
            "type": "message",
            "version": "v2",
            "badge": 1,
            "channel_name": if ids_only { "" } else { "hpns" },
            "is_id_loaded": ids_only,
            "message": message,
        });
        let url = format!("{}{ROUTE}", self.gateway_url.trim_end_matches('/'));
        let request = self.client.post(url).bearer_auth(key.expose()).header("x-hpns-timing", "1");
        let began = Instant::now();
        let mut response = request.body(body.to_string()).send().await.map_err(|_| silent())?;
        let header = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let (timing, request_id) = (header("server-timing"), header("x-request-id"));
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| silent())? {
            answer.extend_from_slice(&chunk);
            if answer.len() > MAX_ANSWER_BYTES {
                return Err(silent());
            }
        }
        let answer: Answer = serde_json::from_slice(&answer).map_err(|_| silent())?;
        let mut hops = hops(&timing);
        hops.push(HopView { name: "round_trip".into(), ms: millis(began.elapsed()) });
        Ok(TestPushView { status: answer.status, error: answer.error, request_id, hops })
    }
}

fn silent() -> Failure {
    let text = "the gateway does not answer as one; is `admin.gateway_url` right?";
    Failure(Problem::new(ErrorKind::Unavailable, "no_gateway", text))
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

/// Reads `Server-Timing`: `queue;dur=0.1, attempts;desc="1"`.
fn hops(timing: &str) -> Vec<HopView> {
    let hop = |text: &str| {
        let (name, rest) = text.trim().split_once(";dur=")?;
        Some(HopView { name: name.to_owned(), ms: rest.parse().ok()? })
    };
    timing.split(',').filter_map(hop).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_a_time_is_a_hop() {
        let hops = hops("queue;dur=0.120, provider;dur=3.5, attempts;desc=\"2\"");

        assert_eq!(
            hops.iter().map(|hop| (&*hop.name, hop.ms)).collect::<Vec<_>>(),
            [("queue", 0.12), ("provider", 3.5)]
        );
    }
}
