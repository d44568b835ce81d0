//! Subjects' records in the memory that all workers share, read and swapped whole.
//!
//! Shared data can never be removed and is not bounded by the proxy, so subjects share a fixed number of buckets, and
//! records that are idle are dropped from them. Decides nothing about what is in a record.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;
use tollgate_policy::lease::{Bucket, Record};

use crate::host::Host;

/// Buckets: with 100,000 subjects one holds 1.5 records on average. Each costs the proxy about 100 bytes once touched.
pub const BUCKETS: u32 = 65_536;

/// Most bytes in a bucket; a subject that would not fit cannot be decided. A record takes some 500.
const BUCKET_BYTES_MAX: usize = 65_536;

/// Swaps tried before the record counts as contended. Each loss means that another worker got on.
pub const SWAPS_MAX: u32 = 200;

/// The record could not be changed: contended, full, or not readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stuck;

/// What an update leaves behind.
pub enum Change {
    /// The record as it was.
    Keep,
    /// This record.
    Put(Record),
    /// No record.
    Remove,
}

/// The place of a subject's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

/// Where records are kept. The seed makes it impractical to choose subjects that share a bucket.
#[derive(Debug, Clone, Copy)]
pub struct Records {
    seed: [u8; 16],
}

impl Records {
    /// Records under the seed that this proxy's workers share, made by whoever comes first.
    pub fn open(host: &dyn Host) -> Self {
        const SEED: &str = "tollgate.3.seed";
        for _ in 0..SWAPS_MAX {
            let (seed, cas) = host.shared_get(SEED);
            if let Some(seed) = seed.and_then(|seed| seed.try_into().ok()) {
                return Self { seed };
            }
            let _ = host.shared_swap(SEED, &host.random(), cas);
        }
        Self { seed: [0; 16] }
    }

    /// The place of `subject`.
    pub fn key(&self, subject: &str) -> Key {
        let mut hasher = SipHasher13::new_with_key(&self.seed);
        hasher.write(subject.as_bytes());
        Self::bucket(u32::try_from(hasher.finish() % u64::from(BUCKETS)).unwrap_or(0))
    }

    fn bucket(number: u32) -> Key {
        Key(format!("tollgate.3.{number:04x}"))
    }

    /// Reads, changes and swaps a subject's record until no other worker came in between. `change` may run several times.
    pub fn update<T>(
        host: &dyn Host,
        key: &Key,
        subject: &str,
        mut change: impl FnMut(Option<Record>) -> (Change, T),
    ) -> Result<T, Stuck> {
        let mut out = Vec::new();
        for _ in 0..SWAPS_MAX {
            let (bytes, cas) = host.shared_get(&key.0);
            let bytes = bytes.unwrap_or_default();
            // A bucket that another version of the module wrote has another key; one that cannot be read is a fault.
            let bucket = Bucket::find(&bytes, subject).map_err(|_| Stuck)?;
            let (change, value) = change(bucket.record().map_err(|_| Stuck)?);
            match change {
                Change::Keep => return Ok(value),
                Change::Put(record) => bucket.write(Some(&record), &mut out),
                Change::Remove => bucket.write(None, &mut out),
            }
            if out.len() > BUCKET_BYTES_MAX && out.len() > bytes.len() {
                return Err(Stuck);
            }
            if host.shared_swap(&key.0, &out, cas).is_ok() {
                return Ok(value);
            }
        }
        Err(Stuck)
    }

    /// The subjects in one bucket, for a worker that goes through all of them.
    pub fn subjects_in(host: &dyn Host, number: u32) -> Vec<String> {
        let (bytes, _) = host.shared_get(&Self::bucket(number).0);
        let records = bytes.and_then(|bytes| Bucket::records(&bytes).ok()).unwrap_or_default();
        records.into_iter().map(|record| record.subject).collect()
    }
}
