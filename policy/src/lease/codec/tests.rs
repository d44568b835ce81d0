//! A bucket's bytes: written and read again, and whatever else is read refused.

use proptest::prelude::*;

use super::*;
use crate::window::Window;

fn account() -> impl Strategy<Value = Account> {
    let numbers = prop::array::uniform10(any::<u64>());
    let rest = prop::collection::vec(any::<(u64, u64)>(), 0..5);
    let level = any::<(u128, u64, u64)>();
    (".{0,8}|.{36,60}", 0..5_u8, numbers, rest, level).prop_map(|(limit, kind, n, entries, level)| {
        let (start_ms, end_ms) = (n[0].cast_signed(), n[1].cast_signed());
        let kind = match kind {
            0 => AccountKind::Quota,
            1 => AccountKind::Rate,
            2 => AccountKind::Bucket { refill_ms: level.1 },
            3 => AccountKind::Concurrency,
            _ => AccountKind::Capacity,
        };
        let mut account = Account {
            granted: n[2],
            returned: n[3],
            taken: n[4],
            freed: n[5],
            unleased: n[6],
            empty_until_ms: n[7],
            told: n[8],
            used_at_ms: n[9],
            ..Account::new(&limit, kind, Window { start_ms, end_ms })
        };
        match kind {
            AccountKind::Rate | AccountKind::Concurrency => account.rest = Rest { entries },
            AccountKind::Bucket { .. } => {
                let (owed, at_ms, cap) = level;
                account.level = Level { owed, refill_ms: cap, at_ms, cap };
            }
            AccountKind::Capacity => account.removed = level.2,
            AccountKind::Quota => {}
        }
        account
    })
}

fn thing() -> impl Strategy<Value = ThingEvent> {
    (".{0,8}", any::<([u8; 16], u64, u64, bool)>()).prop_map(|(meter, (id, seq, units, present))| {
        ThingEvent { seq, meter: meter.into(), id: ThingId::from_bytes(id), units, present }
    })
}

fn usage() -> impl Strategy<Value = Usage> {
    (".{0,8}", ".{0,60}", any::<(i64, u64, u64)>()).prop_map(|(meter, labels, (hour_ms, taken, freed))| {
        Usage { meter: meter.into(), hour_ms, labels: labels.into(), taken, freed }
    })
}

fn record(subject: String) -> impl Strategy<Value = Record> {
    let head = (any::<[u8; 16]>(), any::<(u64, bool, u64)>(), any::<Vec<u8>>(), ".{0,8}");
    let lists = (
        prop::collection::vec(account(), 0..4),
        prop::collection::vec(usage(), 0..4),
        prop::collection::vec(thing(), 0..4),
    );
    (head, lists).prop_map(
        move |((session, numbers, entitlements, tier_claim), (accounts, usage, things))| Record {
            subject: subject.clone(),
            session: SessionId(session),
            born_ms: numbers.0,
            known: numbers.1,
            revision: numbers.2,
            entitlements,
            tier_claim,
            accounts,
            usage,
            things_seq: numbers.0,
            things,
        },
    )
}

/// Records of different subjects, one bucket's worth.
fn records() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::btree_set(".{0,6}", 0..5)
        .prop_flat_map(|subjects| subjects.into_iter().map(record).collect::<Vec<_>>())
}

fn bytes_of(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        let mut out = Vec::new();
        Bucket::find(&bytes, &record.subject).unwrap().write(Some(record), &mut out);
        bytes = out;
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_whatever_else_is_in_the_bucket(records in records(), taken in any::<u64>()) {
        let bytes = bytes_of(&records);
        prop_assert_eq!(&Bucket::records(&bytes).unwrap(), &records);
        for (at, record) in records.iter().enumerate() {
            let bucket = Bucket::find(&bytes, &record.subject).unwrap();
            prop_assert_eq!(bucket.record(), Ok(Some(record.clone())));
            let mut changed = records.clone();
            changed[at].born_ms = taken;
            changed[at].usage.push(Usage::default());
            let mut out = vec![1, 2, 3];
            bucket.write(Some(&changed[at]), &mut out);
            prop_assert_eq!(&Bucket::records(&out).unwrap(), &changed);
            bucket.write(None, &mut out);
            changed.remove(at);
            prop_assert_eq!(&Bucket::records(&out).unwrap(), &changed);
        }
        prop_assert!(Bucket::find(&bytes, "longer than any subject").unwrap().record().unwrap().is_none());
    }

    #[test]
    fn cut_bytes_are_refused(record in record("user:alice".to_owned()), other in record("user:bob".to_owned())) {
        let whole = bytes_of(&[record, other]);
        let first = 4 + u32::from_le_bytes(whole[..4].try_into().unwrap()) as usize;
        for length in 1..whole.len() {
            if length != first {
                prop_assert_eq!(Bucket::records(&whole[..length]), Err(CorruptBucket), "{} bytes", length);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(Bucket::records(&bytes));
        if let Ok(bucket) = Bucket::find(&bytes, "user:alice") {
            drop(bucket.record());
        }
    }

    #[test]
    fn damaged_bytes_are_read_or_refused(records in records(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = bytes_of(&records);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            drop(Bucket::records(&bytes));
            for record in &records {
                if let Ok(bucket) = Bucket::find(&bytes, &record.subject) {
                    drop(bucket.record());
                }
            }
        }
    }
}

#[test]
fn an_account_deep_in_debt_stays_small_and_readable() {
    let kind = AccountKind::Rate;
    let mut account = Account { limit: "calls.1m".into(), kind, ..Account::default() };
    for mono_ms in 0..200_000 {
        account.take(1, 86_400_000, 10, mono_ms);
    }
    assert_eq!(account.rest.units(), 200_000);
    let mut record = Record::new("user:alice", SessionId::default(), 0);
    record.accounts.push(account);
    let bytes = bytes_of(std::slice::from_ref(&record));
    assert!(bytes.len() < 4_096, "{} bytes", bytes.len());
    assert_eq!(Bucket::records(&bytes), Ok(vec![record]));
}
