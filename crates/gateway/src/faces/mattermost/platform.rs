//! Platform-name parser: `apple_rn`, or `apple_rn-v2` with the version of the app.

/// Splits a platform at its first `-v` into the app's name and its version; a version that is no
/// number, or none, is 1. Names are compared as they are.
pub(super) fn split(platform: &str) -> (&str, i64) {
    match platform.split_once("-v") {
        Some((name, version)) => (name, version.parse().unwrap_or(1)),
        None => (platform, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_split_as_the_peer_does() {
        for (platform, parts) in [
            ("apple_rn", ("apple_rn", 1)),
            ("apple_rn-v2", ("apple_rn", 2)),
            ("apple_rn-v", ("apple_rn", 1)),
            ("apple_rn-vfoo", ("apple_rn", 1)),
            ("apple_rn-v-2", ("apple_rn", -2)),
            ("apple_rn-v+2", ("apple_rn", 2)),
            ("apple_rn-v2-v3", ("apple_rn", 1)),
            ("apple-voip_rn", ("apple", 1)),
            ("", ("", 1)),
        ] {
            assert_eq!(split(platform), parts, "{platform}");
        }
    }
}
