//! The laws of buckets and roots.

use super::*;

fn name(number: u8) -> RowName {
    RowName::key(&number.to_string())
}

proptest::proptest! {
    #[test]
    fn a_bucket_is_what_was_put_into_it_and_was_not_taken_out(steps: Vec<(u8, bool)>) {
        let (mut bucket, mut model) = (Bucket::default(), std::collections::BTreeMap::new());
        for (number, is_put) in steps {
            let hash = is_put.then_some([number; 32]);
            bucket.put(name(number), hash);
            match hash {
                Some(hash) => drop(model.insert(name(number), hash)),
                None => drop(model.remove(&name(number))),
            }
        }
        assert!(bucket.names().eq(model.keys().copied()));
        assert!((0..=u8::MAX).all(|number| bucket.get(name(number)) == model.get(&name(number)).copied()));
        assert_eq!(Bucket::opened(bucket.bytes().to_vec(), &bucket.hash()), Some(bucket.clone()));
    }
}

#[test]
fn a_root_is_believed_only_under_a_key_that_is_known_and_as_it_was_signed() {
    let set = |byte| KeySet::of_master(&SecretBytes::new(vec![byte; 32]), &[]);
    let (keys, others) = (RightsKeys::of(&set(1)), RightsKeys::of(&set(2)));
    let mut root = Root::empty(TreeKind::Licences);
    root.revision = 7;
    root.set(5, [9; 32]);
    let stored = || root.signed(&keys).unwrap();
    let opens = |stored: &StoredRoot, keys| Root::opened(TreeKind::Licences, stored, keys).is_ok();

    assert_eq!(Root::opened(TreeKind::Licences, &stored(), &keys).unwrap(), root);
    assert!(!opens(&stored(), &others));
    assert!(Root::opened(TreeKind::Tokens, &stored(), &keys).is_err());
    for tamper in [
        |stored: &mut StoredRoot| stored.revision += 1,
        |stored: &mut StoredRoot| stored.hashes[0] ^= 1,
        |stored: &mut StoredRoot| stored.hashes.truncate(32),
        |stored: &mut StoredRoot| stored.key = 2,
        |stored: &mut StoredRoot| stored.signature[0] ^= 1,
    ] {
        let mut stored = stored();
        tamper(&mut stored);
        assert!(!opens(&stored, &keys));
    }
    // A gateway has what proves, and nothing that signs.
    let mut check = KeySet::default();
    check.merge(KeySet::parse(&set(1).lines(KeyPurpose::RightsCheck)).unwrap()).unwrap();
    let gateway = RightsKeys::of(&check);
    assert!(opens(&stored(), &gateway) && root.signed(&gateway).is_none());
}
