//! Console handlers of the overview, apps, queues, test pushes and the audit log.

use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::forms::Form;
use super::layout::View;
use crate::failure::Failure;
use crate::operations::{decode_cursor, encode_cursor};
use crate::state::Admin;
use crate::wire::{
    AlertView, AppView, AuditVerification, AuditView, QueuesView, TestPushInput, TestPushView,
};

/// Shows a page, or why there is none.
fn result(view: &View, title: &'static str, content: Result<Markup, Failure>) -> Response {
    match content {
        Ok(content) => view.page(view.t(title), &content),
        Err(failure) => view.refusal(&failure),
    }
}

pub(super) async fn page(State(admin): State<Admin>, view: View) -> Response {
    // A tenant's first page is its own.
    if let Some(tenant) = view.caller.tenant {
        return super::layout::redirect_to(&format!("/tenants/{tenant}"));
    }
    let content = admin.overview().await.map(|overview| {
        let lanes = match overview.lanes {
            0 => "–".to_owned(),
            all => format!("{} / {all}", overview.lanes_up),
        };
        let figures = [
            (view.t("Tenants"), overview.tenants.to_string()),
            (view.t("Licences"), overview.licences.to_string()),
            (view.t("Live keys"), overview.live_keys.to_string()),
            (view.t("Gateways"), overview.gateways.to_string()),
            (view.t("Workers"), overview.workers.to_string()),
            (view.t("Lanes up"), lanes),
        ];
        html! {
            h1 { (view.t("Overview")) " · " (overview.region) }
            dl class="figures" {
                @for (name, figure) in figures { div { dt { (name) } dd { (figure) } } }
            }
            h2 { (view.t("What to look at")) }
            (alerts(&view, &overview.alerts))
        }
    });
    result(&view, "Overview", content)
}

fn alerts(view: &View, alerts: &[AlertView]) -> Markup {
    html! {
        @if alerts.is_empty() { p class="faint" { (view.t("Nothing. All is well.")) } }
        ul class="alerts" {
            @for alert in alerts {
                li class=(alert.severity) {
                    strong { (view.language.alert(&alert.kind)) } " · "
                    @match link(alert) {
                        Some(path) => { a href=(path) { (alert.name) } }
                        None => { (alert.name) }
                    }
                    br;
                    span class="faint" { (view.language.sentence(alert)) }
                }
            }
        }
    }
}

fn link(alert: &AlertView) -> Option<String> {
    match alert.object.split('_').next() {
        Some("ten") => Some(format!("/tenants/{}", alert.object)),
        Some("lic") => Some(format!("/licences/{}", alert.object)),
        Some("service") => Some("/service-level".to_owned()),
        _ => None,
    }
}

pub(super) async fn apps(State(admin): State<Admin>, view: View) -> Response {
    let apps = admin.app_views().await;
    let content = html! {
        h1 { (view.t("Apps")) }
        @if apps.is_empty() { p class="faint" { (view.t("No app is set up; the configuration names them.")) } }
        div class="cards" { @for app in &apps { (app_card(&view, app)) } }
    };
    view.page(view.t("Apps"), &content)
}

fn app_card(view: &View, app: &AppView) -> Markup {
    html! {
        section class="card" aria-label=(app.name) {
            h2 { (app.name) " " span class={ "state " (app.health) } { (view.language.state(&app.health)) } }
            dl {
                dt { (view.t("Provider")) } dd { (app.provider) }
                dt { (view.t("Platform")) } dd { code { (app.platform) } }
                @if !app.topic.is_empty() { dt { (view.t("Bundle id")) } dd { code { (app.topic) } } }
                dt { (view.t("For")) } dd { (app.audience) }
                dt { (view.t("Credentials")) } dd { (app.credentials) }
                dt { (view.t("Fingerprint")) } dd { code { (app.fingerprints.join(", ")) } }
                @if let Some(days) = app.days_left { dt { (view.t("Days left")) } dd { (days) } }
                dt { (view.t("Last accepted push")) }
                dd { @match app.last_accepted_at { Some(at) => { time { (at) } } None => { "–" } } }
                dt { (view.t("Workers")) } dd { (app.workers) }
            }
        }
    }
}

pub(super) async fn queues(State(admin): State<Admin>, view: View) -> Response {
    let content = admin.queues().await.map(|queues| {
        html! {
            h1 { (view.t("Queues")) }
            p class="faint" { (view.t("This page renews itself every two seconds.")) }
            div id="live" data-live="2000" { (live(&view, &queues)) }
        }
    });
    result(&view, "Queues", content)
}

fn live(view: &View, queues: &QueuesView) -> Markup {
    html! {
        h2 { (view.t("What waits for each app")) }
        div class="scroll" tabindex="0" role="region" aria-label=(view.t("What waits for each app")) {
            table {
                thead { tr {
                    th scope="col" { (view.t("App")) }
                    th scope="col" class="number" { (view.t("Waiting")) }
                    th scope="col" class="number" { (view.t("Oldest, ms")) }
                    th scope="col" class="number" { (view.t("Under way")) }
                    th scope="col" class="number" { (view.t("Window")) }
                } }
                tbody {
                    @for (app, line) in &queues.lines {
                        tr {
                            th scope="row" { (app) }
                            td class="number" { (line.waiting) }
                            td class="number" { (line.oldest_ms) }
                            td class="number" { (line.under_way) }
                            td class="number" { (line.window) }
                        }
                    }
                }
            }
        }
        h2 { (view.t("Lanes")) }
        @if queues.lanes.is_empty() { p class="faint" { (view.t("None: gateway and worker are one process.")) } }
        ul {
            @for lane in &queues.lanes {
                li {
                    (lane.lane) " "
                    @if lane.is_up { span class="state healthy" { (view.language.state("up")) } }
                    @else { span class="state broken" { (view.language.state("down")) } }
                    " " (lane.depth.values().sum::<u64>()) " " (view.t("jobs"))
                }
            }
        }
        h2 { (view.t("Processes")) }
        ul {
            @for process in &queues.processes {
                li {
                    code { (process.process.chars().take(8).collect::<String>()) } " " (process.version) " "
                    @if process.is_gateway { span class="state" { (view.t("gateway")) } " " }
                    @if process.is_worker { span class="state" { (view.t("worker")) } " " }
                    @for app in &process.barred { span class="state broken" { (app) } " " }
                }
            }
        }
        h2 { (view.t("Busiest tenants")) }
        (busy(view, queues))
    }
}

fn busy(view: &View, queues: &QueuesView) -> Markup {
    html! {
        @if queues.tenants.is_empty() { p class="faint" { (view.t("Nobody has pushed in the last minutes.")) } }
        @else {
            div class="scroll" tabindex="0" role="region" aria-label=(view.t("Busiest tenants")) {
                table {
                    thead { tr {
                        th scope="col" { (view.t("Tenant")) }
                        th scope="col" class="number" { (view.t("Under way")) }
                        th scope="col" { (view.t("Answers of the last minutes")) }
                    } }
                    tbody {
                        @for tenant in &queues.tenants {
                            tr {
                                th scope="row" {
                                    a href={ "/tenants/" (tenant.tenant) } { (tenant.name.as_deref().unwrap_or(&tenant.tenant)) }
                                }
                                td class="number" { (tenant.under_way) }
                                td { (answers(&tenant.answers)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `ok 12 · remove 1`.
pub(super) fn answers(answers: &std::collections::BTreeMap<String, u64>) -> String {
    let mut sorted: Vec<_> = answers.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    sorted.iter().map(|(label, count)| format!("{label} {count}")).collect::<Vec<_>>().join(" · ")
}

pub(super) async fn test_push(view: View) -> Response {
    view.page(view.t("Test push"), &html! { h1 { (view.t("Test push")) } (test_form(&view, "", None)) })
}

/// The form, with the key of a moment ago if there is one.
pub(super) fn test_form(view: &View, key: &str, platform: Option<&str>) -> Markup {
    html! {
        form method="post" action="/test-push" class="card" autocomplete="off" {
            (view.form_key())
            label for="push-key" { (view.t("Push URL or licence key")) }
            input id="push-key" name="key" value=(key) required spellcheck="false" autocomplete="off";
            label for="platform" { (view.t("Platform")) }
            input id="platform" name="platform" value=(platform.unwrap_or("apple_rn-v2")) required spellcheck="false";
            label for="device" { (view.t("Device token")) }
            input id="device" name="token" required spellcheck="false" autocomplete="off";
            label for="message" { (view.t("Message")) }
            input id="message" name="message" maxlength="200" value="A test push from hpns";
            button { (view.t("Send")) }
        }
    }
}

#[derive(Deserialize)]
pub(super) struct TestForm {
    key: String,
    platform: String,
    token: String,
    message: String,
}

pub(super) async fn send_test_push(
    State(admin): State<Admin>,
    view: View,
    Form(form): Form<TestForm>,
) -> Response {
    let (key, platform) = (form.key.clone(), form.platform.clone());
    let input =
        TestPushInput { key: form.key, platform: form.platform, token: form.token, message: form.message };
    let sent = admin.test_push(input, view.caller.audit_context(admin.now())).await;
    let content = sent.map(|sent| {
        html! {
            h1 { (view.t("Test push")) }
            (outcome(&view, &sent))
            (test_form(&view, &key, Some(&platform)))
        }
    });
    result(&view, "Test push", content)
}

fn outcome(view: &View, sent: &TestPushView) -> Markup {
    let kind = if sent.status == "OK" { "notice good" } else { "notice alarm" };
    html! {
        section class=(kind) role="status" aria-label=(view.t("What became of it")) {
            p { strong { (sent.status) } @if let Some(error) = &sent.error { " " (error) } }
            ol class="hops" {
                @for hop in &sent.hops { li { (view.language.hop(&hop.name)) " " strong { (format!("{:.3}", hop.ms)) " ms" } } }
            }
            p class="faint" { (view.t("Request id")) " " code { (sent.request_id) } }
        }
    }
}

#[derive(Deserialize)]
pub(super) struct AuditPage {
    #[serde(default)]
    cursor: String,
    /// Whether the whole chain is to be checked, which takes the longer the more there is.
    check: Option<String>,
}

pub(super) async fn audit(State(admin): State<Admin>, view: View, Query(page): Query<AuditPage>) -> Response {
    const LENGTH: u32 = 50;
    let read = async {
        let before = match &*page.cursor {
            "" => u64::MAX,
            text => decode_cursor(text)?.parse().unwrap_or(u64::MAX),
        };
        let events = admin.home.audit(None, before, LENGTH).await?;
        let older = (events.len() == LENGTH as usize)
            .then(|| events.last().map(|it| encode_cursor(&it.seq.to_string())));
        let report = match page.check {
            Some(_) => Some(AuditVerification::new(&admin.home.verify_audit(None).await?, false)),
            None => None,
        };
        Ok::<_, Failure>((
            events.into_iter().map(AuditView::from).collect::<Vec<_>>(),
            older.flatten(),
            report,
        ))
    };
    let content = read.await.map(|(events, older, report)| {
        html! {
            h1 { (view.t("Audit log")) }
            @match report {
                None => { p { a href="/audit?check=all" { (view.t("Check the whole log")) } } }
                Some(report) if report.fault.is_none() => {
                    p class="notice good" role="status" {
                        (view.t("No fault was found in what can be checked.")) " " (report.events) " " (view.t("events"))
                    }
                    p { (view.t("What no check of the log alone can find:")) }
                    ul { @for text in &report.cannot_know { li { (text) } } }
                }
                Some(_) => {
                    p class="notice alarm" role="alert" {
                        (view.t("The chain is broken: somebody has changed the log."))
                    }
                }
            }
            (events_table(&view, &events))
            @if let Some(cursor) = older { p { a href={ "/audit?cursor=" (cursor) } { (view.t("Older")) } } }
        }
    });
    result(&view, "Audit log", content)
}

pub(super) fn events_table(view: &View, events: &[AuditView]) -> Markup {
    html! {
        @if events.is_empty() { p class="faint" { (view.t("Nothing was done yet.")) } }
        @else {
            div class="scroll" tabindex="0" role="region" aria-label=(view.t("Audit log")) {
                table {
                    thead { tr {
                        th scope="col" class="number" { "#" }
                        th scope="col" { (view.t("When")) }
                        th scope="col" { (view.t("Who")) }
                        th scope="col" { (view.t("What")) }
                        th scope="col" { (view.t("To what")) }
                        th scope="col" { (view.t("Detail")) }
                    } }
                    tbody {
                        @for event in events {
                            tr {
                                td class="number" { (event.seq) }
                                td { time { (event.at) } }
                                td { code { (event.actor) } }
                                td { (event.action) }
                                td { code { (event.object) } }
                                td { code { (event.detail.to_string()) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
