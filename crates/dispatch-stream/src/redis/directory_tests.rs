//! Tests of the peer directory and of shared rates on a real Redis.

use std::time::Duration;

use redis::cmd;

use super::rig::Server;
use super::tests::seconds;
use super::value;
use crate::{AppState, BoardKeys, Evidence, Lease, PeerDirectory, ProcessState, Summary};

const OTHER: &str = "00000000000000b2 2222222222222222222222222222222222222222222222222222222222222222";

#[tokio::test]
async fn processes_know_of_each_other_by_a_sum_that_one_of_them_makes() {
    let server = Server::start();
    server.admin(&cmd("PING")).await;
    let [one, two] = ["one", "two"].map(|name| server.board(name));
    let admin = PeerDirectory::new("admin", &[server.lane("admin")], &BoardKeys::of(&super::rig::ring()));
    let apps = [("ios".to_owned(), AppState { is_broken: true, ..AppState::default() })].into();
    let state =
        ProcessState { process: "one".into(), is_worker: true, slots: 10, apps, ..ProcessState::default() };
    let other = ProcessState { process: "two".into(), is_gateway: true, ..ProcessState::default() };

    assert_eq!(two.publish(other.clone(), false).await, None, "nobody has added up");
    let sum = Summary { gateways: 1, workers: 1, share: 10, broken: vec!["ios".into()] };
    assert_eq!(one.publish(state.clone(), true).await, Some(sum.clone()));
    assert_eq!(two.publish(other.clone(), false).await, Some(sum));

    assert!(!two.is_watched());
    let states = admin.states().await.unwrap();
    assert!(states.contains(&state) && states.contains(&other) && states.len() == 2, "{states:?}");
    two.publish(other, false).await;
    assert!(two.is_watched());
}

#[tokio::test]
async fn what_workers_have_seen_of_an_app_adds_up() {
    let server = Server::start();
    server.admin(&cmd("PING")).await;
    let [one, two] = ["one", "two"].map(|name| server.board(name));
    let app = "ios".to_owned();
    let seen = |dead, accepted, ago: Option<u64>, paused| {
        let accepted_ago = ago.map(Duration::from_secs);
        [(app.clone(), Evidence { dead, accepted, accepted_ago, paused: Duration::from_secs(paused) })]
    };

    one.exchange(&seen(7, 1, Some(5), 30)).await;
    let heard = two.exchange(&seen(3, 0, None, 0)).await[0].unwrap();
    assert_eq!((heard.dead, heard.accepted), (10, 1));
    assert!((5..8).contains(&heard.accepted_ago.unwrap().as_secs()));
    assert!((25..=30).contains(&heard.paused.as_secs()));
}

#[tokio::test]
async fn nothing_is_believed_that_a_lanes_login_alone_has_written() {
    let server = Server::start();
    server.admin(&cmd("PING")).await;
    let [one, two] = ["one", "two"].map(|name| server.board(name));
    let stranger =
        PeerDirectory::new("stranger", &[server.lane("worker")], &BoardKeys::parse(OTHER).unwrap());
    let app = "ios".to_owned();
    let dead =
        |dead| [(app.clone(), Evidence { dead, paused: Duration::from_hours(1), ..Evidence::default() })];
    let gateway =
        |process: &str| ProcessState { process: process.into(), is_gateway: true, ..ProcessState::default() };

    // Another ring, and what somebody may write who has none: invented, and copied from others.
    stranger.publish(gateway("stranger"), true).await;
    stranger.exchange(&dead(1000)).await;
    one.publish(gateway("one"), false).await;
    one.exchange(&[(app.clone(), Evidence { dead: 2, ..Evidence::default() })]).await;
    let state = server.admin(cmd("GET").arg("hpns:state:one")).await;
    let state = value::bytes(state).unwrap();
    for number in 0..50 {
        let name = format!("gateway-{number}");
        server.admin(cmd("SADD").arg("hpns:states").arg(&name)).await;
        server.admin(cmd("SET").arg(format!("hpns:state:{name}")).arg(&state)).await;
    }
    let word = value::bytes(server.admin(cmd("HGET").arg("hpns:guard:ios").arg("one")).await).unwrap();
    for name in ["three", "four"] {
        server.admin(cmd("HSET").arg("hpns:guard:ios").arg(name).arg(&word)).await;
    }
    server.admin(cmd("HSET").arg("hpns:guard:android").arg("one").arg(&word)).await;
    server.admin(cmd("SET").arg("hpns:watched").arg(1)).await;

    let sum = two.publish(gateway("two"), true).await.unwrap();
    assert_eq!(sum.gateways, 2, "one and two");
    assert!(!two.is_watched());
    let nothing = |app: &str| [(app.to_owned(), Evidence::default())];
    let heard = two.exchange(&nothing("ios")).await[0].unwrap();
    assert_eq!((heard.dead, heard.paused), (2, Duration::ZERO));
    assert_eq!(two.exchange(&nothing("android")).await[0].unwrap().dead, 0);
    // And what nobody believes is taken away.
    let left = server.admin(cmd("HLEN").arg("hpns:guard:ios")).await;
    assert_eq!(value::number(&left), Some(2));
}

#[tokio::test]
async fn a_word_of_long_ago_is_not_heard_again() {
    let server = Server::start();
    server.admin(&cmd("PING")).await;
    let old = server.board("old");
    let state = ProcessState { process: "old".into(), is_gateway: true, ..ProcessState::default() };
    old.publish(state, true).await.unwrap();
    let kept = ["hpns:state:old", "hpns:summary"];
    let mut words = Vec::new();
    for key in kept {
        words.push(value::bytes(server.admin(cmd("GET").arg(key)).await).unwrap());
    }
    // As if the lane's clock had gone on by eleven seconds: the words of now are too old for it.
    let keys = BoardKeys::of(&super::rig::ring());
    for (key, word) in kept.iter().zip(&words) {
        let what = keys.verify(key, word).unwrap();
        let (at, text) = what.split_first_chunk().unwrap();
        let at = u64::from_be_bytes(*at) - 11_000;
        let word = keys.sign(key, &[&at.to_be_bytes()[..], text].concat());
        server.admin(cmd("SET").arg(key).arg(word)).await;
    }

    let new = server.board("new");
    assert_eq!(new.publish(ProcessState::default(), false).await, None, "the sum is an old one");
    let admin = PeerDirectory::new("admin", &[server.lane("admin")], &keys);
    assert_eq!(admin.states().await.unwrap().len(), 1, "the new one's");
}

#[tokio::test]
async fn a_rate_survives_a_lane_whose_clock_goes_back() {
    let server = Server::start();
    server.admin(&cmd("PING")).await;
    let board = server.board("one");
    let Some(Lease::Granted(_)) = board.lease("fcm", 1000.0, 100, 20).await else { panic!() };
    let ahead = (seconds(&server).await + 3600) * 1_000_000;
    server.admin(cmd("SET").arg("hpns:rl:fcm").arg(ahead)).await;

    let Some(Lease::Wait(time)) = board.lease("fcm", 1000.0, 100, 20).await else { panic!() };

    assert!(time <= Duration::from_millis(100), "{time:?}");
}

#[tokio::test]
async fn a_lane_that_hangs_holds_no_rate_back_even_while_it_is_asked_for_other_things() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("redis://{}", silent.local_addr().unwrap());
    let lane = super::Lane::new("silent", &address.into(), "hpns", false, None).unwrap();
    let board = PeerDirectory::new("one", &[lane], &BoardKeys::of(&super::rig::ring()));

    let began = tokio::time::Instant::now();
    let leases = async {
        for _ in 0..3 {
            assert_eq!(board.lease("fcm", 1000.0, 100, 20).await, None);
        }
        began.elapsed()
    };
    let talk = tokio::time::timeout(Duration::from_secs(5), board.publish(ProcessState::default(), false));
    let (took, _) = tokio::join!(leases, talk);

    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn eight_workers_that_lease_a_rate_keep_to_it() {
    let server = Server::start();
    server.admin(&cmd("PING")).await;
    let boards: Vec<_> = (0..8).map(|n| server.board(&n.to_string())).collect();
    let began = tokio::time::Instant::now();
    let end = began + Duration::from_millis(1500);

    let workers = boards.iter().map(|board| async move {
        let mut granted = 0;
        while tokio::time::Instant::now() < end {
            match board.lease("fcm", 1000.0, 100, 20).await.unwrap() {
                Lease::Granted(turns) => granted += turns,
                Lease::Wait(time) => tokio::time::sleep(time).await,
            }
        }
        granted
    });
    let mut all = 0;
    let mut working: Vec<_> = workers.map(Box::pin).collect();
    // All of them make progress together.
    std::future::poll_fn(|context| {
        working.retain_mut(|worker| match worker.as_mut().poll(context) {
            std::task::Poll::Ready(granted) => {
                all += granted;
                false
            }
            std::task::Poll::Pending => true,
        });
        if working.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;

    let ideal = 1000.0 * began.elapsed().as_secs_f64() + 100.0;
    assert!(f64::from(all) <= ideal * 1.05 && f64::from(all) >= ideal * 0.8, "{all} of {ideal}");
}

#[tokio::test]
async fn a_rate_bears_a_clock_that_steps() {
    for step in [-86_400, -3600, -2, 2, 3600, 86_400_i64] {
        let server = Server::start();
        server.admin(&cmd("PING")).await;
        let [one, two] = ["one", "two"].map(|name| server.board(name));
        let Some(Lease::Granted(_)) = one.lease("fcm", 1000.0, 100, 100).await else { panic!() };
        // As if the lane's clock had gone forward.
        let at: i64 =
            value::text(server.admin(cmd("GET").arg("hpns:rl:fcm")).await).unwrap().parse().unwrap();
        server.admin(cmd("SET").arg("hpns:rl:fcm").arg(at - step * 1_000_000)).await;

        // It grants no more than its burst, and lets nobody wait for longer than a turn takes.
        match two.lease("fcm", 1000.0, 100, 1000).await.unwrap() {
            Lease::Granted(turns) => assert!(turns <= 100, "{step}: {turns}"),
            Lease::Wait(time) => assert!(time <= Duration::from_millis(2), "{step}: {time:?}"),
        }
    }
}
