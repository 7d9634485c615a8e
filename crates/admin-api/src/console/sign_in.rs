//! Sign-in and sign-out of the console, and the choice of language.

use std::time::Duration;

use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{HeaderValue, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;
use tenant_registry::{AdminSession, AdminToken, AuditContext};

use super::forms::Form;
use super::language::{COOKIE as LANGUAGE_COOKIE, Language};
use super::layout::{head, redirect_to};
use super::shown;
use crate::failure::Failure;
use crate::guard;
use crate::identity::{Identity, Session, cookie_name};
use crate::input::bounded;
use crate::state::Admin;

#[derive(Deserialize)]
struct SignIn {
    #[serde(default)]
    token: String,
}

#[derive(Deserialize)]
pub(super) struct Nothing {}

#[derive(Deserialize)]
pub(super) struct Choice {
    #[serde(default)]
    language: String,
}

pub(super) async fn page(headers: HeaderMap) -> Response {
    form(Language::of_request(&headers), StatusCode::OK, None)
}

fn form(language: Language, status: StatusCode, refusal: Option<&'static str>) -> Response {
    let t = |english| language.of(english);
    let notice: Markup = html! {
        @if let Some(text) = refusal { p class="notice alarm" role="alert" id="refusal" { (t(text)) } }
    };
    let page = html! {
        (DOCTYPE)
        html lang=(language.code()) {
            (head(t("Sign in")))
            body class="alone" {
                main id="content" tabindex="-1" {
                    h1 { (t("Sign in")) }
                    (notice)
                    form method="post" action="/sign-in" class="card" {
                        label for="token" { (t("Admin token")) }
                        input type="password" id="token" name="token" autocomplete="current-password" required
                            spellcheck="false" autofocus aria-describedby=[refusal.map(|_| "refusal")];
                        p class="faint" { (t("A token begins with hpns_admin_. It is not kept in this browser.")) }
                        button { (t("Sign in")) }
                    }
                }
            }
        }
    };
    shown(status, page)
}

/// Takes an admin token, and gives a session for it.
pub(super) async fn sign_in(State(admin): State<Admin>, request: Request) -> Response {
    let language = Language::of_request(request.headers());
    let source = guard::source(&admin, &request);
    let is_tls = guard::behind_tls(&admin, &request);
    if !guard::is_private(&admin, &request) {
        return form(
            language,
            StatusCode::FORBIDDEN,
            Some("Sign in over https: a token must not travel in the clear."),
        );
    }
    if request.headers().get("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return form(
            language,
            StatusCode::FORBIDDEN,
            Some("This token is not one of ours, or its time is over."),
        );
    }
    let signed_in = match open(&admin, request).await {
        Ok(signed_in) => signed_in,
        Err(failure) => return super::with_security_headers(failure.into_response()),
    };
    let Some(session) = signed_in else {
        admin.failed.count(source.first().copied().unwrap_or_default());
        if admin.failures.check(&source) {
            return form(
                language,
                StatusCode::FORBIDDEN,
                Some("This token is not one of ours, or its time is over."),
            );
        }
        let text = "Too many failed sign-ins from this address; try again in a minute.";
        return form(language, StatusCode::TOO_MANY_REQUESTS, Some(text));
    };
    let seconds = session.expires_at.since(admin.now()).as_secs();
    let value = session.signed(&admin.session_keys).unwrap_or_default();
    cookie(redirect_to("/"), &session_cookie(is_tls, &value, seconds))
}

async fn open(admin: &Admin, request: Request) -> Result<Option<Session>, Failure> {
    let body = bounded(request.into_body()).await?;
    let text = String::from_utf8_lossy(&body);
    let given =
        axum::extract::Query::<SignIn>::try_from_uri(&format!("/?{text}").parse().unwrap_or_default());
    let given = given.map(|query| query.0.token).unwrap_or_default();
    let Ok(token) = AdminToken::parse(given.trim()) else { return Ok(None) };
    let now = admin.now();
    let Some(record) = admin.home.open_admin_token(&token, now).await? else { return Ok(None) };
    let actor = format!("token:{}", record.id);
    admin.may_note(&actor)?;
    let end = now.plus(Duration::from_hours(admin.config.session_hours.into())).min(record.terms.expires_at);
    let Some(session) = Session::begin(record.id.clone(), end) else { return Ok(None) };
    let row = AdminSession { id: session.id(), token: record.id, expires_at: end };
    admin.home.begin_session(&row, AuditContext::new(&actor, now)).await?;
    Ok(Some(session))
}

fn session_cookie(is_tls: bool, value: &str, seconds: u64) -> String {
    let (name, secure) = (cookie_name(is_tls), if is_tls { "; Secure" } else { "" });
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}

pub(super) async fn sign_out(State(admin): State<Admin>, request: Request) -> Response {
    let is_tls = guard::behind_tls(&admin, &request);
    let session = guard::presented_session(&admin, request.headers(), is_tls);
    let actor = request.extensions().get::<Identity>().map(|caller| caller.actor.clone()).unwrap_or_default();
    if let Err(refusal) = Form::<Nothing>::from_request(request, &admin).await {
        return refusal;
    }
    if let Some(session) = session
        && let Err(error) =
            admin.home.end_session(&session.id(), AuditContext::new(&actor, admin.now())).await
    {
        return super::with_security_headers(Failure::from(error).into_response());
    }
    cookie(redirect_to("/sign-in"), &session_cookie(is_tls, "", 0))
}

/// Remembers the language in the browser.
pub(super) async fn choose_language(Form(choice): Form<Choice>) -> Response {
    let code = Language::named(&choice.language).unwrap_or_default().code();
    cookie(redirect_to("/"), &format!("{LANGUAGE_COOKIE}={code}; Path=/; SameSite=Strict; Max-Age=31536000"))
}

fn cookie(mut response: Response, value: &str) -> Response {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().append(SET_COOKIE, value);
    }
    response
}
