//! API schemas of licences and their terms.

use push_domain::Timestamp;
use serde::{Deserialize, Serialize};
use tenant_registry::Licence;
use utoipa::ToSchema;

use super::Moment;

/// A licence to be, or as it is to become.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LicenceInput {
    /// `test`, `professional`, `enterprise` or `cloud`.
    #[schema(examples("professional"), pattern = "^(test|professional|enterprise|cloud)$")]
    pub(crate) plan: String,
    /// The regions in which it holds.
    #[schema(min_items = 1, max_items = 16, examples(json!(["us"])))]
    pub(crate) regions: Vec<String>,
    /// Pushes a second, sustained.
    #[serde(default = "a_hundred")]
    #[schema(minimum = 1, maximum = 1_000_000, default = 100)]
    pub(crate) rate_per_second: u32,
    /// Pushes at once.
    #[serde(default = "two_hundred")]
    #[schema(minimum = 1, maximum = 2_000_000, default = 200)]
    pub(crate) burst: u32,
    /// Pushes that may wait for their answers at once; 0: as many as there is room for.
    #[serde(default)]
    #[schema(maximum = 1_000_000)]
    pub(crate) in_flight: u32,
    /// Devices; 0: any number.
    #[serde(default)]
    #[schema(maximum = 1_000_000_000)]
    pub(crate) devices: u32,
    /// How much of a message may leave the service: `full`, `generic`, `id_only_strip` or `id_only_reject`. If it
    /// is absent, a licence keeps its own, and a new one has `full`.
    #[schema(pattern = "^(full|generic|id_only_strip|id_only_reject)$")]
    pub(crate) privacy: Option<String>,
    /// From when it holds; now, if it is absent.
    pub(crate) not_before: Option<Moment>,
    /// Until when, if there is an end.
    pub(crate) expires_at: Option<Moment>,
    /// For how many days after that it still works.
    #[serde(default = "a_fortnight")]
    #[schema(maximum = 90, default = 14)]
    pub(crate) grace_days: u32,
}

const fn a_hundred() -> u32 {
    100
}

const fn two_hundred() -> u32 {
    200
}

const fn a_fortnight() -> u32 {
    14
}

/// A tenant's right to push.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LicenceView {
    /// Its id.
    #[schema(examples("lic_01a20141cc5e76ab9c0144f4d27c5424"))]
    pub(crate) id: String,
    /// Whose it is.
    pub(crate) tenant: String,
    /// Whether it holds now: `active`, `grace`, `not_yet`, `terms_not_accepted`, `suspended` or `expired`.
    pub(crate) standing: String,
    /// `test`, `professional`, `enterprise` or `cloud`.
    pub(crate) plan: String,
    /// The regions in which it holds.
    pub(crate) regions: Vec<String>,
    /// Pushes a second, sustained.
    pub(crate) rate_per_second: u32,
    /// Pushes at once.
    pub(crate) burst: u32,
    /// Pushes that may wait for their answers at once; 0: as many as there is room for.
    pub(crate) in_flight: u32,
    /// Devices; 0: any number.
    pub(crate) devices: u32,
    /// How much of a message may leave the service: `full`, `generic`, `id_only_strip` or `id_only_reject`.
    pub(crate) privacy: String,
    /// From when it holds.
    pub(crate) not_before: Moment,
    /// Until when, if there is an end.
    pub(crate) expires_at: Option<Moment>,
    /// For how many days after that it still works.
    pub(crate) grace_days: u32,
    /// Until when it works after it has expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grace_until: Option<Moment>,
    /// Which version of the terms was accepted, when and by whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) accepted_terms: Option<AcceptedTerms>,
    /// Why it is switched off, since when and by whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) suspension: Option<SuspensionView>,
    /// When it was made.
    pub(crate) created_at: Moment,
    /// What changes with every change; the `ETag`.
    pub(crate) revision: u64,
}

/// That the terms were accepted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AcceptedTerms {
    /// Which version of them.
    pub(crate) version: String,
    /// When.
    pub(crate) at: Moment,
    /// By whom.
    pub(crate) by: String,
}

/// That an operator has switched a licence off.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SuspensionView {
    /// Why.
    pub(crate) reason: String,
    /// When.
    pub(crate) at: Moment,
    /// By whom.
    pub(crate) by: String,
}

impl LicenceView {
    pub(crate) fn new(licence: Licence, now: Timestamp) -> Self {
        let standing = licence.standing(now).as_str().to_owned();
        let terms = licence.terms;
        let accepted =
            licence.accepted.map(|it| AcceptedTerms { version: it.version, at: Moment(it.at), by: it.by });
        let suspension =
            licence.suspension.map(|it| SuspensionView { reason: it.reason, at: Moment(it.at), by: it.by });
        Self {
            id: licence.id.to_string(),
            tenant: terms.tenant.to_string(),
            standing,
            grace_until: terms.grace_until().map(Moment),
            plan: terms.plan.as_str().to_owned(),
            regions: terms.regions,
            rate_per_second: terms.rate_per_second,
            burst: terms.burst,
            in_flight: terms.in_flight,
            devices: terms.devices,
            privacy: terms.privacy.as_str().to_owned(),
            not_before: Moment(terms.not_before),
            expires_at: terms.expires_at.map(Moment),
            grace_days: terms.grace_days,
            accepted_terms: accepted,
            suspension,
            created_at: Moment(licence.created_at),
            revision: licence.revision,
        }
    }

    /// What would leave it as it is.
    pub(crate) fn unchanged(self) -> LicenceInput {
        LicenceInput {
            plan: self.plan,
            regions: self.regions,
            rate_per_second: self.rate_per_second,
            burst: self.burst,
            in_flight: self.in_flight,
            devices: self.devices,
            privacy: Some(self.privacy),
            not_before: Some(self.not_before),
            expires_at: self.expires_at,
            grace_days: self.grace_days,
        }
    }
}

/// That a tenant accepts the terms.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TermsInput {
    /// Which version of them, 1 to 40 characters.
    #[schema(min_length = 1, max_length = 40, examples("2026-11"))]
    pub(crate) version: String,
    /// Who accepted them for the tenant, 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200, examples("Ada Lovelace, Acme GmbH"))]
    pub(crate) accepted_by: String,
}

/// Why a licence is to be switched off.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SuspensionInput {
    /// 1 to 500 characters; the tenant sees it.
    #[schema(min_length = 1, max_length = 500, examples("invoice 4711 is overdue"))]
    pub(crate) reason: String,
}
