//! Fuzzing entry point: from any bytes to the finished requests.

use push_domain::{DeviceToken, JobId, Provider, ProviderRequest, Timestamp};

use super::ack::Ack;
use super::message::PushMessage;
use super::{apns, fcm, platform};
use crate::MattermostConfig;

/// Reads bytes as a push and as a receipt. Whatever comes of a push has to be JSON, and either within the
/// limits of its provider or refused as too large. What a policy leaves of it is what the policy leaves of that.
///
/// # Panics
///
/// If it is not.
#[expect(clippy::expect_used, reason = "this is what the fuzzer looks for")]
pub fn request(bytes: &[u8]) {
    let _ = Ack::parse(bytes);
    let Ok(push) = PushMessage::parse(bytes) else { return };
    let (_, app_version) = platform::split(&push.platform);
    let config = MattermostConfig {
        message_ttl_seconds: 60,
        call_ttl_seconds: 30,
        clear_with_normal_priority: true,
        collapse_by_ack_id: true,
    };
    let now = Timestamp::from_millis(1_800_000_000_000);
    let device = |provider, text: String| DeviceToken::parse(provider, text).expect("a good token");
    let ios = apns::request(
        &push,
        app_version,
        device(Provider::Apns, "ab".repeat(32)),
        JobId::new(),
        now,
        &config,
    );
    let android = fcm::request(&push, device(Provider::Fcm, "token".into()), &config);
    for request in [ios.map(ProviderRequest::Apns), android.map(ProviderRequest::Fcm)].into_iter().flatten() {
        let body = match &request {
            ProviderRequest::Apns(request) => request.body.expose(),
            ProviderRequest::Fcm(request) => request.body.expose(),
        };
        serde_json::from_slice::<serde_json::Value>(&body).expect("the body is JSON");
        let limit = match &request {
            ProviderRequest::Apns(request) => request.push_type.max_payload_bytes(),
            ProviderRequest::Fcm(_) => usize::MAX, // Google counts the data alone.
        };
        assert!(request.check().is_err() || body.len() <= limit, "{} bytes pass for {limit}", body.len());
    }
}
