//! Terminal output (tables or JSON), confirmation prompts and standard input.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::client::{Client, Refused};
use super::table;

impl Client {
    /// Prints a list.
    pub(super) fn rows(&self, rows: Vec<Value>, columns: &[(&str, &str)]) -> anyhow::Result<()> {
        if self.json {
            return self.thing(&Value::Array(rows));
        }
        Ok(table::print(&rows, columns)?)
    }

    /// Prints one thing.
    pub(super) fn thing(&self, value: &Value) -> anyhow::Result<()> {
        if self.json || !value.is_object() {
            let mut out = std::io::stdout().lock();
            return Ok(writeln!(out, "{}", serde_json::to_string_pretty(value)?)?);
        }
        Ok(table::print_fields(value)?)
    }

    /// Says that something is done.
    pub(super) fn done(&self, text: &str) -> anyhow::Result<()> {
        if self.json {
            return self.thing(&json!({ "done": text }));
        }
        Ok(writeln!(std::io::stdout(), "{text}")?)
    }
}

pub(super) fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

/// Asks before something that cannot be undone; without a terminal, `--yes` has to say so.
pub(super) fn confirm(question: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    ensure!(
        std::io::stdin().is_terminal(),
        Refused::declined(&format!("{question} Say --yes to do it without being asked."))
    );
    let mut out = std::io::stderr();
    write!(out, "{question} Write yes: ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() != "yes" {
        bail!(Refused::declined("nothing was done"));
    }
    Ok(())
}

/// Reads lines of standard input, which hold secrets and so stand on no command line.
pub(super) fn lines() -> anyhow::Result<Vec<String>> {
    let lines = std::io::stdin().lock().lines().collect::<Result<Vec<_>, _>>().context("standard input")?;
    Ok(lines.into_iter().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
}
