//! A notification as `/v1` takes it: strict, with the field and the rule in every refusal.

use std::collections::BTreeMap;

use push_domain::{CollapseId, FailReason, Kind, Timestamp};
use serde::{Deserialize, Deserializer, de};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::refusal::Refusal;

/// The longest time for which a provider keeps a push: four weeks (FCM's `ttl`).
const LONGEST_TTL_SECONDS: u32 = 2_419_200;
const HIGHEST_BADGE: u32 = 99_999;
/// What a phone shows under a policy that hides words.
const NEW_MESSAGE: &str = "You have a new message";
/// The names under which our own fields reach the app, on both providers.
pub(super) const OWN_FIELDS: [&str; 12] = [
    "aps", "badge", "body", "call_id", "category", "channel", "image", "sealed", "sound", "subtitle",
    "thread", "title",
];

/// What a notification is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Channel {
    /// Rings: Apple's `VoIP` channel, urgent data on Android.
    Voip,
    /// Shows something.
    Message,
    /// Shows nothing.
    Background,
}

impl Channel {
    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Voip => Kind::Call,
            Self::Message => Kind::Message,
            Self::Background => Kind::UpdateBadge,
        }
    }
}

/// How urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Urgency {
    High,
    Normal,
}

/// Which device.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    pub(crate) app: String,
    pub(crate) token: String,
}

/// Content that only the app can read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SealedContent {
    pub(crate) sealed: String,
}

/// A moment in RFC 3339.
#[derive(Clone, Copy)]
pub(crate) struct Moment(pub(crate) Timestamp);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let moment = OffsetDateTime::parse(&text, &Rfc3339).map_err(|_| de::Error::custom("no moment"))?;
        let millis = u64::try_from(moment.unix_timestamp_nanos() / 1_000_000);
        millis.map(|millis| Self(Timestamp::from_millis(millis))).map_err(|_| de::Error::custom("no moment"))
    }
}

/// Notification to one device.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Notification {
    pub(crate) to: Target,
    pub(crate) channel: Channel,
    #[serde(default)]
    pub(crate) server_id: Option<String>,
    #[serde(default)]
    pub(crate) title: Option<String>,
    #[serde(default)]
    pub(crate) subtitle: Option<String>,
    #[serde(default)]
    pub(crate) body: Option<String>,
    #[serde(default)]
    pub(crate) badge: Option<u32>,
    #[serde(default)]
    pub(crate) sound: Option<String>,
    #[serde(default)]
    pub(crate) category: Option<String>,
    #[serde(default)]
    pub(crate) thread: Option<String>,
    #[serde(default)]
    pub(crate) image: Option<String>,
    #[serde(default)]
    pub(crate) data: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) content: Option<SealedContent>,
    #[serde(default)]
    pub(crate) collapse_id: Option<String>,
    #[serde(default)]
    pub(crate) priority: Option<Urgency>,
    #[serde(default)]
    pub(crate) ttl: Option<u32>,
    #[serde(default)]
    pub(crate) deadline: Option<Moment>,
    #[serde(default)]
    pub(crate) call_id: Option<String>,
}

impl Notification {
    /// Reads a body; what breaks a rule is refused with the field's name and the rule.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let read: Self = serde_path_to_error::deserialize(&mut json).map_err(|error| unreadable(&error))?;
        json.end().map_err(|_| refuse("the body", "has to be one JSON object and nothing behind it"))?;
        read.checked()
    }

    fn checked(self) -> Result<Self, Refusal> {
        let within = |field: &str, value: &Option<String>, most: usize| match value {
            Some(text) if text.is_empty() || text.len() > most => {
                Err(refuse(field, &format!("has to have 1 to {most} bytes")))
            }
            _ => Ok(()),
        };
        within("call_id", &self.call_id, 128)?;
        within("category", &self.category, 64)?;
        within("server_id", &self.server_id, 64)?;
        within("sound", &self.sound, 64)?;
        within("thread", &self.thread, 64)?;
        if self.badge.is_some_and(|badge| badge > HIGHEST_BADGE) {
            return Err(refuse("badge", "has to be 0 to 99999"));
        }
        if self.ttl.is_some_and(|ttl| ttl > LONGEST_TTL_SECONDS) {
            return Err(refuse("ttl", "has to be 0 to 2419200 seconds"));
        }
        if self.ttl.is_some() && self.deadline.is_some() {
            return Err(refuse("deadline", "stands for `ttl`: one of them"));
        }
        if self.collapse_id.clone().is_some_and(|id| CollapseId::new(id).is_err()) {
            return Err(refuse("collapse_id", "has to be 1 to 64 visible ASCII characters"));
        }
        if self.call_id.is_some() && self.channel != Channel::Voip {
            return Err(refuse("call_id", "is for the channel `voip` alone"));
        }
        if self.channel == Channel::Message && !self.has_content() {
            return Err(refuse("title", "or `body` or `content` is needed: a message shows something"));
        }
        let is_taken = |key: &&String| {
            let google = key.starts_with("google")
                || key.starts_with("gcm")
                || *key == "from"
                || *key == "message_type";
            key.is_empty() || key.len() > 64 || google || OWN_FIELDS.contains(&key.as_str())
        };
        if self.data.keys().any(|key| is_taken(&key)) {
            let rule = "has keys of 1 to 64 bytes that are neither Google's (`from`, `message_type`, `google…`, `gcm…`) nor \
                        names of fields of ours";
            return Err(refuse("data", rule));
        }
        Ok(self)
    }

    /// Whether it holds anything that somebody could read, or in which something could be hidden.
    pub(super) fn has_content(&self) -> bool {
        let texts = [&self.title, &self.subtitle, &self.body, &self.image];
        texts.iter().any(|text| text.is_some()) || !self.data.is_empty() || self.content.is_some()
    }

    /// What a policy that hides words lets leave: which device, what kind, how urgent, a number, the id of a call that has the
    /// form of one. docs/SECURITY.md says how much that is.
    pub(super) fn without_words(self) -> Self {
        let is_id = |id: &String| id.len() == 36 && uuid::Uuid::parse_str(id).is_ok();
        Self {
            title: None,
            subtitle: None,
            body: (self.channel == Channel::Message).then(|| NEW_MESSAGE.to_owned()),
            sound: self.sound.map(|_| "default".to_owned()),
            category: None,
            thread: None,
            image: None,
            data: BTreeMap::new(),
            content: None,
            collapse_id: None,
            call_id: self.call_id.filter(is_id),
            to: self.to,
            channel: self.channel,
            server_id: self.server_id,
            badge: self.badge,
            priority: self.priority,
            ttl: self.ttl,
            deadline: self.deadline,
        }
    }

    /// Until when a provider may deliver it; nothing: as long as the provider likes.
    pub(super) fn expires_at(&self, now: Timestamp) -> Option<Timestamp> {
        let after = |seconds: u32| now.plus(std::time::Duration::from_secs(seconds.into()));
        // Google refuses more than four weeks.
        let deadline = self.deadline.map(|deadline| deadline.0.min(after(LONGEST_TTL_SECONDS)));
        let asked = deadline.or(self.ttl.map(after));
        if self.channel != Channel::Voip {
            return asked;
        }
        // Nobody rings for longer.
        let longest = after(30);
        Some(asked.map_or(longest, |asked| asked.min(longest)))
    }
}

fn refuse(field: &str, rule: &str) -> Refusal {
    let field = if field.contains(' ') { field.to_owned() } else { format!("`{field}`") };
    Refusal::because(FailReason::BadRequest, format!("{field} {rule}"))
}

/// Names the field. What the caller wrote into it is not repeated.
fn unreadable(error: &serde_path_to_error::Error<serde_json::Error>) -> Refusal {
    let (path, said) = (error.path().to_string(), error.inner().to_string());
    if error.inner().classify() != serde_json::error::Category::Data {
        return refuse("the body", "has to be a JSON object");
    }
    let quoted = || said.split('`').nth(1).unwrap_or_default().to_owned();
    if said.starts_with("missing field") {
        let inside = if path == "." { quoted() } else { format!("{path}.{}", quoted()) };
        return refuse(&inside, "is missing");
    }
    if said.starts_with("unknown field") {
        return refuse(&path, "is no field of a notification");
    }
    refuse(&path, "does not have the type or form that docs/push-api.yaml gives it")
}
