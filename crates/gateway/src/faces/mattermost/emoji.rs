//! Emoji short codes such as `:+1:`.
//!
//! The rules are the peer's: a code is replaced by the emoji and one space; a flag `:flag-xx:` by the
//! flag alone; names are compared as they are, case and all; and a `:…:` that is no code swallows
//! both of its colons, so that `:foo:+1:` stays as it is.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

static TABLE: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    include_str!("../../../data/emoji.tsv").lines().filter_map(|line| line.split_once('\t')).collect()
});

/// Replaces every short code that we know.
pub(super) fn replaced(text: &str) -> Cow<'_, str> {
    if !text.contains(':') {
        return Cow::Borrowed(text);
    }
    let mut output = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(colon) = rest.find(':') {
        let (before, code) = rest.split_at(colon);
        output.push_str(before);
        let (consumed, replacement) = first_code(code);
        output.push_str(&replacement);
        rest = code.get(consumed..).unwrap_or_default();
    }
    output.push_str(rest);
    Cow::Owned(output)
}

/// Reads from a colon to the next colon or white space. Returns how many bytes that is and what stands
/// for them.
fn first_code(text: &str) -> (usize, Cow<'_, str>) {
    let after = text.get(1..).unwrap_or_default();
    if after.starts_with(':') {
        return (1, Cow::Borrowed(":"));
    }
    let end = after.char_indices().find(|(_, character)| *character == ':' || character.is_whitespace());
    let Some((at, end)) = end else {
        return (text.len(), Cow::Borrowed(text));
    };
    let whole = text.get(..1 + at + end.len_utf8()).unwrap_or(text);
    let name = after.get(..at).unwrap_or_default();
    let replacement = if end == ':' { lookup(name) } else { None };
    (whole.len(), replacement.map_or(Cow::Borrowed(whole), Cow::Owned))
}

fn lookup(name: &str) -> Option<String> {
    if let Some(emoji) = TABLE.get(name) {
        return Some(format!("{emoji} "));
    }
    let country = name.strip_prefix("flag-").filter(|code| code.len() == 2)?;
    let letter = |byte: u8| match byte {
        b'a'..=b'z' => char::from_u32(0x1F1E6 + u32::from(byte - b'a')),
        _ => None,
    };
    country.bytes().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_are_replaced_as_the_peer_does() {
        for (text, shown) in [
            ("hi :+1: there", "hi 👍  there"),
            (":+1::heart:", "👍 ❤️ "),
            ("10:30:45", "10:30:45"),
            ("https://a.b:8080/x :+1:", "https://a.b:8080/x 👍 "),
            (":foo:+1:", ":foo:+1:"),
            ("::+1:", ":👍 "),
            (":flag-us:", "🇺🇸"),
            (":flag-US:", ":flag-US:"),
            (":SMILE:", ":SMILE:"),
            (": +1:", ": +1:"),
            (":+1", ":+1"),
            (":", ":"),
            ("::", "::"),
            ("none", "none"),
            (":가:", ":가:"),
        ] {
            assert_eq!(replaced(text), shown, "{text}");
        }
    }

    #[test]
    fn names_that_mattermost_writes_are_known() {
        for name in [
            "+1",
            "thumbsup",
            "heart",
            "white_check_mark",
            "tada",
            "slightly_smiling_face",
            "man-shrugging",
            "harp",
        ] {
            assert!(lookup(name).is_some(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn text_without_known_codes_is_untouched(text in "[A-Z :\n]{0,40}") {
            prop_assume!(!text.split(':').any(|name| TABLE.contains_key(name)));
            prop_assert_eq!(replaced(&text), text.as_str());
        }

        #[test]
        fn any_text_is_replaced_without_a_panic(text: String) {
            let _ = replaced(&text);
        }
    }
}
