//! Reads a flat JSON object as Go's `encoding/json` does, which is what stock servers and plugins
//! were written against: keys match whatever their case, the last of a repeated key wins, `null`
//! changes nothing, unknown keys are skipped, broken UTF-8 and lone surrogates become U+FFFD, and
//! bytes after the first value do not matter.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;

/// Objects and arrays nested deeper than this are refused.
const MAX_DEPTH: usize = 128;

/// Target of one JSON field while an object is read.
pub(super) enum Slot<'a, 'de> {
    Text(&'a mut Cow<'de, str>),
    Number(&'a mut i64),
    Flag(&'a mut bool),
}

/// An object with known fields.
pub(super) trait Fields<'de>: Default {
    /// Returns the field of this name, given in lower case.
    fn slot(&mut self, name: &str) -> Option<(&'static str, Slot<'_, 'de>)>;
}

/// Parse error of a body, in words that repeat nothing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the first JSON value of `body`, which has to be an object or `null`.
pub(super) fn read<'de, T: Fields<'de>>(body: &'de [u8]) -> Result<T, Unreadable> {
    if is_too_deep(body) {
        return Err(Unreadable(format!("nested more than {MAX_DEPTH} levels deep")));
    }
    let mut object = T::default();
    let mut current = None;
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = json.deserialize_any(ObjectVisitor { object: &mut object, current: &mut current });
    read.map(|()| object).map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        Unreadable(match (error.classify(), current) {
            (Category::Eof, _) if body.iter().all(u8::is_ascii_whitespace) => "EOF".to_owned(),
            (Category::Eof, _) => "unexpected EOF".to_owned(),
            (Category::Syntax | Category::Io, _) => format!("invalid JSON at {place}"),
            (Category::Data, Some((field, kind))) => format!("field {field} has to be {kind}, at {place}"),
            (Category::Data, None) => "the body has to be a JSON object".to_owned(),
        })
    })
}

/// Depth matters only where there are many brackets, which one fast look tells.
fn is_too_deep(body: &[u8]) -> bool {
    let opens = |byte: &u8| matches!(byte, b'{' | b'[');
    if body.iter().filter(|byte| opens(byte)).count() <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
        if depth == 0 && matches!(byte, b'}' | b']') && !in_string {
            return false; // What follows the first value does not matter.
        }
    }
    false
}

struct ObjectVisitor<'a, T> {
    object: &'a mut T,
    current: &'a mut Option<(&'static str, &'static str)>,
}

impl<'de, T: Fields<'de>> Visitor<'de> for ObjectVisitor<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Key)? {
            match self.object.slot(&key) {
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some((name, slot)) => {
                    let kind = match slot {
                        Slot::Text(_) => "a string",
                        Slot::Number(_) => "a whole number",
                        Slot::Flag(_) => "true or false",
                    };
                    *self.current = Some((name, kind));
                    match slot {
                        Slot::Text(text) => map.next_value_seed(Nullable(TextValue(text)))?,
                        Slot::Number(number) => set(number, map.next_value()?),
                        Slot::Flag(flag) => set(flag, map.next_value()?),
                    }
                    *self.current = None;
                }
            }
        }
        Ok(())
    }
}

fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

/// A key, in lower case.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Cow<'de, str>, D::Error> {
        let mut key = Cow::Borrowed("");
        json.deserialize_bytes(TextValue(&mut key))?;
        if key.bytes().any(|byte| byte.is_ascii_uppercase()) {
            key.to_mut().make_ascii_lowercase();
        }
        Ok(key)
    }
}

/// `null`, or a string.
struct Nullable<'a, 'de>(TextValue<'a, 'de>);

impl<'de> DeserializeSeed<'de> for Nullable<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Nullable<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_bytes(self.0)
    }
}

/// A string, read as bytes: only so does `serde_json` let broken text through to us.
struct TextValue<'a, 'de>(&'a mut Cow<'de, str>);

impl<'de> Visitor<'de> for TextValue<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<(), E> {
        *self.0 = match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(repaired(bytes)),
        };
        Ok(())
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<(), E> {
        *self.0 = Cow::Owned(repaired(bytes));
        Ok(())
    }
}

/// Replaces what is not UTF-8 by U+FFFD. `serde_json` hands out a lone surrogate as the three bytes
/// `ED A0..BF 80..BF`; it becomes one U+FFFD, as in Go.
fn repaired(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        let continues_surrogate = text.ends_with('\u{FFFD}') && chunk.valid().is_empty();
        match chunk.invalid() {
            [] => {}
            [0x80..=0xBF] if continues_surrogate => {}
            _ => text.push('\u{FFFD}'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default, Debug, PartialEq)]
    struct Sample<'de> {
        name: Cow<'de, str>,
        size: i64,
        ready: bool,
    }

    impl<'de> Fields<'de> for Sample<'de> {
        fn slot(&mut self, name: &str) -> Option<(&'static str, Slot<'_, 'de>)> {
            match name {
                "name" => Some(("name", Slot::Text(&mut self.name))),
                "size" => Some(("size", Slot::Number(&mut self.size))),
                "ready" => Some(("ready", Slot::Flag(&mut self.ready))),
                _ => None,
            }
        }
    }

    fn name_of(body: &[u8]) -> String {
        read::<Sample<'_>>(body).unwrap().name.into_owned()
    }

    fn refusal(body: &str) -> String {
        read::<Sample<'_>>(body.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn keys_match_in_any_case_and_the_last_one_wins() {
        assert_eq!(name_of(br#"{"NAME":"a"}"#), "a");
        assert_eq!(name_of(br#"{"name":"a","Name":"b"}"#), "b");
        assert_eq!(name_of(br#"{"name":"a","name":null}"#), "a");
    }

    #[test]
    fn null_is_zero_and_the_rest_of_the_body_does_not_matter() {
        assert_eq!(read::<Sample<'_>>(b"null trailing").unwrap(), Sample::default());
        assert_eq!(
            read::<Sample<'_>>(br#"{"name":null,"size":null,"ready":null} {{{"#).unwrap(),
            Sample::default()
        );
    }

    #[test]
    fn unknown_keys_are_skipped_whatever_they_hold() {
        let body = br#"{"x":{"y":[1,2,{"z":null}]},"w":"\ud800","name":"a","v":1e400}"#;
        assert_eq!(name_of(body), "a");
    }

    #[test]
    fn broken_text_becomes_a_replacement_character() {
        assert_eq!(name_of(b"{\"name\":\"a\xffb\"}"), "a\u{FFFD}b");
        assert_eq!(name_of(br#"{"name":"a\ud800b"}"#), "a\u{FFFD}b");
        assert_eq!(name_of(br#"{"name":"\ud83d\udc4d"}"#), "👍");
        assert_eq!(name_of(b"{\"name\":\"\xed\x95\x9c\"}"), "한");
    }

    #[test]
    fn a_refusal_names_the_field_and_the_rule_and_repeats_nothing() {
        assert_eq!(refusal(""), "EOF");
        assert_eq!(refusal(r#"{"name":"canary"#), "unexpected EOF");
        assert_eq!(refusal("hello"), "invalid JSON at line 1 column 1");
        for body in ["[]", "\"canary\"", "1", "true"] {
            assert_eq!(refusal(body), "the body has to be a JSON object");
        }
        assert!(refusal(r#"{"size":"canary"}"#).starts_with("field size has to be a whole number"));
        assert!(refusal(r#"{"size":1.5}"#).starts_with("field size has to be a whole number"));
        assert!(refusal(r#"{"size":99999999999999999999}"#).starts_with("field size"));
        assert!(refusal(r#"{"name":1}"#).starts_with("field name has to be a string"));
        assert!(refusal(r#"{"ready":"true"}"#).starts_with("field ready has to be true or false"));
    }

    #[test]
    fn a_depth_bomb_is_refused_and_brackets_in_a_string_are_not_one() {
        let bomb = format!(r#"{{"x":{}"#, "[".repeat(100_000));
        let text = format!(r#"{{"name":"{}"}}"#, "[{\\\"".repeat(1000));

        assert!(refusal(&bomb).starts_with("nested more than 128"));
        assert_eq!(name_of(text.as_bytes()).len(), 3000);
        assert_eq!(name_of(format!(r#"{{"name":"a"}}{}"#, "[".repeat(1000)).as_bytes()), "a");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(body: Vec<u8>) {
            let _ = read::<Sample<'_>>(&body);
        }

        #[test]
        fn any_object_that_serde_json_writes_is_read_back(name: String, size: i64, ready: bool) {
            let body = serde_json::json!({ "name": name, "size": size, "ready": ready, "x": [name] }).to_string();
            let sample = read::<Sample<'_>>(body.as_bytes()).unwrap();
            prop_assert_eq!(sample, Sample { name: name.into(), size, ready });
        }
    }
}
