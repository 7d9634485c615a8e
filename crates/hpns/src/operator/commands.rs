//! What each command asks of the API, and what it prints.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value, json};

use super::arguments::{
    AdminTokenCommand, AppCommand, AuditCommand, DeviceCommand, KeyCommand, LicenceCommand, OperatorCommand,
    ServerCommand, TenantCommand, Terms,
};
use super::client::{Client, Refused, encoded};
use super::table;

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

/// Runs a command.
pub(super) async fn run(command: &OperatorCommand, client: &Client) -> anyhow::Result<()> {
    match command {
        OperatorCommand::Status(_) => status(client).await,
        OperatorCommand::Tenant(it) => tenant(&it.command, client).await,
        OperatorCommand::Licence(it) => licence(&it.command, client).await,
        OperatorCommand::Key(it) => key(&it.command, client).await,
        OperatorCommand::Server(it) => server(&it.command, client).await,
        OperatorCommand::Device(it) => device(&it.command, client).await,
        OperatorCommand::App(it) => app(&it.command, client).await,
        OperatorCommand::Queue(_) => queue(client).await,
        OperatorCommand::Audit(it) => audit(&it.command, client).await,
        OperatorCommand::AdminToken(it) => admin_token(&it.command, client).await,
    }
}

impl Client {
    /// Prints a list.
    fn rows(&self, rows: Vec<Value>, columns: &[(&str, &str)]) -> anyhow::Result<()> {
        if self.json {
            return self.thing(&Value::Array(rows));
        }
        Ok(table::print(&rows, columns)?)
    }

    /// Prints one thing.
    fn thing(&self, value: &Value) -> anyhow::Result<()> {
        if self.json || !value.is_object() {
            let mut out = std::io::stdout().lock();
            return Ok(writeln!(out, "{}", serde_json::to_string_pretty(value)?)?);
        }
        Ok(table::print_fields(value)?)
    }

    /// Says that something is done.
    fn done(&self, text: &str) -> anyhow::Result<()> {
        if self.json {
            return self.thing(&json!({ "done": text }));
        }
        Ok(writeln!(std::io::stdout(), "{text}")?)
    }
}

fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

/// Asks before something that cannot be undone; without a terminal, `--yes` has to say so.
fn confirm(question: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    ensure!(
        std::io::stdin().is_terminal(),
        Refused::declined(&format!("{question} Say --yes to do it without being asked."))
    );
    let mut out = std::io::stderr();
    write!(out, "{question} Write yes: ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() != "yes" {
        bail!(Refused::declined("nothing was done"));
    }
    Ok(())
}

/// Reads lines of standard input, which hold secrets and so stand on no command line.
fn lines() -> anyhow::Result<Vec<String>> {
    let lines = std::io::stdin().lock().lines().collect::<Result<Vec<_>, _>>().context("standard input")?;
    Ok(lines.into_iter().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
}

async fn status(client: &Client) -> anyhow::Result<()> {
    let mut overview = client.get("/overview").await?;
    if client.json {
        return client.thing(&overview);
    }
    let alerts = items(overview["alerts"].take());
    if let Some(fields) = overview.as_object_mut() {
        fields.remove("alerts");
    }
    client.thing(&overview)?;
    writeln!(std::io::stdout())?;
    client.rows(alerts, &[("alert", "kind"), ("severity", "severity"), ("about", "name"), ("what", "text")])
}

async fn tenant(command: &TenantCommand, client: &Client) -> anyhow::Result<()> {
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

async fn licence(command: &LicenceCommand, client: &Client) -> anyhow::Result<()> {
    let path = |licence: &str| format!("/licences/{}", encoded(licence));
    match command {
        LicenceCommand::List { tenant } => {
            let licences = client.get(&format!("/tenants/{}/licences", encoded(tenant))).await?;
            client.rows(items(licences), &LICENCE_COLUMNS)
        }
        LicenceCommand::Show { licence } => client.thing(&client.get(&path(licence)).await?),
        LicenceCommand::Create { tenant, terms, version, accepted_by } => {
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

async fn key(command: &KeyCommand, client: &Client) -> anyhow::Result<()> {
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

async fn server(command: &ServerCommand, client: &Client) -> anyhow::Result<()> {
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

async fn device(command: &DeviceCommand, client: &Client) -> anyhow::Result<()> {
    let path = |tenant: &str| format!("/tenants/{}/devices", encoded(tenant));
    match command {
        DeviceCommand::Count { tenant } => {
            let columns =
                [("app", "app"), ("platform", "platform"), ("state", "state"), ("devices", "count")];
            client.rows(items(client.get(&path(tenant)).await?), &columns)
        }
        DeviceCommand::Find { tenant, app } => {
            let tokens = lines()?;
            let [token] = &*tokens else { bail!("one device token is expected on standard input") };
            let body = json!({ "app": app, "token": token });
            client.thing(&client.post(&format!("{}/lookup", path(tenant)), &body).await?)
        }
        DeviceCommand::Erase { tenant, app: _, all: true, yes } => {
            confirm("Everything that is known of the tenant's devices is deleted.", *yes)?;
            client.thing(&client.delete(&path(tenant)).await?)
        }
        DeviceCommand::Erase { tenant, app, all: false, yes } => {
            let devices: Vec<_> =
                lines()?.into_iter().map(|token| json!({ "app": app, "token": token })).collect();
            ensure!(*yes, "standard input holds the tokens, so nothing can be asked: say --yes");
            let body = json!({ "devices": devices });
            client.thing(&client.post(&format!("{}/erase", path(tenant)), &body).await?)
        }
    }
}

async fn app(command: &AppCommand, client: &Client) -> anyhow::Result<()> {
    match command {
        AppCommand::List => {
            let columns = [
                ("app", "name"),
                ("health", "health"),
                ("provider", "provider"),
                ("platform", "platform"),
                ("audience", "audience"),
                ("credentials", "credentials"),
                ("fingerprint", "fingerprints"),
                ("days left", "days_left"),
                ("last accepted", "last_accepted_at"),
                ("workers", "workers"),
            ];
            client.rows(items(client.get("/apps").await?), &columns)
        }
        AppCommand::TestPush { platform, device, message } => {
            let keys = lines()?;
            let [key] = &*keys else { bail!("one licence key, or push URL, is expected on standard input") };
            let body = json!({ "key": key, "platform": platform, "token": device, "message": message });
            let sent = client.post("/test-pushes", &body).await?;
            let accepted = sent["status"] == "OK";
            client.thing(&sent)?;
            ensure!(accepted, Refused::declined("the push was not accepted"));
            Ok(())
        }
    }
}

async fn queue(client: &Client) -> anyhow::Result<()> {
    let queues = client.get("/queues").await?;
    if client.json {
        return client.thing(&queues);
    }
    let named = |name: &str, values: &Value| -> Vec<Value> {
        let fields = values.as_object().cloned().unwrap_or_default();
        let row = |(key, mut value): (String, Value)| {
            value[name] = key.into();
            value
        };
        fields.into_iter().map(row).collect()
    };
    let lines = named("app", &queues["lines"]);
    let columns = [
        ("app", "app"),
        ("waiting", "waiting"),
        ("oldest ms", "oldest_ms"),
        ("under way", "under_way"),
        ("window", "window"),
    ];
    client.rows(lines, &columns)?;
    writeln!(std::io::stdout())?;
    client.rows(items(queues["lanes"].clone()), &[("lane", "lane"), ("up", "is_up"), ("depth", "depth")])?;
    writeln!(std::io::stdout())?;
    let columns = [
        ("process", "process"),
        ("version", "version"),
        ("gateway", "is_gateway"),
        ("worker", "is_worker"),
        ("barred apps", "barred"),
    ];
    client.rows(items(queues["processes"].clone()), &columns)?;
    writeln!(std::io::stdout())?;
    let columns =
        [("tenant", "tenant"), ("name", "name"), ("under way", "under_way"), ("answers", "answers")];
    client.rows(items(queues["tenants"].clone()), &columns)
}

async fn audit(command: &AuditCommand, client: &Client) -> anyhow::Result<()> {
    match command {
        AuditCommand::List { tenant, limit } => {
            let path = match tenant {
                Some(tenant) => format!("/tenants/{}/audit?", encoded(tenant)),
                None => "/audit?".to_owned(),
            };
            let columns = [
                ("#", "seq"),
                ("when", "at"),
                ("who", "actor"),
                ("what", "action"),
                ("to what", "object"),
                ("detail", "detail"),
            ];
            client.rows(client.list(&path, *limit).await?, &columns)
        }
        AuditCommand::Verify => {
            let report = client.get("/audit/verification").await?;
            let intact = report["intact"] == true;
            client.thing(&report)?;
            ensure!(intact, Refused::broken("the audit log was tampered with"));
            Ok(())
        }
    }
}

async fn admin_token(command: &AdminTokenCommand, client: &Client) -> anyhow::Result<()> {
    match command {
        AdminTokenCommand::List => {
            let columns = [
                ("token", "id"),
                ("live", "is_live"),
                ("role", "role"),
                ("name", "name"),
                ("tenant", "tenant"),
                ("expires", "expires_at"),
                ("last used", "last_used_on"),
                ("by", "created_by"),
            ];
            client.rows(items(client.get("/admin-tokens").await?), &columns)
        }
        AdminTokenCommand::Issue { name, role, tenant, days } => {
            let body = json!({ "name": name, "role": role, "tenant": tenant, "days": days });
            client.thing(&client.post("/admin-tokens", &body).await?)
        }
        AdminTokenCommand::Revoke { id, yes } => {
            confirm(&format!("Whoever uses the token {id} is refused from now on."), *yes)?;
            client.delete(&format!("/admin-tokens/{}", encoded(id))).await?;
            client.done("the token is revoked")
        }
    }
}
