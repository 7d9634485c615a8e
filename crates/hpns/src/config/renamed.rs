//! Keys that had another name in the version before: accepted for one version, with a warning.

use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};

/// Before, and now.
const RENAMED: [(&str, &str); 8] = [
    ("gateway.connections", "gateway.limits.connections"),
    ("gateway.connections_per_address", "gateway.limits.connections_per_address"),
    ("gateway.header_timeout_ms", "gateway.limits.header_timeout_ms"),
    ("gateway.idle_timeout_ms", "gateway.limits.idle_timeout_ms"),
    ("gateway.max_body_bytes", "gateway.limits.max_body_bytes"),
    ("gateway.body_timeout_ms", "gateway.limits.body_timeout_ms"),
    ("gateway.body_bytes", "gateway.limits.body_bytes"),
    ("gateway.streams", "gateway.limits.streams"),
];

/// A key of the version before, and its name now.
pub(crate) type RenamedKey = (&'static str, &'static str);

/// A layer of settings under the names of now.
pub(super) struct Renamed<P>(pub(super) P);

impl<P: Provider> Provider for Renamed<P> {
    fn metadata(&self) -> Metadata {
        self.0.metadata()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let mut data = self.0.data()?;
        for layer in data.values_mut() {
            for (before, now) in RENAMED {
                if let Some(value) = take(layer, before) {
                    // Who has written the new name means it.
                    set_if_missing(layer, now, value);
                }
            }
        }
        Ok(data)
    }
}

/// Which names of before stand in some layers.
pub(super) fn found(layers: &Figment) -> Vec<RenamedKey> {
    RENAMED.into_iter().filter(|(before, _)| layers.contains(before)).collect()
}

fn take(layer: &mut Dict, path: &str) -> Option<Value> {
    match path.split_once('.') {
        None => layer.remove(path),
        Some((section, rest)) => match layer.get_mut(section) {
            Some(Value::Dict(_, inner)) => take(inner, rest),
            _ => None,
        },
    }
}

fn set_if_missing(layer: &mut Dict, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            layer.entry(path.to_owned()).or_insert(value);
        }
        Some((section, rest)) => {
            let inner = layer.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = inner {
                set_if_missing(inner, rest, value);
            }
        }
    }
}
