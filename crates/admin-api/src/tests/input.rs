//! Bad input: each gets a clear refusal, and changes nothing.

use std::time::Duration;

use http::StatusCode;
use http_edge::{Edge, Limits};
use serde_json::{Value, json};
use tenant_registry::{Administration, LicenceAdmin, Role, TenantAdmin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fixture;

async fn events(registry: &dyn Administration) -> usize {
    registry.audit(None, u64::MAX, 100).await.unwrap().len()
}

#[tokio::test]
async fn every_field_has_its_limits_and_unknown_ones_are_refused() {
    let place = fixture().await;
    let (tenant, licence) = place.tenant("acme").await;
    let bearer = place.bearer(Role::SecurityAdmin, None).await;
    let licences = format!("/v1/tenants/{tenant}/licences");
    let terms = format!("/v1/licences/{licence}/terms");
    let keys = format!("/v1/licences/{licence}/keys");
    let suspension = format!("/v1/licences/{licence}/suspension");
    let lookup = format!("/v1/tenants/{tenant}/devices/lookup");
    let a_licence = |field: &str, value: Value| {
        let mut body = json!({ "plan": "professional", "regions": ["us"] });
        body[field] = value;
        body.to_string()
    };
    let before = events(&*place.registry).await;
    for (method, path, body, field) in [
        ("POST", "/v1/tenants", r#"{"name":""}"#.to_owned(), "name"),
        ("POST", "/v1/tenants", json!({ "name": "x".repeat(101) }).to_string(), "name"),
        ("POST", "/v1/tenants", r#"{"name":"a\u0007"}"#.to_owned(), "name"),
        ("POST", "/v1/tenants", r#"{"name":7}"#.to_owned(), "name"),
        ("POST", "/v1/tenants", "{}".to_owned(), "name"),
        ("POST", "/v1/tenants", json!({ "name": "a", "contact": "x".repeat(201) }).to_string(), "contact"),
        ("POST", "/v1/tenants", r#"{"name":"a","plan":"cloud"}"#.to_owned(), "plan"),
        ("POST", &licences, a_licence("plan", "gold".into()), "plan"),
        ("POST", &licences, a_licence("regions", json!([])), "regions"),
        ("POST", &licences, a_licence("regions", json!(["US East"])), "regions"),
        ("POST", &licences, a_licence("rate_per_second", 0.into()), "rate_per_second"),
        ("POST", &licences, a_licence("rate_per_second", (-1).into()), "rate_per_second"),
        ("POST", &licences, a_licence("burst", 2_000_001.into()), "burst"),
        ("POST", &licences, a_licence("grace_days", 91.into()), "grace_days"),
        ("POST", &licences, a_licence("privacy", "none".into()), "privacy"),
        ("POST", &licences, a_licence("expires_at", "tomorrow".into()), "expires_at"),
        ("POST", &licences, a_licence("expires_at", "1999-01-01T00:00:00Z".into()), "expires_at"),
        ("POST", &licences, a_licence("suspended", false.into()), "suspended"),
        ("PUT", &terms, r#"{"version":"","accepted_by":"a"}"#.to_owned(), "version"),
        ("PUT", &terms, r#"{"version":"1"}"#.to_owned(), "accepted_by"),
        ("PUT", &suspension, r#"{"reason":" "}"#.to_owned(), "reason"),
        ("POST", &keys, r#"{"overlap_hours":721}"#.to_owned(), "overlap_hours"),
        ("POST", &lookup, r#"{"app":"nokia","token":"abc"}"#.to_owned(), "app"),
        ("POST", &lookup, r#"{"app":"android","token":"a b"}"#.to_owned(), "token"),
        ("POST", "/v1/admin-tokens", r#"{"name":"a","role":"root"}"#.to_owned(), "role"),
        ("POST", "/v1/admin-tokens", r#"{"name":"a","role":"tenant"}"#.to_owned(), "tenant"),
        ("POST", "/v1/admin-tokens", r#"{"name":"a","role":"viewer","days":0}"#.to_owned(), "days"),
        ("POST", "/v1/test-pushes", r#"{"key":"x","platform":"a","token":"b"}"#.to_owned(), "key"),
        ("GET", "/v1/tenants?limit=0", String::new(), "limit"),
        ("GET", "/v1/tenants?cursor=%21", String::new(), "cursor"),
        ("GET", "/v1/audit?limit=101", String::new(), "limit"),
    ] {
        let answer = place.ask_as(&bearer, method, path, &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path} {body}: {}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(&format!("`{field}`")), "{path} {body}: {detail}");
    }
    assert_eq!(events(&*place.registry).await, before, "something was changed");
}

#[tokio::test]
async fn what_is_no_json_is_refused() {
    let place = fixture().await;
    let bearer = place.bearer(Role::Operator, None).await;

    let junk = place.ask_as(&bearer, "POST", "/v1/tenants", "canary").await;

    assert_eq!((junk.status, junk.json()["code"].as_str()), (StatusCode::BAD_REQUEST, Some("bad_json")));
    assert!(!junk.text.contains("canary"));
}

#[tokio::test]
async fn a_body_that_is_too_large_or_comes_too_slowly_is_refused() {
    let place = fixture().await;
    let bearer = place.bearer(Role::Operator, None).await;
    let listener = http_edge::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits { body_timeout: Duration::from_millis(100), ..Limits::of_a_private_port() };
    let (edge, tasks) = (Edge::new("admin", limits), TaskTracker::new());
    let router = place.router.clone();
    tasks.spawn(http_edge::serve(listener, None, router, edge, CancellationToken::new(), tasks.clone()));
    let ask = async |length: usize, body: &str| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /v1/tenants HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {bearer}\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let _ = stream.write_all(body.as_bytes()).await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    };

    let large = ask(70_000, "").await;
    assert!(large.starts_with("HTTP/1.1 413") && large.contains("body_too_large"), "{large}");
    let slow = ask(10, "{").await;
    assert!(slow.starts_with("HTTP/1.1 408") && slow.contains("body_too_slow"), "{slow}");
}

#[tokio::test]
async fn a_change_needs_the_etag_of_what_was_looked_at() {
    let place = fixture().await;
    let (tenant, _) = place.tenant("acme").await;
    let bearer = place.bearer(Role::Operator, None).await;
    let path = format!("/v1/tenants/{tenant}");
    let shown = place.ask_as(&bearer, "GET", &path, "").await;
    let tag = shown.header("etag").to_owned();
    let put = async |tag: &str, name: &str| {
        let body = json!({ "name": name }).to_string();
        let mut headers = vec![("authorization", &*bearer)];
        if !tag.is_empty() {
            headers.push(("if-match", tag));
        }
        place.ask("PUT", &path, &headers, &body).await
    };

    assert_eq!(put("", "a").await.status, StatusCode::PRECONDITION_REQUIRED);
    assert_eq!(put("\"999\"", "a").await.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(put("canary", "a").await.status, StatusCode::PRECONDITION_FAILED);
    let first = put(&tag, "a").await;
    assert_eq!(first.status, StatusCode::OK);
    assert_eq!(put(&tag, "b").await.json()["code"], "changed");
    assert_eq!(put(first.header("etag"), "b").await.json()["name"], "b");
    assert_eq!(put("*", "c").await.json()["name"], "c");
}

#[tokio::test]
async fn a_request_that_is_sent_again_creates_one_thing() {
    let place = fixture().await;
    let bearer = place.bearer(Role::Operator, None).await;
    let post = async |key: &str, path: &str, body: &str| {
        place.ask("POST", path, &[("authorization", &bearer), ("idempotency-key", key)], body).await
    };

    let first = post("a", "/v1/tenants", r#"{"name":"acme"}"#).await;
    let again = post("a", "/v1/tenants", r#"{"name":"acme"}"#).await;
    let other = post("a", "/v1/tenants", r#"{"name":"globex"}"#).await;
    let licences = format!("/v1/tenants/{}/licences", first.json()["id"].as_str().unwrap());
    let licence = post("b", &licences, r#"{"plan":"test","regions":["us"]}"#).await.json();
    let keys = format!("/v1/licences/{}/keys", licence["id"].as_str().unwrap());
    let key = post("c", &keys, "{}").await;
    let shown = post("c", &keys, "{}").await;

    assert_eq!((first.status, first.json()), (StatusCode::CREATED, again.json()));
    assert_eq!(other.json()["code"], "request_key_reused");
    assert!(key.json()["push_url"].as_str().unwrap().starts_with("https://push.example.com/t/hpns_us_"));
    assert_eq!((shown.status, shown.json()["code"].as_str()), (StatusCode::CONFLICT, Some("done_before")));
    assert!(!shown.text.contains(key.json()["key"].as_str().unwrap()));
    assert_eq!(post("a b", "/v1/tenants", r#"{"name":"x"}"#).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn ten_thousand_wrong_tokens_of_one_address_are_told_little_and_nobody_else_suffers() {
    let place = fixture().await;
    let bearer = place.bearer(Role::Viewer, None).await;
    let wrong = format!("Bearer {}", tenant_registry::AdminToken::generate().expose());

    let mut counts = [0; 2];
    for _ in 0..10_000 {
        let answer = place.ask_as(&wrong, "GET", "/v1/me", "").await;
        counts[usize::from(answer.status == StatusCode::TOO_MANY_REQUESTS)] += 1;
    }

    assert_eq!(counts[0] + counts[1], 10_000);
    assert!((20..40).contains(&counts[0]), "{counts:?}");
    assert_eq!(place.ask_as(&bearer, "GET", "/v1/me", "").await.status, StatusCode::OK);
    let elsewhere = place.ask_from("192.0.2.9", "GET", "/v1/me", &[("authorization", &wrong)], "").await;
    assert_eq!(elsewhere.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn no_answer_holds_a_stored_secret() {
    let place = fixture().await;
    let (tenant, licence) = place.tenant("acme").await;
    let bearer = place.bearer(Role::SecurityAdmin, None).await;
    let key = place.registry.issue_key(licence, "us", Duration::ZERO, super::TEST_CONTEXT).await.unwrap();
    let known = place.registry.tenant(tenant).await.unwrap().unwrap();
    let salt = data_encoding::HEXLOWER.encode(&known.device_salt);
    let mac = data_encoding::HEXLOWER.encode(&key.record.mac);

    for path in [
        "/v1/tenants".to_owned(),
        format!("/v1/tenants/{tenant}"),
        format!("/v1/tenants/{tenant}/licences"),
        format!("/v1/licences/{licence}/keys"),
        "/v1/admin-tokens".to_owned(),
        "/v1/audit".to_owned(),
        format!("/tenants/{tenant}"),
        "/openapi.json".to_owned(),
    ] {
        let text = place.ask_as(&bearer, "GET", &path, "").await.text;
        for secret in [&salt, &mac, &key.key.expose()[24..].to_owned(), &bearer[40..].to_owned()] {
            assert!(!text.contains(secret), "{path}");
        }
    }
}

#[tokio::test]
async fn lists_come_a_page_at_a_time() {
    let place = fixture().await;
    let bearer = place.bearer(Role::Viewer, None).await;
    for number in 0..7 {
        place.tenant(&format!("tenant {number}")).await;
    }
    let mut seen = Vec::new();
    let mut path = "/v1/tenants?limit=3".to_owned();
    loop {
        let page = place.ask_as(&bearer, "GET", &path, "").await.json();
        seen.extend(
            page["items"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/tenants?limit=3&cursor={cursor}");
    }

    assert_eq!(seen, (0..7).map(|number| format!("tenant {number}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_change_of_a_licence_that_says_nothing_of_privacy_leaves_it() {
    let place = fixture().await;
    let (_, licence) = place.tenant("acme").await;
    let bearer = place.bearer(Role::Operator, None).await;
    let path = format!("/v1/licences/{licence}");
    let headers = [("authorization", &*bearer), ("if-match", "*")];
    for (privacy, kept) in [
        (json!({}), "full"),
        (json!({ "privacy": "id_only_reject" }), "id_only_reject"),
        (json!({}), "id_only_reject"),
        (json!({ "privacy": "full" }), "full"),
    ] {
        let mut body = json!({ "plan": "enterprise", "regions": ["us"] });
        body.as_object_mut().unwrap().extend(privacy.as_object().unwrap().clone());

        let answer = place.ask("PUT", &path, &headers, &body.to_string()).await;

        assert_eq!(answer.json()["privacy"], kept, "{}", answer.text);
    }
}

#[tokio::test]
async fn a_licence_with_what_its_plan_does_not_include_is_refused_with_the_field() {
    let place = fixture().await;
    let (tenant, licence) = place.tenant("acme").await;
    let bearer = place.bearer(Role::Operator, None).await;
    let create = format!("/v1/tenants/{tenant}/licences");
    let post = async |body: &str| place.ask_as(&bearer, "POST", &create, body).await;
    for (body, field) in [
        (r#"{"plan":"professional","regions":["us"],"privacy":"id_only_strip"}"#, "privacy"),
        (r#"{"plan":"test","regions":["de"]}"#, "regions"),
        (r#"{"plan":"cloud","regions":["de","us"]}"#, "regions"),
        (r#"{"plan":"test","regions":["us"],"rate_per_second":1001}"#, "rate_per_second"),
    ] {
        let answer = post(body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert!(answer.text.contains(field), "{body}: {}", answer.text);
    }
    assert_eq!(post(r#"{"plan":"test","regions":["us"]}"#).await.status, 201);
    let refused = post(r#"{"plan":"cloud","regions":["us"]}"#).await;
    assert!(refused.status == 400 && refused.text.contains("plan"), "{}", refused.text);

    let headers = [("authorization", &*bearer), ("if-match", "*")];
    let body = r#"{"plan":"professional","regions":["us"],"privacy":"id_only_strip"}"#;
    let changed = place.ask("PUT", &format!("/v1/licences/{licence}"), &headers, body).await;
    assert_eq!(changed.status, 400, "{}", changed.text);
}

#[tokio::test]
async fn a_month_is_the_one_question_that_a_service_level_answers() {
    let place = fixture().await;
    let (tenant, _) = place.tenant("acme").await;
    let bearer = place.bearer(Role::Viewer, None).await;
    let of_tenant = ["", "/hours", "/signed"].map(|more| format!("/v1/tenants/{tenant}/service-level{more}"));

    for path in of_tenant.iter().map(String::as_str).chain(["/v1/service-level"]) {
        for query in ["?year=2026", "?month=2026-13", "?month=2026-01&month=2026-02"] {
            let answer = place.ask("GET", &format!("{path}{query}"), &[("authorization", &bearer)], "").await;
            let told = (answer.status.as_u16(), answer.json()["code"].as_str().map(str::to_owned));
            assert_eq!(told, (400, Some("invalid_field".to_owned())), "{path}{query}");
        }
    }
}
