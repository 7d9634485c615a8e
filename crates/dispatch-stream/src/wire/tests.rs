//! Compatibility tests of the wire format: the version before and the version after can read it.

use proptest::prelude::*;

use super::*;
use crate::KeyRing;
use crate::conformance::{a_job, the_app};
use crate::seal::{Binding, Sealer};

const RING: &str = "00000000000000a1 1111111111111111111111111111111111111111111111111111111111111111";
const PUSH: &str = include_str!("../../golden/push-1.hex");
const ENVELOPE: &str = include_str!("../../golden/envelope-2.hex");
const VERDICT: &str = include_str!("../../golden/verdict-1.hex");

fn bytes(hex: &str) -> Bytes {
    data_encoding::HEXLOWER.decode(hex.trim().as_bytes()).unwrap().into()
}

fn an_iphone() -> AppCatalogue {
    AppCatalogue::new([push_domain::App {
        id: AppId::new("ios"),
        platform: "apple_rn".into(),
        topic: "com.example.mm".into(),
        provider: Provider::Apns,
        ..the_app()
    }])
    .unwrap()
}

fn the_golden_job() -> Job {
    let id: JobId = "job_01933b2f8a2c7d01b4c6d8e0f2a4b6c8".parse().unwrap();
    let token = "ab".repeat(32);
    let request = ApnsRequest {
        token: DeviceToken::parse(Provider::Apns, token).unwrap(),
        id,
        push_type: PushType::Voip,
        priority: Priority::High,
        expires_at: Some(Timestamp::from_millis(1_800_000_000_000)),
        collapse_id: Some(CollapseId::new("call-1".into()).unwrap()),
        body: Content::new(r#"{"aps":{}}"#),
    };
    let notification = Notification {
        id,
        tenant: "ten_01933b2f8a2c7d01b4c6d8e0f2a4b6c9".parse().unwrap(),
        app: an_iphone().get(&AppId::new("ios")).unwrap(),
        device: DeviceId::from_bytes([7; 32]),
        kind: Kind::Call,
        request: ProviderRequest::Apns(request),
    };
    let accepted_at = Instant::now();
    Job { notification: Arc::new(notification), accepted_at, deadline: accepted_at + Duration::from_secs(5) }
}

fn read(record: Bytes, job: &Job) -> Result<Job, Unreadable> {
    read_push(record, job.notification.id, &AppId::new("ios"), &an_iphone(), job.deadline)
}

fn assert_same(one: &Job, other: &Job) {
    let (ProviderRequest::Apns(sent), ProviderRequest::Apns(got)) =
        (&one.notification.request, &other.notification.request)
    else {
        panic!("another provider")
    };
    assert_eq!(sent.token.expose(), got.token.expose());
    assert_eq!(sent.body.expose(), got.body.expose());
    assert_eq!((sent.push_type, sent.priority), (got.push_type, got.priority));
    assert_eq!((sent.expires_at, &sent.collapse_id, sent.id), (got.expires_at, &got.collapse_id, got.id));
    let (one, other) = (&one.notification, &other.notification);
    assert_eq!((one.tenant, one.device, one.kind), (other.tenant, other.device, other.kind));
}

#[test]
fn a_push_is_written_as_it_was_in_version_1_and_read_from_it() {
    let job = the_golden_job();

    assert_eq!(data_encoding::HEXLOWER.encode(&write_push(&job)), PUSH.trim());
    let read = read(bytes(PUSH), &job).unwrap();
    assert_same(&job, &read);
    assert_eq!(read.deadline - read.accepted_at, Duration::from_secs(5));
}

#[test]
fn an_envelope_of_version_2_is_opened() {
    let job = the_golden_job();
    let sealer = Sealer::new(Arc::new(KeyRing::parse(RING).unwrap()));
    let deadline = LaneTimestamp { millis: 1_800_000_000_000, epoch: 3 };
    let binding =
        Binding { job: job.notification.id, gateway: "gateway-1", app: &AppId::new("ios"), deadline };

    assert_eq!(sealer.open(binding, &bytes(ENVELOPE)).unwrap(), bytes(PUSH));
}

#[test]
fn a_verdict_is_written_as_it_was_in_version_1_and_read_from_it() {
    let verdict = Verdict {
        answer: Answer::Fail(FailReason::ProviderDown),
        reason: Some(Reason::foreign("InternalServerError")),
        attempts: 3,
        timing: Timing {
            queued: Duration::from_micros(1500),
            sending: Duration::from_millis(900),
            provider: Duration::ZERO,
        },
    };

    assert_eq!(data_encoding::HEXLOWER.encode(&write_verdict(&verdict)), VERDICT.trim());
    assert_eq!(read_verdict(&bytes(VERDICT)).unwrap(), verdict);
}

/// A field that no version has yet.
#[derive(Clone, PartialEq, Message)]
struct Later {
    #[prost(string, tag = "1000")]
    news: String,
}

#[test]
fn fields_of_the_next_version_are_skipped_and_those_it_dropped_are_defaults() {
    let job = the_golden_job();
    let mut longer = write_push(&job);
    longer.extend(Later { news: "x".into() }.encode_to_vec());
    assert_same(&job, &read(longer.into(), &job).unwrap());

    let mut verdict = write_verdict(&Verdict::unsent(FailReason::Busy));
    verdict.extend(Later { news: "x".into() }.encode_to_vec());
    assert_eq!(read_verdict(&verdict).unwrap().answer, Answer::Fail(FailReason::Busy));
    // The least that a verdict can say.
    assert_eq!(read_verdict(&[0x08, 0x01]).unwrap().answer, Answer::Ok);
}

#[test]
fn what_the_next_version_may_say_is_understood_as_far_as_it_goes() {
    let record = VerdictRecord { answer: 3, code: "something_new".into(), ..VerdictRecord::default() };
    let verdict = read_verdict(&record.encode_to_vec()).unwrap();
    assert_eq!(verdict.answer, Answer::Fail(FailReason::Internal));

    let job = the_golden_job();
    let mut push = PushRecord::decode(&write_push(&job)[..]).unwrap();
    push.kind = 99;
    assert_eq!(read(push.encode_to_vec().into(), &job).unwrap().notification.kind, Kind::Other);
}

#[test]
fn a_record_of_another_provider_is_refused() {
    let job = a_job(Kind::Message);

    assert!(read(write_push(&job).into(), &job).is_err());
}

#[test]
fn a_record_never_shows_what_it_holds() {
    let push = PushRecord { token: "canary".into(), ..PushRecord::default() };

    assert!(!format!("{push:?}").contains("canary"));
}

proptest! {
    #[test]
    fn any_bytes_are_a_record_or_a_refusal(bytes: Vec<u8>) {
        let _ = read(bytes.clone().into(), &the_golden_job());
        let _ = read_verdict(&bytes);
    }
}

#[test]
fn a_parcel_and_what_gateways_are_told_are_read_as_they_were_written() {
    let (one, other, app) = (JobId::new(), JobId::new(), AppId::new("ios"));
    let deadline = LaneTimestamp { millis: 1_800_000_000_000, epoch: 3 };
    let binding = Binding { job: one, gateway: "gateway", app: &app, deadline };
    let parcel = read_parcel(write_parcel(binding, b"envelope")).unwrap();
    assert_eq!(parcel.deadline, deadline);
    assert_eq!((parcel.job, &*parcel.gateway, &parcel.app), (one, "gateway", &app));
    assert_eq!(parcel.envelope, &b"envelope"[..]);

    let verdict = Verdict::unsent(FailReason::Poison);
    let mut told = Vec::new();
    append_verdict(&mut told, one, &write_verdict(&verdict));
    append_verdict(&mut told, other, b"");
    let read: Vec<_> = read_verdicts(told.into()).unwrap().collect();
    assert_eq!(read, [(one, Ok(Some(verdict))), (other, Ok(None))]);
}

proptest! {
    #[test]
    fn any_bytes_are_a_parcel_or_none_and_verdicts_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_parcel(bytes.clone().into());
        if let Ok(told) = read_verdicts(bytes.into()) {
            told.for_each(drop);
        }
    }
}
