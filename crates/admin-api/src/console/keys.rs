//! Console handlers of licence keys: issued and shown once, and revoked.

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::forms::Form;
use super::layout::{View, redirect_to};
use super::overview::test_form;
use super::sign_in::Nothing;
use crate::failure::{Failure, missing};
use crate::state::Admin;
use crate::wire::NewKey;

#[derive(Deserialize)]
pub(super) struct KeyForm {
    overlap_hours: u32,
}

/// Shows the new key this once.
pub(super) async fn issue_key(
    State(admin): State<Admin>,
    view: View,
    Path(licence): Path<String>,
    Form(form): Form<KeyForm>,
) -> Response {
    let made = async {
        let licence = admin.find_licence(&view.caller, &licence).await?;
        let key =
            admin.new_key(licence.id, form.overlap_hours, view.caller.audit_context(admin.now())).await?;
        Ok::<_, Failure>((licence, key))
    };
    match made.await {
        Ok((licence, key)) => {
            let content = new_key_page(&view, &key, &licence.terms.tenant.to_string());
            view.page(view.t("New key"), &content)
        }
        Err(failure) => view.refusal(&failure),
    }
}

fn new_key_page(view: &View, key: &NewKey, tenant: &str) -> Markup {
    html! {
        h1 { (view.t("New key")) }
        section class="notice good" {
            p { strong { (view.t("This is the only time that the key is shown.")) } }
            label for="push-url" { (view.t("Push URL")) }
            div class="row" {
                input id="push-url" readonly value=(key.push_url) spellcheck="false";
                button type="button" data-copy="push-url" hidden { (view.t("Copy")) }
            }
            p class="faint" { (view.t("System Console › Environment › Push Notification Server")) }
        }
        p { a href={ "/tenants/" (tenant) } { (view.t("Back to the tenant")) } }
        h2 { (view.t("Try it")) }
        (test_form(view, &key.push_url, None))
    }
}

pub(super) async fn revoke_key(
    State(admin): State<Admin>,
    view: View,
    Path(kid): Path<String>,
    _: Form<Nothing>,
) -> Response {
    let revoked = async {
        let licence = admin.control.licence_of_key(&kid).await?;
        admin.control.revoke_key(&kid, view.caller.audit_context(admin.now())).await?;
        let licence = licence.ok_or_else(|| missing("licence key"))?;
        Ok::<_, Failure>(admin.find_licence(&view.caller, &licence.to_string()).await?.terms.tenant)
    };
    match revoked.await {
        Ok(tenant) => redirect_to(&format!("/tenants/{tenant}")),
        Err(failure) => view.refusal(&failure),
    }
}
