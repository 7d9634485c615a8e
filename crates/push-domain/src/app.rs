//! Apps: what we hold provider credentials for, and the secret-free catalogue of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use crate::TenantId;

/// Who delivers to the phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// Apple Push Notification service.
    Apns,
    /// Firebase Cloud Messaging.
    Fcm,
}

impl Provider {
    /// Returns the name used in metrics and logs; the peer's dashboards know these two words.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Apns => "apple",
            Self::Fcm => "android",
        }
    }
}

/// Which of Apple's two worlds an app's tokens belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PushEnvironment {
    /// The App Store and `TestFlight`.
    #[default]
    Production,
    /// Builds signed for development.
    Sandbox,
}

/// Names one set of provider credentials in configuration, logs and metrics.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppId(Arc<str>);

impl AppId {
    /// Takes the name as the configuration gives it.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who may push to an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Audience {
    /// Every tenant: the app that the operator publishes.
    Shared,
    /// One tenant: its own build of the app.
    Tenant(TenantId),
}

/// One mobile app, without any secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// The name of its credentials.
    pub id: AppId,
    /// The platform name that a customer's server puts before the device token, such as `apple_rn`.
    pub platform: String,
    /// Who may push to it.
    pub audience: Audience,
    /// Who delivers.
    pub provider: Provider,
    /// The APNs topic (bundle id); empty for FCM, whose project only the sender knows.
    pub topic: String,
}

/// All apps of a process, found by caller and platform name.
///
/// Two tenants' different apps arrive under the same platform name, so the platform alone finds nothing.
#[derive(Debug, Default)]
pub struct AppCatalogue {
    apps: HashMap<Audience, HashMap<String, Arc<App>>>,
    by_id: HashMap<AppId, Arc<App>>,
}

/// Two apps of one audience under one platform name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("app `{second}` repeats platform `{platform}` of app `{first}` for the same audience")]
pub struct AmbiguousApp {
    first: AppId,
    second: AppId,
    platform: String,
}

impl AppCatalogue {
    /// Builds the catalogue; fails when two apps would answer to the same name.
    pub fn new(apps: impl IntoIterator<Item = App>) -> Result<Self, AmbiguousApp> {
        let mut catalogue = Self::default();
        for app in apps {
            let platforms = catalogue.apps.entry(app.audience).or_default();
            if let Some(first) = platforms.get(&app.platform) {
                return Err(AmbiguousApp { first: first.id.clone(), second: app.id, platform: app.platform });
            }
            let app = Arc::new(app);
            platforms.insert(app.platform.clone(), Arc::clone(&app));
            catalogue.by_id.insert(app.id.clone(), app);
        }
        Ok(catalogue)
    }

    /// Finds the app that `tenant` means by `platform`: its own before the shared one.
    ///
    /// Platform names are compared as they are, case and all.
    #[must_use]
    pub fn find(&self, tenant: TenantId, platform: &str) -> Option<&Arc<App>> {
        let of = |audience| self.apps.get(&audience).and_then(|platforms| platforms.get(platform));
        of(Audience::Tenant(tenant)).or_else(|| of(Audience::Shared))
    }

    /// Returns the app of this name.
    #[must_use]
    pub fn get(&self, id: &AppId) -> Option<&Arc<App>> {
        self.by_id.get(id)
    }

    /// Lists every app, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<App>> {
        self.by_id.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn an_app(id: &str, audience: Audience) -> App {
        App {
            id: AppId::new(id),
            platform: "apple_rn".into(),
            audience,
            provider: Provider::Apns,
            topic: "com.example".into(),
        }
    }

    #[test]
    fn a_tenants_own_app_comes_before_the_shared_one() {
        let (owner, other) = (TenantId::new(), TenantId::new());
        let apps = [an_app("shared", Audience::Shared), an_app("own", Audience::Tenant(owner))];

        let catalogue = AppCatalogue::new(apps).unwrap();

        assert_eq!(catalogue.find(owner, "apple_rn").unwrap().id.as_str(), "own");
        assert_eq!(catalogue.find(other, "apple_rn").unwrap().id.as_str(), "shared");
        assert!(catalogue.find(other, "Apple_rn").is_none());
    }

    #[test]
    fn two_apps_of_one_audience_cannot_share_a_platform() {
        let apps = [an_app("a", Audience::Shared), an_app("b", Audience::Shared)];

        assert!(AppCatalogue::new(apps).is_err());
    }
}
