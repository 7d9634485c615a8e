//! FCM client: sends one notification by HTTP v1 over several (sharded) HTTP/2 clients.
//!
//! [`FcmSender`] owns the clients of one Firebase project and the source of its OAuth access token.
//! What Google's answers mean is one pure table over the parsed body, [`response`].
//!
//! The crate knows nothing of tenants, Mattermost or queues; retries are its caller's business.

mod account;
pub mod response;
mod sender;
mod settings;
mod shards;
mod token;

pub use account::{InvalidAccount, ServiceAccount};
pub use sender::FcmSender;
pub use settings::{GOOGLE_FCM, GOOGLE_TOKEN_URL, Settings};
pub use shards::ClientError;
pub use token::TokenSource;
