//! Console handlers of tenants: list, page, create, change, erase devices.

use std::fmt::Write as _;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::Method;
use maud::{Markup, html};
use serde::Deserialize;
use tenant_registry::{Licence, Tenant};

use super::forms::Form;
use super::layout::{View, date, redirect_to};
use super::overview::{answers, events_table};
use crate::failure::Failure;
use crate::operations::decode_cursor;
use crate::state::Admin;
use crate::wire::{AuditView, KeyView, LicenceView, Page, TenantInput, TenantRow, UsageView};

const PAGE: u32 = 50;
/// How much of the audit log stands on a tenant's page.
const RECENT: u32 = 10;

#[derive(Deserialize)]
pub(super) struct ListPage {
    #[serde(default)]
    search: String,
    #[serde(default)]
    cursor: String,
}

pub(super) async fn list(State(admin): State<Admin>, view: View, Query(page): Query<ListPage>) -> Response {
    let search: String = page.search.trim().chars().filter(|it| !it.is_control()).take(100).collect();
    let after = if page.cursor.is_empty() { Ok(String::new()) } else { decode_cursor(&page.cursor) };
    let rows = match after {
        Ok(after) => admin.list_tenants(&search, &after, PAGE).await,
        Err(failure) => Err(failure),
    };
    match rows {
        Ok(rows) => view.page(view.t("Tenants"), &listed(&view, &search, &rows)),
        Err(failure) => view.refusal(&failure),
    }
}

fn listed(view: &View, search: &str, rows: &Page<TenantRow>) -> Markup {
    html! {
        h1 { (view.t("Tenants")) }
        div class="bar" {
            form method="get" action="/tenants" role="search" {
                label for="search" class="hidden" { (view.t("Search by name")) }
                input type="search" id="search" name="search" value=(search) maxlength="100" placeholder=(view.t("Search by name"));
                button { (view.t("Search")) }
            }
            @if view.may(&Method::GET, "/tenants/new") { a class="button" href="/tenants/new" { (view.t("New tenant")) } }
        }
        @if rows.items.is_empty() { p class="faint" { (view.t("No tenant of this name.")) } }
        @else {
            div class="scroll" tabindex="0" role="region" aria-label=(view.t("Tenants")) {
                table {
                    thead { tr {
                        th scope="col" { (view.t("Name")) }
                        th scope="col" { (view.t("Licences")) }
                        th scope="col" { (view.t("Ends")) }
                        th scope="col" { (view.t("Contact")) }
                    } }
                    tbody { @for row in &rows.items { (tenant_row(view, row)) } }
                }
            }
        }
        @if let Some(cursor) = &rows.next_cursor {
            p { a rel="next" href={ "/tenants?search=" (encoded(search)) "&cursor=" (cursor) } { (view.t("Next page")) } }
        }
    }
}

fn tenant_row(view: &View, row: &TenantRow) -> Markup {
    html! {
        tr {
            th scope="row" { a href={ "/tenants/" (row.tenant.id) } { (row.tenant.name) } }
            td {
                @for licence in &row.licences {
                    (licence.plan) " "
                    span class={ "state " (licence.standing) } { (view.language.state(&licence.standing)) } " "
                }
            }
            td { @for licence in &row.licences { @if let Some(end) = licence.expires_at { (date(&end.to_string())) " " } } }
            td { (row.tenant.contact) }
        }
    }
}

/// A text as it stands in a query.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

pub(super) async fn new(view: View) -> Response {
    let content = html! {
        h1 { (view.t("New tenant")) }
        form method="post" action="/tenants/new" class="card" {
            (view.form_key())
            (tenant_fields(&view, None))
            button { (view.t("Create, and go on to its licence")) }
        }
    };
    view.page(view.t("New tenant"), &content)
}

fn tenant_fields(view: &View, tenant: Option<&Tenant>) -> Markup {
    html! {
        label for="name" { (view.t("Name")) }
        input id="name" name="name" required maxlength="100" value=[tenant.map(|it| &it.name)];
        label for="contact" { (view.t("Contact")) }
        input id="contact" name="contact" maxlength="200" value=[tenant.map(|it| &it.contact)];
        label class="check" {
            input type="checkbox" name="failover_consent" value="true" checked[tenant.is_some_and(|it| it.failover_consent)];
            " " (view.t("May push through another region when its own is down"))
        }
    }
}

#[derive(Deserialize)]
pub(super) struct TenantForm {
    name: String,
    contact: String,
    #[serde(default)]
    failover_consent: bool,
    revision: Option<u64>,
}

impl TenantForm {
    fn input(self) -> TenantInput {
        TenantInput { name: self.name, contact: self.contact, failover_consent: self.failover_consent }
    }
}

pub(super) async fn create(State(admin): State<Admin>, view: View, Form(form): Form<TenantForm>) -> Response {
    let made = async {
        let draft = form.input().checked()?;
        Ok::<_, Failure>(admin.control.create_tenant(&draft, view.caller.audit_context(admin.now())).await?)
    };
    match made.await {
        Ok(tenant) => redirect_to(&format!("/tenants/{}/licences/new", tenant.id)),
        Err(failure) => view.refusal(&failure),
    }
}

pub(super) async fn update(
    State(admin): State<Admin>,
    view: View,
    Path(tenant): Path<String>,
    Form(form): Form<TenantForm>,
) -> Response {
    let changed = async {
        let known = admin.find_tenant(&view.caller, &tenant).await?;
        let revision = form.revision;
        let draft = form.input().checked()?;
        Ok::<_, Failure>(
            admin
                .control
                .update_tenant(known.id, &draft, revision, view.caller.audit_context(admin.now()))
                .await?,
        )
    };
    match changed.await {
        Ok(tenant) => redirect_to(&format!("/tenants/{}", tenant.id)),
        Err(failure) => view.refusal(&failure),
    }
}

#[derive(Deserialize)]
pub(super) struct EraseForm {
    #[serde(default)]
    name: String,
}

/// Forgets all devices; the name has to be written out, so that it is no slip.
pub(super) async fn erase(
    State(admin): State<Admin>,
    view: View,
    Path(tenant): Path<String>,
    Form(form): Form<EraseForm>,
) -> Response {
    let erased = async {
        let known = admin.find_tenant(&view.caller, &tenant).await?;
        if form.name.trim() != known.name {
            return Err(crate::failure::invalid("name", "has to be the tenant's name, written out"));
        }
        admin.erase_all_devices(&known, view.caller.audit_context(admin.now())).await?;
        Ok(known)
    };
    match erased.await {
        Ok(tenant) => redirect_to(&format!("/tenants/{}", tenant.id)),
        Err(failure) => view.refusal(&failure),
    }
}

/// Data of a tenant's page.
struct TenantPage {
    tenant: Tenant,
    licences: Vec<(LicenceView, Vec<KeyView>, Vec<String>)>,
    usage: UsageView,
    audit: Option<Vec<AuditView>>,
}

impl Admin {
    async fn known(&self, view: &View, tenant: &str) -> Result<TenantPage, Failure> {
        let tenant = self.find_tenant(&view.caller, tenant).await?;
        let now = self.now();
        let mut licences = Vec::new();
        for licence in self.control.licences_of(tenant.id).await? {
            let Licence { id, .. } = licence;
            let keys = self.control.keys_of(id).await?;
            let keys = keys.into_iter().map(|key| KeyView::new(key, now)).collect();
            licences.push((LicenceView::new(licence, now), keys, self.control.servers_of(id).await?));
        }
        let usage = self.usage(tenant.id).await?;
        let audit = if view.may(&Method::GET, "/v1/tenants/{tenant}/audit") {
            let events = self.home.audit(Some(tenant.id), u64::MAX, RECENT).await?;
            Some(events.into_iter().map(AuditView::from).collect())
        } else {
            None
        };
        Ok(TenantPage { tenant, licences, usage, audit })
    }
}

pub(super) async fn show(State(admin): State<Admin>, view: View, Path(tenant): Path<String>) -> Response {
    match admin.known(&view, &tenant).await {
        Ok(known) => {
            let content = known_page(&view, &known, admin.now().millis());
            view.page(&known.tenant.name, &content)
        }
        Err(failure) => view.refusal(&failure),
    }
}

fn known_page(view: &View, known: &TenantPage, now: u64) -> Markup {
    let TenantPage { tenant, licences, usage, audit } = known;
    let path = format!("/tenants/{}", tenant.id);
    html! {
        h1 { (tenant.name) }
        p class="faint" { code { (tenant.id) } }
        h2 { (view.t("Licences")) }
        @if licences.is_empty() { p class="faint" { (view.t("No licence yet: nothing can be pushed.")) } }
        @for (licence, keys, servers) in licences { (super::licence_card::card(view, licence, keys, servers, now)) }
        @if view.may(&Method::GET, "/tenants/{tenant}/licences/new") {
            p { a class="button" href={ (path) "/licences/new" } { (view.t("New licence")) } }
        }
        h2 { (view.t("Use")) }
        p { a class="button quiet" href={ (path) "/service-level" } { (view.t("Service level")) } }
        (usage_figures(view, usage))
        @if view.may(&Method::POST, "/tenants/{tenant}") {
            h2 { (view.t("About the tenant")) }
            form method="post" action=(path) class="card" {
                (view.form_key())
                input type="hidden" name="revision" value=(tenant.revision);
                (tenant_fields(view, Some(tenant)))
                button { (view.t("Save")) }
            }
        }
        @if view.may(&Method::POST, "/tenants/{tenant}/erase") {
            details class="card danger" {
                summary { (view.t("Forget all devices")) }
                form method="post" action={ (path) "/erase" } {
                    (view.form_key())
                    p { (view.t("What is known of its devices is deleted, and what their hashes were made with. This cannot be undone.")) }
                    label for="erase-name" { (view.t("Write the tenant's name to confirm")) }
                    input id="erase-name" name="name" required autocomplete="off";
                    button class="danger" { (view.t("Forget all devices")) }
                }
            }
        }
        @if let Some(events) = audit {
            h2 { (view.t("Audit log")) }
            (events_table(view, events))
        }
    }
}

fn usage_figures(view: &View, usage: &UsageView) -> Markup {
    let failures: std::collections::BTreeMap<_, _> = usage
        .answers
        .iter()
        .filter(|(label, _)| !matches!(label.as_str(), "ok" | "remove"))
        .map(|(label, count)| (label.clone(), *count))
        .collect();
    let count = |label: &str| usage.answers.get(label).copied().unwrap_or_default().to_string();
    let figures = [
        (view.t("Under way"), usage.under_way.to_string()),
        (view.t("Accepted, last minutes"), count("ok")),
        (view.t("Dead devices, last minutes"), count("remove")),
        (view.t("Active devices"), usage.active_devices.to_string()),
        (view.t("Removed devices"), usage.removed_devices.to_string()),
    ];
    html! {
        dl class="figures" { @for (name, figure) in figures { div { dt { (name) } dd { (figure) } } } }
        h3 { (view.t("Recent failures by reason")) }
        @if failures.is_empty() { p class="faint" { (view.t("None.")) } } @else { p { (answers(&failures)) } }
    }
}
