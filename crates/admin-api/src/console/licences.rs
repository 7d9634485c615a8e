//! Console handlers of licences: create, change, suspend, bind to servers.

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::forms::{Form, day, words};
use super::layout::date;
use super::layout::{View, redirect_to};
use crate::failure::{Failure, invalid};
use crate::rules;
use crate::state::Admin;
use crate::wire::{LicenceInput, LicenceView};

const PLANS: [&str; 4] = ["test", "professional", "enterprise", "cloud"];
const POLICIES: [&str; 4] = ["full", "generic", "id_only_strip", "id_only_reject"];

/// The fields of a licence, as a form has them.
#[derive(Debug, Deserialize)]
pub(super) struct LicenceForm {
    plan: String,
    regions: String,
    rate_per_second: u32,
    burst: u32,
    in_flight: u32,
    devices: u32,
    privacy: String,
    #[serde(default)]
    not_before: String,
    #[serde(default)]
    expires_at: String,
    grace_days: u32,
    #[serde(default)]
    terms_version: String,
    #[serde(default)]
    accepted_by: String,
    revision: Option<u64>,
}

impl LicenceForm {
    fn input(&self) -> Result<LicenceInput, Failure> {
        Ok(LicenceInput {
            plan: self.plan.clone(),
            regions: words(&self.regions),
            rate_per_second: self.rate_per_second,
            burst: self.burst,
            in_flight: self.in_flight,
            devices: self.devices,
            privacy: Some(self.privacy.clone()),
            not_before: day("not_before", &self.not_before)?,
            expires_at: day("expires_at", &self.expires_at)?,
            grace_days: self.grace_days,
        })
    }
}

fn fields(view: &View, terms: &LicenceInput) -> Markup {
    let text = |moment: Option<crate::wire::Moment>| {
        moment.map(|it| date(&it.to_string()).to_owned()).unwrap_or_default()
    };
    let numbers = [
        ("rate_per_second", view.t("Pushes a second"), 1, terms.rate_per_second),
        ("burst", view.t("Pushes at once"), 1, terms.burst),
        ("in_flight", view.t("Pushes in flight (0: any number)"), 0, terms.in_flight),
        ("devices", view.t("Devices (0: any number)"), 0, terms.devices),
    ];
    html! {
        (choice(view.t("Plan"), "plan", &PLANS, &terms.plan, std::borrow::ToOwned::to_owned))
        label for="regions" { (view.t("Regions")) }
        input id="regions" name="regions" required value=(terms.regions.join(", "));
        @for (name, label, least, value) in numbers {
            label for=(name) { (label) }
            input id=(name) name=(name) type="number" required min=(least) value=(value);
        }
        (choice(view.t("Privacy"), "privacy", &POLICIES, terms.privacy.as_deref().unwrap_or("full"), |it| view.language.state(it).to_owned()))
        label for="not_before" { (view.t("Holds from (empty: now)")) }
        input id="not_before" name="not_before" type="date" value=(text(terms.not_before));
        label for="expires_at" { (view.t("Ends (empty: no end)")) }
        input id="expires_at" name="expires_at" type="date" value=(text(terms.expires_at));
        label for="grace_days" { (view.t("Days of grace")) }
        input id="grace_days" name="grace_days" type="number" required min="0" max="90" value=(terms.grace_days);
    }
}

fn choice(label: &str, name: &str, all: &[&str], chosen: &str, shown: impl Fn(&str) -> String) -> Markup {
    html! {
        label for=(name) { (label) }
        select id=(name) name=(name) {
            @for option in all { option value=(option) selected[*option == chosen] { (shown(option)) } }
        }
    }
}

pub(super) async fn new(State(admin): State<Admin>, view: View, Path(tenant): Path<String>) -> Response {
    let tenant = match admin.find_tenant(&view.caller, &tenant).await {
        Ok(tenant) => tenant,
        Err(failure) => return view.refusal(&failure),
    };
    let usual = LicenceInput {
        plan: "professional".into(),
        regions: vec![admin.region.clone()],
        rate_per_second: 100,
        burst: 200,
        in_flight: 0,
        devices: 0,
        privacy: None,
        not_before: None,
        expires_at: None,
        grace_days: 14,
    };
    let content = html! {
        h1 { (view.t("New licence")) " · " (tenant.name) }
        form method="post" class="card" action={ "/tenants/" (tenant.id) "/licences/new" } {
            (view.form_key())
            (fields(&view, &usual))
            label for="terms_version" { (view.t("Accepted terms, version (empty: not yet)")) }
            input id="terms_version" name="terms_version" maxlength="40";
            label for="accepted_by" { (view.t("Accepted by")) }
            input id="accepted_by" name="accepted_by" maxlength="200";
            button { (view.t("Create")) }
        }
    };
    view.page(view.t("New licence"), &content)
}

pub(super) async fn create(
    State(admin): State<Admin>,
    view: View,
    Path(tenant): Path<String>,
    Form(form): Form<LicenceForm>,
) -> Response {
    let made = async {
        let tenant = admin.find_tenant(&view.caller, &tenant).await?;
        let now = admin.now();
        let draft = form.input()?.checked(tenant.id, now)?;
        admin.check_plan(&draft, None).await?;
        let accepted = if form.terms_version.trim().is_empty() {
            None
        } else {
            let by = rules::text("accepted_by", &form.accepted_by, 1, 200)?;
            Some((rules::text("terms_version", &form.terms_version, 1, 40)?, by))
        };
        let licence = admin.control.create_licence(draft, view.caller.audit_context(now)).await?;
        if let Some((version, by)) = accepted {
            admin.control.accept_terms(licence.id, &version, &by, view.caller.audit_context(now)).await?;
        }
        Ok::<_, Failure>(tenant.id)
    };
    match made.await {
        Ok(tenant) => redirect_to(&format!("/tenants/{tenant}")),
        Err(failure) => view.refusal(&failure),
    }
}

pub(super) async fn edit(State(admin): State<Admin>, view: View, Path(licence): Path<String>) -> Response {
    let licence = match admin.find_licence(&view.caller, &licence).await {
        Ok(licence) => LicenceView::new(licence, admin.now()),
        Err(failure) => return view.refusal(&failure),
    };
    let content = html! {
        h1 { (view.t("Change licence")) }
        p { a href={ "/tenants/" (licence.tenant) } { (view.t("Back to the tenant")) } }
        form method="post" class="card" action={ "/licences/" (licence.id) } {
            (view.form_key())
            input type="hidden" name="revision" value=(licence.revision);
            (fields(&view, &licence.clone().unchanged()))
            button { (view.t("Save")) }
        }
    };
    view.page(view.t("Change licence"), &content)
}

/// Does something with a licence, and goes back to its tenant.
async fn with_licence(
    admin: &Admin,
    view: &View,
    licence: &str,
    what: impl AsyncFnOnce(tenant_registry::Licence) -> Result<(), Failure>,
) -> Response {
    let done = async {
        let licence = admin.find_licence(&view.caller, licence).await?;
        let tenant = licence.terms.tenant;
        what(licence).await?;
        Ok::<_, Failure>(tenant)
    };
    match done.await {
        Ok(tenant) => redirect_to(&format!("/tenants/{tenant}")),
        Err(failure) => view.refusal(&failure),
    }
}

pub(super) async fn update(
    State(admin): State<Admin>,
    view: View,
    Path(licence): Path<String>,
    Form(form): Form<LicenceForm>,
) -> Response {
    with_licence(&admin, &view, &licence, async |licence| {
        let input = form.input()?;
        let now = admin.now();
        let mut draft = input.checked(licence.terms.tenant, now)?;
        // A date field knows no hours: the same day leaves the moment as it was.
        let same_day = |a: push_domain::Timestamp, b: push_domain::Timestamp| a.day() == b.day();
        if input.not_before.is_none() || same_day(draft.not_before, licence.terms.not_before) {
            draft.not_before = licence.terms.not_before;
        }
        if let (Some(new), Some(old)) = (draft.expires_at, licence.terms.expires_at)
            && same_day(new, old)
        {
            draft.expires_at = Some(old);
        }
        admin.check_plan(&draft, Some(&licence)).await?;
        let audit = view.caller.audit_context(now);
        admin.control.update_licence(licence.id, draft, form.revision, audit).await?;
        Ok(())
    })
    .await
}

#[derive(Deserialize)]
pub(super) struct TermsForm {
    version: String,
    accepted_by: String,
}

pub(super) async fn accept_terms(
    State(admin): State<Admin>,
    view: View,
    Path(licence): Path<String>,
    Form(form): Form<TermsForm>,
) -> Response {
    with_licence(&admin, &view, &licence, async |licence| {
        let version = rules::text("version", &form.version, 1, 40)?;
        let by = rules::text("accepted_by", &form.accepted_by, 1, 200)?;
        admin.control.accept_terms(licence.id, &version, &by, view.caller.audit_context(admin.now())).await?;
        Ok(())
    })
    .await
}

#[derive(Deserialize)]
pub(super) struct SuspensionForm {
    #[serde(default)]
    reason: String,
}

/// With a reason it suspends, without one it resumes.
pub(super) async fn suspend(
    State(admin): State<Admin>,
    view: View,
    Path(licence): Path<String>,
    Form(form): Form<SuspensionForm>,
) -> Response {
    with_licence(&admin, &view, &licence, async |licence| {
        let reason = rules::text("reason", &form.reason, 0, 500)?;
        if licence.suspension.is_none() && reason.is_empty() {
            return Err(invalid("reason", "has to be 1 to 500 characters long"));
        }
        let reason = (!reason.is_empty()).then_some(&*reason);
        admin.control.suspend_licence(licence.id, reason, view.caller.audit_context(admin.now())).await?;
        Ok(())
    })
    .await
}

#[derive(Deserialize)]
pub(super) struct ServerForm {
    server: String,
    bound: bool,
}

pub(super) async fn bind_server(
    State(admin): State<Admin>,
    view: View,
    Path(licence): Path<String>,
    Form(form): Form<ServerForm>,
) -> Response {
    with_licence(&admin, &view, &licence, async |licence| {
        let server = rules::server(form.server.trim())?;
        admin
            .control
            .bind_server(licence.id, server, form.bound, view.caller.audit_context(admin.now()))
            .await?;
        Ok(())
    })
    .await
}
