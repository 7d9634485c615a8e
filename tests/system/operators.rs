//! System tests: what operators do, and what customers' servers notice of it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{ANDROID_TOKEN, Deployment, IOS_TOKEN, android, ios, run, run_with};
use crate::http::{Answer, exchange, post};
use crate::load::{Load, to_android, to_iphone};

/// An operator at the admin API of a deployment.
pub(crate) struct Operator<'a> {
    deployment: &'a Deployment,
    pub(crate) token: String,
}

impl<'a> Operator<'a> {
    pub(crate) fn of(deployment: &'a Deployment) -> Self {
        let output = run(&["first-token", "--config", deployment.config.to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { deployment, token: String::from_utf8(output.stdout).unwrap().trim().to_owned() }
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} /v1{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nIf-Match: *\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        exchange(self.deployment.service.admin, request.as_bytes()).await
    }

    pub(crate) async fn make(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.ask(method, path, &body).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {}", answer.text());
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    /// Makes a tenant with a licence of these terms, and returns the licence's id and a key.
    pub(crate) async fn customer(&self, name: &str, terms: Value) -> (String, String) {
        let tenant = self.make("POST", "/tenants", json!({ "name": name })).await;
        let mut body = json!({ "plan": "professional", "regions": ["us"], "rate_per_second": 100_000, "burst": 100_000 });
        for (field, value) in terms.as_object().unwrap() {
            body[field] = value.clone();
        }
        let path = format!("/tenants/{}/licences", tenant["id"].as_str().unwrap());
        let licence = self.make("POST", &path, body).await["id"].as_str().unwrap().to_owned();
        let terms = json!({ "version": "1", "accepted_by": "Ada" });
        self.make("PUT", &format!("/licences/{licence}/terms"), terms).await;
        let key = self.key(&licence).await;
        (licence, key)
    }

    async fn key(&self, licence: &str) -> String {
        let made = self.make("POST", &format!("/licences/{licence}/keys"), json!({})).await;
        made["key"].as_str().unwrap().to_owned()
    }

    /// Pushes with a key in the path, once the gateway has heard of what was just done.
    pub(crate) async fn push(&self, key: &str, push: &Value) -> Answer {
        let request = post(&format!("/t/{key}/api/v1/send_push"), push.to_string().as_bytes());
        exchange(self.deployment.service.gateway, &request).await
    }

    /// Pushes until an answer is as expected, at most for a second; returns how long that took.
    pub(crate) async fn until(&self, key: &str, push: &Value, expected: &str) -> Duration {
        let began = Instant::now();
        for try_number in 0_u32.. {
            // Each try comes from an address of its own: a key that the gateway does not know yet is a wrong one, and
            // one address may try few of these.
            let [_, a, b, c] = try_number.to_be_bytes();
            let request = post(&format!("/t/{key}/api/v1/send_push"), push.to_string().as_bytes());
            let text = String::from_utf8(request).unwrap();
            let request = text.replacen("\r\n", &format!("\r\nX-Forwarded-For: 10.{a}.{b}.{c}\r\n"), 1);
            let text = exchange(self.deployment.service.gateway, request.as_bytes()).await.text();
            if text.contains(expected) {
                return began.elapsed();
            }
            assert!(began.elapsed() < Duration::from_secs(10), "{expected} in vain: {text}");
            tokio::task::yield_now().await;
        }
        unreachable!()
    }
}

fn kid(key: &str) -> &str {
    key.split('_').nth(2).unwrap()
}

#[tokio::test]
async fn a_customer_pushes_from_the_first_minute_until_the_key_is_revoked() {
    let deployment = Deployment::with("");
    let operator = Operator::of(&deployment);
    let (licence, key) = operator.customer("acme", json!({})).await;
    operator.until(&key, &ios(json!({})), "\"OK\"").await;

    operator.make("DELETE", &format!("/keys/{}", kid(&key)), Value::Null).await;

    assert!(operator.until(&key, &ios(json!({})), "licence_unknown").await < Duration::from_secs(1));
    let keys = operator.make("GET", &format!("/licences/{licence}/keys"), Value::Null).await;
    assert_eq!(keys[0]["is_live"], false);
    let log = deployment.service.log();
    assert!(!log.contains(&key) && !log.contains(&operator.token), "a secret is in the log");
}

#[tokio::test]
async fn every_way_in_is_the_same_licence() {
    let deployment = Deployment::with("");
    let operator = Operator::of(&deployment);
    let (_, key) = operator.customer("acme", json!({})).await;
    operator.until(&key, &ios(json!({})), "\"OK\"").await;
    let body = ios(json!({})).to_string();
    let basic = |text: &str| format!("Basic {}", base64(text));

    for authorization in [format!("Bearer {key}"), basic(&format!("push:{key}")), basic(&format!("{key}:"))] {
        let request = format!(
            "POST /api/v1/send_push HTTP/1.1\r\nHost: x\r\nX-Mattermost-Auth: foreign\r\nAuthorization: {authorization}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(
            exchange(deployment.service.gateway, request.as_bytes()).await.json(),
            json!({ "status": "OK" })
        );
    }
    let none = exchange(deployment.service.gateway, &post("/api/v1/send_push", body.as_bytes())).await;
    assert!(none.error().starts_with("licence_missing"));
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
            encoded.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    encoded
}

#[tokio::test]
async fn a_rotation_under_load_costs_no_push() {
    let mut deployment = Deployment::with("");
    let operator = Operator::of(&deployment);
    let (licence, old) = operator.customer("acme", json!({})).await;
    operator.until(&old, &ios(json!({})), "\"OK\"").await;
    let token = operator.token;
    deployment.prefix = format!("/t/{old}");
    let operator = Operator { deployment: &deployment, token };
    let load = Load::start(&deployment, to_iphone, 4);

    let new = operator.key(&licence).await;
    operator.until(&new, &ios(json!({})), "\"OK\"").await;
    let before = load.answered();
    crate::harness::eventually("more pushes with the old key", || load.answered() > before + 50).await;

    let answers = load.stop().await;
    assert_eq!(answers.others(), Vec::<&Value>::new());
}

#[tokio::test]
async fn a_licence_in_its_grace_says_so_and_an_expired_one_is_refused() {
    let deployment = Deployment::with("");
    let operator = Operator::of(&deployment);
    let day = |days: i64| json!(moment(days * 86_400));
    let (_, grace) = operator
        .customer("late", json!({ "not_before": day(-30), "expires_at": day(-1), "grace_days": 14 }))
        .await;
    let (_, over) = operator
        .customer("gone", json!({ "not_before": day(-30), "expires_at": day(-15), "grace_days": 14 }))
        .await;
    let (_, early) = operator.customer("early", json!({ "not_before": day(1) })).await;
    operator.until(&grace, &ios(json!({})), "\"OK\"").await;
    operator.until(&over, &ios(json!({})), "licence_expired").await;
    operator.until(&early, &ios(json!({})), "licence_inactive").await;

    let answer = operator.push(&grace, &ios(json!({}))).await;

    assert!(answer.head.contains("x-hpns-licence: grace") && answer.head.contains("x-hpns-licence-until: "));
    assert!(deployment.metric("licence_grace_pushes_total", "").await >= 1.0);
    let alerts = operator.make("GET", "/alerts", Value::Null).await;
    let kinds: Vec<_> = alerts
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| (alert["kind"].clone(), alert["name"].clone()))
        .collect();
    assert_eq!(kinds, [(json!("licence_in_grace"), json!("late"))]);
}

/// A moment so many seconds from now.
fn moment(seconds: i64) -> String {
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("{seconds} seconds"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_suspended_licence_pushes_again_when_it_is_resumed() {
    let deployment = Deployment::with("");
    let operator = Operator::of(&deployment);
    let (licence, key) = operator.customer("acme", json!({})).await;
    let path = format!("/licences/{licence}/suspension");
    operator.until(&key, &ios(json!({})), "\"OK\"").await;

    let suspended = operator.make("PUT", &path, json!({ "reason": "unpaid" })).await;
    assert_eq!(
        (&suspended["standing"], &suspended["suspension"]["reason"]),
        (&json!("suspended"), &json!("unpaid"))
    );
    operator.until(&key, &ios(json!({})), "licence_suspended").await;
    operator.make("DELETE", &path, Value::Null).await;
    operator.until(&key, &ios(json!({})), "\"OK\"").await;
}

#[tokio::test]
async fn a_bound_licence_opens_for_its_servers_alone() {
    let deployment = Deployment::with("");
    let operator = Operator::of(&deployment);
    let (licence, key) = operator.customer("acme", json!({})).await;
    operator.until(&key, &ios(json!({})), "\"OK\"").await;

    operator.make("PUT", &format!("/licences/{licence}/servers/mine"), Value::Null).await;

    operator.until(&key, &ios(json!({})), "server_not_bound").await;
    assert_eq!(
        operator.push(&key, &ios(json!({ "server_id": "mine" }))).await.json(),
        json!({ "status": "OK" })
    );
}

#[tokio::test]
async fn a_licence_elsewhere_is_told_where_and_its_push_goes_nowhere() {
    let deployment = Deployment::with("[gateway.region_urls]\nde = \"https://push.de.example.com\"");
    let operator = Operator::of(&deployment);
    let (_, key) = operator.customer("acme", json!({ "regions": ["de"] })).await;
    operator.until(&key, &ios(json!({})), "wrong_region").await;

    let error = operator.push(&key, &ios(json!({}))).await.error();

    assert_eq!(
        error,
        "wrong_region: the licence holds in de: use https://push.de.example.com as the push URL"
    );
    assert!(deployment.received().is_empty());
}

#[tokio::test]
async fn a_key_of_another_region_is_told_its_url_and_a_foreign_host_name_is_served() {
    let settings = "[gateway]\nglobal_hosts = [\"any.example.com\"]\n[gateway.region_urls]\n\
                 us = \"https://push.us.example.com\"\nde = \"https://push.de.example.com:8443\"";
    let deployment = Deployment::with(settings);
    let operator = Operator::of(&deployment);
    let (_, key) = operator.customer("acme", json!({})).await;
    operator.until(&key, &ios(json!({})), "\"OK\"").await;
    let named = async |host: &str| {
        let request = post(&format!("/t/{key}/api/v1/send_push"), ios(json!({})).to_string().as_bytes());
        let request = String::from_utf8(request).unwrap();
        let (head, rest) = request.split_once("Host: ").unwrap();
        let rest = rest.split_once("\r\n").unwrap().1;
        exchange(deployment.service.gateway, format!("{head}Host: {host}\r\n{rest}").as_bytes()).await
    };

    // Well formed, and nobody's.
    let of_nobody = "hpns_de_777777777777_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx4MjWko";
    let told = operator.push(of_nobody, &ios(json!({}))).await.error();
    assert_eq!(
        told,
        "wrong_region: this is a key of de: use https://push.de.example.com:8443 as the push URL"
    );
    deployment.until_metric("wrong_region_keys_total", "hinted=\"de\"", 1.0).await;

    let before = deployment.received().len();
    assert_eq!(named("relay.of.a.customer").await.json(), json!({ "status": "OK" }));
    let told = named("any.example.com").await.error();
    assert_eq!(
        told,
        "wrong_region: the licence holds in us: use https://push.us.example.com as the push URL"
    );
    assert_eq!(deployment.received().len(), before + 1);

    let list =
        exchange(deployment.service.gateway, b"GET /.well-known/hpns-endpoints HTTP/1.1\r\nHost: x\r\n\r\n")
            .await;
    let list = list.json();
    assert_eq!((list["region"].clone(), list["endpoints"][0]["port"].clone()), (json!("us"), json!(8443)));
    assert_eq!(list["endpoints"][1]["host"], "push.us.example.com");
}

#[tokio::test]
async fn no_more_pushes_are_under_way_than_a_licence_allows() {
    let deployment = Deployment::with("");
    let operator = Operator::of(&deployment);
    let (_, key) = operator.customer("acme", json!({ "in_flight": 1 })).await;
    operator.until(&key, &ios(json!({})), "\"OK\"").await;
    let hangs = provider_sim::ScriptedAnswer { delay_ms: 2000, ..Default::default() };
    deployment.script(IOS_TOKEN, vec![hangs]);
    let before = deployment.simulator.stats().apns_requests;

    let (slow, second) = (ios(json!({})), android(json!({})));
    let (first, second) = tokio::join!(operator.push(&key, &slow), async {
        crate::harness::eventually("the first is under way", || {
            deployment.simulator.stats().apns_requests > before
        })
        .await;
        operator.push(&key, &second).await
    });

    assert_eq!(first.json(), json!({ "status": "OK" }));
    assert_eq!(second.error(), "rate_limited: more pushes at once than the licence allows");
}

/// Every text of a push, each with a word of its own that no provider may see.
fn talkative(platform: &str, device: &str) -> Value {
    let mut push = json!({ "platform": platform, "device_id": device, "type": "message", "version": "v2", "badge": 3,
        "server_id": "8wfsxkz1ntr1ue8yf6sba9anqc", "channel_id": "kjrs7q1ij3g5pnsbxrrdjuk54o", "is_id_loaded": false });
    for field in
        ["message", "channel_name", "sender_name", "override_username", "override_icon_url", "from_webhook"]
    {
        push[field] = format!("canary {field} :smile:").into();
    }
    push
}

const SPARE_FIELDS: [&str; 12] = [
    "ack_id",
    "post_id",
    "category",
    "team_id",
    "root_id",
    "sender_id",
    "sub_type",
    "transport",
    "version",
    "type",
    "signature",
    "channel_id",
];

#[tokio::test]
async fn with_ids_only_no_word_of_a_message_reaches_a_provider_whatever_the_caller_sends() {
    let deployment = Deployment::with("");
    let operator = Operator::of(&deployment);
    let (_, key) =
        operator.customer("strip", json!({ "plan": "enterprise", "privacy": "id_only_strip" })).await;
    let (_, strict) =
        operator.customer("reject", json!({ "plan": "enterprise", "privacy": "id_only_reject" })).await;
    operator.until(&key, &ios(json!({})), "\"OK\"").await;
    operator.until(&strict, &talkative("apple_rn-v2", IOS_TOKEN), "content_not_allowed").await;
    let before = deployment.received().len();

    let mut sent = 0;
    for (platform, device) in [("apple_rn-v2", IOS_TOKEN), ("android_rn-v2", ANDROID_TOKEN)] {
        for kind in ["message", "clear", "update_badge", "session", "test", "canary"] {
            let mut push = talkative(platform, device);
            push["type"] = kind.into();
            operator.push(&key, &push).await;
            sent += 1;
        }
        for field in SPARE_FIELDS {
            for word in [
                "canary",
                "canary0canary0canary0canar",
                "canarycanarycanarycanaryca",
                "Canary canary canary canar",
                "{\"canary\":1}",
                "canary.canary.canary",
            ] {
                let mut push = talkative(platform, device);
                push[field] = word.into();
                push["is_id_loaded"] = (word.len() % 2 == 0).into();
                operator.push(&key, &push).await;
                sent += 1;
            }
        }
        assert!(
            operator
                .push(&strict, &talkative(platform, device))
                .await
                .error()
                .starts_with("content_not_allowed")
        );
    }

    let received = deployment.received();
    assert!(received.len() > before + sent / 2, "hardly anything arrived");
    for one in &received[before..] {
        let bytes = format!("{} {:?} {}", one.path, one.headers, one.body).to_lowercase();
        assert!(!bytes.contains("canary"), "{bytes}");
        assert!(!bytes.contains("smile") && !bytes.contains('😄'), "{bytes}");
    }
    let shown: Vec<_> = received.iter().rev().filter(|one| one.provider == "fcm").take(1).collect();
    assert_eq!(shown[0].body["message"]["data"]["id_loaded"], "true");
}

#[tokio::test]
async fn with_the_generic_policy_the_text_is_replaced_before_anything_is_queued() {
    let deployment = Deployment::with("");
    let operator = Operator::of(&deployment);
    let (_, key) = operator.customer("generic", json!({ "privacy": "generic" })).await;
    operator.until(&key, &talkative("apple_rn-v2", IOS_TOKEN), "\"OK\"").await;
    operator.push(&key, &talkative("android_rn-v2", ANDROID_TOKEN)).await;
    for field in SPARE_FIELDS {
        for (platform, device) in [("apple_rn-v2", IOS_TOKEN), ("android_rn-v2", ANDROID_TOKEN)] {
            for word in ["canary", "canarycanarycanarycanaryca", "canary.canary.canary"] {
                let mut push = talkative(platform, device);
                push[field] = word.into();
                operator.push(&key, &push).await;
            }
        }
    }

    let received = deployment.received();

    assert_eq!(received[0].body["aps"]["alert"], "You have a new message");
    for one in &received {
        let bytes = format!("{} {:?} {}", one.path, one.headers, one.body);
        assert!(!bytes.contains("canary"), "{bytes}");
    }
    let finds = received.iter().filter(|one| one.body.to_string().contains("kjrs7q1ij3g5pnsbxrrdjuk54o"));
    assert!(finds.count() > received.len() / 2, "the apps find their channels");
}

#[tokio::test]
async fn a_session_that_ends_is_told_in_our_words_under_every_policy_that_hides_words() {
    let deployment = Deployment::with("");
    let operator = Operator::of(&deployment);
    for policy in ["generic", "id_only_strip", "id_only_reject"] {
        let (_, key) = operator.customer(policy, json!({ "plan": "enterprise", "privacy": policy })).await;
        for (platform, device) in [("apple_rn-v2", IOS_TOKEN), ("android_rn-v2", ANDROID_TOKEN)] {
            let push = json!({
                "server_id": "8wfsxkz1ntr1ue8yf6sba9anqc", "platform": platform, "device_id": device,
                "type": "session", "version": "v2", "message": "Session Expired: Please log in to canary.",
            });
            operator.until(&key, &push, "\"OK\"").await;
        }
    }
    let received = deployment.received();
    assert!(received.len() >= 6);
    for one in &received {
        let body = one.body.to_string();
        assert!(body.contains("Your session has expired. Log in") && !body.contains("canary"), "{body}");
    }
}

#[tokio::test]
async fn servers_without_a_licence_push_where_there_is_a_test_tier_and_leave_nothing_behind() {
    let deployment = Deployment::with("[gateway.test_tier]\nenabled = true\nrate_per_second = 1\nburst = 5");
    let operator = Operator::of(&deployment);
    let free = async |number: u32| {
        let push = to_android(u64::from(number));
        let request = post("/api/v1/send_push", push.to_string().as_bytes());
        exchange(deployment.service.gateway, &request).await.text()
    };

    let mut answers = Vec::new();
    for number in 0..8 {
        answers.push(free(number).await);
    }

    assert!(answers[..5].iter().all(|text| text.contains("\"OK\"")), "{answers:?}");
    assert!(answers[6..].iter().all(|text| text.contains("rate_limited")), "{answers:?}");
    let forwarded = format!(
        "POST /api/v1/send_push HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\nContent-Length: {0}\r\n\r\n{1}",
        to_android(9).to_string().len(),
        to_android(9)
    );
    let elsewhere = exchange(deployment.service.gateway, forwarded.as_bytes()).await;
    assert_eq!(elsewhere.json(), json!({ "status": "OK" }), "another source has a rate of its own");
    let overview = operator.make("GET", "/overview", Value::Null).await;
    assert_eq!(overview["tenants"], 2, "those of the harness alone");
    assert!(!deployment.service.log().contains("203.0.113.9"));
}

/// The simulator needs a thread of its own while a command runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_does_what_the_api_does() {
    let deployment = Deployment::with("");
    let operator = Operator::of(&deployment);
    let url = format!("http://{}", deployment.service.admin);
    let hpns = |arguments: &[&str], input: &str| {
        let variables = [("HPNS_ADMIN_URL", &*url), ("HPNS_ADMIN_TOKEN", &*operator.token)];
        let output = run_with(arguments, &variables, input);
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), text)
    };
    let json_of = |arguments: &[&str]| -> Value {
        let (code, text) = hpns(&[arguments, &["--json"]].concat(), "");
        assert_eq!(code, 0, "{text}");
        serde_json::from_str(&text).unwrap()
    };

    let tenant = json_of(&["tenant", "create", "Acme", "--contact", "ada@acme.example"]);
    let tenant = tenant["id"].as_str().unwrap();
    let licence = json_of(&[
        "licence",
        "create",
        tenant,
        "--expires",
        "2099-12-31",
        "--terms",
        "1",
        "--accepted-by",
        "Ada",
    ]);
    let licence = licence["id"].as_str().unwrap();
    let key = json_of(&["key", "issue", licence]);
    let key = key["key"].as_str().unwrap();
    operator.until(key, &ios(json!({})), "\"OK\"").await;

    let both = format!("{key}\n{IOS_TOKEN}\n");
    let (code, text) = hpns(&["app", "test-push", "--platform", "apple_rn-v2"], &both);
    assert!(code == 0 && text.contains("OK") && text.contains("round_trip"), "{text}");
    let (_, text) = hpns(&["licence", "update", licence, "--rate", "7", "--no-end"], "");
    assert!(text.contains("rate_per_second  7") && text.contains("expires_at       -"), "{text}");
    let (_, text) = hpns(&["tenant", "list", "--search", "acm"], "");
    assert!(text.starts_with("TENANT") && text.contains("Acme") && text.contains("active"), "{text}");
    crate::harness::eventually("the device is recorded", || {
        hpns(&["device", "find", tenant, "--app", "ios"], IOS_TOKEN).0 == 0
    })
    .await;
    let (code, text) = hpns(&["device", "erase", tenant, "--app", "ios", "--yes"], IOS_TOKEN);
    assert!(code == 0 && text.contains("erased  1"), "{text}");
    assert_eq!(hpns(&["key", "revoke", kid(key)], "").0, 5, "without a terminal it asks for --yes");
    assert_eq!(hpns(&["key", "revoke", kid(key), "--yes"], "").0, 0);
    for (arguments, code) in [
        (&["tenant", "show", "ten_unknown"][..], 3),
        (&["tenant", "create", "Acme"], 5),
        (&["tenant", "list", "--url", "http://127.0.0.1:1"], 1),
        (&["tenant", "frobnicate"], 2),
    ] {
        assert_eq!(hpns(arguments, "").0, code, "{arguments:?}");
    }
    let (code, text) = hpns(&["audit", "verify"], "");
    assert!(code == 0 && text.contains("intact       true"), "{text}");
}
