//! Apps: what we hold provider credentials for, and the secret-free catalogue of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Deserialize;

use crate::TenantId;

/// Push provider: who delivers to the phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// Apple Push Notification service.
    Apns,
    /// Firebase Cloud Messaging.
    Fcm,
}

impl Provider {
    /// Every provider.
    pub const ALL: [Self; 2] = [Self::Apns, Self::Fcm];

    /// Returns the name used in metrics and logs; the peer's dashboards know these two words.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Apns => "apple",
            Self::Fcm => "android",
        }
    }
}

/// APNs environment that an app's tokens belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PushEnvironment {
    /// The App Store and `TestFlight`.
    #[default]
    Production,
    /// Builds signed for development.
    Sandbox,
}

/// App id: names one set of provider credentials in configuration, logs and metrics.
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

/// Audience of an app: who may push to it.
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

/// What a caller calls an app: each dialect has its own word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppName<'a> {
    /// The platform name of a Mattermost server.
    Platform(&'a str),
    /// The name of its credentials, as operators know it.
    Id(&'a str),
}

/// Catalogue of all apps of a process, by caller and platform name. Apps come and go while it is in use.
///
/// Two tenants' different apps arrive under the same platform name, so the platform alone finds nothing.
#[derive(Debug, Default)]
pub struct AppCatalogue(ArcSwap<Apps>);

#[derive(Debug, Default)]
struct Apps {
    by_platform: HashMap<Audience, HashMap<String, Arc<App>>>,
    by_id: HashMap<AppId, Arc<App>>,
}

/// Two apps of one audience under one platform name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("app `{second}` repeats platform `{platform}` of app `{first}` for the same audience")]
pub struct AmbiguousApp {
    /// The app that has the name.
    pub first: AppId,
    /// The app that wants it too.
    pub second: AppId,
    platform: String,
}

impl AppCatalogue {
    /// Builds the catalogue; fails when two apps would answer to the same name.
    pub fn new(apps: impl IntoIterator<Item = App>) -> Result<Self, AmbiguousApp> {
        let catalogue = Self::default();
        catalogue.replace(apps).pop().map_or(Ok(catalogue), Err)
    }

    /// Lists these apps from now on, and returns those that it leaves out, because an earlier one has their name.
    /// An app that is as it was stays the same `Arc`.
    pub fn replace(&self, apps: impl IntoIterator<Item = App>) -> Vec<AmbiguousApp> {
        let before = self.0.load();
        let (mut listed, mut left_out) = (Apps::default(), Vec::new());
        for app in apps {
            let platforms = listed.by_platform.entry(app.audience).or_default();
            if let Some(first) = platforms.get(&app.platform) {
                let (first, platform) = (first.id.clone(), app.platform);
                left_out.push(AmbiguousApp { first, second: app.id, platform });
                continue;
            }
            let known = before.by_id.get(&app.id).filter(|known| ***known == app);
            let app = known.cloned().unwrap_or_else(|| Arc::new(app));
            platforms.insert(app.platform.clone(), Arc::clone(&app));
            listed.by_id.insert(app.id.clone(), app);
        }
        self.0.store(Arc::new(listed));
        left_out
    }

    /// Finds the app that `tenant` means by `name`: its own before the shared one, and never another tenant's.
    ///
    /// Names are compared as they are, case and all.
    #[must_use]
    pub fn find(&self, tenant: TenantId, name: AppName<'_>) -> Option<Arc<App>> {
        let apps = self.0.load();
        match name {
            AppName::Platform(platform) => {
                let of =
                    |audience| apps.by_platform.get(&audience).and_then(|platforms| platforms.get(platform));
                of(Audience::Tenant(tenant)).or_else(|| of(Audience::Shared)).cloned()
            }
            AppName::Id(id) => {
                let app = apps.by_id.get(&AppId::new(id))?;
                let is_for =
                    matches!(app.audience, Audience::Shared) || app.audience == Audience::Tenant(tenant);
                is_for.then(|| Arc::clone(app))
            }
        }
    }

    /// Returns the app of this name.
    #[must_use]
    pub fn get(&self, id: &AppId) -> Option<Arc<App>> {
        self.0.load().by_id.get(id).cloned()
    }

    /// Lists every app, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<App>> {
        self.0.load().by_id.values().cloned().collect()
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

        assert_eq!(catalogue.find(owner, AppName::Platform("apple_rn")).unwrap().id.as_str(), "own");
        assert_eq!(catalogue.find(other, AppName::Platform("apple_rn")).unwrap().id.as_str(), "shared");
        assert!(catalogue.find(other, AppName::Platform("Apple_rn")).is_none());
        assert!(catalogue.find(owner, AppName::Id("own")).is_some());
        assert!(
            catalogue.find(other, AppName::Id("own")).is_none(),
            "another tenant's app is nobody's business"
        );
        assert!(catalogue.find(other, AppName::Id("shared")).is_some());
    }

    #[test]
    fn two_apps_of_one_audience_cannot_share_a_platform() {
        let apps = [an_app("a", Audience::Shared), an_app("b", Audience::Shared)];

        assert!(AppCatalogue::new(apps).is_err());
    }

    #[test]
    fn apps_come_and_go_and_a_repeated_name_leaves_out_the_later_one() {
        let catalogue = AppCatalogue::new([an_app("a", Audience::Shared)]).unwrap();
        let (kept, tenant) = (catalogue.get(&AppId::new("a")).unwrap(), TenantId::new());

        let apps = [("a", Audience::Shared), ("b", Audience::Shared), ("c", Audience::Tenant(tenant))];
        let left_out = catalogue.replace(apps.map(|(id, audience)| an_app(id, audience)));

        assert_eq!(left_out.iter().map(|it| it.second.as_str()).collect::<Vec<_>>(), ["b"]);
        assert!(Arc::ptr_eq(&kept, &catalogue.get(&AppId::new("a")).unwrap()));
        assert_eq!(catalogue.find(tenant, AppName::Platform("apple_rn")).unwrap().id.as_str(), "c");
        catalogue.replace([]);
        assert!(catalogue.all().is_empty());
    }
}
