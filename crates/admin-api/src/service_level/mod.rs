//! Service-level reports: a month of the ledger against what was promised. Arithmetic in whole numbers alone, so that who has
//! the hours computes the same (docs/SLA.md).

mod csv;
mod month;
mod operations;
mod report;

pub(crate) use csv::hours_csv;
pub(crate) use month::Month;
pub(crate) use report::{Subject, report};
