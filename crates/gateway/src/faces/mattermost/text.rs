//! Text truncation that breaks no character.

/// Returns the longest start of `text` that has at most `bytes` bytes and ends between two characters.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// Returns the longest start of `text` whose JSON form is shorter than that of the whole by at least
/// `excess` bytes.
pub(super) fn shortened(text: &str, excess: usize) -> &str {
    let room = text.chars().map(json_bytes).sum::<usize>().saturating_sub(excess);
    let mut used = 0;
    let fits = |(_, character): &(usize, char)| {
        used += json_bytes(*character);
        used <= room
    };
    let end =
        text.char_indices().take_while(fits).last().map_or(0, |(at, character)| at + character.len_utf8());
    cut(text, end)
}

/// How many bytes `serde_json` writes for a character inside a string.
const fn json_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => character.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json_length(text: &str) -> usize {
        serde_json::to_string(text).unwrap().len()
    }

    #[test]
    fn a_character_is_never_cut() {
        assert_eq!(cut("가나", 5), "가");
        assert_eq!(cut("가나", 6), "가나");
        assert_eq!(cut("abc", 9), "abc");
        assert_eq!(cut("가", 2), "");
    }

    proptest! {
        #[test]
        fn shortening_saves_what_it_must_and_hardly_more(text in "[\\x00-\\x7f가-힣👍]{0,60}", excess in 0_usize..80) {
            let short = shortened(&text, excess);
            let saved = json_length(&text) - json_length(short);

            prop_assert!(text.starts_with(short));
            prop_assert!(saved >= excess || short.is_empty());
            prop_assert!(saved < excess + 6 || excess == 0);
        }
    }
}
