//! Conformance tests of the device ledger and of proven credentials.

use push_domain::{AppId, DeviceId, TenantId};

use super::{Registry, TEST_CONTEXT, a_tenant};
use crate::{DeviceActivity, DeviceState, NewDevices};

pub(crate) async fn devices_are_counted_and_erased(registry: &impl Registry) {
    let tenant = a_tenant(registry, "acme").await;
    let seen = |number: u8, state| DeviceActivity {
        tenant: tenant.id,
        device: DeviceId::from_bytes([number; 32]),
        ..an_activity(10, state)
    };
    let devices = [seen(1, DeviceState::Active), seen(2, DeviceState::Active), seen(3, DeviceState::Removed)];
    registry.ledger().record(&devices).await.unwrap();
    registry.ledger().record(&[an_activity(10, DeviceState::Active)]).await.unwrap();
    let counts = async || {
        let counts = registry.admin().count_devices(tenant.id).await.unwrap();
        counts.into_iter().map(|it| (it.state, it.count)).collect::<Vec<_>>()
    };

    assert_eq!(counts().await, [(DeviceState::Active, 2), (DeviceState::Removed, 1)]);
    let some = [devices[0].device, DeviceId::from_bytes([99; 32])];
    assert_eq!(registry.admin().erase_devices(tenant.id, &some, TEST_CONTEXT).await.unwrap(), 1);
    let admin = registry.admin();
    let order = admin.order_erasure(tenant.id, TEST_CONTEXT).await.unwrap();
    assert_eq!(admin.open_erasures().await.unwrap(), std::slice::from_ref(&order));
    assert_eq!(counts().await.len(), 2, "an order is not its deed");
    assert_eq!(admin.carry_out(&order, TEST_CONTEXT).await.unwrap(), 2);
    assert_eq!(counts().await, []);
    registry.ledger().record(&devices).await.unwrap();
    assert_eq!(admin.carry_out(&order, TEST_CONTEXT).await.unwrap(), 0, "once");
    assert_eq!(counts().await.len(), 2);
    assert_eq!(admin.open_erasures().await.unwrap(), []);
    let done = Some((TEST_CONTEXT.at, 2));
    assert_eq!(admin.erasures_of(tenant.id).await.unwrap(), [crate::Erasure { done, ..order }]);
    let after = registry.admin().tenant(tenant.id).await.unwrap().unwrap();
    assert_ne!(after.device_salt, tenant.device_salt);
    let other = an_activity(10, DeviceState::Active);
    assert!(registry.admin().device(other.tenant, other.device).await.unwrap().is_some());
}

pub(crate) async fn unusual_growth_is_told(registry: &impl Registry) {
    let (busy, usual) = (TenantId::new(), TenantId::new());
    let mut seen = Vec::new();
    let mut add = |tenant, day, count: u8, first: u8| {
        for number in 0..count {
            let mut id = [first; 32];
            id[0] = number;
            let device = DeviceId::from_bytes(id);
            seen.push(DeviceActivity { tenant, device, ..an_activity(day, DeviceState::Active) });
        }
    };
    add(busy, 20, 30, 1);
    add(busy, 15, 10, 2);
    add(usual, 20, 30, 3);
    add(usual, 15, 100, 4);
    add(usual, 3, 200, 5);
    registry.ledger().record(&seen).await.unwrap();

    let growth = registry.admin().unusual_growth(20, 10).await.unwrap();

    assert_eq!(growth, [NewDevices { tenant: busy, today: 30, week_before: 10 }]);
}

fn an_activity(day: u32, state: DeviceState) -> DeviceActivity {
    DeviceActivity {
        tenant: TenantId::from_uuid(uuid::Uuid::from_u128(5)),
        device: DeviceId::from_bytes([9; 32]),
        app: AppId::new("ios").to_string(),
        platform: "apple_rn".into(),
        day,
        state,
        reason: (state == DeviceState::Removed).then(|| "Unregistered".to_owned()),
    }
}

pub(crate) async fn a_device_keeps_its_first_day_and_its_last_state(registry: &impl Registry) {
    let first = an_activity(10, DeviceState::Active);
    let last = an_activity(12, DeviceState::Removed);

    registry.ledger().record(std::slice::from_ref(&first)).await.unwrap();
    registry.ledger().record(std::slice::from_ref(&last)).await.unwrap();
    registry.ledger().record(&[last]).await.unwrap();

    let device = registry.admin().device(first.tenant, first.device).await.unwrap().unwrap();
    assert_eq!((device.first_seen, device.last_seen, device.state), (10, 12, DeviceState::Removed));
    assert_eq!(device.reason.as_deref(), Some("Unregistered"));
    assert_eq!(registry.admin().device(TenantId::new(), first.device).await.unwrap(), None);
}

pub(crate) async fn an_older_sighting_changes_nothing(registry: &impl Registry) {
    let newer = an_activity(12, DeviceState::Removed);

    registry.ledger().record(std::slice::from_ref(&newer)).await.unwrap();
    registry.ledger().record(&[an_activity(11, DeviceState::Active)]).await.unwrap();

    let device = registry.admin().device(newer.tenant, newer.device).await.unwrap().unwrap();
    assert_eq!((device.last_seen, device.state), (12, DeviceState::Removed));
}

pub(crate) async fn devices_are_forgotten_in_time(registry: &impl Registry) {
    let mut seen = Vec::new();
    for (number, day, state) in
        [(1, 9, DeviceState::Active), (2, 10, DeviceState::Active), (3, 10, DeviceState::Removed)]
    {
        let device = DeviceId::from_bytes([number; 32]);
        seen.push(DeviceActivity { device, ..an_activity(day, state) });
    }
    registry.ledger().record(&seen).await.unwrap();

    assert_eq!(registry.ledger().forget(10, 11).await.unwrap(), 2);

    let mut left = Vec::new();
    for activity in &seen {
        left.push(registry.admin().device(activity.tenant, activity.device).await.unwrap().is_some());
    }
    assert_eq!(left, [false, true, false]);
}

pub(crate) async fn credentials_that_were_proven_are_remembered_the_latest_eight_of_each_app(
    registry: &impl Registry,
) {
    let ledger = registry.ledger();
    ledger.prove("other", "one", 1).await.unwrap();
    for day in 1..=10 {
        for _ in 0..2 {
            ledger.prove("ios", &format!("{day:02}"), day).await.unwrap();
        }
    }

    let proofs = ledger.proofs().await.unwrap();

    let of_ios: Vec<_> = proofs.iter().filter(|(app, _)| app == "ios").map(|(_, it)| it.as_str()).collect();
    assert_eq!(of_ios, ["03", "04", "05", "06", "07", "08", "09", "10"]);
    assert!(proofs.contains(&("other".into(), "one".into())));
}
