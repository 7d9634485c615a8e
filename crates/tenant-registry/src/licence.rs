//! Licence: its terms, its standing at a moment, and the records of its keys.

use std::time::Duration;

use push_domain::{LicenceId, Privacy, TenantId, Timestamp};

use crate::plan::Plan;
use crate::{KeyDigest, LicenceKey};

/// Terms of a licence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LicenceDraft {
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is.
    pub plan: Plan,
    /// The regions in which it holds, such as `us`.
    pub regions: Vec<String>,
    /// Pushes a second, sustained.
    pub rate_per_second: u32,
    /// Pushes at once.
    pub burst: u32,
    /// Pushes that may wait for their answers at once; 0: as many as the service has room for.
    pub in_flight: u32,
    /// Devices; 0: any number. More are still pushed to, and the operator is told.
    pub devices: u32,
    /// How much of a message may leave the service.
    pub privacy: Privacy,
    /// From when it holds.
    pub not_before: Timestamp,
    /// Until when, if there is an end.
    pub expires_at: Option<Timestamp>,
    /// For how many days after that it still works, with a warning.
    pub grace_days: u32,
}

impl LicenceDraft {
    /// Begins with the usual terms: 100 pushes a second, 200 at once, no end, 14 days of grace.
    #[must_use]
    pub fn new(tenant: TenantId, plan: Plan, region: &str, not_before: Timestamp) -> Self {
        Self {
            tenant,
            plan,
            regions: vec![region.to_owned()],
            rate_per_second: 100,
            burst: 200,
            in_flight: 0,
            devices: 0,
            privacy: Privacy::Full,
            not_before,
            expires_at: None,
            grace_days: 14,
        }
    }

    /// Names the first field of a licence that the plan does not include, and the rule. `home` is the region that makes
    /// or changes the licence; `beside` are the plans of the tenant's other licences.
    #[must_use]
    pub fn plan_refusal(&self, home: &str, beside: &[Plan]) -> Option<(&'static str, &'static str)> {
        let terms = self.plan.terms();
        let is_id_only = matches!(self.privacy, Privacy::IdOnlyStrip | Privacy::IdOnlyReject);
        if is_id_only && !terms.id_only {
            return Some(("privacy", "can be ids only in the plans enterprise and cloud"));
        }
        if !terms.chooses_regions && self.regions != [home] {
            return Some((
                "regions",
                "can be chosen in the plans professional and enterprise; here it is this region",
            ));
        }
        if self.rate_per_second > terms.max_rate_per_second {
            return Some((
                "rate_per_second",
                "is more than the plan allows: a test licence has 1,000 at most",
            ));
        }
        if self.burst > terms.max_burst {
            return Some(("burst", "is more than the plan allows: a test licence has 2,000 at most"));
        }
        let mixes = |plan: Plan, others: &[Plan]| {
            plan == Plan::Test && others.iter().any(|other| !other.terms().test_tier)
        };
        if mixes(self.plan, beside) || (!terms.test_tier && beside.contains(&Plan::Test)) {
            return Some((
                "plan",
                "test cannot stand beside cloud; the test licence can be given another plan",
            ));
        }
        None
    }

    /// Says when the grace ends, if the licence has an end.
    #[must_use]
    pub fn grace_until(&self) -> Option<Timestamp> {
        let grace = Duration::from_hours(u64::from(self.grace_days) * 24);
        self.expires_at.map(|end| end.plus(grace))
    }
}

/// Acceptance of the terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// Which version of them.
    pub version: String,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
}

/// Suspension of a licence by an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Licence: a tenant's right to push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Licence {
    /// Its id.
    pub id: LicenceId,
    /// What was agreed.
    pub terms: LicenceDraft,
    /// That the tenant has accepted the service's terms. Without that the licence is not active.
    pub accepted: Option<Acceptance>,
    /// Whether an operator has switched it off.
    pub suspension: Option<Suspension>,
    /// When it was made.
    pub created_at: Timestamp,
    /// The change that it came with last.
    pub revision: u64,
}

/// Standing of a licence: whether it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It holds.
    Active,
    /// It has expired, and still works until then.
    Grace(Timestamp),
    /// It does not hold yet.
    NotYet,
    /// Nobody has accepted the terms.
    TermsNotAccepted,
    /// An operator has switched it off.
    Suspended,
    /// Its time, and its grace, are over.
    Expired,
}

impl Standing {
    /// Returns the name used in the API, in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Grace(_) => "grace",
            Self::NotYet => "not_yet",
            Self::TermsNotAccepted => "terms_not_accepted",
            Self::Suspended => "suspended",
            Self::Expired => "expired",
        }
    }
}

impl Licence {
    /// Decides whether the licence holds at `now`. Nobody else does.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        if self.suspension.is_some() {
            return Standing::Suspended;
        }
        if self.accepted.is_none() {
            return Standing::TermsNotAccepted;
        }
        if now < self.terms.not_before {
            return Standing::NotYet;
        }
        match (self.terms.expires_at, self.terms.grace_until()) {
            (Some(end), _) if now < end => Standing::Active,
            (_, Some(until)) if now < until => Standing::Grace(until),
            (Some(_), _) => Standing::Expired,
            (None, _) => Standing::Active,
        }
    }
}

/// A licence key as it is stored: it can be checked, not recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The public part of the key.
    pub kid: String,
    /// What it proves.
    pub licence: LicenceId,
    /// HMAC-SHA256 under a pepper.
    pub mac: [u8; 32],
    /// Which pepper, counted from 1.
    pub pepper: u32,
    /// Whether that is one of the key's SHA-256; of the whole key, as once, otherwise.
    pub hashed: bool,
    /// From when it opens nothing any more, if another key takes its place.
    pub ends_at: Option<Timestamp>,
    /// The change that it came with last.
    pub revision: u64,
}

/// The first use of a licence key on a day.
#[derive(Debug, Clone)]
pub struct KeyUse {
    /// The public part of the key.
    pub kid: String,
    /// Its digest, where the registry has not got it yet.
    pub digest: Option<KeyDigest>,
}

/// Licence key as operators see it: dates, no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySummary {
    /// The public part of the key.
    pub kid: String,
    /// Which pepper it is stored under.
    pub pepper: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when it opens nothing any more.
    pub ends_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// The last day on which it was used, counted from 1970.
    pub last_used_day: Option<u32>,
}

impl KeySummary {
    /// Says whether it opens anything at `now`.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.ends_at.is_none_or(|end| now < end)
    }
}

/// A licence key that has just been made. This is the only time that it can be shown.
#[derive(Debug)]
pub struct IssuedKey {
    /// The key.
    pub key: LicenceKey,
    /// What was stored of it.
    pub record: KeyRecord,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    /// A licence from day 10 to day 20 with 5 days of grace.
    fn a_licence() -> Licence {
        let day = |day: u64| Timestamp::from_millis(day * DAY);
        let terms = LicenceDraft {
            expires_at: Some(day(20)),
            grace_days: 5,
            ..LicenceDraft::new(TenantId::new(), Plan::Professional, "us", day(10))
        };
        let accepted = Some(Acceptance { version: "1".into(), at: day(9), by: "ada".into() });
        Licence { id: LicenceId::new(), terms, accepted, suspension: None, created_at: day(9), revision: 1 }
    }

    #[test]
    fn a_licence_stands_as_its_table_says() {
        let usual = a_licence();
        let without_terms = Licence { accepted: None, ..usual.clone() };
        let suspension =
            Some(Suspension { at: Timestamp::from_millis(0), by: "ada".into(), reason: "unpaid".into() });
        let suspended = Licence { suspension, ..usual.clone() };
        let suspended_without_terms = Licence { accepted: None, ..suspended.clone() };
        let mut endless = usual.clone();
        endless.terms.expires_at = None;
        let mut graceless = usual.clone();
        graceless.terms.grace_days = 0;
        let grace = Standing::Grace(Timestamp::from_millis(25 * DAY));

        for (licence, at, standing) in [
            (&usual, 10 * DAY - 1, Standing::NotYet),
            (&usual, 10 * DAY, Standing::Active),
            (&usual, 20 * DAY - 1, Standing::Active),
            (&usual, 20 * DAY, grace),
            (&usual, 25 * DAY - 1, grace),
            (&usual, 25 * DAY, Standing::Expired),
            (&graceless, 20 * DAY, Standing::Expired),
            (&endless, 9999 * DAY, Standing::Active),
            (&endless, 9 * DAY, Standing::NotYet),
            (&without_terms, 15 * DAY, Standing::TermsNotAccepted),
            (&without_terms, 30 * DAY, Standing::TermsNotAccepted),
            (&suspended, 15 * DAY, Standing::Suspended),
            (&suspended, 22 * DAY, Standing::Suspended),
            (&suspended, 30 * DAY, Standing::Suspended),
            (&suspended_without_terms, 15 * DAY, Standing::Suspended),
        ] {
            assert_eq!(licence.standing(Timestamp::from_millis(at)), standing, "day {}", at / DAY);
        }
    }

    #[test]
    fn names_are_read_back() {
        assert!(Plan::ALL.iter().all(|plan| plan.as_str().parse() == Ok(*plan)));
        assert!(Privacy::ALL.iter().all(|policy| policy.as_str().parse() == Ok(*policy)));
        assert!("Full".parse::<Privacy>().is_err() && "gold".parse::<Plan>().is_err());
    }
}
