//! Plans: what each of them includes, as one table.

use std::str::FromStr;

/// The kind of a licence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plan {
    /// Free, no service level.
    Test,
    /// Licensed.
    Professional,
    /// Licensed, with id-only pushes.
    Enterprise,
    /// Operated for the tenant.
    Cloud,
}

/// What a plan includes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a row of a table")]
pub struct PlanTerms {
    /// The request dialects that its servers may speak.
    pub faces: &'static [&'static str],
    /// Whether pushes may be held to ids alone.
    pub id_only: bool,
    /// Whether the tenant chooses its regions; else a licence holds in the region that made it.
    pub chooses_regions: bool,
    /// Whether a licence for tests may stand beside it.
    pub test_tier: bool,
    /// Whether a service level is promised.
    pub service_level: bool,
    /// Most pushes a second that a licence may allow.
    pub max_rate_per_second: u32,
    /// Most pushes at once that a licence may allow.
    pub max_burst: u32,
    /// Turns in the queue for one of a test licence, while others wait.
    pub weight: u32,
}

const FACES: &[&str] = &["mattermost"];

impl Plan {
    /// Every plan.
    pub const ALL: [Self; 4] = [Self::Test, Self::Professional, Self::Enterprise, Self::Cloud];

    /// Returns the name used in storage, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Professional => "professional",
            Self::Enterprise => "enterprise",
            Self::Cloud => "cloud",
        }
    }

    /// Returns what it includes: the table of docs/OPERATORS.md.
    #[must_use]
    pub const fn terms(self) -> PlanTerms {
        let licensed = PlanTerms {
            faces: FACES,
            id_only: false,
            chooses_regions: true,
            test_tier: true,
            service_level: true,
            max_rate_per_second: 1_000_000,
            max_burst: 2_000_000,
            weight: 2,
        };
        match self {
            Self::Test => PlanTerms {
                chooses_regions: false,
                service_level: false,
                max_rate_per_second: 1000,
                max_burst: 2000,
                weight: 1,
                ..licensed
            },
            Self::Professional => licensed,
            Self::Enterprise => PlanTerms { id_only: true, weight: 4, ..licensed },
            Self::Cloud => {
                PlanTerms { id_only: true, chooses_regions: false, test_tier: false, weight: 4, ..licensed }
            }
        }
    }
}

impl FromStr for Plan {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let known = Self::ALL.into_iter().find(|plan| plan.as_str() == text);
        known.ok_or("a plan is test, professional, enterprise or cloud")
    }
}

#[cfg(test)]
mod tests {
    use push_domain::{Privacy, TenantId, Timestamp};

    use super::*;
    use crate::LicenceDraft;

    fn draft(plan: Plan) -> LicenceDraft {
        LicenceDraft::new(TenantId::new(), plan, "us", Timestamp::from_millis(0))
    }

    fn refused(draft: &LicenceDraft, beside: &[Plan]) -> Option<&'static str> {
        draft.plan_refusal("us", beside).map(|(field, _)| field)
    }

    #[test]
    fn names_are_stable() {
        assert!(Plan::ALL.iter().all(|plan| plan.as_str().parse() == Ok(*plan)));
    }

    #[test]
    fn a_licence_has_what_its_plan_includes_and_no_more() {
        for plan in Plan::ALL {
            assert_eq!(refused(&draft(plan), &[]), None, "{plan:?}");
            let expected = |is_included: bool, field| if is_included { None } else { Some(field) };
            let has = plan.terms();

            let id_only = LicenceDraft { privacy: Privacy::IdOnlyReject, ..draft(plan) };
            assert_eq!(refused(&id_only, &[]), expected(has.id_only, "privacy"), "{plan:?}");
            for regions in [vec!["de".to_owned()], vec!["de".to_owned(), "us".to_owned()]] {
                let elsewhere = LicenceDraft { regions, ..draft(plan) };
                assert_eq!(refused(&elsewhere, &[]), expected(has.chooses_regions, "regions"), "{plan:?}");
            }
            let fast = LicenceDraft { rate_per_second: 1001, ..draft(plan) };
            assert_eq!(refused(&fast, &[]), expected(plan != Plan::Test, "rate_per_second"), "{plan:?}");
            let much = LicenceDraft { burst: 2001, ..draft(plan) };
            assert_eq!(refused(&much, &[]), expected(plan != Plan::Test, "burst"), "{plan:?}");
        }
    }

    #[test]
    fn a_test_licence_never_stands_beside_one_of_the_cloud() {
        assert_eq!(refused(&draft(Plan::Test), &[Plan::Professional, Plan::Cloud]), Some("plan"));
        assert_eq!(refused(&draft(Plan::Cloud), &[Plan::Test]), Some("plan"));
        assert_eq!(refused(&draft(Plan::Enterprise), &[Plan::Test, Plan::Test]), None);
    }

    #[test]
    fn the_table_is_that_of_the_operators_guide() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/OPERATORS.md");
        let guide = std::fs::read_to_string(path).unwrap();
        let says = |it: bool| if it { "yes" } else { "no" };
        for plan in Plan::ALL {
            let terms = plan.terms();
            let row = format!(
                "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} |",
                plan.as_str(),
                terms.faces.join(", "),
                says(terms.id_only),
                says(terms.chooses_regions),
                says(terms.test_tier),
                says(terms.service_level),
                terms.max_rate_per_second,
                terms.max_burst,
                terms.weight,
            );
            assert!(guide.contains(&row), "docs/OPERATORS.md has no row {row}");
        }
    }
}
