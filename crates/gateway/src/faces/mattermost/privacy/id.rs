//! Validation of Mattermost ids.

use std::sync::LazyLock;

use data_encoding::{Encoding, Specification};

/// Its own base 32, without the letters and digits that people confuse.
static BASE_32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("ybndrfg8ejkmcpqxot1uwisza345h769");
    #[expect(clippy::expect_used, reason = "32 different symbols are an encoding")]
    specification.encoding().expect("32 different symbols")
});

/// Says whether a text is an id as Mattermost makes it: a random UUID (version 4) in its base 32, 26 symbols long. 122 of its
/// bits are the caller's to choose; no check can tell a chosen one from a random one.
pub(super) fn is_id(text: &str) -> bool {
    let mut uuid = [0; 16];
    let is_read = text.len() == 26 && BASE_32.decode_mut(text.as_bytes(), &mut uuid).is_ok();
    is_read && uuid[6] >> 4 == 4 && uuid[8] >> 6 == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_mattermosts_alphabet_length_padding_and_version() {
        for good in ["8wfsxkz1ntr1ue8yf6sba9anqc", "kjrs7q1ij3g5pnsbxrrdjuk54o"] {
            assert!(is_id(good), "{good}");
            assert!(!is_id(&good[1..]) && !is_id(&format!("{good}y")), "another length");
            assert!(!is_id(&good.to_uppercase()));
            for other in ["0", "2", "l", "v", "-", "é"] {
                assert!(!is_id(&good.replacen(&good[3..4], other, 1)), "{other}");
            }
            assert!(!is_id(&format!("{}9", &good[..25])), "its padding says something");
        }
        for word in ["", "canary", "aaaaaaaaaaaaaaaaaaaaaaaaaa", "canarycanarycanarycanaryca"] {
            assert!(!is_id(word), "{word}");
        }
    }

    #[test]
    fn a_word_that_has_the_form_of_an_id_is_what_remains() {
        // Chosen, not random, and nobody can tell.
        assert!(is_id("canaryfortyebyardatnoonyea"));
    }
}
