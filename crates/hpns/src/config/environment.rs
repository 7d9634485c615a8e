//! Environment layer of the configuration: `HPNS_`, and `__` between levels.

use figment::providers::Env;
use figment::value::Value;
use figment::{Figment, Provider};

use super::DEFAULTS;

/// Lays the environment's settings over others, as `layer` makes them.
pub(super) fn over<P: Provider>(layers: Figment, layer: impl Fn(Env) -> P) -> Figment {
    let variables = Env::prefixed("HPNS_").filter(|key| is_ours(&key.as_str().to_lowercase())).split("__");
    let texts: Vec<_> =
        variables.iter().filter(|(key, text)| is_text_like_another(key.as_str(), text)).collect();
    let layers = layers.merge(layer(variables));
    texts.into_iter().fold(layers, |layers, (key, text)| layers.merge((key.as_str(), text)))
}

/// Whether a text would be read as something else: a key id of ten digits is no number.
fn is_text_like_another(key: &str, text: &str) -> bool {
    let is_read_as_text = matches!(text.parse(), Ok(Value::String(..)));
    !is_read_as_text && is_text(key)
}

/// Whether a setting is a text, as the commented defaults show it; of apps, whatever they do not show as something else.
fn is_text(key: &str) -> bool {
    let mut parts: Vec<&str> = key.split('.').collect();
    let is_of_app = parts.len() == 3 && parts[0] == "apps";
    if is_of_app {
        parts.remove(1);
    }
    let wanted = parts.join(".").to_lowercase();
    let mut section = String::new();
    for line in DEFAULTS.lines() {
        let line = line.trim_start_matches(['#', ' ']);
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            section = if name.0.starts_with("apps.") { "apps.".to_owned() } else { format!("{}.", name.0) };
        } else if let Some((name, value)) = line.split_once(" = ")
            && format!("{section}{name}") == wanted
        {
            return value.starts_with('"');
        }
    }
    is_of_app
}

/// Whether a variable is a setting: three are of commands, and Kubernetes describes services named `hpns` or `hpns-…` to its
/// pods in variables that begin as ours do.
fn is_ours(key: &str) -> bool {
    if matches!(key, "admin_url" | "admin_token" | "push_url") {
        return false;
    }
    key.contains("__") || !is_of_a_service(key)
}

/// `…SERVICE_HOST`, `…SERVICE_PORT`, `…SERVICE_PORT_NAME`, `…PORT`, `…PORT_8066_TCP`, `…PORT_8066_TCP_ADDR`.
fn is_of_a_service(key: &str) -> bool {
    let key = format!("_{key}");
    let is_port = |rest: &str| {
        let digits = rest.trim_start_matches('_').trim_start_matches(|it: char| it.is_ascii_digit());
        let protocols = ["_tcp", "_udp", "_sctp"];
        rest.is_empty()
            || protocols
                .iter()
                .filter_map(|it| digits.strip_prefix(it))
                .any(|end| matches!(end, "" | "_proto" | "_port" | "_addr"))
    };
    key.ends_with("_service_host")
        || key.rsplit_once("_service_port").is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with('_'))
        || key.match_indices("_port").any(|(at, found)| is_port(&key[at + found.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_says_of_services_is_no_setting() {
        for foreign in [
            "service_host",
            "service_port",
            "service_port_http",
            "port",
            "port_8066_tcp",
            "port_8066_tcp_addr",
            "gateway_port",
            "gateway_service_host",
            "gateway_service_port_https",
            "gateway_port_443_tcp",
            "gateway_port_443_tcp_proto",
            "admin_api_port",
            "lane_0_port_6379_udp_port",
            "push_url",
        ] {
            assert!(!is_ours(foreign), "{foreign}");
        }
        for ours in [
            "gateway__listen",
            "region",
            "data_dir",
            "regoin",
            "gateway_listen",
            "portable",
            "apps__ios__port",
        ] {
            assert!(is_ours(ours), "{ours}");
        }
    }

    #[test]
    fn a_text_of_digits_stays_a_text_and_a_number_a_number() {
        for (key, text, is_kept) in [
            ("apps.ios.key_id", "1234567890", true),
            ("apps.my-app.team_id", "12345", true),
            ("apps.ios.key", "true", true),
            ("apps.ios.topic", "com.example", false),
            ("apps.ios.port", "2197", false),
            ("apps.ios.rate_per_second", "7", false),
            ("region", "1", true),
            ("admin.oidc.audience", "42", true),
            ("worker.slots", "8", false),
            ("gateway.test_tier.enabled", "true", false),
        ] {
            assert_eq!(is_text_like_another(key, text), is_kept, "{key}");
        }
    }
}
