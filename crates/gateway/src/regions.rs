//! The regions of the service as a gateway knows them: their push URLs, the names that stand for none in particular, and the
//! list that customers' firewalls are made from.

use std::collections::BTreeMap;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{Request, Uri};
use push_domain::InvalidSetting;
use serde::Serialize;

/// Where customers read names, ports and regions.
const ENDPOINTS: &str = "/.well-known/hpns-endpoints";

/// Regions of the service, of which one is ours.
#[derive(Debug, Clone, Default)]
pub struct Regions {
    /// The region of this process.
    pub own: String,
    /// The push URL of each region; nothing where the service has one alone.
    pub urls: BTreeMap<String, String>,
    /// Host names that stand for no region: only licences that hold in every region may push to them.
    pub global_hosts: Vec<String>,
    /// What customers should know of changes to come.
    pub notice: String,
}

impl Regions {
    /// Names the first setting that breaks its rule.
    pub(crate) fn validate(&self) -> Result<(), InvalidSetting> {
        for (region, url) in &self.urls {
            let refuse = |rule| InvalidSetting::new(region, rule).within("region_urls");
            if !is_name(region) {
                return Err(refuse("has to be 1 to 16 small letters and digits"));
            }
            if !(url.starts_with("https://") || url.starts_with("http://")) {
                return Err(refuse("has to begin with https:// or http://"));
            }
            if url.parse::<Uri>().is_err() {
                return Err(refuse("has to be a URL"));
            }
        }
        if !self.global_hosts.is_empty() && !self.urls.contains_key(&self.own) {
            let rule = "need `region_urls` of every region, this one too";
            return Err(InvalidSetting::new("global_hosts", rule));
        }
        let is_host = |host: &&String| host.contains(['/', ':']) || host.is_empty();
        match self.global_hosts.iter().find(is_host) {
            Some(_) => {
                Err(InvalidSetting::new("global_hosts", "has to be host names, without scheme and port"))
            }
            None => Ok(()),
        }
    }

    /// The push URL of another region that a key names; nobody knows here whether that key is one.
    pub(crate) fn other(&self, region: &str) -> Option<(&str, &str)> {
        let (name, url) = self.urls.get_key_value(region)?;
        (*name != self.own).then_some((name, url))
    }

    /// Whether a request came to a name that stands for no region. What else a request calls us is served as this region:
    /// relays of customers forward names of their own.
    pub(crate) fn is_global<B>(&self, request: &Request<B>) -> bool {
        if self.global_hosts.is_empty() {
            return false;
        }
        let header = || request.headers().get(HOST)?.to_str().ok();
        let Some(host) = request.uri().host().or_else(header) else { return false };
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_end_matches('.');
        self.global_hosts.iter().any(|global| global.eq_ignore_ascii_case(host))
    }

    /// Whether a licence that holds in some regions holds in every one.
    pub(crate) fn are_all(&self, regions: &[String]) -> bool {
        self.urls.keys().all(|region| regions.contains(region))
    }

    /// The list of endpoints, as a route of its own.
    pub(crate) fn router(&self) -> Router {
        let list = self.list();
        let answer = move || {
            let list = list.clone();
            async move { endpoints(list) }
        };
        Router::new().route(ENDPOINTS, get(answer))
    }

    fn list(&self) -> String {
        let endpoint = |(region, url): (&String, &String)| {
            let url_parts: Uri = url.parse().unwrap_or_default();
            let usual = if url.starts_with("http://") { 80 } else { 443 };
            Endpoint {
                region: region.clone(),
                push_url: url.clone(),
                host: url_parts.host().unwrap_or_default().to_owned(),
                port: url_parts.port_u16().unwrap_or(usual),
            }
        };
        let list = EndpointList {
            version: 1,
            region: &self.own,
            endpoints: self.urls.iter().map(endpoint).collect(),
            global_hosts: &self.global_hosts,
            notice: &self.notice,
        };
        serde_json::to_string_pretty(&list).unwrap_or_default() + "\n"
    }
}

fn endpoints(list: String) -> Response {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "max-age=3600")], list).into_response()
}

fn is_name(region: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=16).contains(&region.len()) && region.bytes().all(is_plain)
}

/// The endpoints of the service, for those who open firewalls.
#[derive(Serialize)]
struct EndpointList<'a> {
    version: u32,
    /// The region that answered.
    region: &'a str,
    endpoints: Vec<Endpoint>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    global_hosts: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    notice: &'a str,
}

#[derive(Serialize)]
struct Endpoint {
    region: String,
    push_url: String,
    host: String,
    port: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Regions {
        let url = |region: &str| (region.to_owned(), format!("https://push.{region}.example.com"));
        Regions {
            own: "us".into(),
            urls: ["us", "de"].map(url).into(),
            global_hosts: vec!["push.example.com".into()],
            notice: String::new(),
        }
    }

    #[test]
    fn a_list_of_regions_holds_our_own_and_urls_alone() {
        assert!(two().validate().is_ok() && Regions::default().validate().is_ok());
        for (region, url) in [("jp", "push.jp"), ("J", "https://push.jp"), ("jp", "https://a b")] {
            let mut regions = two();
            regions.urls.insert(region.into(), url.into());
            assert!(regions.validate().is_err(), "{region} {url}");
        }
        assert!(Regions { own: "jp".into(), ..two() }.validate().is_err());
        assert!(Regions { global_hosts: vec!["https://x".into()], ..two() }.validate().is_err());
    }

    #[test]
    fn a_global_name_is_known_however_it_is_written_and_foreign_ones_are_this_region() {
        let request =
            |uri: &str, host: &str| Request::builder().uri(uri).header(HOST, host).body(()).unwrap();

        assert!(two().is_global(&request("/", "push.example.com")));
        assert!(two().is_global(&request("/", "PUSH.example.com.:443")));
        assert!(two().is_global(&request("https://push.example.com/x", "other")));
        for host in ["push.us.example.com", "relay.customer.example", "192.0.2.1:80", "[::1]:443"] {
            assert!(!two().is_global(&request("/", host)), "{host}");
        }
    }

    #[test]
    fn the_list_tells_hosts_and_ports() {
        let mut regions = two();
        regions.urls.insert("jp".into(), "https://push.jp.example.com:8443/".into());
        let list: serde_json::Value = serde_json::from_str(&regions.list()).unwrap();

        let told = |index: usize| {
            (list["endpoints"][index]["host"].clone(), list["endpoints"][index]["port"].clone())
        };
        assert_eq!(told(0), ("push.de.example.com".into(), 443.into()));
        assert_eq!(told(1), ("push.jp.example.com".into(), 8443.into()));
        assert_eq!(list["region"], "us");
    }
}
