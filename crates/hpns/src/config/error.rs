//! Configuration errors for people: the key, the rule, the source; never a value.

use std::fmt::Write;

use figment::error::{Error, Kind};

/// Explains every error that figment found.
pub(crate) fn explained(error: &Error) -> String {
    let mut text = String::new();
    for one in error.clone() {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&explained_one(&one));
    }
    text
}

fn explained_one(error: &Error) -> String {
    let mut path = error.path.clone();
    let rule = match &error.kind {
        Kind::UnknownField(field, known) => {
            add(&mut path, field);
            let nearest = known
                .iter()
                .map(|name| (strsim::jaro_winkler(field, name), name))
                .max_by(|a, b| a.0.total_cmp(&b.0));
            match nearest {
                Some((_, name)) => format!("there is no such key; did you mean `{name}`?"),
                None => "there is no such key".to_owned(),
            }
        }
        Kind::MissingField(field) => {
            add(&mut path, field);
            "this key has to be set".to_owned()
        }
        Kind::InvalidType(_, expected) if matches!(expected.as_str(), "u16" | "u32" | "u64" | "usize") => {
            "the value has to be a whole number, 0 or more".to_owned()
        }
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => {
            format!("the value has to be {expected}")
        }
        Kind::InvalidLength(_, expected) => format!("the length has to be {expected}"),
        Kind::UnknownVariant(_, known) => format!("the value has to be one of {}", known.join(", ")),
        Kind::DuplicateField(_) => "this key is set twice".to_owned(),
        Kind::Message(message) if path.is_empty() => {
            format!("cannot be read: {}", message.lines().next().unwrap_or_default())
        }
        Kind::Message(message) => message.clone(),
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => "the number is out of range".to_owned(),
        Kind::Unsupported(_) | Kind::UnsupportedKey(..) => "the value is of a wrong kind".to_owned(),
    };
    let mut text = if path.is_empty() {
        "configuration ".to_owned()
    } else {
        format!("configuration key `{}`: ", path.join("."))
    };
    text.push_str(&rule);
    if let Some(source) = error.metadata.as_ref().map(|metadata| &metadata.name) {
        let _ = write!(text, " (in {source})");
    }
    text
}

/// figment names the field in the path for some errors and not for others.
fn add(path: &mut Vec<String>, field: &str) {
    if path.last().map(String::as_str) != Some(field) {
        path.push(field.to_owned());
    }
}
