//! Input validation: the limits of every field that an operator fills in.

use std::time::Duration;

use push_domain::{Privacy, TenantId, Timestamp, is_hidden};
use tenant_registry::{AdminTokenDraft, LicenceDraft, Plan, Role, TenantDraft};

use crate::failure::{Failure, invalid};
use crate::wire::{AdminTokenInput, LicenceInput, TenantInput};

const DAY: Duration = Duration::from_hours(24);
/// An admin token may live so long.
const LONGEST_TOKEN_DAYS: u32 = 366;
/// Two keys of a licence overlap for so long at most.
const LONGEST_OVERLAP_HOURS: u32 = 30 * 24;

/// A text of `least` to `most` characters, without control characters and without blanks around it.
pub(crate) fn text(field: &str, value: &str, least: usize, most: usize) -> Result<String, Failure> {
    let text = value.trim();
    let length = text.chars().count();
    if !(least..=most).contains(&length) {
        return Err(invalid(field, &format!("has to be {least} to {most} characters long")));
    }
    if text.chars().any(is_hidden) {
        return Err(invalid(field, "must not hold control characters, or others that are not seen"));
    }
    Ok(text.to_owned())
}

fn number(field: &str, value: u32, least: u32, most: u32) -> Result<u32, Failure> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(invalid(field, &format!("has to be {least} to {most}")))
}

/// A server's id, as it stands in its pushes.
pub(crate) fn server(value: &str) -> Result<&str, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=64).contains(&value.len()) && value.bytes().all(plain) {
        return Ok(value);
    }
    Err(invalid("server", "has to be 1 to 64 letters, digits, `-`, `_` and `.`"))
}

/// How long an old key lives beside a new one.
pub(crate) fn overlap(hours: u32) -> Result<Duration, Failure> {
    let hours = number("overlap_hours", hours, 0, LONGEST_OVERLAP_HOURS)?;
    Ok(Duration::from_hours(hours.into()))
}

/// A caller's key of a request.
pub(crate) fn request_key(value: &str) -> Result<&str, Failure> {
    if (1..=64).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(value);
    }
    Err(invalid("Idempotency-Key", "has to be 1 to 64 visible characters"))
}

impl TenantInput {
    pub(crate) fn checked(&self) -> Result<TenantDraft, Failure> {
        Ok(TenantDraft {
            name: text("name", &self.name, 1, 100)?,
            contact: text("contact", &self.contact, 0, 200)?,
            failover_consent: self.failover_consent,
        })
    }
}

impl LicenceInput {
    pub(crate) fn checked(&self, tenant: TenantId, now: Timestamp) -> Result<LicenceDraft, Failure> {
        let plan: Plan = self
            .plan
            .parse()
            .map_err(|_| invalid("plan", "has to be test, professional, enterprise or cloud"))?;
        let privacy: Privacy =
            self.privacy.as_deref().unwrap_or(Privacy::Full.as_str()).parse().map_err(|_| {
                invalid("privacy", "has to be full, generic, id_only_strip or id_only_reject")
            })?;
        let (rate_per_second, burst) = (
            number("rate_per_second", self.rate_per_second, 1, 1_000_000)?,
            number("burst", self.burst, 1, 2_000_000)?,
        );
        let not_before = self.not_before.map_or(now, |moment| moment.0);
        let expires_at = self.expires_at.map(|moment| moment.0);
        if expires_at.is_some_and(|end| end <= not_before) {
            return Err(invalid("expires_at", "has to be after `not_before`"));
        }
        Ok(LicenceDraft {
            tenant,
            plan,
            regions: regions(&self.regions)?,
            rate_per_second,
            burst,
            in_flight: number("in_flight", self.in_flight, 0, 1_000_000)?,
            devices: number("devices", self.devices, 0, 1_000_000_000)?,
            privacy,
            not_before,
            expires_at,
            grace_days: number("grace_days", self.grace_days, 0, 90)?,
        })
    }
}

fn regions(given: &[String]) -> Result<Vec<String>, Failure> {
    let plain = |name: &String| {
        (1..=16).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    if !(1..=16).contains(&given.len()) || !given.iter().all(plain) {
        return Err(invalid("regions", "has to be 1 to 16 names of 1 to 16 small letters and digits"));
    }
    let mut regions = given.to_vec();
    regions.sort();
    regions.dedup();
    Ok(regions)
}

impl AdminTokenInput {
    pub(crate) fn checked(&self, now: Timestamp) -> Result<AdminTokenDraft, Failure> {
        let role: Role = self.role.parse().map_err(|_| {
            invalid("role", "has to be viewer, support, operator, security-admin, auditor or tenant")
        })?;
        let tenant = match (&self.tenant, role) {
            (Some(id), Role::Tenant) => {
                Some(id.parse().map_err(|_| invalid("tenant", "has to be a tenant's id (ten_…)"))?)
            }
            (None, Role::Tenant) => return Err(invalid("tenant", "has to be set for the role tenant")),
            (Some(_), _) => return Err(invalid("tenant", "is for the role tenant only")),
            (None, _) => None,
        };
        let days = number("days", self.days, 1, LONGEST_TOKEN_DAYS)?;
        let expires_at = now.plus(DAY * days);
        Ok(AdminTokenDraft { name: text("name", &self.name, 1, 100)?, role, tenant, expires_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_its_length_in_characters_and_no_control_characters() {
        assert_eq!(text("name", "  가나 ", 1, 2).unwrap(), "가나");
        for wrong in ["", "   ", "abc", "a\u{7}"] {
            assert!(text("name", wrong, 1, 2).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_rule_names_its_field() {
        let wrong = overlap(721).unwrap_err();

        assert_eq!(wrong.0.detail(), "`overlap_hours` has to be 0 to 720");
        assert!(overlap(720).is_ok());
    }

    #[test]
    fn server_ids_and_request_keys_are_plain() {
        assert!(server("8wfsxkz1ntr1ue8yf6sba9anqc").is_ok());
        for wrong in ["", "a b", "a/b", &"x".repeat(65)] {
            assert!(server(wrong).is_err());
        }
        assert!(request_key("a b").is_err() && request_key("a-b").is_ok());
    }
}
