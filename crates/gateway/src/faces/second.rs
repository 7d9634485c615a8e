//! A second dialect, for the tests alone: shows that a face needs no more than to read and to answer.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use push_domain::{
    Answer, App, Content, DeviceToken, FailReason, FcmRequest, JobId, Kind, Privacy, ProviderRequest,
    Timestamp,
};
use serde::Deserialize;
use tokio::time::Instant;

use super::laws::{CANARY, no_word_leaves};
use crate::delivery::Pipeline;
use crate::event::Label;
use crate::face::{AppName, Draft, Face};
use crate::refusal::Refusal;

/// `{"server":"s","app":"a","to":"token","say":"words"}`, answered with a word.
pub(crate) struct Second;

#[derive(Deserialize)]
pub(crate) struct Note {
    server: String,
    app: String,
    to: String,
    say: String,
}

impl Draft for Note {
    fn server(&self) -> &str {
        &self.server
    }

    fn app(&self) -> AppName<'_> {
        AppName::Platform(&self.app)
    }

    fn device(&self) -> &str {
        &self.to
    }

    fn kind(&self) -> Kind {
        Kind::Message
    }

    fn label(&self) -> Label {
        Label { kind: Kind::Other, is_voip: false, wants_ack: false, app_version: 0 }
    }

    fn apply_privacy(mut self, policy: Privacy) -> Result<Self, FailReason> {
        match policy {
            Privacy::Full => {}
            Privacy::IdOnlyReject => return Err(FailReason::ContentNotAllowed),
            Privacy::Generic | Privacy::IdOnlyStrip => self.say = "news".into(),
        }
        Ok(self)
    }

    fn no_such_app(&self) -> Refusal {
        Refusal::plain(FailReason::UnknownPlatform)
    }
}

impl Face for Second {
    type Draft<'a> = Note;

    fn read(&self, body: &[u8]) -> Result<Note, Refusal> {
        serde_json::from_slice(body).map_err(|_| Refusal::plain(FailReason::BadRequest))
    }

    fn request(
        &self,
        draft: &Note,
        app: &App,
        token: DeviceToken,
        id: JobId,
        _: Timestamp,
    ) -> Result<ProviderRequest, FailReason> {
        let body = serde_json::json!({ "say": draft.say }).to_string();
        Ok(match app.provider {
            push_domain::Provider::Fcm => {
                ProviderRequest::Fcm(FcmRequest { token, data_bytes: body.len(), body: Content::new(body) })
            }
            push_domain::Provider::Apns => ProviderRequest::Apns(push_domain::ApnsRequest {
                token,
                id,
                push_type: push_domain::PushType::Alert,
                priority: push_domain::Priority::High,
                expires_at: None,
                collapse_id: None,
                body: Content::new(body),
            }),
        })
    }
}

/// The whole of it: one route.
pub(crate) fn router(pipeline: Arc<Pipeline>) -> Router {
    let take = async |State(pipeline): State<Arc<Pipeline>>, request: Request| {
        let word =
            match pipeline.push(&Second, pipeline.admission(request), JobId::new(), Instant::now()).await {
                Ok((answered, _)) if answered.verdict.answer == Answer::Ok => "ok".to_owned(),
                Ok((answered, _)) => answered.verdict.answer.label().to_owned(),
                Err(refusal) => refusal.reason.code().to_owned(),
            };
        Response::new(axum::body::Body::from(word))
    };
    Router::new().route("/notes", post(take)).with_state(pipeline)
}

#[test]
fn no_word_of_it_leaves() {
    no_word_leaves(&Second, &[format!(r#"{{"server":"s","app":"a","to":"t","say":"{CANARY}"}}"#)]);
}
