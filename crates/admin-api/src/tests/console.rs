//! The console without a browser: sessions, forms, headers. Pages are looked at in the whole-system tests.

use std::time::Duration;

use http::StatusCode;
use tenant_registry::{OperatorAdmin, Role, TenantAdmin};

use super::{Answer, Fixture, fixture};

async fn sign_in(place: &Fixture, token: &str) -> Answer {
    place.ask("POST", "/sign-in", &[], &format!("token={token}")).await
}

/// Signs in, and returns the cookie and the form key of a page.
async fn signed_in(place: &Fixture, role: Role) -> (String, String) {
    let answer = sign_in(place, &place.token(role, None).await).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    let page = place.ask("GET", "/apps", &[("cookie", &cookie)], "").await.text;
    let key = page.split("name=\"form_key\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    (cookie, key)
}

#[tokio::test]
async fn a_session_is_for_this_host_alone_and_out_of_reach_of_scripts() {
    let place = fixture().await;

    let answer = sign_in(&place, &place.token(Role::Viewer, None).await).await;

    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with("__Host-"), "{cookie}");
    for flag in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/", "Max-Age=28800"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    assert_eq!(answer.header("location"), "/");
}

#[tokio::test]
async fn a_session_cookie_that_a_neighbour_could_set_is_not_taken_over_tls() {
    let place = fixture().await;
    let (cookie, _) = signed_in(&place, Role::Viewer).await;
    let neighbours = cookie.replace("__Host-", "");

    assert_eq!(place.ask("GET", "/apps", &[("cookie", &cookie)], "").await.status, StatusCode::OK);
    assert_eq!(place.ask("GET", "/apps", &[("cookie", &neighbours)], "").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_sign_in_that_another_site_sends_makes_no_session() {
    let place = fixture().await;
    let token = place.token(Role::Viewer, None).await;
    for (site, status) in [
        ("cross-site", StatusCode::FORBIDDEN),
        ("same-site", StatusCode::FORBIDDEN),
        ("none", StatusCode::FORBIDDEN),
        ("same-origin", StatusCode::SEE_OTHER),
    ] {
        let answer =
            place.ask("POST", "/sign-in", &[("sec-fetch-site", site)], &format!("token={token}")).await;
        assert_eq!(answer.status, status, "{site}");
        assert_eq!(answer.header("set-cookie").is_empty(), status == StatusCode::FORBIDDEN, "{site}");
    }
}

#[tokio::test]
async fn answers_over_tls_ask_for_tls_from_now_on_and_others_do_not() {
    let place = fixture().await;
    for (address, is_tls, proto, asks) in [
        ("192.0.2.1", true, "", true),
        ("127.0.0.1", false, "", false),
        ("127.0.0.1", false, "https", true),
        ("192.0.2.1", false, "https", false),
    ] {
        for path in ["/sign-in", "/v1/me", "/nothing"] {
            let peer = http_edge::Peer { address: address.parse().unwrap(), is_tls };
            let answer = place.ask_over(peer, "GET", path, &[("x-forwarded-proto", proto)], "").await;
            let told = answer.header("strict-transport-security");
            assert_eq!(!told.is_empty(), asks, "{path} {address} {proto}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        }
    }
}

#[tokio::test]
async fn every_page_keeps_to_itself() {
    let place = fixture().await;
    let (cookie, _) = signed_in(&place, Role::SecurityAdmin).await;
    let (tenant, licence) = place.tenant("acme").await;
    for path in [
        "/".to_owned(),
        "/sign-in".to_owned(),
        "/tenants".to_owned(),
        "/tenants/new".to_owned(),
        format!("/tenants/{tenant}"),
        format!("/tenants/{tenant}/licences/new"),
        format!("/licences/{licence}"),
        "/apps".to_owned(),
        "/queues".to_owned(),
        "/test-push".to_owned(),
        "/audit".to_owned(),
        "/docs".to_owned(),
        "/tenants/ten_unknown".to_owned(),
        "/assets/console.js".to_owned(),
    ] {
        let answer = place.ask("GET", &path, &[("cookie", &cookie)], "").await;
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert!(!answer.text.contains(" style=") && !answer.text.contains(" onclick="), "{path}");
        assert!(!answer.text.contains("https://") || path == "/docs", "{path} names another host");
    }
}

#[tokio::test]
async fn a_form_that_is_not_of_this_session_changes_nothing() {
    let place = fixture().await;
    let (cookie, key) = signed_in(&place, Role::Operator).await;
    let (_, foreign) = signed_in(&place, Role::Operator).await;
    let post = async |key: &str, site: &str| {
        let headers = [("cookie", &*cookie), ("sec-fetch-site", site)];
        place
            .ask("POST", "/tenants/new", &headers, &format!("form_key={key}&name=acme&contact="))
            .await
            .status
    };

    assert_eq!(post("", "same-origin").await, StatusCode::FORBIDDEN);
    assert_eq!(post(&foreign, "same-origin").await, StatusCode::FORBIDDEN);
    assert_eq!(post(&key, "cross-site").await, StatusCode::FORBIDDEN);
    assert_eq!(place.registry.tenant_named("acme").await.unwrap(), None);
    assert_eq!(post(&key, "same-origin").await, StatusCode::SEE_OTHER);
    assert!(place.registry.tenant_named("acme").await.unwrap().is_some());
}

#[tokio::test]
async fn a_session_ends_with_its_token_with_its_time_and_on_request() {
    let place = fixture().await;
    let token = place.token(Role::Viewer, None).await;
    let answer = sign_in(&place, &token).await;
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    let page = async || place.ask("GET", "/apps", &[("cookie", &cookie)], "").await.status;
    assert_eq!(page().await, StatusCode::OK);

    place.clock.advance(Duration::from_hours(8));
    assert_eq!(page().await, StatusCode::SEE_OTHER);

    let answer = sign_in(&place, &token).await;
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    let page = async || place.ask("GET", "/apps", &[("cookie", &cookie)], "").await.status;
    assert_eq!(page().await, StatusCode::OK);
    let id = tenant_registry::AdminToken::parse(&token).unwrap().id().to_owned();
    place.registry.revoke_admin_token(&id, super::TEST_CONTEXT).await.unwrap();
    assert_eq!(page().await, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_browsers_cookie_opens_pages_and_not_the_api() {
    let place = fixture().await;
    let (cookie, _) = signed_in(&place, Role::SecurityAdmin).await;

    let api = place.ask("GET", "/v1/tenants", &[("cookie", &cookie)], "").await;

    assert_eq!(api.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn failed_sign_ins_are_limited_by_address() {
    let place = fixture().await;

    let mut told = 0;
    for _ in 0..200 {
        let answer = sign_in(&place, "hpns_admin_wrong").await;
        told += usize::from(answer.status == StatusCode::FORBIDDEN);
    }

    assert!((20..30).contains(&told), "{told}");
    assert_eq!(sign_in(&place, &place.token(Role::Viewer, None).await).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn what_others_wrote_is_text_on_every_page() {
    let place = fixture().await;
    let (cookie, _) = signed_in(&place, Role::SecurityAdmin).await;
    let evil = "<script>alert(1)</script>\"' onload=x";
    let (tenant, _) = place.tenant(evil).await;

    for path in [
        "/tenants".to_owned(),
        format!("/tenants/{tenant}"),
        "/audit".to_owned(),
        format!("/tenants?search={}", "%3Cscript%3E"),
    ] {
        let page = place.ask("GET", &path, &[("cookie", &cookie)], "").await.text;
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>alert"), "{path}");
    }
}
