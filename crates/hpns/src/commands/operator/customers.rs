//! The commands about customers: tenants, licences, their keys and servers.

use std::io::Write;

use anyhow::ensure;
use serde_json::{Map, Value, json};

use super::client::{Client, encoded};
use super::customer_arguments::{KeyCommand, LicenceCommand, ServerCommand, TenantCommand, Terms};
use super::output::{confirm, items};

const LICENCE_COLUMNS: [(&str, &str); 8] = [
    ("licence", "id"),
    ("standing", "standing"),
    ("plan", "plan"),
    ("regions", "regions"),
    ("rate/s", "rate_per_second"),
    ("privacy", "privacy"),
    ("ends", "expires_at"),
    ("terms", "accepted_terms.version"),
];

pub(super) async fn tenant(command: &TenantCommand, client: &Client) -> anyhow::Result<()> {
    match command {
        TenantCommand::List { search, limit } => {
            let rows = client.list(&format!("/tenants?search={}&", encoded(search)), *limit).await?;
            let mut shown = rows.clone();
            for row in &mut shown {
                let licences = items(row["licences"].take());
                row["plans"] = licences.iter().map(|it| it["plan"].clone()).collect();
                row["standings"] = licences.iter().map(|it| it["standing"].clone()).collect();
            }
            let columns = [
                ("tenant", "id"),
                ("name", "name"),
                ("plans", "plans"),
                ("standing", "standings"),
                ("contact", "contact"),
            ];
            client.rows(if client.json { rows } else { shown }, &columns)
        }
        TenantCommand::Show { tenant } => {
            let path = format!("/tenants/{}", encoded(tenant));
            let mut value = client.get(&path).await?;
            value["usage"] = client.get(&format!("{path}/usage")).await?;
            let licences = client.get(&format!("{path}/licences")).await?;
            if client.json {
                value["licences"] = licences;
                return client.thing(&value);
            }
            client.thing(&value)?;
            writeln!(std::io::stdout())?;
            client.rows(items(licences), &LICENCE_COLUMNS)
        }
        TenantCommand::Create { name, contact, failover_consent } => {
            let body = json!({ "name": name, "contact": contact, "failover_consent": failover_consent });
            client.thing(&client.post("/tenants", &body).await?)
        }
        TenantCommand::Update { tenant, name, contact, failover_consent } => {
            let path = format!("/tenants/{}", encoded(tenant));
            let known = client.get_tagged(&path).await?;
            let pick =
                |field: &str, given: Option<Value>| given.unwrap_or_else(|| known.value[field].clone());
            let body = json!({
                "name": pick("name", name.clone().map(Value::from)),
                "contact": pick("contact", contact.clone().map(Value::from)),
                "failover_consent": pick("failover_consent", failover_consent.map(Value::from)),
            });
            client.thing(&client.put(&path, Some(&known.tag), Some(&body)).await?)
        }
    }
}

impl Terms {
    /// Puts what was named on the command line into a licence's fields.
    fn put_into(&self, fields: &mut Map<String, Value>) {
        let moment = |text: &String| {
            let full = if text.contains('T') { text.clone() } else { format!("{text}T00:00:00Z") };
            Value::from(full)
        };
        let regions = (!self.regions.is_empty()).then(|| Value::from(self.regions.clone()));
        let given = [
            ("plan", self.plan.clone().map(Value::from)),
            ("regions", regions),
            ("rate_per_second", self.rate.map(Value::from)),
            ("burst", self.burst.map(Value::from)),
            ("in_flight", self.in_flight.map(Value::from)),
            ("devices", self.devices.map(Value::from)),
            ("privacy", self.privacy.clone().map(Value::from)),
            ("not_before", self.not_before.as_ref().map(moment)),
            ("expires_at", self.expires.as_ref().map(moment)),
            ("grace_days", self.grace_days.map(Value::from)),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        }
    }
}

const TERMS: [&str; 10] = [
    "plan",
    "regions",
    "rate_per_second",
    "burst",
    "in_flight",
    "devices",
    "privacy",
    "not_before",
    "expires_at",
    "grace_days",
];

pub(super) async fn licence(command: &LicenceCommand, client: &Client) -> anyhow::Result<()> {
    let path = |licence: &str| format!("/licences/{}", encoded(licence));
    match command {
        LicenceCommand::List { tenant } => {
            let licences = client.get(&format!("/tenants/{}/licences", encoded(tenant))).await?;
            client.rows(items(licences), &LICENCE_COLUMNS)
        }
        LicenceCommand::Show { licence } => client.thing(&client.get(&path(licence)).await?),
        LicenceCommand::Create { tenant, terms, version, accepted_by } => {
            // Before anything is made: a licence whose terms are refused would stay.
            for (option, text, most) in [("--terms", version, 40), ("--accepted-by", accepted_by, 200)] {
                let length = text.as_ref().map_or(1, |text| text.trim().chars().count());
                ensure!((1..=most).contains(&length), "{option} has to be 1 to {most} characters long");
            }
            let mut fields = Map::new();
            fields.insert("plan".into(), "professional".into());
            fields.insert("regions".into(), json!([]));
            terms.put_into(&mut fields);
            if terms.regions.is_empty() {
                let region = client.get("/me").await?["region"].take();
                fields.insert("regions".into(), json!([region]));
            }
            let body = Value::Object(fields);
            let mut made = client.post(&format!("/tenants/{}/licences", encoded(tenant)), &body).await?;
            if let Some(version) = version {
                let id = made["id"].as_str().unwrap_or_default().to_owned();
                let terms = json!({ "version": version, "accepted_by": accepted_by });
                made = client.put(&format!("{}/terms", path(&id)), None, Some(&terms)).await?;
            }
            client.thing(&made)
        }
        LicenceCommand::Update { licence, terms, no_end } => {
            let known = client.get_tagged(&path(licence)).await?;
            let kept = TERMS.iter().map(|name| ((*name).to_owned(), known.value[*name].clone()));
            let mut fields: Map<_, _> = kept.collect();
            terms.put_into(&mut fields);
            if *no_end {
                fields.insert("expires_at".into(), Value::Null);
            }
            client.thing(&client.put(&path(licence), Some(&known.tag), Some(&Value::Object(fields))).await?)
        }
        LicenceCommand::AcceptTerms { licence, version, accepted_by } => {
            let body = json!({ "version": version, "accepted_by": accepted_by });
            client.thing(&client.put(&format!("{}/terms", path(licence)), None, Some(&body)).await?)
        }
        LicenceCommand::Suspend { licence, reason } => {
            let body = json!({ "reason": reason });
            client.thing(&client.put(&format!("{}/suspension", path(licence)), None, Some(&body)).await?)
        }
        LicenceCommand::Resume { licence } => {
            client.thing(&client.delete(&format!("{}/suspension", path(licence))).await?)
        }
    }
}

pub(super) async fn key(command: &KeyCommand, client: &Client) -> anyhow::Result<()> {
    match command {
        KeyCommand::List { licence } => {
            let keys = client.get(&format!("/licences/{}/keys", encoded(licence))).await?;
            let columns = [
                ("key", "kid"),
                ("live", "is_live"),
                ("made", "created_at"),
                ("ends", "ends_at"),
                ("revoked", "revoked_at"),
                ("last used", "last_used_on"),
                ("pepper", "pepper"),
            ];
            client.rows(items(keys), &columns)
        }
        KeyCommand::Issue { licence, overlap_hours } => {
            let body = json!({ "overlap_hours": overlap_hours });
            let made = client.post(&format!("/licences/{}/keys", encoded(licence)), &body).await?;
            client.thing(&made)
        }
        KeyCommand::Revoke { kid, yes } => {
            confirm(&format!("Whoever pushes with the key {kid} is refused from now on."), *yes)?;
            client.delete(&format!("/keys/{}", encoded(kid))).await?;
            client.done("the key is revoked")
        }
    }
}

pub(super) async fn server(command: &ServerCommand, client: &Client) -> anyhow::Result<()> {
    let path =
        |licence: &str, server: &str| format!("/licences/{}/servers/{}", encoded(licence), encoded(server));
    match command {
        ServerCommand::List { licence } => {
            let servers = client.get(&format!("/licences/{}/servers", encoded(licence))).await?;
            let rows = items(servers).into_iter().map(|server| json!({ "server": server })).collect();
            client.rows(rows, &[("server", "server")])
        }
        ServerCommand::Bind { licence, server } => {
            client.put(&path(licence, server), None, None).await?;
            client.done("the licence is bound to the server")
        }
        ServerCommand::Unbind { licence, server } => {
            client.delete(&path(licence, server)).await?;
            client.done("the licence is bound to the server no longer")
        }
    }
}
