//! Who may call what, for every route, every role and every tenant.

use http::StatusCode;
use http_edge::Peer;
use tenant_registry::Role;

use super::{Fixture, fixture};
use crate::access::{Access, TABLE};
use crate::identity::cookie_name;

/// A route with ids in its places.
fn path(route: &str, tenant: &str, licence: &str) -> String {
    route
        .replace("{tenant}", tenant)
        .replace("{licence}", licence)
        .replace("{server}", "srv1")
        .replace("{kid}", "abcdefghijkl")
        .replace("{id}", "abcdefghijkl")
        .replace("{file}", "console.css")
}

/// Asks with nothing that a change could be made of.
async fn ask(place: &Fixture, method: &str, path: &str, bearer: Option<&str>) -> StatusCode {
    let mut headers = vec![("if-match", "*")];
    headers.extend(bearer.map(|bearer| ("authorization", bearer)));
    place.ask(method, path, &headers, "").await.status
}

#[tokio::test]
async fn every_route_is_there_for_the_roles_of_the_table_and_for_no_other() {
    let place = fixture().await;
    let (tenant, licence) = place.tenant("acme").await;
    let (tenant_text, licence) = (tenant.to_string(), licence.to_string());
    for role in Role::ALL {
        let bearer = place.bearer(role, (role == Role::Tenant).then_some(tenant)).await;
        for (method, route, access) in TABLE {
            // What would change something is asked without its body, and comes to nothing.
            let status = ask(&place, method, &path(route, &tenant_text, &licence), Some(&bearer)).await;
            let allowed = match access {
                Access::Open => true,
                Access::Roles(roles) => roles.contains(&role),
            };
            let refused = status == StatusCode::FORBIDDEN;
            // A form without its key is refused too; what counts there is that nobody else gets further.
            let is_form = *method == "POST" && !route.starts_with("/v1/");
            assert!(refused || allowed, "{role:?} {method} {route}: {status}");
            assert!(!refused || !allowed || is_form, "{role:?} {method} {route}: {status}");
            assert_ne!(status, StatusCode::UNAUTHORIZED, "{role:?} {method} {route}");
            assert!(
                !status.is_server_error() || *route == "/v1/test-pushes",
                "{role:?} {method} {route}: {status}"
            );
        }
    }
}

#[tokio::test]
async fn nobody_is_let_in_without_saying_who_he_is() {
    let place = fixture().await;
    for (method, route, access) in TABLE.iter().filter(|(.., access)| *access != Access::Open) {
        let path = path(route, "ten_x", "lic_x");
        let answer = place.ask(method, &path, &[("if-match", "*")], "").await;
        if route.starts_with("/v1/") {
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {route} {access:?}");
        } else {
            assert_eq!(
                (answer.status, answer.header("location")),
                (StatusCode::SEE_OTHER, "/sign-in"),
                "{route}"
            );
        }
    }
}

/// Every tenant's own token on every tenant's things: 10,000 looks and more.
#[tokio::test]
async fn a_tenant_sees_its_own_and_of_others_not_even_that_they_exist() {
    const TENANTS: usize = 36;
    let place = fixture().await;
    let mut tenants = Vec::new();
    for number in 0..TENANTS {
        let (tenant, licence) = place.tenant(&format!("tenant {number}")).await;
        let bearer = place.bearer(Role::Tenant, Some(tenant)).await;
        tenants.push((tenant.to_string(), licence.to_string(), bearer));
    }
    let own: Vec<_> = TABLE
        .iter()
        .filter(|(_, route, access)| {
            let is_theirs = matches!(access, Access::Roles(roles) if roles.contains(&Role::Tenant));
            is_theirs && route.contains('{')
        })
        .collect();
    let mut looks = 0;
    for (at, (_, _, bearer)) in tenants.iter().enumerate() {
        for (of, (tenant, licence, _)) in tenants.iter().enumerate() {
            for (method, route, _) in &own {
                let body = if route.ends_with("/lookup") { r#"{"app":"android","token":"abc"}"# } else { "" };
                let answer = place.ask_as(bearer, method, &path(route, tenant, licence), body).await;
                let unknown = if route.contains("{licence}") { "licence" } else { "tenant" };
                let nothing = format!("no such {unknown}");
                if at == of {
                    assert!(!answer.text.contains(&nothing), "{route}: {}", answer.text);
                } else {
                    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{route}: {}", answer.text);
                    assert!(!answer.text.contains(tenant), "{route}");
                    if route.starts_with("/v1/") {
                        assert_eq!(answer.json()["detail"], nothing);
                    }
                }
                looks += 1;
            }
        }
    }
    assert!(looks >= 10_000, "{looks} looks");
}

#[tokio::test]
async fn what_another_has_and_what_nobody_has_look_the_same() {
    let place = fixture().await;
    let (own, _) = place.tenant("own").await;
    let (other, licence) = place.tenant("other").await;
    let bearer = place.bearer(Role::Tenant, Some(own)).await;
    let nobody = push_domain::TenantId::new();

    for (theirs, none) in [
        (format!("/v1/tenants/{other}"), format!("/v1/tenants/{nobody}")),
        (format!("/v1/tenants/{other}/devices"), "/v1/tenants/ten_junk/devices".to_owned()),
        (format!("/v1/licences/{licence}"), format!("/v1/licences/{}", push_domain::LicenceId::new())),
    ] {
        let (theirs, none) =
            (place.ask_as(&bearer, "GET", &theirs, "").await, place.ask_as(&bearer, "GET", &none, "").await);
        assert_eq!((theirs.status, &theirs.text), (none.status, &none.text));
    }
}

#[tokio::test]
async fn a_token_or_session_that_came_in_the_clear_is_refused_unless_it_came_from_near() {
    let place = fixture().await;
    let bearer = place.bearer(Role::Viewer, None).await;
    let cookie = format!("{}=anything", cookie_name(false));
    for (address, is_tls, status) in [
        ("192.0.2.1", true, StatusCode::OK),
        ("127.0.0.1", false, StatusCode::OK),
        ("192.0.2.1", false, StatusCode::FORBIDDEN),
    ] {
        let peer = Peer { address: address.parse().unwrap(), is_tls };
        let answer = place.ask_over(peer, "GET", "/v1/me", &[("authorization", &bearer)], "").await;
        assert_eq!(answer.status, status, "{address} {is_tls}");
        assert_eq!(answer.text.contains("tls_required"), status == StatusCode::FORBIDDEN);
    }
    let peer = Peer { address: "192.0.2.1".parse().unwrap(), is_tls: false };
    let page = place.ask_over(peer, "GET", "/", &[("cookie", &cookie)], "").await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
}
