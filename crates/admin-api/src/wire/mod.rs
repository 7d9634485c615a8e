//! API schemas (DTOs). Input and output are types of their own: no request sets what it should not, and no
//! answer holds a stored secret.

mod devices;
mod keys;
mod licences;
mod operations;
mod operators;
mod service_level;
mod tenants;

use push_domain::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

pub(crate) use devices::{DeviceCountView, DeviceInput, DeviceView, DevicesInput, Erased, ErasureView};
pub(crate) use keys::{KeyInput, KeyView, NewKey};
pub(crate) use licences::{LicenceInput, LicenceView, SuspensionInput, TermsInput};
pub(crate) use operations::{
    AlertView, AppView, BusyTenant, HopView, LaneView, LineView, OverviewView, ProcessView, QueuesView,
    TestPushInput, TestPushView, UsageView,
};
pub(crate) use operators::{
    AdminTokenInput, AdminTokenView, AuditVerification, AuditView, Me, NewAdminToken,
};
pub(crate) use service_level::{
    BudgetView, ByOwner, ClassView, GapView, HashedReport, LatencyView, MonthQuery, ServiceLevelReport,
    ShareView, SignedReport, TallyView, TenantLevelView,
};
pub(crate) use tenants::{TenantInput, TenantRow, TenantView};

/// A moment, as RFC 3339 writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, examples("2027-01-31T00:00:00Z"))]
pub(crate) struct Moment(pub(crate) Timestamp);

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = i64::try_from(self.0.seconds()).unwrap_or(i64::MAX);
        let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
        f.write_str(&time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default())
    }
}

impl std::str::FromStr for Moment {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| ())?;
        let millis = u64::try_from(time.unix_timestamp_nanos() / 1_000_000).map_err(|_| ())?;
        Ok(Self(Timestamp::from_millis(millis)))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        let text = String::deserialize(value)?;
        let unexpected = serde::de::Unexpected::Other("another text");
        text.parse().map_err(|()| {
            serde::de::Error::invalid_value(unexpected, &"a time such as 2027-01-31T00:00:00Z, from 1970 on")
        })
    }
}

/// A day since 1970, as ISO 8601 writes it.
pub(crate) fn day_text(day: u32) -> String {
    let text = Moment(Timestamp::from_millis(u64::from(day) * 86_400_000)).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// What is on the page.
    pub(crate) items: Vec<T>,
    /// What to send as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}

/// What is wrong with a request (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProblemBody {
    /// Always `about:blank`.
    #[serde(rename = "type")]
    kind: String,
    /// The HTTP status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// A stable code.
    #[schema(examples("invalid_field"))]
    code: String,
    /// A sentence that names the field and the rule.
    detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_back_and_a_day_is_a_date() {
        let moment = Moment(Timestamp::from_millis(1_800_000_000_000));

        assert_eq!(moment.to_string(), "2027-01-15T08:00:00Z");
        assert_eq!(moment.to_string().parse(), Ok(moment));
        assert_eq!(day_text(20_000), "2024-10-04");
        assert!("1960-01-01T00:00:00Z".parse::<Moment>().is_err() && "tomorrow".parse::<Moment>().is_err());
    }
}
