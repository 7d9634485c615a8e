//! Calendar months in UTC, as hours of the ledger.

use std::fmt;

use push_domain::Timestamp;
use tenant_registry::hour_of;
use time::{Date, OffsetDateTime};

use crate::failure::{Failure, invalid};

/// A calendar month in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Month {
    year: i32,
    month: time::Month,
}

impl Month {
    /// The month of a moment.
    pub(crate) fn of(moment: Timestamp) -> Self {
        let seconds = i64::try_from(moment.seconds()).unwrap_or_default();
        let date = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Self { year: date.year(), month: date.month() }
    }

    /// Reads `2026-11`; without a text, the month of `now`.
    pub(crate) fn parse(text: Option<&str>, now: Timestamp) -> Result<Self, Failure> {
        let Some(text) = text else { return Ok(Self::of(now)) };
        let read = || {
            let (year, month) = text.split_once('-')?;
            let digits =
                |part: &str, count| part.len() == count && part.bytes().all(|it| it.is_ascii_digit());
            let month: u8 = month.parse().ok().filter(|_| digits(year, 4) && digits(month, 2))?;
            Some(Self { year: year.parse().ok()?, month: month.try_into().ok()? })
        };
        let month = read().filter(|month| month.year >= 1970);
        let month = month.ok_or_else(|| invalid("month", "has to be a year and a month, such as 2026-11"))?;
        if month.hours().0 > hour_of(now) {
            return Err(invalid("month", "has not begun yet"));
        }
        Ok(month)
    }

    /// The first hour, and the first of the next month.
    pub(crate) fn hours(self) -> (u64, u64) {
        (self.first_hour(), self.next().first_hour())
    }

    fn first_hour(self) -> u64 {
        let first = Date::from_calendar_date(self.year, self.month, 1).unwrap_or(Date::MIN);
        let millis = first.midnight().assume_utc().unix_timestamp().saturating_mul(1000);
        hour_of(Timestamp::from_millis(u64::try_from(millis).unwrap_or_default()))
    }

    pub(crate) fn next(self) -> Self {
        let year = if self.month == time::Month::December { self.year + 1 } else { self.year };
        Self { year, month: self.month.next() }
    }

    pub(crate) fn previous(self) -> Self {
        let year = if self.month == time::Month::January { self.year - 1 } else { self.year };
        Self { year, month: self.month.previous() }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, u8::from(self.month))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_its_hours_and_no_others() {
        let now = Timestamp::from_millis(1_798_761_600_000); // 2027-01-01
        let month = Month::parse(None, now).unwrap();
        assert_eq!(month.to_string(), "2027-01");
        let (from, until) = month.previous().hours();
        assert_eq!((until - from, until), (31 * 24, month.hours().0));
        assert_eq!(month.previous().next(), month);

        let february = Month::parse(Some("2024-02"), now).unwrap().hours();
        assert_eq!(february.1 - february.0, 29 * 24);
        for wrong in ["2027", "2027-13", "2027-1", "27-01", "2027-01-01", "1969-12", "x", "2027-02"] {
            assert!(Month::parse(Some(wrong), now).is_err(), "{wrong}");
        }
    }
}
