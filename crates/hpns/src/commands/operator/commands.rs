//! Operators' commands: what each asks of the API and prints. Those about customers are in `customers`.

use std::io::Write;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::arguments::{
    AdminTokenCommand, AppCommand, AppQuestion, AuditCommand, DeviceCommand, OperatorCommand, SlaCommand,
};
use super::client::{Client, Refused, encoded};
use super::customers::{key, licence, server, tenant};
use super::output::{confirm, items, lines};
use super::report_files;
use crate::commands::{app_files, rules};

/// Runs a command. Who only writes files here needs no API.
pub(super) async fn run(command: &OperatorCommand) -> anyhow::Result<()> {
    let client = || Client::new(command.connection());
    match command {
        OperatorCommand::Status(_) => status(&client()?).await,
        OperatorCommand::Tenant(it) => tenant(&it.command, &client()?).await,
        OperatorCommand::Licence(it) => licence(&it.command, &client()?).await,
        OperatorCommand::Key(it) => key(&it.command, &client()?).await,
        OperatorCommand::Server(it) => server(&it.command, &client()?).await,
        OperatorCommand::Device(it) => device(&it.command, &client()?).await,
        OperatorCommand::App(it) => match &it.command {
            AppCommand::Add(options) => app_files::add(options).await,
            AppCommand::Remove(options) => app_files::remove(options),
            AppCommand::Api(question) => app(question, &client()?).await,
        },
        OperatorCommand::Sla(it) => match &it.command {
            SlaCommand::Verify { directory, signers } => report_files::verify(directory, signers),
            SlaCommand::Rules(options) => rules::run(options),
            command => sla(command, &client()?).await,
        },
        OperatorCommand::Queue(_) => queue(&client()?).await,
        OperatorCommand::Audit(it) => audit(&it.command, &client()?).await,
        OperatorCommand::AdminToken(it) => admin_token(&it.command, &client()?).await,
    }
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

async fn sla(command: &SlaCommand, client: &Client) -> anyhow::Result<()> {
    let query = |month: &Option<String>| {
        month.as_ref().map(|month| format!("?month={}", encoded(month))).unwrap_or_default()
    };
    match command {
        SlaCommand::Report { tenant, month } => {
            let of =
                tenant.as_ref().map(|tenant| format!("/tenants/{}", encoded(tenant))).unwrap_or_default();
            client.thing(&client.get(&format!("{of}/service-level{}", query(month))).await?)
        }
        SlaCommand::Hours { tenant, month } => {
            let path = format!("/tenants/{}/service-level/hours{}", encoded(tenant), query(month));
            let hours = client.get(&path).await?;
            Ok(std::io::stdout().write_all(hours.as_str().unwrap_or_default().as_bytes())?)
        }
        SlaCommand::Export { tenant, directory, month } => {
            let path = format!("/tenants/{}/service-level/signed{}", encoded(tenant), query(month));
            report_files::export(client, &path, directory).await
        }
        SlaCommand::Verify { .. } | SlaCommand::Rules(_) => Ok(()),
        SlaCommand::Tenants => {
            let mut tenants = items(client.get("/service-level/tenants").await?);
            for tenant in &mut tenants {
                let tally = tenant["tally"].take();
                for (name, value) in [
                    ("accepted", &tally["accepted"]),
                    ("ours", &tally["failed"]["ours"]),
                    ("provider", &tally["failed"]["provider"]),
                    ("p99", &tally["latency_us"]["p99"]),
                ] {
                    tenant[name] = value.clone();
                }
            }
            let columns = [
                ("tenant", "tenant"),
                ("name", "name"),
                ("accepted", "accepted"),
                ("ours", "ours"),
                ("provider", "provider"),
                ("p99 µs", "p99"),
            ];
            client.rows(tenants, &columns)
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

async fn app(command: &AppQuestion, client: &Client) -> anyhow::Result<()> {
    match command {
        AppQuestion::List => {
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
        AppQuestion::TestPush { platform, message } => {
            let keys = lines()?;
            let [key, device] = &*keys else {
                bail!(
                    "a licence key, or a push URL, and a device token are expected on standard input, a line each"
                )
            };
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
        AuditCommand::Verify { head } => {
            let noted = match head {
                None => String::new(),
                Some(head) => {
                    let (seq, hash) = head.split_once(':').context("--head has to be SEQ:HASH")?;
                    format!("?seq={seq}&head={hash}")
                }
            };
            let report = client.get(&format!("/audit/verification{noted}")).await?;
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
