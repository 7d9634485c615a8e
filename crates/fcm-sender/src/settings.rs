//! Settings of the FCM sender of one app.

use std::sync::Arc;
use std::time::Duration;

use push_domain::OutboundProxy;
use rustls::RootCertStore;

/// Google's only FCM endpoint.
pub const GOOGLE_FCM: &str = "https://fcm.googleapis.com";
/// Google's token endpoint. A key file's own `token_uri` is never followed.
pub const GOOGLE_TOKEN_URL: &str = "https://oauth2.googleapis.com/token";

/// Settings of one app's FCM sender.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The app's name in logs and metrics.
    pub name: String,
    /// [`GOOGLE_FCM`], or a simulator.
    pub base_url: String,
    /// [`GOOGLE_TOKEN_URL`], or a simulator.
    pub token_url: String,
    /// Whose certificates are trusted.
    pub roots: Arc<RootCertStore>,
    /// How many connections carry pushes; each takes 90 at once.
    pub shards: usize,
    /// How long an open request may be silent before its connection is asked whether it still lives. A
    /// connection without requests never is: Google ends those that ask.
    pub ping_interval: Duration,
    /// The way out to `base_url`, if it is not direct.
    pub proxy: Option<OutboundProxy>,
    /// The way out to `token_url`, if it is not direct.
    pub token_proxy: Option<OutboundProxy>,
}
