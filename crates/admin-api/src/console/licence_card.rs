//! View component of a licence on a tenant's page, with the forms that change it.

use http::Method;
use maud::{Markup, html};

use super::layout::date;
use super::layout::{View, timeline};
use crate::wire::{KeyView, LicenceView};

/// A licence with its life, its limits and its keys.
pub(super) fn card(
    view: &View,
    licence: &LicenceView,
    keys: &[KeyView],
    servers: &[String],
    now: u64,
) -> Markup {
    let millis = |moment: Option<crate::wire::Moment>| moment.map(|it| it.0.millis());
    let path = format!("/licences/{}", licence.id);
    html! {
        section class="card" aria-label=(licence.id) {
            h3 {
                (licence.plan) " " span class={ "state " (licence.standing) } { (view.language.state(&licence.standing)) }
                " " (licence.regions.join(", "))
            }
            (timeline(view, licence.not_before.0.millis(), millis(licence.expires_at), millis(licence.grace_until), now))
            dl {
                dt { (view.t("Holds")) }
                dd {
                    (date(&licence.not_before.to_string())) " – "
                    @match licence.expires_at { Some(end) => { (date(&end.to_string())) } None => { (view.t("No end")) } }
                    @if let Some(until) = licence.grace_until { " (" (view.t("grace until")) " " (date(&until.to_string())) ")" }
                }
                dt { (view.t("Limits")) }
                dd { (licence.rate_per_second) "/s · " (licence.burst) " " (view.t("at once")) " · " (limit(view, licence.in_flight)) " " (view.t("in flight")) " · " (limit(view, licence.devices)) " " (view.t("devices")) }
                dt { (view.t("Privacy")) } dd { (view.language.state(&licence.privacy)) }
                dt { (view.t("Terms")) }
                dd { @match &licence.accepted_terms { Some(it) => { (it.version) " · " (it.by) " · " (date(&it.at.to_string())) } None => { (view.t("Not accepted yet")) } } }
                @if let Some(suspension) = &licence.suspension {
                    dt { (view.t("Suspended")) } dd { (suspension.reason) " · " (suspension.by) " · " (date(&suspension.at.to_string())) }
                }
                @if !servers.is_empty() { dt { (view.t("Bound to")) } dd { code { (servers.join(", ")) } } }
            }
            (key_table(view, keys))
            @if view.may(&Method::POST, "/licences/{licence}/keys") { (licence_actions(view, licence, &path)) }
        }
    }
}

fn limit(view: &View, limit: u32) -> String {
    if limit == 0 { view.t("any number").to_owned() } else { limit.to_string() }
}

fn key_table(view: &View, keys: &[KeyView]) -> Markup {
    html! {
        @if keys.is_empty() { p class="faint" { (view.t("No key yet.")) } }
        @else {
            div class="scroll" tabindex="0" role="region" aria-label=(view.t("Keys")) {
                table {
                    thead { tr {
                        th scope="col" { (view.t("Key")) }
                        th scope="col" { (view.t("State")) }
                        th scope="col" { (view.t("Made")) }
                        th scope="col" { (view.t("Ends")) }
                        th scope="col" { (view.t("Last used")) }
                        th scope="col" { span class="hidden" { (view.t("Actions")) } }
                    } }
                    tbody { @for key in keys { (key_row(view, key)) } }
                }
            }
        }
    }
}

fn key_row(view: &View, key: &KeyView) -> Markup {
    let state = if key.is_live {
        "live"
    } else if key.revoked_at.is_some() {
        "revoked"
    } else {
        "ended"
    };
    html! {
        tr {
            th scope="row" { code { (key.kid) } }
            td { span class={ "state " (state) } { (view.language.state(state)) } }
            td { (date(&key.created_at.to_string())) }
            td { @if let Some(end) = key.ends_at { time { (end) } } @else { "–" } }
            td { (key.last_used_on.as_deref().unwrap_or("–")) }
            td {
                @if key.is_live && view.may(&Method::POST, "/keys/{kid}/revoke") {
                    details {
                        summary { (view.t("Revoke")) }
                        form method="post" action={ "/keys/" (key.kid) "/revoke" } {
                            (view.form_key())
                            button class="danger" { (view.t("Revoke now")) }
                        }
                    }
                }
            }
        }
    }
}

fn licence_actions(view: &View, licence: &LicenceView, path: &str) -> Markup {
    let id = &licence.id;
    html! {
        div class="actions" {
            @if licence.accepted_terms.is_none() {
                form method="post" action={ (path) "/terms" } class="row" {
                    (view.form_key())
                    label for={ "version-" (id) } { (view.t("Terms version")) }
                    input id={ "version-" (id) } name="version" required maxlength="40" size="8";
                    label for={ "by-" (id) } { (view.t("Accepted by")) }
                    input id={ "by-" (id) } name="accepted_by" required maxlength="200";
                    button { (view.t("Note acceptance")) }
                }
            }
            form method="post" action={ (path) "/keys" } class="row" {
                (view.form_key())
                label for={ "overlap-" (id) } { (view.t("Old key lives on, hours")) }
                input id={ "overlap-" (id) } name="overlap_hours" type="number" min="0" max="720" value="168" required;
                button { (view.t("New key")) }
            }
            a class="button quiet" href=(path) { (view.t("Change")) }
            details {
                summary { (view.t("Servers")) }
                form method="post" action={ (path) "/servers" } class="row" {
                    (view.form_key())
                    label for={ "server-" (id) } { (view.t("Server id")) }
                    input id={ "server-" (id) } name="server" required maxlength="64" spellcheck="false";
                    button name="bound" value="true" { (view.t("Bind")) }
                    button name="bound" value="false" class="quiet" { (view.t("Let go")) }
                }
            }
            @if licence.suspension.is_some() {
                form method="post" action={ (path) "/suspension" } class="row" {
                    (view.form_key())
                    input type="hidden" name="reason" value="";
                    button { (view.t("Resume")) }
                }
            } @else {
                details {
                    summary { (view.t("Suspend")) }
                    form method="post" action={ (path) "/suspension" } class="row" {
                        (view.form_key())
                        label for={ "reason-" (id) } { (view.t("Reason")) }
                        input id={ "reason-" (id) } name="reason" required maxlength="500";
                        button class="danger" { (view.t("Suspend")) }
                    }
                }
            }
        }
    }
}
