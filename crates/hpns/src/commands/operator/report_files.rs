//! Service-level reports as files: what is kept of a month, and whether it is what was signed.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use serde_json::Value;

use super::client::{Client, Refused};

const REPORT: &str = "report.json";
const SIGNATURE: &str = "report.json.sig";
const HOURS: &str = "hours.csv";

/// Writes a month of a tenant into a directory, which is made; files that are there stay as they are.
pub(super) async fn export(client: &Client, path: &str, directory: &Path) -> anyhow::Result<()> {
    let signed = client.get(path).await?;
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    for (name, field) in [(REPORT, "report"), (SIGNATURE, "signature"), (HOURS, "hours")] {
        let file = directory.join(name);
        let text = signed[field].as_str().context("the answer is no signed report")?;
        let made = std::fs::File::create_new(&file).and_then(|mut made| made.write_all(text.as_bytes()));
        made.with_context(|| format!("cannot write {}", file.display()))?;
    }
    client.done(&format!("{}: {REPORT}, {SIGNATURE}, {HOURS}", directory.display()))
}

/// Says whether the report is what somebody of the signers signed, and the hours what it was computed from.
pub(crate) fn verify(directory: &Path, signers: &Path) -> anyhow::Result<()> {
    let read = |file: &Path| std::fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    let report = read(&directory.join(REPORT))?;
    let signature = String::from_utf8(read(&directory.join(SIGNATURE))?).context(SIGNATURE)?;
    let signers = String::from_utf8(read(signers)?).context("--signers")?;
    ensure!(
        admin_api::sshsig::verify(&report, &signature, &signers),
        Refused::declined(&format!("{REPORT} is not what one of the signers signed"))
    );
    let value: Value = serde_json::from_slice(&report).context(REPORT)?;
    let hash = HEXLOWER.encode(digest(&SHA256, &read(&directory.join(HOURS))?).as_ref());
    ensure!(
        value["hours_sha256"] == *hash,
        Refused::declined(&format!("{HOURS} are not those that the report was computed from"))
    );
    Ok(writeln!(std::io::stdout(), "the report and its hours are as they were signed")?)
}
