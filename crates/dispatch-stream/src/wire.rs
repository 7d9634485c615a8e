//! Wire format of stream entries: Protocol Buffers, so that fields can be added and unknown ones
//! are skipped. Two neighbouring versions share the stream during a deploy; a tag is never used twice.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use push_domain::{
    Answer, ApnsRequest, AppCatalogue, AppId, CollapseId, Content, DeviceId, DeviceToken, FailReason,
    FcmRequest, JobId, Kind, Notification, Priority, Provider, ProviderRequest, PushType, Reason, TenantId,
    Timestamp, Timing, Verdict,
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::Job;
use crate::seal::{Binding, LaneTimestamp};

/// A record that this version cannot read. It says which part, never what stood there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record has no readable {0}")]
pub(crate) struct Unreadable(&'static str);

/// One push, as a gateway seals it.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct PushRecord {
    #[prost(bytes = "bytes", tag = "1")]
    tenant: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    device: Bytes,
    #[prost(uint32, tag = "3")]
    kind: u32,
    #[prost(uint32, tag = "4")]
    budget_ms: u32,
    #[prost(string, tag = "5")]
    token: String,
    #[prost(bytes = "bytes", tag = "6")]
    body: Bytes,
    #[prost(message, optional, tag = "7")]
    apns: Option<ApnsRecord>,
    #[prost(message, optional, tag = "8")]
    fcm: Option<FcmRecord>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct ApnsRecord {
    #[prost(uint32, tag = "1")]
    push_type: u32,
    #[prost(uint32, tag = "2")]
    priority: u32,
    #[prost(uint64, optional, tag = "3")]
    expires_at_ms: Option<u64>,
    #[prost(string, optional, tag = "4")]
    collapse_id: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct FcmRecord {
    #[prost(uint32, tag = "1")]
    data_bytes: u32,
}

/// A verdict, as a worker writes it. It names no device and holds no content.
#[derive(Clone, PartialEq, Message)]
struct VerdictRecord {
    #[prost(uint32, tag = "1")]
    answer: u32,
    #[prost(string, tag = "2")]
    code: String,
    #[prost(string, optional, tag = "3")]
    word: Option<String>,
    #[prost(uint32, tag = "4")]
    attempts: u32,
    #[prost(uint64, tag = "5")]
    queued_us: u64,
    #[prost(uint64, tag = "6")]
    sending_us: u64,
    #[prost(uint64, tag = "7")]
    provider_us: u64,
}

/// Stream entry of one push: what stands in the open, and the sealed envelope.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct ParcelRecord {
    #[prost(bytes = "bytes", tag = "1")]
    job: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    gateway: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    app: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    envelope: Bytes,
    /// The deadline in the lane's time, in milliseconds, and the epoch of its clock.
    #[prost(uint64, tag = "5")]
    deadline_ms: u64,
    #[prost(uint64, tag = "6")]
    epoch: u64,
}

/// Batch of verdicts from a worker to a gateway.
#[derive(Clone, PartialEq, Message)]
struct VerdictBatch {
    #[prost(message, repeated, tag = "1")]
    jobs: Vec<JobVerdict>,
}

#[derive(Clone, PartialEq, Message)]
struct JobVerdict {
    #[prost(bytes = "bytes", tag = "1")]
    job: Bytes,
    /// A [`VerdictRecord`]; empty where the worker cannot deliver the job.
    #[prost(bytes = "bytes", tag = "2")]
    verdict: Bytes,
}

/// Stream entry of one push, decoded: routing fields and the sealed envelope.
pub(crate) struct Parcel {
    pub(crate) job: JobId,
    pub(crate) gateway: Arc<str>,
    pub(crate) app: AppId,
    pub(crate) deadline: LaneTimestamp,
    pub(crate) envelope: Bytes,
}

impl Parcel {
    /// What its envelope has to be bound to.
    pub(crate) fn binding(&self) -> Binding<'_> {
        Binding { job: self.job, gateway: &self.gateway, app: &self.app, deadline: self.deadline }
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel").field("job", &self.job).field("app", &self.app).finish_non_exhaustive()
    }
}

impl fmt::Debug for ParcelRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParcelRecord(…)")
    }
}

impl fmt::Debug for PushRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PushRecord(…)")
    }
}

impl fmt::Debug for ApnsRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApnsRecord(…)")
    }
}

impl fmt::Debug for FcmRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FcmRecord(…)")
    }
}

/// Writes a field of bytes as Protocol Buffers have it, without a copy of them in between.
fn write_bytes(tag: u32, bytes: &[u8], record: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, record);
    encode_varint(bytes.len() as u64, record);
    record.extend_from_slice(bytes);
}

/// Writes what goes into a queue.
pub(crate) fn write_parcel(binding: Binding<'_>, envelope: &[u8]) -> Bytes {
    let Binding { job, gateway, app, deadline } = binding;
    let app = app.as_str().as_bytes();
    let mut parcel = Vec::with_capacity(64 + gateway.len() + app.len() + envelope.len());
    for (tag, bytes) in (1..).zip([&job.uuid().as_bytes()[..], gateway.as_bytes(), app, envelope]) {
        write_bytes(tag, bytes, &mut parcel);
    }
    for (tag, number) in (5..).zip([deadline.millis, deadline.epoch]) {
        encode_key(tag, WireType::Varint, &mut parcel);
        encode_varint(number, &mut parcel);
    }
    parcel.into()
}

/// Reads what lies in a queue.
pub(crate) fn read_parcel(bytes: Bytes) -> Result<Parcel, Unreadable> {
    let record = ParcelRecord::decode(bytes).map_err(|_| Unreadable("parcel"))?;
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Unreadable("name"));
    Ok(Parcel {
        job: read_job(&record.job)?,
        gateway: text(&record.gateway)?.into(),
        app: AppId::new(text(&record.app)?),
        deadline: LaneTimestamp { millis: record.deadline_ms, epoch: record.epoch },
        envelope: record.envelope,
    })
}

fn read_job(bytes: &[u8]) -> Result<JobId, Unreadable> {
    Uuid::from_slice(bytes).map(JobId::from_uuid).map_err(|_| Unreadable("job"))
}

/// Adds a job to what a gateway is told; `verdict` is empty where another worker has to deliver it.
pub(crate) fn append_verdict(told: &mut Vec<u8>, job: JobId, verdict: &[u8]) {
    let mut record = Vec::with_capacity(24 + verdict.len());
    write_bytes(1, job.uuid().as_bytes(), &mut record);
    write_bytes(2, verdict, &mut record);
    write_bytes(1, &record, told);
}

/// Reads what a gateway is told: of each job its verdict, or nothing where another worker has to deliver it.
pub(crate) fn read_verdicts(
    bytes: Bytes,
) -> Result<impl Iterator<Item = (JobId, Result<Option<Verdict>, Unreadable>)>, Unreadable> {
    let told = VerdictBatch::decode(bytes).map_err(|_| Unreadable("list of verdicts"))?;
    Ok(told.jobs.into_iter().filter_map(|told| {
        let verdict = (!told.verdict.is_empty()).then(|| read_verdict(&told.verdict)).transpose();
        Some((read_job(&told.job).ok()?, verdict))
    }))
}

/// Writes a push. The id, the app and the deadline stand beside it, in the open; its envelope is bound to them.
pub(crate) fn write_push(job: &Job) -> Vec<u8> {
    let push = &*job.notification;
    let budget = job.deadline.saturating_duration_since(job.accepted_at);
    let (body, apns, fcm) = match &push.request {
        ProviderRequest::Apns(request) => (request.body.expose(), Some(apns_record(request)), None),
        ProviderRequest::Fcm(request) => {
            let data_bytes = u32::try_from(request.data_bytes).unwrap_or(u32::MAX);
            (request.body.expose(), None, Some(FcmRecord { data_bytes }))
        }
    };
    let record = PushRecord {
        tenant: Bytes::copy_from_slice(push.tenant.uuid().as_bytes()),
        device: Bytes::copy_from_slice(push.device.as_bytes()),
        kind: kind_number(push.kind),
        budget_ms: u32::try_from(budget.as_millis()).unwrap_or(u32::MAX),
        token: push.request.token().expose().to_owned(),
        body,
        apns,
        fcm,
    };
    record.encode_to_vec()
}

fn apns_record(request: &ApnsRequest) -> ApnsRecord {
    ApnsRecord {
        push_type: match request.push_type {
            PushType::Alert => 1,
            PushType::Background => 2,
            PushType::Voip => 3,
        },
        priority: match request.priority {
            Priority::High => 10,
            Priority::Normal => 5,
        },
        expires_at_ms: request.expires_at.map(Timestamp::millis),
        collapse_id: request.collapse_id.as_ref().map(|id| id.as_str().to_owned()),
    }
}

const fn kind_number(kind: Kind) -> u32 {
    match kind {
        Kind::Message => 1,
        Kind::Clear => 2,
        Kind::UpdateBadge => 3,
        Kind::Session => 4,
        Kind::Test => 5,
        Kind::Call => 6,
        Kind::Other => 7,
    }
}

/// Reads a push that has to be answered by `deadline`. A kind that is not known yet is sent all the same.
pub(crate) fn read_push(
    bytes: Bytes,
    id: JobId,
    app: &AppId,
    catalogue: &AppCatalogue,
    deadline: Instant,
) -> Result<Job, Unreadable> {
    let record = PushRecord::decode(bytes).map_err(|_| Unreadable("push"))?;
    let app = catalogue.get(app).ok_or(Unreadable("app"))?;
    let token = DeviceToken::parse(app.provider, record.token).map_err(|_| Unreadable("device token"))?;
    let body = Content::new(record.body);
    let request = match (app.provider, record.apns, record.fcm) {
        (Provider::Apns, Some(apns), _) => ProviderRequest::Apns(apns_request(apns, id, token, body)?),
        (Provider::Fcm, _, Some(fcm)) => {
            ProviderRequest::Fcm(FcmRequest { token, body, data_bytes: fcm.data_bytes as usize })
        }
        (Provider::Apns | Provider::Fcm, _, _) => return Err(Unreadable("request for the app's provider")),
    };
    let tenant = Uuid::from_slice(&record.tenant).map_err(|_| Unreadable("tenant"))?;
    let device = <[u8; 32]>::try_from(&record.device[..]).map_err(|_| Unreadable("device"))?;
    let known = Kind::ALL.into_iter().find(|kind| kind_number(*kind) == record.kind);
    let notification = Notification {
        id,
        tenant: TenantId::from_uuid(tenant),
        app,
        device: DeviceId::from_bytes(device),
        kind: known.unwrap_or(Kind::Other),
        request,
    };
    let budget = Duration::from_millis(record.budget_ms.into());
    let accepted_at = deadline.checked_sub(budget).unwrap_or(deadline);
    Ok(Job { notification: Arc::new(notification), accepted_at, deadline })
}

fn apns_request(
    record: ApnsRecord,
    id: JobId,
    token: DeviceToken,
    body: Content,
) -> Result<ApnsRequest, Unreadable> {
    let push_type = match record.push_type {
        1 => PushType::Alert,
        2 => PushType::Background,
        3 => PushType::Voip,
        _ => return Err(Unreadable("push type")),
    };
    let priority = if record.priority == 5 { Priority::Normal } else { Priority::High };
    let collapse_id = record.collapse_id.map(CollapseId::new).transpose();
    Ok(ApnsRequest {
        token,
        id,
        push_type,
        priority,
        expires_at: record.expires_at_ms.map(Timestamp::from_millis),
        collapse_id: collapse_id.map_err(|_| Unreadable("collapse id"))?,
        body,
    })
}

/// Writes a verdict.
pub(crate) fn write_verdict(verdict: &Verdict) -> Vec<u8> {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let (answer, code) = match verdict.answer {
        Answer::Ok => (1, ""),
        Answer::Remove => (2, ""),
        Answer::Fail(reason) => (3, reason.code()),
    };
    let record = VerdictRecord {
        answer,
        code: code.to_owned(),
        word: verdict.reason.as_ref().map(|word| word.as_str().to_owned()),
        attempts: verdict.attempts,
        queued_us: micros(verdict.timing.queued),
        sending_us: micros(verdict.timing.sending),
        provider_us: micros(verdict.timing.provider),
    };
    record.encode_to_vec()
}

/// Reads a verdict. A fail code of a later version is a fault of this one: `internal`.
pub(crate) fn read_verdict(bytes: &[u8]) -> Result<Verdict, Unreadable> {
    let record = VerdictRecord::decode(bytes).map_err(|_| Unreadable("verdict"))?;
    let answer = match record.answer {
        1 => Answer::Ok,
        2 => Answer::Remove,
        3 => Answer::Fail(FailReason::of_code(&record.code).unwrap_or(FailReason::Internal)),
        _ => return Err(Unreadable("answer")),
    };
    Ok(Verdict {
        answer,
        reason: record.word.as_deref().map(Reason::foreign),
        attempts: record.attempts,
        timing: Timing {
            queued: Duration::from_micros(record.queued_us),
            sending: Duration::from_micros(record.sending_us),
            provider: Duration::from_micros(record.provider_us),
        },
    })
}

#[cfg(test)]
mod tests;
