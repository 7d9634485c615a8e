//! Typed ids: parsed once, never mistaken for one another, readable in a log line.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// A text that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id of this kind is `{prefix}` and a UUID")]
pub struct InvalidId {
    prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $new:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new id; ids made later sort later (`UUIDv7`, RFC 9562).
            #[must_use]
            pub fn new() -> Self {
                Self($new)
            }

            /// Wraps a UUID that was stored as bytes.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Returns the UUID inside, without the prefix.
            #[must_use]
            pub const fn uuid(&self) -> Uuid {
                self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                self.0.simple().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.strip_prefix($prefix)
                    .and_then(|rest| Uuid::try_parse(rest).ok())
                    .map(Self)
                    .ok_or(InvalidId { prefix: $prefix })
            }
        }
    };
}

id!(
    /// A customer of the service.
    TenantId,
    "ten_",
    Uuid::now_v7()
);
id!(
    /// A tenant's right to push.
    LicenceId,
    "lic_",
    Uuid::now_v7()
);
id!(
    /// One push on its way; the `apns-id` of its provider request and the id in the log line.
    ///
    /// Its time is the clock's, also after the clock was set back: a lane keeps what it knows of jobs by that time. Two
    /// of one millisecond are in no order.
    JobId,
    "job_",
    Uuid::new_v7(uuid::Timestamp::now(uuid::NoContext))
);

/// What the ids of callers without a licence begin with; no `UUIDv7` of these centuries does.
const UNLICENSED: u128 = 0x7e57_7e57_7e57_7e57 << 64;

impl TenantId {
    /// Returns the id of a caller that has no licence, from a hash of where it comes from.
    #[must_use]
    pub const fn unlicensed(source: u64) -> Self {
        Self(Uuid::from_u128(UNLICENSED | source as u128))
    }

    /// Says whether it is the id of a caller that has no licence: nothing is remembered of its devices.
    #[must_use]
    pub const fn is_unlicensed(&self) -> bool {
        self.0.as_u128() >> 64 == UNLICENSED >> 64
    }
}

/// Device id: a keyed hash of tenant, app and token, never the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceId([u8; 32]);

impl DeviceId {
    /// Wraps the 32 bytes of the keyed hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the keyed hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_form() {
        let id = TenantId::new();

        assert_eq!(id.to_string().parse::<TenantId>(), Ok(id));
    }

    #[test]
    fn a_caller_without_a_licence_is_no_tenant() {
        assert!(TenantId::unlicensed(u64::MAX).is_unlicensed() && TenantId::unlicensed(0).is_unlicensed());
        assert!(!TenantId::new().is_unlicensed());
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let licence = LicenceId::new().to_string();

        assert!(licence.parse::<TenantId>().is_err());
    }
}
