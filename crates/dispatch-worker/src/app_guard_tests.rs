//! Property tests of the guards: what one tenant sends changes no answer of another.

use std::collections::HashMap;

use proptest::prelude::*;
use push_domain::{ApnsRequest, Content, DeviceToken, JobId, Kind, Priority, Provider, TenantId};

use super::*;
use crate::proof::tests::{Proven, an_apple_app};

fn a_guard() -> Arc<AppGuard> {
    Arc::new(AppGuard::new(
        &an_apple_app(),
        Arc::new(ProviderRateLimiter::new(0, 10)),
        Arc::new(Proven(true)),
    ))
}

fn a_push(tenant: TenantId, number: u8, push_type: PushType) -> Notification {
    let id = JobId::new();
    Notification {
        id,
        tenant,
        app: Arc::new(an_apple_app()),
        device: DeviceId::from_bytes([number; 32]),
        kind: Kind::Message,
        request: ProviderRequest::Apns(ApnsRequest {
            token: DeviceToken::parse(Provider::Apns, format!("{number:064x}")).unwrap(),
            id,
            push_type,
            priority: Priority::High,
            expires_at: None,
            collapse_id: None,
            body: Content::new("{}"),
        }),
    }
}

fn dead(word: &'static str) -> Outcome {
    Outcome::TokenDead { since: None, reason: Reason::known(word) }
}

/// Whatever a provider says of a token or of a push.
fn outcome(number: u8) -> Outcome {
    match number % 8 {
        0 | 1 => dead("BadDeviceToken"),
        2 => dead("Unregistered"),
        3 => Outcome::WrongApp { reason: Reason::known("DeviceTokenNotForTopic") },
        4 => Outcome::Refused { reason: Reason::known("PayloadTooLarge") },
        5 => Outcome::Misconfigured { reason: Reason::known("THIRD_PARTY_AUTH_ERROR") },
        6 => Outcome::TryLater {
            after: None,
            scope: RetryScope::Device,
            ambiguous: false,
            reason: Reason::known("TooManyRequests"),
        },
        _ => Outcome::Accepted,
    }
}

/// What becomes of one push: whether and how it may be sent, and whether its device may be called dead.
fn answer(app: &Arc<AppGuard>, tenant: TenantId, device: u8, outcome: &Outcome) -> (Option<bool>, bool) {
    let guard = Guard::new(Arc::clone(app), &a_push(tenant, device, PushType::Alert));
    let Ok(admission) = guard.admit() else { return (None, false) };
    let isolated = admission.isolate;
    admission.conclude(outcome);
    let removed = match outcome {
        Outcome::Accepted => {
            guard.accepted();
            false
        }
        Outcome::TokenDead { .. } => guard.may_remove(DeviceId::from_bytes([device; 32])),
        Outcome::WrongApp { .. } => guard.may_remove_as_foreign(DeviceId::from_bytes([device; 32])),
        _ => false,
    };
    (Some(isolated), removed)
}

/// Three processes that tell each other what they have seen, as the lanes sum it up.
struct Processes {
    guards: [Arc<AppGuard>; 3],
    told: HashMap<String, (u64, u64)>,
}

impl Processes {
    fn new() -> Self {
        Self { guards: std::array::from_fn(|_| a_guard()), told: HashMap::new() }
    }

    fn exchange(&mut self) {
        let news: Vec<_> = self.guards.iter().flat_map(AppGuard::take_unreported).collect();
        for ((subject, told), _) in &news {
            let sum = self.told.entry(subject.clone()).or_default();
            *sum = (sum.0 + told.dead, sum.1 + told.accepted);
        }
        for ((subject, _), hear) in news {
            let (dead, accepted) = self.told[&subject];
            hear.take(&Evidence {
                dead,
                accepted,
                accepted_ago: Some(Duration::ZERO),
                paused: Duration::ZERO,
            });
        }
    }
}

proptest! {
    #[test]
    fn what_a_tenant_sends_through_one_process_changes_no_answer_of_another_in_any(
        pushes in prop::collection::vec((0_u8..8, 0_usize..3, any::<u8>(), any::<u8>(), 0_u8..4), 1..400),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _time = runtime.enter();
        let (victim, attacker) = (TenantId::new(), TenantId::new());
        let (mut alone, mut beside) = (Processes::new(), Processes::new());
        for (who, process, device, what, is_told) in pushes {
            for guard in alone.guards.iter().chain(&beside.guards) {
                guard.proof.accepted();
            }
            let outcome = outcome(what);
            let (one, other) = (&alone.guards[process], &beside.guards[process]);
            if who < 3 {
                prop_assert_eq!(answer(one, victim, device, &outcome), answer(other, victim, device, &outcome));
            } else {
                let tenant = if who < 5 { attacker } else { TenantId::unlicensed(who.into()) };
                answer(other, tenant, device, &outcome);
            }
            if is_told == 0 {
                alone.exchange();
                beside.exchange();
            }
        }
    }

    #[test]
    fn what_a_tenant_sends_changes_no_answer_of_another(
        // Who pushes: the victim, a licensed attacker, or one of several without a licence.
        pushes in prop::collection::vec((0_u8..8, any::<u8>(), any::<u8>()), 1..400),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _time = runtime.enter();
        let (victim, attacker) = (TenantId::new(), TenantId::new());
        let (alone, beside) = (a_guard(), a_guard());
        for (who, device, what) in pushes {
            // The app has worked a moment ago, with or without the attacker.
            alone.proof.accepted();
            beside.proof.accepted();
            let outcome = outcome(what);
            if who < 3 {
                prop_assert_eq!(answer(&alone, victim, device, &outcome), answer(&beside, victim, device, &outcome));
            } else {
                let tenant = if who < 5 { attacker } else { TenantId::unlicensed(who.into()) };
                answer(&beside, tenant, device, &outcome);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_app_whose_calls_are_refused_takes_its_messages() {
    let (app, tenant) = (a_guard(), TenantId::new());
    let refused = Outcome::Misconfigured { reason: Reason::known("TopicDisallowed") };
    for number in 0..9 {
        let guard = Guard::new(Arc::clone(&app), &a_push(tenant, number, PushType::Voip));
        if let Ok(admission) = guard.admit() {
            admission.conclude(&refused);
        }
    }

    let call = Guard::new(Arc::clone(&app), &a_push(tenant, 1, PushType::Voip));
    let message = Guard::new(Arc::clone(&app), &a_push(tenant, 1, PushType::Alert));
    assert_eq!(call.admit().err(), Some(AttemptDenied::Held));
    assert!(message.admit().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_tenant_whose_devices_are_all_another_apps_is_held_and_no_other_is() {
    let (app, bad, good) = (a_guard(), TenantId::new(), TenantId::new());
    let foreign = Outcome::WrongApp { reason: Reason::known("DeviceTokenNotForTopic") };
    for number in 0..40 {
        answer(&app, bad, number, &foreign);
    }

    assert_eq!(answer(&app, bad, 1, &foreign), (None, false));
    assert_eq!(answer(&app, good, 1, &Outcome::Accepted), (Some(false), false));
    assert_eq!(answer(&app, good, 2, &foreign), (Some(false), true));
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_left_to_tenants_that_are_well() {
    let (app, junk, good) = (a_guard(), TenantId::unlicensed(1), TenantId::new());
    let refused = Outcome::Misconfigured { reason: Reason::known("InvalidProviderToken") };
    for number in 0..3 {
        answer(&app, good, number, &refused);
    }
    assert!(!app.is_well());

    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(answer(&app, junk, 1, &dead("BadDeviceToken")).0, None);
    assert_eq!(answer(&app, good, 1, &Outcome::Accepted).0, Some(false));
    assert!(app.is_well());
}
