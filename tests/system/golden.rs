//! The golden cases: a request of a stock server, and the exact request that the provider gets.
//! A iOS, F Android, V validation; `keep` is what the peer does, `mend` is where we do better.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::harness::Deployment;

fn case(id: &str) -> Value {
    static CASES: OnceLock<Vec<Value>> = OnceLock::new();
    let cases =
        CASES.get_or_init(|| serde_json::from_str(include_str!("../golden/mattermost.json")).unwrap());
    cases.iter().find(|case| case["id"] == id).unwrap_or_else(|| panic!("no case {id}")).clone()
}

async fn holds(name: &str) {
    let (id, verdict) = name.split_once('_').unwrap();
    let case = case(&id.to_uppercase());
    assert_eq!(case["verdict"], verdict);
    let deployment = Deployment::start();

    let answer = deployment.push(&case["request"]).await;

    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), case["answer"]);
    let received = deployment.received();
    let Some(one) = received.first() else {
        assert!(case.get("apns").is_none() && case.get("fcm").is_none(), "nothing was sent");
        return;
    };
    assert_eq!(received.len(), 1);
    assert_eq!(one.token, case["request"]["device_id"]);
    if let Some(expected) = case.get("apns") {
        let sent = json!({
            "topic": one.headers["apns-topic"],
            "push_type": one.headers["apns-push-type"],
            "priority": one.headers["apns-priority"],
            "body": one.body,
        });
        assert_eq!(&sent, expected);
    } else {
        assert_eq!(
            one.path,
            format!("/v1/projects/{}/messages:send", case["fcm"]["project"].as_str().unwrap())
        );
        assert_eq!(one.body["message"]["data"], case["fcm"]["data"]);
    }
}

macro_rules! golden {
    ($($name:ident)+) => {
        $(#[tokio::test]
        async fn $name() {
            holds(stringify!($name)).await;
        })+

        #[test]
        fn every_case_of_the_file_is_a_test() {
            let cases: Vec<Value> = serde_json::from_str(include_str!("../golden/mattermost.json")).unwrap();
            assert_eq!(cases.len(), [$(stringify!($name)),+].len());
        }
    };
}

golden! {
    a01_keep a02_keep a03_keep a04_keep a05_keep a06_keep a07_keep a08_keep a09_keep a10_keep a11_keep a12_keep
    a13_keep a14_keep a15_keep a16_keep a17_keep a18_keep a19_mend a20_keep a21_keep a22_keep a23_keep a24_keep
    a25_keep a26_keep a27_keep a28_keep a29_keep a30_keep a31_keep a32_mend a33_keep a34_mend
    f01_keep f02_keep f03_keep f04_keep f05_keep f06_keep f07_keep f08_keep f09_keep f10_keep f11_keep
    v01_keep v02_keep v03_keep v04_keep v05_keep v06_keep v07_keep v08_keep v09_keep v10_keep v11_keep v12_keep
}
