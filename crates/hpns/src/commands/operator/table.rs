//! Table formatter for the terminal.

use std::io::Write;

use serde_json::Value;

/// Prints rows under headings; a column is a heading and where its value stands.
pub(super) fn print(rows: &[Value], columns: &[(&str, &str)]) -> std::io::Result<()> {
    std::io::stdout().write_all(drawn(rows, columns).as_bytes())
}

fn drawn(rows: &[Value], columns: &[(&str, &str)]) -> String {
    let mut lines = vec![columns.iter().map(|(heading, _)| (*heading).to_uppercase()).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|(_, place)| cell(row, place)).collect()));
    let widths: Vec<_> = (0..columns.len())
        .map(|at| {
            lines.iter().filter_map(|line| line.get(at)).map(|text| width(text)).max().unwrap_or_default()
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        let mut drawn = String::new();
        for (cell, wide) in line.iter().zip(&widths) {
            drawn.push_str(cell);
            drawn.extend(std::iter::repeat_n(' ', wide - width(cell) + 2));
        }
        text.push_str(drawn.trim_end());
        text.push('\n');
    }
    text
}

/// How many columns of a terminal a text takes; East Asian letters take two.
fn width(text: &str) -> usize {
    text.chars().map(|it| if matches!(it, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{ff00}'..='\u{ff60}') { 2 } else { 1 }).sum()
}

/// The value at a place such as `tenant.name`; `-` where there is none.
fn cell(row: &Value, place: &str) -> String {
    let value = place.split('.').filter(|part| !part.is_empty()).fold(row, |value, part| &value[part]);
    shown(value)
}

/// A value in one line.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        // What others wrote must not steer a terminal.
        Value::String(text) => text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Object(fields) if fields.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(name, value)| format!("{name} {}", shown(value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Prints a thing, a field a line.
pub(super) fn print_fields(value: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let fields = value.as_object().cloned().unwrap_or_default();
    let wide = fields.keys().map(String::len).max().unwrap_or_default();
    for (name, value) in &fields {
        writeln!(out, "{name:<wide$}  {}", shown(value))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_empty_is_a_dash_and_what_is_nested_stands_in_a_line() {
        let usage = json!({ "answers": {}, "devices": 3, "regions": [], "note": "" });

        assert_eq!(shown(&usage), "answers -, devices 3, note -, regions -");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [json!({ "name": "가나", "a": { "b": 1 } }), json!({ "name": "acme\u{1b}[2J" })];

        let text = drawn(&rows, &[("name", "name"), ("number", "a.b")]);

        assert_eq!(text, "NAME      NUMBER\n가나      1\nacme [2J  -\n");
    }
}
