//! What Apple and Google do to connections, and what callers notice of it.

use std::time::Duration;

use provider_sim::{Action, Blow, Excess, ProviderName, Script, ScriptedAnswer};
use serde_json::{Value, json};

use crate::harness::{Deployment, IOS_TOKEN, android, eventually, ios};
use crate::load::{Load, at_once, to_android, to_iphone};

type Push = fn(u64) -> Value;

const BOTH: [(ProviderName, Push); 2] = [(ProviderName::Apns, to_iphone), (ProviderName::Fcm, to_android)];
/// One serving thread, and so one set of connections.
const ONE_THREAD: &str = "[gateway]\naccess = \"open\"\n[server]\nthreads = 1";

fn ok() -> Value {
    json!({ "status": "OK" })
}

fn says(status: u16, reason: &str) -> ScriptedAnswer {
    ScriptedAnswer { status, reason: Some(reason.into()), ..ScriptedAnswer::default() }
}

/// A service that gives an attempt half a second, so that silence is noticed soon.
fn impatient() -> Deployment {
    let settings =
        "[gateway]\naccess = \"open\"\n[worker]\napns_attempt_timeout_ms = 500\nfcm_attempt_timeout_ms = 500";
    Deployment::configured(settings, |config| {
        config.replace("[apps.ios]", "[apps.ios]\nping_interval_ms = 200")
    })
}

/// Strikes a provider's connections several times under load; the answers have to be all `OK`, nothing
/// may arrive twice.
async fn nothing_is_noticed_of(blows: &[Blow]) {
    for (provider, push) in BOTH {
        let deployment = Deployment::start();
        deployment.simulator.conduct(provider, |conduct| conduct.rtt_ms = 5);
        let load = Load::start(&deployment, push, 16);
        for round in 1..=3 {
            for blow in blows {
                let before = load.answered();
                eventually("load is answered", || load.answered() >= before + 50 * round).await;
                deployment.simulator.strike(provider, *blow);
            }
        }
        let before = load.answered();
        eventually("load is answered", || load.answered() >= before + 100).await;

        let answers = load.stop().await;

        answers.assert_all_ok();
        let stats = deployment.simulator.stats();
        assert_eq!((stats.accepted, stats.duplicates), (answers.ok(), 0), "{provider:?}");
    }
}

#[tokio::test]
async fn a_goaway_costs_no_push_whatever_its_form() {
    nothing_is_noticed_of(&[Blow::GoAway, Blow::GoAwayText]).await;
}

#[tokio::test]
async fn a_goaway_that_covers_no_open_request_costs_no_push() {
    nothing_is_noticed_of(&[Blow::GoAwayUnprocessed]).await;
}

#[tokio::test]
async fn streams_that_are_taken_away_and_given_back_cost_no_push() {
    nothing_is_noticed_of(&[Blow::Streams { streams: 1 }, Blow::Streams { streams: 100 }]).await;
}

#[tokio::test]
async fn requests_beyond_apples_streams_are_refused_or_end_the_connection_and_cost_no_push() {
    for excess in [Excess::Refuse, Excess::GoAway] {
        let deployment = Deployment::start();
        deployment.simulator.conduct(ProviderName::Apns, |conduct| {
            (conduct.streams, conduct.excess, conduct.rtt_ms) = (3, excess, 20);
        });

        at_once(&deployment, (0..60).map(to_iphone)).await.assert_all_ok();

        assert_eq!(deployment.simulator.stats().duplicates, 0, "{excess:?}");
    }
}

#[tokio::test]
async fn an_age_limit_on_connections_costs_no_push() {
    for (provider, push) in BOTH {
        let deployment = Deployment::start();
        deployment.simulator.conduct(provider, |conduct| conduct.max_requests = 20);

        for batch in 0..10 {
            at_once(&deployment, (batch * 30..batch * 30 + 30).map(push)).await.assert_all_ok();
        }

        let stats = deployment.simulator.stats();
        assert_eq!((stats.accepted, stats.duplicates), (300, 0), "{provider:?}");
    }
}

#[tokio::test]
async fn a_goaway_on_an_idle_connection_costs_no_push() {
    let deployment = Deployment::start();
    for round in 0..5 {
        for (provider, push) in BOTH {
            assert_eq!(deployment.push(&push(round)).await.json(), ok());
            deployment.simulator.strike(provider, Blow::GoAway);
            assert_eq!(deployment.push(&push(100 + round)).await.json(), ok());
        }
    }
    assert_eq!(deployment.simulator.stats().duplicates, 0);
}

#[tokio::test]
async fn apples_connections_that_fall_silent_are_replaced_and_nothing_arrives_twice() {
    for blow in [Blow::BlackHole, Blow::Freeze] {
        let deployment = impatient();
        let load = Load::start(&deployment, to_iphone, 8);
        eventually("load is answered", || load.answered() >= 50).await;

        deployment.simulator.strike(ProviderName::Apns, blow);

        let before = deployment.simulator.stats().accepted;
        eventually("pushes go on", || deployment.simulator.stats().accepted >= before + 100).await;
        let answers = load.stop().await;
        answers.assert_all_ok();
        let stats = deployment.simulator.stats();
        assert_eq!((stats.accepted, stats.duplicates), (answers.ok(), 0), "{blow:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_that_fell_silent_is_found_by_its_ping() {
    let deployment = impatient();
    assert_eq!(deployment.push(&to_iphone(1)).await.json(), ok());
    eventually("PINGs are sent", || deployment.simulator.stats().pings > 0).await;

    deployment.simulator.strike(ProviderName::Apns, Blow::BlackHole);

    eventually("the silence is noticed", || deployment.service.log().contains("no PING was answered")).await;
    assert_eq!(deployment.push(&to_iphone(2)).await.json(), ok());
}

#[tokio::test]
async fn googles_connections_that_fall_silent_are_replaced() {
    for blow in [Blow::BlackHole, Blow::Freeze] {
        let deployment = impatient();
        assert_eq!(deployment.push(&to_android(999)).await.json(), ok());
        deployment.simulator.strike(ProviderName::Fcm, blow);
        let load = Load::start(&deployment, to_android, 4);

        let before = deployment.simulator.stats().accepted;
        eventually("pushes go on", || deployment.simulator.stats().accepted >= before + 20).await;

        let answers = load.stop().await;
        let stats = deployment.simulator.stats();
        assert_eq!((stats.accepted, stats.duplicates), (answers.ok() + 1, 0), "{blow:?}");
        let late = |answer: &&Value| !answer["error"].as_str().unwrap().starts_with("provider_down: ");
        assert!(!answers.others().iter().any(late), "{:?}", answers.others());
    }
}

#[tokio::test]
async fn google_is_never_asked_by_ping_without_a_request() {
    let deployment = Deployment::configured(ONE_THREAD, |config| {
        config.replace("[apps.ios]", "[apps.ios]\nping_interval_ms = 200")
    });
    assert_eq!(deployment.push(&to_android(0)).await.json(), ok());
    // Apple's connection, whose PINGs come every 200 ms, tells the time.
    assert_eq!(deployment.push(&to_iphone(0)).await.json(), ok());
    eventually("time passes", || deployment.simulator.stats().pings >= 5).await;

    assert_eq!(deployment.push(&to_android(1)).await.json(), ok());
    let stats = deployment.simulator.stats();
    assert_eq!(stats.fcm_connections, 2, "one for the access token, one for both pushes");
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_is_lost_is_tried_again_under_the_same_apns_id() {
    for action in [Action::Half, Action::Reset, Action::Close] {
        let deployment = Deployment::start();
        let lost = ScriptedAnswer {
            status: 200,
            body: Some("{}".into()),
            action: Some(action),
            ..ScriptedAnswer::default()
        };
        deployment.script(IOS_TOKEN, vec![lost]);

        let answer = deployment.push(&ios(json!({}))).await.json();

        assert_eq!(answer, ok(), "{action:?}");
        let ids: Vec<_> = deployment.received().iter().map(|it| it.headers["apns-id"].clone()).collect();
        if action != Action::Half {
            assert_eq!(ids.len(), 2, "{action:?}");
            assert_eq!(ids[0], ids[1]);
        }
    }
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
    assert_eq!(deployment.simulator.stats().resends_after_refusal, 0);
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
    assert!(stats.apns_connections <= 4 && stats.provider_tokens <= 2, "{stats:?}");
    assert!(deployment.service.log().contains("ExpiredProviderToken"));
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
async fn a_pause_that_a_provider_asks_for_is_never_cut_short_in_whatever_form_it_comes() {
    let deployment = Deployment::start();
    let values = [
        "1",
        "0",
        "-5",
        "120",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Fri, 31 Dec 2066 23:59:59 GMT",
        "soon",
        "99999999999999999999",
        "",
    ];
    for (number, value) in (0..).zip(values) {
        for (provider, push) in BOTH {
            let token = push(number)["device_id"].as_str().unwrap().to_owned();
            let busy = ScriptedAnswer { retry_after: Some(value.into()), ..says(503, "UNAVAILABLE") };
            deployment.simulator.script(Script {
                token,
                provider: Some(provider),
                answers: vec![busy].into(),
                ..Script::default()
            });

            let answer = deployment.push(&push(number)).await.json();

            let told = answer["status"] == "FAIL" || answer == ok();
            assert!(told, "{provider:?} {value:?} {answer}");
        }
    }
    let stats = deployment.simulator.stats();
    assert_eq!((stats.early_resends, stats.resends_after_refusal), (0, 0));
}

#[tokio::test]
async fn a_device_that_gets_too_many_pushes_is_told_as_busy_and_no_other() {
    let deployment = Deployment::start();
    for (provider, push) in BOTH {
        deployment.simulator.conduct(provider, |conduct| conduct.device_per_minute = 2);
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(deployment.push(&push(7)).await.json());
        }

        assert_eq!(answers[..2], [ok(), ok()]);
        assert!(answers[2]["error"].as_str().unwrap().starts_with("provider_busy: "), "{answers:?}");
        assert_eq!(deployment.push(&push(8)).await.json(), ok());
    }
}

#[tokio::test]
async fn a_project_over_its_quota_is_paused_as_a_whole_and_apple_is_not() {
    let deployment = Deployment::start();
    deployment.simulator.conduct(ProviderName::Fcm, |conduct| conduct.quota_per_minute = 10);

    let mut sent = Vec::new();
    for number in 0..30 {
        sent.push(deployment.push(&to_android(number)).await.json());
    }

    assert!(sent[..10].iter().all(|answer| *answer == ok()));
    let busy = |answer: &Value| answer["error"].as_str().unwrap().starts_with("provider_busy: ");
    assert!(sent[10..].iter().all(busy), "{sent:?}");
    assert_eq!(deployment.simulator.stats().fcm_requests, 11, "nothing is sent during the pause");
    assert_eq!(deployment.push(&to_iphone(1)).await.json(), ok());
}

#[tokio::test]
async fn a_provider_out_of_order_is_told_at_once_and_tried_until_it_works() {
    let deployment = Deployment::start();
    let broken = Script {
        token: "*".into(),
        provider: Some(ProviderName::Apns),
        answers: vec![says(503, "ServiceUnavailable")].into(),
        repeat: true,
        ..Script::default()
    };
    deployment.simulator.script(broken.clone());
    for number in 0..100 {
        assert!(deployment.push(&to_iphone(number)).await.error().starts_with("provider_down: "));
    }
    let sent = deployment.simulator.stats().apns_requests;
    assert!(sent < 60, "{sent} of 100 pushes were sent to a broken provider");
    assert_eq!(deployment.push(&to_android(1)).await.json(), ok());

    deployment.simulator.script(Script { answers: vec![says(200, "")].into(), ..broken });

    let load = Load::start(&deployment, to_iphone, 1);
    eventually("a try succeeds", || deployment.simulator.stats().accepted > 10).await;
    load.stop().await;
    assert_eq!(deployment.push(&to_iphone(1000)).await.json(), ok());
}

#[tokio::test]
async fn many_bad_tokens_slow_apple_down_and_end_connections_but_every_push_gets_its_answer() {
    let deployment = Deployment::start();
    deployment.simulator.conduct(ProviderName::Apns, |conduct| conduct.bad_tokens = 5);
    let bad = Script {
        token: "00000000*".into(),
        answers: vec![says(400, "BadDeviceToken")].into(),
        repeat: true,
        percent: 30,
        ..Script::default()
    };
    deployment.simulator.script(bad);

    let answers = at_once(&deployment, (0..200).map(to_iphone)).await;

    let removed = answers.0.iter().filter(|answer| answer["status"] == "REMOVE").count() as u64;
    assert_eq!(answers.ok() + removed, 200, "{:?}", answers.others());
    assert!(removed > 20, "{removed}");
}

#[tokio::test]
async fn a_message_to_google_is_tried_again_on_5xx_and_never_on_a_final_answer() {
    let deployment = Deployment::start();
    for answers in [vec![says(500, "INTERNAL"), says(503, "UNAVAILABLE")], vec![says(502, "")]] {
        deployment.script("android:APA91b-token_1", answers);
        deployment.push(&android(json!({ "ack_id": "a" }))).await;
    }
    deployment.script("android:APA91b-token_1", vec![says(400, "INVALID_ARGUMENT")]);
    deployment.push(&android(json!({ "ack_id": "b" }))).await;

    assert_eq!(deployment.simulator.stats().resends_after_refusal, 0);
}
