//! One-shot commands: they do one thing and end.

pub(crate) mod app_files;
pub(crate) mod check;
mod history;
pub(crate) mod import;
pub(crate) mod migrate;
pub(crate) mod operator;
pub(crate) mod rights;
pub(crate) mod rules;
pub(crate) mod seed;
pub(crate) mod send;
pub(crate) mod simulate;
