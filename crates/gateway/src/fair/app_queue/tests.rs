//! Laws of the line, with callers that hold their places until they are told to leave.

use tokio::task::JoinSet;
use uuid::Uuid;

use super::*;

const WINDOW: usize = 256;

fn tenant(number: u128) -> TenantId {
    TenantId::from_uuid(Uuid::from_u128(number))
}

fn a_line() -> Arc<AppQueue> {
    Arc::new(AppQueue::new(&AppId::new("ios"), Share::default(), true))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// Takes every place of the window, for one tenant.
async fn full(line: &Arc<AppQueue>, who: TenantId) -> Vec<DispatchPermit> {
    let mut places = Vec::new();
    for _ in 0..WINDOW {
        places.push(line.enter(who, TrafficClass::Message, 1, soon()).await.unwrap());
    }
    places
}

/// Lets somebody wait in the background; the number comes back with the place.
async fn waits(
    line: &Arc<AppQueue>,
    all: &mut JoinSet<(u32, Result<DispatchPermit, FailReason>)>,
    who: TenantId,
    class: TrafficClass,
    number: u32,
) {
    let line = Arc::clone(line);
    all.spawn(async move { (number, line.enter(who, class, 1, soon()).await) });
    tokio::task::yield_now().await;
}

/// Gives one place back after another, and returns who got one, in order.
async fn order(
    places: Vec<DispatchPermit>,
    all: &mut JoinSet<(u32, Result<DispatchPermit, FailReason>)>,
) -> Vec<u32> {
    let mut order = Vec::new();
    let mut places: std::collections::VecDeque<_> = places.into();
    while let (Some(place), false) = (places.pop_front(), all.is_empty()) {
        place.release(DispatchFeedback::Unknown);
        let (number, got) = all.join_next().await.unwrap().unwrap();
        places.push_back(got.unwrap());
        order.push(number);
    }
    for place in places {
        place.release(DispatchFeedback::Unknown);
    }
    order
}

#[tokio::test(start_paused = true)]
async fn a_thousand_at_once_of_one_tenant_are_not_refused() {
    let line = a_line();
    let mut all = JoinSet::new();
    for _ in 0..1000 {
        let line = Arc::clone(&line);
        all.spawn(async move {
            let place = line.enter(tenant(1), TrafficClass::Message, 1, soon()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            place.release(DispatchFeedback::Completed {
                took: Duration::from_millis(20),
                queue_delay: Duration::ZERO,
            });
        });
    }

    all.join_all().await;

    assert_eq!(line.lock().under_way, 0);
}

#[tokio::test(start_paused = true)]
async fn callers_without_a_licence_have_a_tenth_of_the_window_while_licensed_ones_wait() {
    let line = a_line();
    let places = full(&line, tenant(1)).await;
    let mut all = JoinSet::new();
    for number in 0..200 {
        waits(&line, &mut all, TenantId::unlicensed(number.into()), TrafficClass::Message, 1000 + number)
            .await;
    }
    for number in 0..300 {
        waits(&line, &mut all, tenant(2), TrafficClass::Message, number).await;
    }

    let mut let_in = Vec::new();
    for place in places {
        place.release(DispatchFeedback::Unknown);
        let_in.push(all.join_next().await.unwrap().unwrap());
    }

    let unlicensed = let_in.iter().filter(|(number, _)| *number >= 1000).count();
    assert_eq!(unlicensed, WINDOW / 10);
    for (_, place) in let_in {
        place.unwrap().release(DispatchFeedback::Unknown);
    }
}

#[tokio::test(start_paused = true)]
async fn only_where_there_are_tenants_is_one_of_them_limited() {
    for (has_tenants, most) in [(true, MAX_QUEUED_PER_TENANT), (false, MAX_QUEUED)] {
        let line = Arc::new(AppQueue::new(&AppId::new("ios"), Share::default(), has_tenants));
        let _places = full(&line, tenant(1)).await;
        let mut all = JoinSet::new();
        for number in 0..9000 {
            waits(&line, &mut all, tenant(1), TrafficClass::Message, number).await;
        }

        assert_eq!(line.lock().waiting(), most);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_waits_behind_nobody_goes_before_the_crowd_of_another() {
    let line = a_line();
    let places = full(&line, tenant(1)).await;
    let mut all = JoinSet::new();
    for number in 0..100 {
        waits(&line, &mut all, tenant(1), TrafficClass::Message, number).await;
    }
    waits(&line, &mut all, tenant(2), TrafficClass::Message, 1000).await;

    let order = order(places, &mut all).await;

    // The first tenant has more than its share of the window, so the other is first.
    assert_eq!((order[0], order[1], order.len()), (1000, 0, 101));
}

#[tokio::test(start_paused = true)]
async fn calls_go_first_and_badges_keep_a_tenth() {
    let line = a_line();
    let places = full(&line, tenant(1)).await;
    let mut all = JoinSet::new();
    for number in 0..20 {
        waits(&line, &mut all, tenant(2), TrafficClass::Background, 200 + number).await;
        waits(&line, &mut all, tenant(2), TrafficClass::Message, 100 + number).await;
    }
    waits(&line, &mut all, tenant(3), TrafficClass::Call, 0).await;

    let order = order(places, &mut all).await;

    assert_eq!(order[0], 0);
    let badges = order[..20].iter().filter(|number| **number >= 200).count();
    assert_eq!(badges, 1, "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_that_calls_itself_calls_takes_no_more_than_its_share() {
    let line = a_line();
    let places = full(&line, tenant(1)).await;
    let mut all = JoinSet::new();
    for number in 0..40 {
        waits(&line, &mut all, tenant(1), TrafficClass::Call, number).await;
    }
    for number in 0..10 {
        waits(&line, &mut all, tenant(2 + u128::from(number)), TrafficClass::Message, 1000 + number).await;
    }

    let order = order(places, &mut all).await;

    assert!(order[..10].iter().all(|number| *number >= 1000), "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn who_has_nothing_waiting_is_let_wait_also_when_others_have_filled_the_line() {
    let line = a_line();
    let _places = full(&line, tenant(1)).await;
    let mut all = JoinSet::new();
    for number in 0..9000 {
        waits(&line, &mut all, tenant(u128::from(number % 5)), TrafficClass::Message, number).await;
    }
    let before = line.lock().waiting();

    waits(&line, &mut all, tenant(99), TrafficClass::Message, 0).await;

    assert_eq!((before, line.lock().waiting()), (MAX_QUEUED, MAX_QUEUED + 1));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_waiting_loses_no_place() {
    let line = a_line();
    let places = full(&line, tenant(1)).await;
    let mut all = JoinSet::new();
    for number in 0..50 {
        waits(&line, &mut all, tenant(2), TrafficClass::Message, number).await;
    }

    all.abort_all();
    while all.join_next().await.is_some() {}
    for place in places {
        drop(place);
    }

    assert_eq!(line.lock().under_way, 0);
    assert!(line.lock().tenants.is_empty());
    assert_eq!(full(&line, tenant(3)).await.len(), WINDOW);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_would_wait_past_its_time_is_refused_at_once() {
    let line = a_line();
    // A push usually takes a second.
    for _ in 0..3 {
        let mut places = Vec::new();
        for _ in 0..30 {
            places.push(line.enter(tenant(1), TrafficClass::Message, 1, soon()).await.unwrap());
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        for place in places {
            place.release(DispatchFeedback::Completed {
                took: Duration::from_secs(1),
                queue_delay: Duration::ZERO,
            });
        }
    }
    let _places = full(&line, tenant(1)).await;

    let asked = Instant::now();
    let late = Instant::now() + Duration::from_millis(500);
    let refused = line.enter(tenant(2), TrafficClass::Message, 1, late).await;

    assert_eq!((refused.err(), asked.elapsed()), (Some(FailReason::Busy), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_refused_when_its_time_is_over() {
    let line = a_line();
    let _places = full(&line, tenant(1)).await;

    let refused = line.enter(tenant(2), TrafficClass::Message, 1, soon()).await;

    assert_eq!(refused.err(), Some(FailReason::Busy));
}
