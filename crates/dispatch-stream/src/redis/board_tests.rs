//! What processes tell each other through a real Redis, and the rates that they share.

use std::time::Duration;

use redis::cmd;

use super::board::BUCKET;
use super::rig::Server;
use super::tests::seconds;
use crate::{AppState, Board, Evidence, Lease, ProcessState, Summary};

#[tokio::test]
async fn processes_know_of_each_other_by_a_sum_that_one_of_them_makes() {
    let server = Server::start();
    server.admin(&cmd("PING")).await;
    let [one, two] = ["one", "two"].map(|name| Board::new(name, &[server.lane("worker")]));
    let admin = Board::new("admin", &[server.lane("admin")]);
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
async fn what_workers_have_seen_of_an_app_adds_up_whatever_their_clocks_and_the_lanes_say() {
    let server = Server::start();
    server.admin(&cmd("PING")).await;
    let [one, two] = ["one", "two"].map(|name| Board::new(name, &[server.lane("worker")]));
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

    // The lane's clock goes back by an hour: what it has written lies ahead.
    let moment = (seconds(&server).await + 3600) * 1000;
    let mut set = cmd("HSET");
    set.arg("hpns:guard:ios").arg("l").arg(moment).arg("p").arg(moment).arg("o").arg(30_000);
    server.admin(&set).await;
    let heard = two.exchange(&seen(0, 0, None, 0)).await[0].unwrap();
    assert_eq!(heard.accepted_ago.unwrap().as_secs(), 0);
    assert!(heard.paused <= Duration::from_secs(30), "{heard:?}");
}

#[tokio::test]
async fn a_rate_survives_a_lane_whose_clock_goes_back() {
    let server = Server::start();
    server.admin(&cmd("PING")).await;
    let board = Board::new("one", &[server.lane("worker")]);
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
    let board = Board::new("one", &[lane]);

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
    let boards: Vec<_> = (0..8).map(|n| Board::new(&n.to_string(), &[server.lane("worker")])).collect();
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

/// Every moment that a lane keeps for the board goes back by so many seconds: as if its clock had gone forward.
const SHIFT: &str = r"
local seconds, length = tonumber(ARGV[1]), tonumber(ARGV[2])
local text = function(number) return string.format('%.0f', number) end
redis.call('SET', KEYS[1], text(redis.call('GET', KEYS[1]) - seconds * 1000000))
local fields = redis.call('HGETALL', KEYS[2])
redis.call('DEL', KEYS[2])
for f = 1, #fields, 2 do
  local name, value = fields[f], fields[f + 1]
  local kind, bucket = string.match(name, '^([da])(%d+)$')
  if kind then name = kind .. text(bucket - math.floor(seconds * 1000 / length)) end
  if name == 'l' or name == 'p' then value = text(value - seconds * 1000) end
  redis.call('HSET', KEYS[2], name, value)
end";

#[tokio::test]
async fn every_moment_on_the_board_bears_a_clock_that_steps() {
    for step in [-86_400, -3600, -2, 2, 3600, 86_400] {
        let server = Server::start();
        server.admin(&cmd("PING")).await;
        let [one, two] = ["one", "two"].map(|name| Board::new(name, &[server.lane("worker")]));
        let app = "ios".to_owned();
        let seen = |dead, paused| Evidence { dead, accepted: dead, accepted_ago: None, paused };
        one.exchange(&[(app.clone(), seen(7, Duration::from_secs(30)))]).await;
        let Some(Lease::Granted(_)) = one.lease("fcm", 1000.0, 100, 100).await else { panic!() };

        let mut shift = cmd("EVAL");
        shift
            .arg(SHIFT)
            .arg(2)
            .arg("hpns:rl:fcm")
            .arg("hpns:guard:ios")
            .arg(step)
            .arg(BUCKET.as_secs() * 1000);
        server.admin(&shift).await;

        // A rate grants no more than its burst, and lets nobody wait for longer than a turn takes.
        match two.lease("fcm", 1000.0, 100, 1000).await.unwrap() {
            Lease::Granted(turns) => assert!(turns <= 100, "{step}: {turns}"),
            Lease::Wait(time) => assert!(time <= Duration::from_millis(2), "{step}: {time:?}"),
        }
        // A pause is never longer than it was told, and evidence is neither made up nor kept for ever.
        let heard = two.exchange(&[(app.clone(), seen(0, Duration::ZERO))]).await[0].unwrap();
        assert!(heard.paused <= Duration::from_secs(30), "{step}: {heard:?}");
        assert!(heard.dead <= 7 && heard.accepted <= 7, "{step}: {heard:?}");
        // And what is told after it holds.
        two.exchange(&[(app.clone(), seen(2, Duration::from_secs(20)))]).await;
        let heard = one.exchange(&[(app.clone(), seen(0, Duration::ZERO))]).await[0].unwrap();
        assert!(heard.paused > Duration::from_secs(15) && heard.dead >= 2, "{step}: {heard:?}");
    }
}
