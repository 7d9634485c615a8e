//! Console handlers of service levels: the region's page and each tenant's. Whether the promise is kept, and if not, whose
//! fault it is, stands at the top.

use std::collections::BTreeMap;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use maud::{Markup, html};
use push_domain::{Owner, Tally, Timestamp};
use tenant_registry::{ServiceLevelRow, hour_of};

use super::chart::{self, Column, Line};
use super::layout::{View, date};
use crate::failure::Failure;
use crate::service_level::Month;
use crate::state::Admin;
use crate::wire::{Moment, MonthQuery, ServiceLevelReport, ShareView, TallyView, TenantLevelView};

/// Hours of the charts by hour.
const HOURS: u64 = 48;

/// What a page shows.
struct LevelPage {
    report: ServiceLevelReport,
    month: Month,
    rows: Vec<ServiceLevelRow>,
    busiest: Vec<TenantLevelView>,
    now: Timestamp,
    /// Where the page itself is.
    path: String,
    hours: Option<String>,
}

pub(super) async fn region(
    State(admin): State<Admin>,
    view: View,
    Query(query): Query<MonthQuery>,
) -> Response {
    let page = async {
        let now = admin.now();
        let month = Month::parse(query.month.as_deref(), now)?;
        let (report, rows) = admin.region_report(month).await?;
        let busiest = admin.busiest_tenants().await?;
        let path = "/service-level".to_owned();
        Ok::<_, Failure>(LevelPage { report, month, rows, busiest, now, path, hours: None })
    };
    match page.await {
        Ok(page) => {
            let title = html! { (view.t("Service level")) " · " (page.report.region) };
            view.page(view.t("Service level"), &shown(&view, &page, &title))
        }
        Err(failure) => view.refusal(&failure),
    }
}

pub(super) async fn of_tenant(
    State(admin): State<Admin>,
    view: View,
    Path(tenant): Path<String>,
    Query(query): Query<MonthQuery>,
) -> Response {
    let page = async {
        let now = admin.now();
        let tenant = admin.find_tenant(&view.caller, &tenant).await?;
        let month = Month::parse(query.month.as_deref(), now)?;
        let (report, rows) = admin.tenant_report(&tenant, month).await?;
        let path = format!("/tenants/{}/service-level", tenant.id);
        let hours = Some(format!("/v1{path}/hours?month={month}"));
        Ok::<_, Failure>(LevelPage { report, month, rows, busiest: Vec::new(), now, path, hours })
    };
    match page.await {
        Ok(page) => {
            let tenant = page.path.trim_end_matches("/service-level").to_owned();
            let title = html! { (view.t("Service level")) " · " a href=(tenant) { (page.report.name) } };
            view.page(&page.report.name.clone(), &shown(&view, &page, &title))
        }
        Err(failure) => view.refusal(&failure),
    }
}

fn shown(view: &View, page: &LevelPage, title: &Markup) -> Markup {
    let LevelPage { report, month, .. } = page;
    html! {
        h1 { (title) }
        p class="bar" {
            a href={ (page.path) "?month=" (month.previous()) } { "← " (month.previous()) }
            strong { (month) }
            @if *month != Month::of(page.now) { a href={ (page.path) "?month=" (month.next()) } { (month.next()) " →" } }
        }
        div data-live="10000" {
            (verdict(view, report))
            (figures(view, report))
            (by_hour(view, page))
            (by_day(view, page))
            (classes(view, report))
            @if !page.busiest.is_empty() { (busiest(view, &page.busiest)) }
            @if !report.gaps.is_empty() { (gaps(view, report)) }
        }
        @if let Some(hours) = &page.hours { p class="faint" { (view.t("All numbers by hour:")) " " code { "GET " (hours) } } }
    }
}

/// Is the promise kept, and if not, whose fault is it.
fn verdict(view: &View, report: &ServiceLevelReport) -> Markup {
    let (class, text) = match report.is_kept {
        Some(true) => ("good", "The promise is kept."),
        Some(false) => ("alarm", "The promise is broken."),
        None => ("", "Nothing is promised: this plan has no service level."),
    };
    let bad = &report.bad;
    let owners =
        [("ours", bad.ours), ("provider", bad.provider), ("tenant", bad.tenant), ("device", bad.device)];
    html! {
        div class={ "notice " (class) } role="status" {
            p { strong { (view.t(text)) } }
            p class="owners" {
                (view.t("Not delivered, by who answers for it:")) " "
                @for (owner, count) in owners {
                    span class={ "key " (owner) } { (name(view, owner)) " " b { (count) } }
                }
            }
        }
    }
}

fn figures(view: &View, report: &ServiceLevelReport) -> Markup {
    html! {
        dl class="figures" {
            (share(view, "Availability", &report.availability))
            (share(view, "Calls in time", &report.calls_in_time))
            (share(view, "Messages in time", &report.messages_in_time))
            @if let Some(budget) = &report.budget {
                div {
                    dt { (view.t("Error budget left")) }
                    dd {
                        (minutes(budget.left_seconds)) " / " (minutes(budget.seconds)) " min"
                        svg class="budget" viewBox="0 0 1000 12" preserveAspectRatio="none" role="img" aria-label=(view.t("Error budget left")) {
                            rect class="all" x="0" y="0" width="1000" height="12" {}
                            rect class="left" x="0" y="0" height="12" width=((1000 * budget.left_seconds).checked_div(budget.seconds).unwrap_or(1000)) {}
                        }
                    }
                }
            }
            div { dt { (view.t("Accepted")) } dd { (report.total.accepted) } }
            div { dt { (view.t("Receipts of phones")) } dd { (report.total.receipts) } }
        }
    }
}

fn share(view: &View, name: &'static str, share: &ShareView) -> Markup {
    html! {
        div {
            dt { (view.t(name)) }
            dd class=[share.is_kept.map(|kept| if kept { "kept" } else { "missed" })] {
                @match share.ppm { Some(ppm) => { (percent(ppm)) } None => { "–" } }
                @if let Some(objective) = share.objective_ppm {
                    p class="faint" { (view.t("promised")) " " (percent(objective.into())) }
                }
            }
        }
    }
}

/// What a part of a chart is called.
fn name(view: &View, class: &str) -> &'static str {
    match class {
        "ok" => view.t("Delivered"),
        "device" => view.t("Dead devices"),
        "tenant" => view.t("Callers' mistakes"),
        "provider" => view.t("Apple or Google"),
        "ours" => view.t("Our faults"),
        "p50" => view.t("Half of them within"),
        _ => view.t("99 of 100 within"),
    }
}

fn class_name(view: &View, class: &str) -> &'static str {
    match class {
        "call" => view.t("Calls"),
        "message" => view.t("Messages"),
        _ => view.t("Badges and clearing"),
    }
}

/// Millionths as a percentage with three digits, cut off: what is not reached is not shown as reached.
fn percent(ppm: u64) -> String {
    format!("{}.{:03} %", ppm / 10_000, ppm % 10_000 / 10)
}

fn minutes(seconds: u64) -> String {
    format!("{}.{}", seconds / 60, seconds % 60 / 6)
}

fn milliseconds(micros: u64) -> String {
    if micros >= 10_000 {
        format!("{} ms", micros / 1000)
    } else {
        format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
    }
}

fn parts(tally: &Tally) -> Vec<(&'static str, u64)> {
    vec![
        ("ok", tally.ok),
        ("device", tally.bad(Owner::Device)),
        ("tenant", tally.bad(Owner::Tenant)),
        ("provider", tally.bad(Owner::Provider)),
        ("ours", tally.bad(Owner::Ours)),
    ]
}

/// Sums of spans of hours, by their first.
fn sums(rows: &[ServiceLevelRow], hours: u64) -> BTreeMap<u64, Tally> {
    let mut sums = BTreeMap::<u64, Tally>::new();
    for row in rows.iter().filter(|row| row.span <= hours) {
        sums.entry(row.key.hour - row.key.hour % hours).or_default().add(&row.tally);
    }
    sums
}

/// The last two days by hour; of a month that is over, its last.
fn by_hour(view: &View, page: &LevelPage) -> Markup {
    let (from, until) = page.month.hours();
    let end = until.min(hour_of(page.now) + 1);
    let sums = sums(&page.rows, 1);
    let hours: Vec<u64> = (end.saturating_sub(HOURS).max(from)..end).collect();
    let label = |hour: &u64| format!("{:02}:00", hour % 24);
    let columns: Vec<_> = hours
        .iter()
        .map(|hour| Column { label: label(hour), parts: parts(sums.get(hour).unwrap_or(&Tally::default())) })
        .collect();
    let quantile = |per_mille| hours.iter().map(|hour| sums.get(hour)?.latency.quantile(per_mille)).collect();
    let lines = [Line { class: "p99", values: quantile(990) }, Line { class: "p50", values: quantile(500) }];
    let names: Vec<_> = hours.iter().map(label).collect();
    html! {
        h2 { (view.t("Pushes by hour (UTC)")) }
        (legend(view, &["ok", "device", "tenant", "provider", "ours"]))
        (chart::columns(view.t("Pushes by hour (UTC)"), &columns))
        (table(view, &columns))
        h2 { (view.t("From acceptance to the provider's answer")) }
        (legend(view, &["p50", "p99"]))
        (chart::lines(view.t("From acceptance to the provider's answer"), &names, &lines, None, &milliseconds))
    }
}

fn by_day(view: &View, page: &LevelPage) -> Markup {
    let (from, until) = page.month.hours();
    let sums = sums(&page.rows, 24);
    let days: Vec<u64> = (from..until.min(hour_of(page.now) + 1)).step_by(24).collect();
    let label = |hour: &u64| {
        let moment = Moment(Timestamp::from_millis(hour * 3_600_000)).to_string();
        date(&moment).chars().skip(5).collect::<String>()
    };
    let columns: Vec<_> = days
        .iter()
        .map(|day| Column { label: label(day), parts: parts(sums.get(day).unwrap_or(&Tally::default())) })
        .collect();
    let names: Vec<_> = days.iter().map(label).collect();
    let mut bad = 0;
    let left = page.report.budget.as_ref().map(|budget| {
        let allowed = page.report.availability.objective_ppm.map_or(0, |it| 1_000_000 - u64::from(it));
        let whole = u128::from(page.report.availability.of) * u128::from(allowed);
        let left = days.iter().map(|day| {
            bad += sums.get(day).map_or(0, |sum| sum.bad(Owner::Ours));
            let spent = (u128::from(bad) * 1_000_000 * 100).checked_div(whole).unwrap_or_default();
            Some(100_u64.saturating_sub(u64::try_from(spent).unwrap_or(u64::MAX)))
        });
        (Line { class: "budget", values: left.collect() }, budget.seconds)
    });
    html! {
        h2 { (view.t("Pushes by day (UTC)")) }
        (chart::columns(view.t("Pushes by day (UTC)"), &columns))
        (table(view, &columns))
        @if let Some((line, _)) = left {
            h2 { (view.t("Error budget left")) }
            (chart::lines(view.t("Error budget left"), &names, &[line], Some(100), &|value| format!("{value} %")))
        }
    }
}

fn legend(view: &View, classes: &[&str]) -> Markup {
    html! { p class="legend" { @for class in classes { span class={ "key " (class) } { (name(view, class)) } } } }
}

fn table(view: &View, columns: &[Column]) -> Markup {
    let names = ["ok", "device", "tenant", "provider", "ours"];
    html! {
        details {
            summary { (view.t("As a table")) }
            div class="scroll" tabindex="0" role="region" aria-label=(view.t("As a table")) {
                table {
                    thead { tr {
                        th scope="col" { (view.t("When")) }
                        @for part in names { th scope="col" class="number" { (name(view, part)) } }
                    } }
                    tbody {
                        @for column in columns {
                            tr {
                                th scope="row" { (column.label) }
                                @for (_, value) in &column.parts { td class="number" { (value) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn latency(tally: &TallyView) -> [String; 3] {
    let of = |pick: fn(&crate::wire::LatencyView) -> u64| {
        tally.latency_us.as_ref().map_or_else(|| "–".to_owned(), |it| milliseconds(pick(it)))
    };
    [of(|it| it.p50), of(|it| it.p99), of(|it| it.p999)]
}

fn classes(view: &View, report: &ServiceLevelReport) -> Markup {
    let rows: Vec<_> = report
        .classes
        .iter()
        .map(|class| (class_name(view, &class.class), &class.tally))
        .chain([(view.t("All"), &report.total)])
        .collect();
    html! {
        h2 { (view.t("By class")) }
        div class="scroll" tabindex="0" role="region" aria-label=(view.t("By class")) {
            table {
                thead { tr {
                    th scope="col" { (view.t("Class")) }
                    @for name in ["Accepted", "Delivered", "Dead devices", "In time"] { th scope="col" class="number" { (view.t(name)) } }
                    @for name in ["p50", "p99", "p99.9"] { th scope="col" class="number" { (name) } }
                } }
                tbody {
                    @for (name, tally) in rows {
                        tr {
                            th scope="row" { (name) }
                            @for value in [tally.accepted, tally.ok, tally.removed, tally.in_time] { td class="number" { (value) } }
                            @for value in latency(tally) { td class="number" { (value) } }
                        }
                    }
                }
            }
        }
    }
}

fn busiest(view: &View, tenants: &[TenantLevelView]) -> Markup {
    html! {
        h2 { (view.t("Tenants of the last hours")) }
        div class="scroll" tabindex="0" role="region" aria-label=(view.t("Tenants of the last hours")) {
            table {
                thead { tr {
                    th scope="col" { (view.t("Tenant")) }
                    th scope="col" class="number" { (view.t("Accepted")) }
                    @for owner in ["ours", "provider", "tenant"] { th scope="col" class="number" { (name(view, owner)) } }
                    th scope="col" class="number" { "p99" }
                } }
                tbody {
                    @for tenant in tenants {
                        @let (failed, refused) = (&tenant.tally.failed, &tenant.tally.refused);
                        tr {
                            th scope="row" { a href={ "/tenants/" (tenant.tenant) "/service-level" } { (tenant.name) } }
                            td class="number" { (tenant.tally.accepted) }
                            td class="number" { (failed.ours + refused.ours) }
                            td class="number" { (failed.provider + refused.provider) }
                            td class="number" { (failed.tenant + refused.tenant) }
                            td class="number" { (latency(&tenant.tally)[1]) }
                        }
                    }
                }
            }
        }
    }
}

fn gaps(view: &View, report: &ServiceLevelReport) -> Markup {
    html! {
        h2 { (view.t("Not known")) }
        p class="faint" { (view.t("A process was lost in these seconds, and what it had counted in them.")) }
        ul { @for gap in &report.gaps { li { code { (gap.process) } " " time { (gap.from) } " – " time { (gap.until) } } } }
    }
}
