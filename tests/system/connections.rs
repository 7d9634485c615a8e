//! System tests: connection faults of APNs and FCM, and what callers notice of them.

use std::time::Duration;

use provider_sim::{Action, ExcessAction, Fault, Latency, ProviderName, Script, ScriptedAnswer};
use serde_json::{Value, json};

use crate::harness::{ANDROID_TOKEN, Deployment, IOS_TOKEN, android, eventually, ios};
use crate::load::{Load, Push, at_once, to_android, to_iphone};

const BOTH: [(ProviderName, Push); 2] = [(ProviderName::Apns, to_iphone), (ProviderName::Fcm, to_android)];
/// One serving thread, and so one set of connections.
const ONE_THREAD: &str = "[gateway]\naccess = \"open\"\n[server]\nthreads = 1";

fn ok() -> Value {
    json!({ "status": "OK" })
}

fn says(status: u16, reason: &str) -> ScriptedAnswer {
    ScriptedAnswer { status, reason: Some(reason.into()), ..ScriptedAnswer::default() }
}

/// Strikes a provider's connections several times under load; the answers have to be all `OK`, nothing
/// may arrive twice.
async fn nothing_is_noticed_of(faults: &[Fault]) {
    for (provider, push) in BOTH {
        let deployment = Deployment::start();
        deployment.simulator.adjust_profile(provider, |profile| {
            (profile.rtt_ms, profile.latency) = (5, Some(Latency { p50_ms: 10.0, p95_ms: 30.0 }));
        });
        let load = Load::start(&deployment, push, 16);
        for round in 1..=3 {
            for fault in faults {
                let before = load.answered();
                eventually("load is answered", || load.answered() >= before + 50 * round).await;
                deployment.simulator.inject_fault(provider, *fault);
            }
        }
        let before = load.answered();
        eventually("load is answered", || load.answered() >= before + 100).await;

        let answers = load.stop().await;

        answers.assert_all_ok();
        let stats = deployment.simulator.stats();
        assert_eq!((stats.accepted, stats.duplicates), (answers.ok(), 0), "{provider:?}");
        assert!(stats.struck_requests > 3, "the faults met only {} open requests", stats.struck_requests);
    }
}

#[tokio::test]
async fn a_goaway_costs_no_push_whatever_its_form() {
    nothing_is_noticed_of(&[Fault::GoAway, Fault::GoAwayText]).await;
}

#[tokio::test]
async fn a_goaway_that_covers_no_open_request_costs_no_push() {
    nothing_is_noticed_of(&[Fault::GoAwayUnprocessed]).await;
}

#[tokio::test]
async fn streams_that_are_taken_away_and_given_back_cost_no_push() {
    nothing_is_noticed_of(&[Fault::Streams { streams: 1 }, Fault::Streams { streams: 100 }]).await;
}

#[tokio::test]
async fn requests_beyond_apples_streams_are_refused_or_end_the_connection_and_cost_no_push() {
    for excess in [ExcessAction::Refuse, ExcessAction::GoAway] {
        let deployment = Deployment::with(ONE_THREAD);
        deployment.simulator.adjust_profile(ProviderName::Apns, |profile| {
            (profile.excess, profile.rtt_ms) = (excess, 5);
            profile.latency = Some(Latency { p50_ms: 5.0, p95_ms: 15.0 });
        });
        let load = Load::start(&deployment, to_iphone, 24);
        let mut round = 0;
        while deployment.simulator.stats().excess_requests < 5 && round < 50 {
            round += 1;
            let before = load.answered();
            eventually("load is answered", || load.answered() >= before + 30).await;
            let streams = if round % 2 == 0 { 1000 } else { 2 };
            deployment.simulator.inject_fault(ProviderName::Apns, Fault::Streams { streams });
        }
        let answers = load.stop().await;

        answers.assert_all_ok();
        let stats = deployment.simulator.stats();
        assert!(stats.excess_requests >= 5, "{excess:?}: {stats:?}");
        assert_eq!((stats.accepted, stats.duplicates), (answers.ok(), 0), "{excess:?}");
    }
}

#[tokio::test]
async fn what_one_connection_cannot_carry_gets_another_before_its_window_is_used_up() {
    let deployment = Deployment::with(ONE_THREAD);
    deployment.simulator.adjust_profile(ProviderName::Apns, |profile| {
        profile.latency = Some(Latency { p50_ms: 300.0, p95_ms: 400.0 });
    });
    let long: Push = |number| {
        ios(
            json!({ "device_id": format!("{number:064x}"), "message": "x".repeat(700), "ack_id": "a".repeat(26) }),
        )
    };

    // The gateway hands 256 of 1,000 bytes over at once: four windows, if they were filled, would just hold them.
    let load = Load::start(&deployment, long, 300);

    eventually("a fifth connection", || deployment.simulator.stats().apns_connections >= 5).await;
    load.stop().await.assert_all_ok();
}

#[tokio::test]
async fn an_age_limit_on_connections_costs_no_push() {
    for (provider, push) in BOTH {
        let deployment = Deployment::start();
        deployment.simulator.adjust_profile(provider, |profile| profile.max_requests = 20);

        for batch in 0..10 {
            at_once(&deployment, (batch * 30..batch * 30 + 30).map(push)).await.assert_all_ok();
        }

        let stats = deployment.simulator.stats();
        assert_eq!((stats.accepted, stats.duplicates), (300, 0), "{provider:?}");
    }
}

#[tokio::test]
async fn connections_that_google_ends_for_their_age_cost_no_push() {
    let deployment = Deployment::start();
    deployment.simulator.adjust_profile(ProviderName::Fcm, |profile| {
        (profile.max_age_ms, profile.latency) = (150, Some(Latency { p50_ms: 10.0, p95_ms: 30.0 }));
    });
    let load = Load::start(&deployment, to_android, 4);
    eventually("connections end", || deployment.simulator.stats().fcm_connections >= 10).await;

    let answers = load.stop().await;

    answers.assert_all_ok();
    let stats = deployment.simulator.stats();
    assert_eq!((stats.accepted, stats.duplicates), (answers.ok(), 0));
}

#[tokio::test]
async fn a_goaway_on_an_idle_connection_costs_no_push() {
    let deployment = Deployment::start();
    for round in 0..5 {
        for (provider, push) in BOTH {
            assert_eq!(deployment.push(&push(round)).await.json(), ok());
            deployment.simulator.inject_fault(provider, Fault::GoAway);
            assert_eq!(deployment.push(&push(100 + round)).await.json(), ok());
        }
    }
    assert_eq!(deployment.simulator.stats().duplicates, 0);
}

#[tokio::test]
async fn apples_connections_that_fall_silent_are_replaced_and_nothing_arrives_twice() {
    for fault in [Fault::BlackHole, Fault::Freeze] {
        let deployment = Deployment::start();
        let load = Load::start(&deployment, to_iphone, 24);
        eventually("load is answered", || load.answered() >= 500).await;

        deployment.simulator.inject_fault(ProviderName::Apns, fault);

        let before = deployment.simulator.stats().accepted;
        eventually("pushes go on", || deployment.simulator.stats().accepted >= before + 500).await;
        let answers = load.stop().await;
        answers.assert_all_ok();
        let stats = deployment.simulator.stats();
        assert_eq!((stats.accepted, stats.duplicates), (answers.ok(), 0), "{fault:?}");
        deployment.service.until_logged("no PING was answered").await;
    }
}

#[tokio::test]
async fn an_idle_connection_that_fell_silent_is_found_by_its_ping() {
    let deployment = Deployment::configured("[gateway]\naccess = \"open\"", |config| {
        config.replace("[apps.ios]", "[apps.ios]\nping_interval_ms = 1000")
    });
    assert_eq!(deployment.push(&to_iphone(1)).await.json(), ok());
    eventually("PINGs are sent", || deployment.simulator.stats().apns_pings > 0).await;

    deployment.simulator.inject_fault(ProviderName::Apns, Fault::BlackHole);

    deployment.service.until_logged("no PING was answered").await;
    assert_eq!(deployment.push(&to_iphone(2)).await.json(), ok());
}

#[tokio::test]
async fn googles_connections_that_fall_silent_are_replaced() {
    for fault in [Fault::BlackHole, Fault::Freeze] {
        let settings = format!("{ONE_THREAD}\n[worker]\nfcm_attempt_timeout_ms = 500");
        // Without PINGs in time only the replacement helps.
        let deployment = Deployment::configured(&settings, |config| {
            config.replace("[apps.android]", "[apps.android]\nping_interval_ms = 60000")
        });
        assert_eq!(deployment.push(&to_android(999_999_999)).await.json(), ok());
        deployment.simulator.inject_fault(ProviderName::Fcm, fault);
        let load = Load::start(&deployment, to_android, 4);

        deployment.service.until_logged("a connection to FCM answers nothing; it is replaced").await;
        let before = deployment.simulator.stats().accepted;
        eventually("pushes go on", || deployment.simulator.stats().accepted >= before + 20).await;

        let answers = load.stop().await;
        let stats = deployment.simulator.stats();
        assert_eq!((stats.accepted, stats.duplicates), (answers.ok() + 1, 0), "{fault:?}");
        let late = |answer: &&Value| !answer["error"].as_str().unwrap().starts_with("provider_down: ");
        assert!(!answers.others().iter().any(late), "{:?}", answers.others());
    }
}

#[tokio::test]
async fn a_push_that_apple_took_before_it_fell_silent_may_arrive_twice_but_under_one_apns_id() {
    let deployment = Deployment::start();
    deployment.simulator.adjust_profile(ProviderName::Apns, |profile| {
        profile.latency = Some(Latency { p50_ms: 20.0, p95_ms: 40.0 });
    });
    let load = Load::start(&deployment, to_iphone, 16);
    eventually("load is answered", || load.answered() >= 100).await;

    deployment.simulator.inject_fault(ProviderName::Apns, Fault::BlackHole);

    let before = deployment.simulator.stats().accepted;
    eventually("pushes go on", || deployment.simulator.stats().accepted >= before + 100).await;
    let answers = load.stop().await;
    answers.assert_all_ok();
    let stats = deployment.simulator.stats();
    // A re-send under another id would count as a push of its own.
    assert_eq!(stats.accepted - stats.duplicates, answers.ok());
    assert!(stats.struck_requests > 0 && stats.duplicates > 0, "{stats:?}");
}

#[tokio::test]
async fn google_is_asked_by_ping_only_while_a_request_is_open() {
    let deployment = Deployment::configured(ONE_THREAD, |config| {
        let config = config.replace("[apps.ios]", "[apps.ios]\nping_interval_ms = 200");
        config.replace("[apps.android]", "[apps.android]\nping_interval_ms = 50")
    });
    deployment.simulator.adjust_profile(ProviderName::Fcm, |profile| profile.pings = 0);
    assert_eq!(deployment.push(&to_android(0)).await.json(), ok());
    // Apple's connection, whose PINGs come every 200 ms, tells the time.
    assert_eq!(deployment.push(&to_iphone(0)).await.json(), ok());
    eventually("time passes", || deployment.simulator.stats().apns_pings >= 5).await;
    assert_eq!(deployment.simulator.stats().fcm_pings, 0);

    deployment.script("token:1", vec![ScriptedAnswer { delay_ms: 500, ..ScriptedAnswer::default() }]);
    assert_eq!(deployment.push(&to_android(1)).await.json(), ok());
    assert!(deployment.simulator.stats().fcm_pings > 0);
}

#[tokio::test]
async fn an_answer_that_is_lost_is_tried_again_under_the_same_apns_id() {
    for action in [Action::Reset, Action::Close] {
        let deployment = Deployment::start();
        let lost = ScriptedAnswer { action: Some(action), ..ScriptedAnswer::default() };
        deployment.script(IOS_TOKEN, vec![lost]);

        let answer = deployment.push(&ios(json!({}))).await.json();

        assert_eq!(answer, ok(), "{action:?}");
        let ids: Vec<_> = deployment.received().iter().map(|it| it.headers["apns-id"].clone()).collect();
        assert_eq!(ids.len(), 2, "{action:?}");
        assert_eq!(ids[0], ids[1]);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer_where_its_body_matters() {
    let half = ScriptedAnswer { action: Some(Action::Half), ..ScriptedAnswer::default() };
    let deployment = Deployment::start();
    // Apple's 200 has no body: its status is the answer. Google's has, and a name in it.
    deployment.script(IOS_TOKEN, vec![half.clone()]);
    deployment.script(ANDROID_TOKEN, vec![half.clone()]);
    assert_eq!(deployment.push(&ios(json!({}))).await.json(), ok());
    assert_eq!(deployment.push(&android(json!({}))).await.json(), ok());
    let stats = deployment.simulator.stats();
    assert_eq!((stats.apns_requests, stats.fcm_requests), (1, 2));

    // The reason of a refusal breaks off: a 410 is not believed without one.
    let refused = ScriptedAnswer { action: Some(Action::Half), ..says(410, "Unregistered") };
    deployment.script(IOS_TOKEN, vec![refused]);
    assert_eq!(deployment.push(&ios(json!({}))).await.json(), ok());
}

#[tokio::test]
async fn a_503_that_was_delivered_may_arrive_twice_but_under_one_apns_id() {
    let deployment = Deployment::start();
    let answer = ScriptedAnswer { delivered: true, ..says(503, "ServiceUnavailable") };
    deployment.script(IOS_TOKEN, vec![answer]);

    assert_eq!(deployment.push(&ios(json!({}))).await.json(), ok());

    assert_eq!(deployment.simulator.stats().duplicates, 1);
}

#[tokio::test]
async fn an_expired_provider_token_wedges_its_connection_and_no_push_is_sent_there_again() {
    let deployment = Deployment::with(ONE_THREAD);
    assert_eq!(deployment.push(&to_iphone(1)).await.json(), ok());
    deployment.script(IOS_TOKEN, vec![says(403, "ExpiredProviderToken")]);

    assert_eq!(deployment.push(&ios(json!({}))).await.json(), ok());
    assert_eq!(deployment.push(&to_iphone(2)).await.json(), ok());

    let connections: Vec<_> = deployment.received().iter().map(|it| it.connection).collect();
    assert_eq!(connections[0], connections[1]);
    assert!(connections[2] > connections[1] && connections[3] == connections[2], "{connections:?}");
}

#[tokio::test]
async fn a_clock_that_is_an_hour_behind_apples_is_told_to_the_operator_without_a_storm_of_connections() {
    let deployment = Deployment::start();
    assert_eq!(deployment.push(&to_iphone(1)).await.json(), ok());
    deployment.simulator.advance_clock(Duration::from_mins(61));

    for number in 2..40 {
        let answer = deployment.push(&to_iphone(number)).await;
        assert!(answer.error().starts_with("app_misconfigured: "));
    }

    let stats = deployment.simulator.stats();
    assert!(stats.apns_connections <= 7 && stats.provider_tokens <= 2, "{stats:?}");
    deployment.service.until_logged("ExpiredProviderToken").await;
}

#[tokio::test]
async fn an_app_that_was_added_to_the_team_later_gets_new_connections() {
    let deployment = Deployment::configured("[gateway]\naccess = \"open\"", |config| {
        config.replace("topic = \"com.example.mm.beta\"", "topic = \"com.example.late\"")
    });
    let push = ios(json!({ "platform": "apple_rnbeta-v2" }));
    assert!(deployment.push(&push).await.error().starts_with("app_misconfigured: "));

    deployment.simulator.add_topic("com.example.late");

    assert_eq!(deployment.push(&push).await.json(), ok());
}

#[tokio::test]
async fn many_bad_tokens_slow_apple_down_and_end_connections_but_every_push_gets_its_answer() {
    let deployment = Deployment::start();
    deployment.simulator.adjust_profile(ProviderName::Apns, |profile| profile.bad_tokens = 5);
    let bad = Script {
        token: "00000000*".into(),
        answers: vec![says(400, "BadDeviceToken")].into(),
        repeat: true,
        percent: 30,
        ..Script::default()
    };
    deployment.simulator.script(bad);

    // Before its app had a success, a bad token is not called dead; and by chance there may be more bad ones than good ones
    // among the first, which are then doubted, as they should be.
    let good = (0..60).map(|number| ios(json!({ "device_id": format!("f{number:063x}") })));
    at_once(&deployment, good).await.assert_all_ok();
    let mut removed = 0;
    for batch in 0..20 {
        let answers = at_once(&deployment, (batch * 20..batch * 20 + 20).map(to_iphone)).await;
        let dead = answers.0.iter().filter(|answer| answer["status"] == "REMOVE").count() as u64;
        let log = deployment.service.log();
        let told = log.lines().filter(|line| !line.contains("INFO")).collect::<Vec<_>>();
        assert_eq!(answers.ok() + dead, 20, "{batch}: {:?}\n{told:#?}", answers.0);
        removed += dead;
    }
    assert!(removed > 50, "{removed}");
    let stats = deployment.simulator.stats();
    assert!(stats.apns_connections > 4 && stats.most_connections_in_a_second < 40, "{stats:?}");
}
