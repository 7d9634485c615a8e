//! A rule of the configuration that a setting breaks.

use std::fmt;
use std::ops::RangeInclusive;

/// Names the setting and the rule, and repeats no value. Each crate checks the settings that it owns and names them within
/// its section; who puts the sections together adds the section's name ([`InvalidSetting::within`]).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {rule}")]
pub struct InvalidSetting {
    key: String,
    rule: String,
}

impl InvalidSetting {
    /// `rule` goes on after the setting's name: "has to be …".
    #[must_use]
    pub fn new(key: &str, rule: impl Into<String>) -> Self {
        Self { key: key.to_owned(), rule: rule.into() }
    }

    /// The same, named from outside of a section.
    #[must_use]
    pub fn within(mut self, section: &str) -> Self {
        self.key = format!("{section}.{}", self.key);
        self
    }

    /// Refuses a setting that breaks a rule.
    pub fn unless(holds: bool, key: &str, rule: &str) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self::new(key, rule)) }
    }

    /// Refuses a number that is out of its bounds.
    pub fn out_of<T: PartialOrd + fmt::Display>(
        bounds: &RangeInclusive<T>,
        key: &str,
        value: &T,
    ) -> Result<(), Self> {
        let rule = || format!("has to be {} to {}", bounds.start(), bounds.end());
        if bounds.contains(value) { Ok(()) } else { Err(Self::new(key, rule())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_setting_from_outside_and_its_rule() {
        let refused = InvalidSetting::out_of(&(1..=8), "slots", &9).unwrap_err();

        assert_eq!(refused.within("worker").to_string(), "`worker.slots` has to be 1 to 8");
        assert!(InvalidSetting::out_of(&(1..=8), "slots", &8).is_ok());
    }
}
