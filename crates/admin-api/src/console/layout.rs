//! Page layout of the console, and the per-request view context.

use axum::response::{IntoResponse, Redirect, Response};
use http::{Method, StatusCode};
use maud::{DOCTYPE, Markup, html};

use super::language::Language;
use super::shown;
use crate::failure::Failure;
use crate::identity::Identity;

/// View context of a page: the caller and the language.
pub(super) struct View {
    pub(super) caller: Identity,
    pub(super) language: Language,
}

pub(super) fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " · hpns" }
            link rel="icon" href="/assets/mark.svg";
            link rel="stylesheet" href="/assets/console.css";
            script src="/assets/console.js" defer {}
        }
    }
}

impl View {
    /// A word of the page's language.
    pub(super) fn t(&self, english: &'static str) -> &'static str {
        self.language.of(english)
    }

    pub(super) fn may(&self, method: &Method, route: &str) -> bool {
        self.caller.may(method, route)
    }

    /// The hidden field that proves that a form is one of ours.
    pub(super) fn form_key(&self) -> Markup {
        html! { input type="hidden" name="form_key" value=(self.caller.form_key.as_deref().unwrap_or_default()); }
    }

    pub(super) fn page(&self, title: &str, content: &Markup) -> Response {
        self.page_with(StatusCode::OK, title, content)
    }

    pub(super) fn page_with(&self, status: StatusCode, title: &str, content: &Markup) -> Response {
        let links = [
            ("/", self.t("Overview")),
            ("/service-level", self.t("Service level")),
            ("/tenants", self.t("Tenants")),
            ("/apps", self.t("Apps")),
            ("/queues", self.t("Queues")),
            ("/test-push", self.t("Test push")),
            ("/audit", self.t("Audit log")),
        ];
        let page = html! {
            (DOCTYPE)
            html lang=(self.language.code()) {
                (head(title))
                body {
                    a class="skip" href="#content" { (self.t("Skip to content")) }
                    header {
                        p class="brand" { img src="/assets/mark.svg" alt="" width="22" height="22"; " hpns" }
                        nav aria-label=(self.t("Pages")) {
                            ul {
                                @for (path, name) in links {
                                    @if self.may(&Method::GET, path) {
                                        li { a href=(path) aria-current=[(name == title).then_some("page")] { (name) } }
                                    }
                                }
                            }
                        }
                        (self.account())
                    }
                    main id="content" tabindex="-1" { (content) }
                }
            }
        };
        shown(status, page)
    }

    fn account(&self) -> Markup {
        html! {
            div class="account" {
                span title=(self.caller.actor) { (self.caller.role.as_str()) }
                form method="post" action="/language" {
                    (self.form_key())
                    button class="quiet" name="language" value=(self.language.other().code()) lang=(self.language.other().code()) {
                        (self.language.other().name())
                    }
                }
                form method="post" action="/sign-out" {
                    (self.form_key())
                    button class="quiet" { (self.t("Sign out")) }
                }
            }
        }
    }

    /// A page that says why something came to nothing.
    pub(super) fn refusal(&self, failure: &Failure) -> Response {
        let problem = &failure.0;
        let title = match problem.status() {
            StatusCode::NOT_FOUND => self.t("Not found"),
            StatusCode::PRECONDITION_FAILED => self.t("Changed in the meantime"),
            status if status.is_server_error() => self.t("The service has a fault"),
            _ => self.t("That was refused"),
        };
        let content = html! {
            h1 { (title) }
            div class="notice alarm" role="alert" {
                p { (problem.detail()) }
                p class="faint" { code { (problem.code()) } }
            }
            p { a href="/" { (self.t("Overview")) } }
        };
        self.page_with(problem.status(), title, &content)
    }
}

/// Sends the browser to a page, so that reloading it does nothing again.
pub(super) fn redirect_to(path: &str) -> Response {
    super::with_security_headers(Redirect::to(path).into_response())
}

/// A life line: from the beginning to the end of something, and where we are.
pub(super) fn timeline(
    view: &View,
    from: u64,
    end: Option<u64>,
    grace_until: Option<u64>,
    now: u64,
) -> Markup {
    let Some(end) = end else { return html! { p class="faint" { (view.t("No end")) } } };
    let last = grace_until.unwrap_or(end).max(end).max(from + 1);
    let share = |at: u64| at.clamp(from, last).saturating_sub(from) * 1000 / (last - from);
    html! {
        svg class="life" viewBox="0 0 1000 24" preserveAspectRatio="none" role="img" aria-label=(view.t("Life line")) {
            rect class="held" x="0" y="8" width=(share(end)) height="8" {}
            rect class="grace" x=(share(end)) y="8" width=(1000 - share(end)) height="8" {}
            rect class="now" x=(share(now).min(994)) y="0" width="6" height="24" {}
        }
    }
}

/// The day of a moment.
pub(super) fn date(moment: &str) -> &str {
    moment.split('T').next().unwrap_or_default()
}
