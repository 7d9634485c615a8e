//! Conformance tests of every face, whatever its dialect.

use std::sync::Arc;

use push_domain::{App, AppId, Audience, DeviceToken, JobId, Privacy, Provider, ProviderRequest, Timestamp};

use crate::face::{Draft, Face};

/// A word that no field of ours holds by itself.
pub(crate) const CANARY: &str = "canary";

fn app(provider: Provider) -> App {
    let topic = if provider == Provider::Apns { "com.example" } else { "" };
    let (id, platform) = (AppId::new("app"), "app".into());
    App { id, platform, audience: Audience::Shared, provider, topic: topic.into() }
}

fn token(provider: Provider) -> DeviceToken {
    let text = if provider == Provider::Apns { "ab".repeat(32) } else { "token".into() };
    DeviceToken::parse(provider, text).unwrap()
}

/// Everything that leaves of a push under a policy, in lower case; `None` if it is refused.
pub(crate) fn leaves<F: Face>(face: &F, body: &str, policy: Privacy, provider: Provider) -> Option<String> {
    let draft = face.read(body.as_bytes()).expect("the law needs a push that can be read");
    let draft = draft.apply_privacy(policy).ok()?;
    let (app, now) = (Arc::new(app(provider)), Timestamp::from_millis(1_800_000_000_000));
    let request = face.request(&draft, &app, token(provider), JobId::new(), now).ok()?;
    let (body, collapse) = match &request {
        ProviderRequest::Apns(request) => (request.body.expose(), format!("{:?}", request.collapse_id)),
        ProviderRequest::Fcm(request) => (request.body.expose(), String::new()),
    };
    Some((String::from_utf8_lossy(&body).into_owned() + &collapse).to_lowercase())
}

/// No word of a message leaves under a policy that hides words: byte by byte, on both providers. Each body holds
/// [`CANARY`] in every field in which a caller can write.
pub(crate) fn no_word_leaves<F: Face>(face: &F, bodies: &[String]) {
    for provider in Provider::ALL {
        let as_it_is = |body: &String| leaves(face, body, Privacy::Full, provider);
        let told = bodies.iter().filter_map(as_it_is).filter(|left| left.contains(CANARY)).count();
        assert!(told > 0, "nothing could have leaked");
        for policy in Privacy::ALL.into_iter().filter(|policy| *policy != Privacy::Full) {
            for body in bodies {
                let left = leaves(face, body, policy, provider).unwrap_or_default();
                assert!(!left.contains(CANARY), "{policy:?} {provider:?}: {left}");
            }
        }
    }
}
