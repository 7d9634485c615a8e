//! Provider requests, exactly as they are sent. Faces build them, senders send them, nobody changes them.

use crate::{Content, DeviceToken, JobId, Provider, Timestamp};

/// The largest body that APNs takes, and the largest data that FCM takes, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 4096;
/// The largest body that APNs takes for a `VoIP` push, in bytes.
pub const MAX_VOIP_PAYLOAD_BYTES: usize = 5120;

/// A request that its provider would refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// The body is larger than the provider takes.
    #[error("the body has {size_bytes} bytes, the provider takes {limit_bytes}")]
    TooLarge {
        /// What it has.
        size_bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// `apns-collapse-id` is longer than 64 bytes, or cannot stand in a header.
    #[error("a collapse id has 1 to 64 visible ASCII characters")]
    CollapseId,
}

/// `apns-push-type`, as far as a face uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PushType {
    /// Shows something, or may.
    Alert,
    /// Shows nothing; Apple wants priority 5.
    Background,
    /// Rings.
    Voip,
}

impl PushType {
    /// Returns the header value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Background => "background",
            Self::Voip => "voip",
        }
    }

    /// Returns what follows the bundle id in `apns-topic`.
    #[must_use]
    pub const fn topic_suffix(self) -> &'static str {
        match self {
            Self::Alert | Self::Background => "",
            Self::Voip => ".voip",
        }
    }

    /// Returns the largest body in bytes.
    #[must_use]
    pub const fn max_payload_bytes(self) -> usize {
        match self {
            Self::Alert | Self::Background => MAX_PAYLOAD_BYTES,
            Self::Voip => MAX_VOIP_PAYLOAD_BYTES,
        }
    }
}

/// `apns-priority`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Priority {
    /// 10: now.
    High,
    /// 5: when the phone's power allows.
    Normal,
}

impl Priority {
    /// Returns the header value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "10",
            Self::Normal => "5",
        }
    }
}

/// `apns-collapse-id`: a later push with the same one replaces the earlier. At most 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CollapseId(String);

impl CollapseId {
    /// Checks the length that Apple allows, and that it can stand in a header.
    pub fn new(id: String) -> Result<Self, InvalidRequest> {
        let fits = (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(id)) } else { Err(InvalidRequest::CollapseId) }
    }

    /// Returns the header value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A request to Apple: `POST /3/device/<token>`.
#[derive(Debug, Clone)]
pub struct ApnsRequest {
    /// The device.
    pub token: DeviceToken,
    /// Names the request; the same for every attempt, so that a duplicate can be traced.
    pub id: JobId,
    /// What the payload is.
    pub push_type: PushType,
    /// How urgent it is.
    pub priority: Priority,
    /// When Apple should stop trying; `None` leaves it to Apple's storage policy.
    pub expires_at: Option<Timestamp>,
    /// What it replaces.
    pub collapse_id: Option<CollapseId>,
    /// The JSON body, at most [`PushType::max_payload_bytes`].
    pub body: Content,
}

/// A request to Google: `POST /v1/projects/<project>/messages:send`.
#[derive(Debug, Clone)]
pub struct FcmRequest {
    /// The device; it stands in the body too.
    pub token: DeviceToken,
    /// The whole JSON body: `{"message":{…}}`.
    pub body: Content,
    /// Keys and values of `message.data`, in bytes: what Google limits to 4096.
    pub data_bytes: usize,
}

/// Provider request: for APNs or for FCM, as the app's provider is.
#[derive(Debug, Clone)]
pub enum ProviderRequest {
    /// To Apple.
    Apns(ApnsRequest),
    /// To Google.
    Fcm(FcmRequest),
}

impl ProviderRequest {
    /// Returns the device's token.
    #[must_use]
    pub const fn token(&self) -> &DeviceToken {
        match self {
            Self::Apns(request) => &request.token,
            Self::Fcm(request) => &request.token,
        }
    }

    /// Returns who it is for.
    #[must_use]
    pub const fn provider(&self) -> Provider {
        match self {
            Self::Apns(_) => Provider::Apns,
            Self::Fcm(_) => Provider::Fcm,
        }
    }

    /// Checks what the provider limits; an oversize request is never sent to be refused.
    pub fn check(&self) -> Result<(), InvalidRequest> {
        let (size_bytes, limit_bytes) = match self {
            Self::Apns(request) => (request.body.size_bytes(), request.push_type.max_payload_bytes()),
            Self::Fcm(request) => (request.data_bytes, MAX_PAYLOAD_BYTES),
        };
        if size_bytes > limit_bytes {
            return Err(InvalidRequest::TooLarge { size_bytes, limit_bytes });
        }
        Ok(())
    }
}
