//! Text validation: invisible and misleading characters in names that people read and others choose.

/// Says whether a character is not seen, or changes how others are: control characters, marks that turn text around
/// (Unicode UAX #9), blanks without width and tags. The joiners of scripts that need them are none.
#[must_use]
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_holds_nothing_that_turns_or_hides_text() {
        for bad in ["a\u{202e}b", "\u{200b}", "\n", "\u{feff}x", "\u{e0041}", "\u{2066}"] {
            assert!(bad.chars().any(is_hidden), "{bad:?}");
        }
        for good in ["Ünïcode AG", "한국", "نام\u{200c}ها", "👩\u{200d}🚀"] {
            assert!(!good.chars().any(is_hidden), "{good:?}");
        }
    }
}
