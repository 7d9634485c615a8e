//! API schemas of admin tokens, the audit log and the caller.

use push_domain::Timestamp;
use serde::{Deserialize, Serialize};
use tenant_registry::{AdminTokenRecord, AuditEvent, AuditFault, AuditReport};
use utoipa::ToSchema;

use super::{Moment, day_text};

/// Something that somebody did.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AuditView {
    /// Its place in the chain.
    pub(crate) seq: u64,
    /// When.
    pub(crate) at: Moment,
    /// Who.
    pub(crate) actor: String,
    /// What.
    pub(crate) action: String,
    /// To what.
    pub(crate) object: String,
    /// Whom it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// More of it.
    #[schema(value_type = Object)]
    pub(crate) detail: serde_json::Value,
    /// The hash of the event, in hexadecimal.
    pub(crate) hash: String,
}

impl From<AuditEvent> for AuditView {
    fn from(event: AuditEvent) -> Self {
        Self {
            seq: event.seq,
            at: Moment(event.at),
            actor: event.actor,
            action: event.action,
            object: event.object,
            tenant: event.tenant.map(|tenant| tenant.to_string()),
            detail: serde_json::from_str(&event.detail).unwrap_or_default(),
            hash: data_encoding::HEXLOWER.encode(&event.hash),
        }
    }
}

/// What a check of the whole audit log shows.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditVerification {
    /// Whether it is whole.
    pub(crate) intact: bool,
    /// How many events there are.
    pub(crate) events: u64,
    /// The hash of the last one, in hexadecimal.
    pub(crate) head: String,
    /// What is wrong, and where first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<String>,
    /// The first event under a key of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keyed_from: Option<u64>,
    /// What no check of the log alone can find.
    pub(crate) cannot_know: Vec<String>,
}

impl AuditVerification {
    pub(crate) fn new(report: &AuditReport, was_noted: bool) -> Self {
        let fault = report.fault.map(|fault| match fault {
            AuditFault::Changed(seq) => format!("event {seq} was changed"),
            AuditFault::Broken(seq) => format!("something is missing, or was put in, before event {seq}"),
            AuditFault::Cut => "the last events are missing".to_owned(),
            AuditFault::Unkeyed(seq) => {
                format!("event {seq} is under no key, or an older one than those before it")
            }
            AuditFault::Head => "the end of the log bears no code of ours: it was put elsewhere".to_owned(),
            AuditFault::UnknownKey(seq) => {
                format!("event {seq} is under a key that this process does not have")
            }
            AuditFault::Found(seq) => {
                format!("the log was tampered with before event {seq}: the service found it then")
            }
            AuditFault::Noted(seq) => format!("the log does not hold the end at event {seq} that was noted"),
        });
        let mut cannot_know = vec![
            "whoever holds the operators' keys and may write the database can write a log that passes"
                .to_owned(),
        ];
        match report.keyed_from {
            Some((1, _)) => {}
            Some((seq, _)) => cannot_know.push(format!(
                "events before {seq} are under no key, or one that is not here: whoever could write the database could have written them"
            )),
            None => cannot_know.push("no event is under a key: whoever can write the database can have written all".to_owned()),
        }
        if report.cut_through > 0 {
            cannot_know.push(format!(
                "events up to {} are gone: their time was over (admin.audit_days), and the log says so",
                report.cut_through
            ));
        }
        if !was_noted {
            cannot_know.push(
                "a log that was put back to an end that it once had passes: compare with an end from the service's own log"
                    .to_owned(),
            );
        }
        Self {
            intact: fault.is_none(),
            events: report.events,
            head: data_encoding::HEXLOWER.encode(&report.head),
            fault,
            keyed_from: report.keyed_from.map(|(seq, _)| seq),
            cannot_know,
        }
    }
}

/// An admin token to be.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdminTokenInput {
    /// What it is for, 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100, examples("billing job"))]
    pub(crate) name: String,
    /// `viewer`, `support`, `operator`, `security-admin`, `auditor` or `tenant`.
    #[schema(examples("viewer"), pattern = "^(viewer|support|operator|security-admin|auditor|tenant)$")]
    pub(crate) role: String,
    /// Of which tenant, for the role `tenant`.
    pub(crate) tenant: Option<String>,
    /// For how many days it opens anything.
    #[serde(default = "a_quarter")]
    #[schema(minimum = 1, maximum = 366, default = 90)]
    pub(crate) days: u32,
}

const fn a_quarter() -> u32 {
    90
}

/// An admin token as it is known.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AdminTokenView {
    /// Its public part.
    pub(crate) id: String,
    /// What it is for.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) role: String,
    /// Of which tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// Whether it opens anything now.
    pub(crate) is_live: bool,
    /// When it was made, and by whom.
    pub(crate) created_at: Moment,
    /// By whom.
    pub(crate) created_by: String,
    /// Until when it opens anything.
    pub(crate) expires_at: Moment,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revoked_at: Option<Moment>,
    /// The last day on which it was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_used_on: Option<String>,
}

impl AdminTokenView {
    pub(crate) fn new(token: AdminTokenRecord, now: Timestamp) -> Self {
        Self {
            is_live: token.is_live(now),
            id: token.id,
            name: token.terms.name,
            role: token.terms.role.as_str().to_owned(),
            tenant: token.terms.tenant.map(|tenant| tenant.to_string()),
            created_at: Moment(token.created_at),
            created_by: token.created_by,
            expires_at: Moment(token.terms.expires_at),
            revoked_at: token.revoked_at.map(Moment),
            last_used_on: token.last_used_day.map(day_text),
        }
    }
}

/// A new admin token. It is shown this once.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewAdminToken {
    /// The token.
    pub(crate) token: String,
    /// What is known of it.
    pub(crate) record: AdminTokenView,
}

/// Who calls.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Me {
    /// As the audit log calls it.
    pub(crate) actor: String,
    /// What it may do.
    pub(crate) role: String,
    /// Of which tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// The region of this service.
    pub(crate) region: String,
}
