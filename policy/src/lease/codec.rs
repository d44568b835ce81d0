//! Records as bytes in the proxy's shared memory: a bucket holds the records of all subjects whose hash falls on it.
//!
//! Little-endian, fixed widths, length-prefixed strings; the key that a bucket is stored under carries the layout's
//! version. Reading refuses what is not exactly a bucket. Nothing here allocates more than the bytes it is given say.

use super::account::Account;
use super::bucket::Level;
use super::kind::AccountKind;
use super::name::Name;
use super::record::{Record, SessionId, Usage};
use super::rest::Rest;
use super::things::ThingEvent;
use crate::thing::ThingId;

/// The bytes are not a bucket of this layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the shared record is not of the layout that this version writes")]
pub struct CorruptBucket;

/// A bucket's bytes, with the place of one subject's record in them.
#[derive(Debug)]
pub struct Bucket<'a> {
    before: &'a [u8],
    record: Option<&'a [u8]>,
    after: &'a [u8],
}

impl<'a> Bucket<'a> {
    /// Finds `subject` among the records of a bucket.
    pub fn find(bytes: &'a [u8], subject: &str) -> Result<Self, CorruptBucket> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = bytes.get(at..).ok_or(CorruptBucket)?;
            let (length, body) = rest.split_first_chunk::<4>().ok_or(CorruptBucket)?;
            let length = u32::from_le_bytes(*length) as usize;
            let record = body.get(..length).ok_or(CorruptBucket)?;
            let mut reader = Reader(record);
            if reader.bytes()? == subject.as_bytes() {
                return Ok(Self {
                    before: bytes.get(..at).ok_or(CorruptBucket)?,
                    record: Some(record),
                    after: body.get(length..).ok_or(CorruptBucket)?,
                });
            }
            at += 4 + length;
        }
        Ok(Self { before: bytes, record: None, after: &[] })
    }

    /// The subject's record, if the bucket has one.
    pub fn record(&self) -> Result<Option<Record>, CorruptBucket> {
        self.record.map(read).transpose()
    }

    /// Writes the bucket with `record` in the subject's place (`None`: without it) into `out`, which is cleared first.
    pub fn write(&self, record: Option<&Record>, out: &mut Vec<u8>) {
        out.clear();
        out.reserve(self.before.len() + self.after.len() + 512);
        out.extend_from_slice(self.before);
        if let Some(record) = record {
            write(record, out);
        }
        out.extend_from_slice(self.after);
    }

    /// All records of a bucket.
    pub fn records(bytes: &[u8]) -> Result<Vec<Record>, CorruptBucket> {
        let mut records = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (length, body) = rest.split_first_chunk::<4>().ok_or(CorruptBucket)?;
            let length = u32::from_le_bytes(*length) as usize;
            records.push(read(body.get(..length).ok_or(CorruptBucket)?)?);
            rest = body.get(length..).ok_or(CorruptBucket)?;
        }
        Ok(records)
    }
}

fn write(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    put_bytes(out, record.subject.as_bytes());
    out.extend_from_slice(&record.session.0);
    put_u64(out, record.born_ms);
    out.push(u8::from(record.known));
    put_u64(out, record.revision);
    put_bytes(out, &record.entitlements);
    put_bytes(out, record.tier_claim.as_bytes());
    put_u16(out, record.accounts.len());
    for account in &record.accounts {
        put_account(account, out);
    }
    put_u16(out, record.usage.len());
    for usage in &record.usage {
        put_bytes(out, usage.meter.as_bytes());
        put_bytes(out, usage.labels.as_bytes());
        put_u64s(out, [usage.hour_ms.cast_unsigned(), usage.taken, usage.freed]);
    }
    put_u64(out, record.things_seq);
    put_u16(out, record.things.len());
    for event in &record.things {
        put_bytes(out, event.meter.as_bytes());
        out.extend_from_slice(&event.id.to_bytes());
        put_u64s(out, [event.seq, event.units]);
        out.push(u8::from(event.present));
    }
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(prefix) = out.get_mut(start..start + 4) {
        prefix.copy_from_slice(&length.to_le_bytes());
    }
}

/// What a kind does not use is not written.
fn put_account(account: &Account, out: &mut Vec<u8>) {
    put_bytes(out, account.limit.as_bytes());
    out.push(match account.kind {
        AccountKind::Quota => 0,
        AccountKind::Rate => 1,
        AccountKind::Bucket { .. } => 2,
        AccountKind::Concurrency => 3,
        AccountKind::Capacity => 4,
    });
    put_u64s(
        out,
        [
            account.window_start_ms.cast_unsigned(),
            account.window_end_ms.cast_unsigned(),
            account.granted,
            account.returned,
            account.taken,
            account.freed,
            account.unleased,
            account.empty_until_ms,
            account.told,
            account.used_at_ms,
        ],
    );
    match account.kind {
        AccountKind::Quota => {}
        AccountKind::Capacity => put_u64(out, account.removed),
        AccountKind::Rate | AccountKind::Concurrency => {
            // Few by construction: see [`Rest::add`].
            let entries = account.rest.entries.get(..usize::from(u16::MAX)).unwrap_or(&account.rest.entries);
            put_u16(out, entries.len());
            let start = out.len();
            out.resize(start + entries.len() * 16, 0);
            let (places, _) = out.get_mut(start..).unwrap_or_default().as_chunks_mut::<16>();
            for (place, (end_ms, units)) in places.iter_mut().zip(entries) {
                *place = (u128::from(*end_ms) | u128::from(*units) << 64).to_le_bytes();
            }
        }
        AccountKind::Bucket { refill_ms } => {
            let Level { owed: _, refill_ms: counted_by_ms, at_ms, cap } = account.level;
            put_u64s(out, [refill_ms, counted_by_ms, at_ms, cap]);
            out.extend_from_slice(&account.level.owed.to_le_bytes());
        }
    }
}

fn read(bytes: &[u8]) -> Result<Record, CorruptBucket> {
    let mut reader = Reader(bytes);
    let mut record = Record {
        subject: reader.text()?.to_owned(),
        session: SessionId(reader.array::<16>()?),
        born_ms: reader.u64()?,
        known: reader.array::<1>()? == [1],
        revision: reader.u64()?,
        entitlements: reader.bytes()?.to_vec(),
        tier_claim: reader.text()?.to_owned(),
        ..Record::default()
    };
    let accounts = reader.u16()?;
    // Room for one that the request may open.
    record.accounts.reserve_exact(accounts.min(64) + 1);
    for _ in 0..accounts {
        record.accounts.push(reader.account()?);
    }
    let usage = reader.u16()?;
    record.usage.reserve_exact(usage.min(64) + 1);
    for _ in 0..usage {
        // Without labels, as most are, nothing is allocated.
        let (meter, labels) = (reader.name()?, reader.text()?.into());
        let [hour_ms, taken, freed] = reader.u64s()?;
        record.usage.push(Usage { meter, hour_ms: hour_ms.cast_signed(), labels, taken, freed });
    }
    record.things_seq = reader.u64()?;
    for _ in 0..reader.u16()? {
        let (meter, id) = (reader.name()?, ThingId::from_bytes(reader.array()?));
        let [seq, units] = reader.u64s()?;
        record.things.push(ThingEvent { seq, meter, id, units, present: reader.array::<1>()? == [1] });
    }
    if reader.0.is_empty() { Ok(record) } else { Err(CorruptBucket) }
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_u64s<const N: usize>(out: &mut Vec<u8>, numbers: [u64; N]) {
    out.extend_from_slice(numbers.map(u64::to_le_bytes).as_flattened());
}

/// Counts and lengths here are bounded far below 65,536 by the policy's own bounds; what would not fit is cut.
fn put_u16(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = bytes.get(..usize::from(u16::MAX)).unwrap_or(bytes);
    put_u16(out, bytes.len());
    out.extend_from_slice(bytes);
}

#[allow(clippy::cast_possible_truncation, reason = "the lower half is meant")]
fn low(both: u128) -> u64 {
    both as u64
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], CorruptBucket> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(CorruptBucket)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u64(&mut self) -> Result<u64, CorruptBucket> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<usize, CorruptBucket> {
        Ok(usize::from(u16::from_le_bytes(self.array()?)))
    }

    fn bytes(&mut self) -> Result<&'a [u8], CorruptBucket> {
        let length = self.u16()?;
        let (head, rest) = self.0.split_at_checked(length).ok_or(CorruptBucket)?;
        self.0 = rest;
        Ok(head)
    }

    fn text(&mut self) -> Result<&'a str, CorruptBucket> {
        std::str::from_utf8(self.bytes()?).map_err(|_| CorruptBucket)
    }

    fn name(&mut self) -> Result<Name, CorruptBucket> {
        Name::read(self.bytes()?).ok_or(CorruptBucket)
    }

    fn u64s<const N: usize>(&mut self) -> Result<[u64; N], CorruptBucket> {
        let (written, rest) = self.0.split_at_checked(N * 8).ok_or(CorruptBucket)?;
        self.0 = rest;
        let mut numbers = [0; N];
        let (written, _) = written.as_chunks::<8>();
        numbers.iter_mut().zip(written).for_each(|(number, bytes)| *number = u64::from_le_bytes(*bytes));
        Ok(numbers)
    }

    fn account(&mut self) -> Result<Account, CorruptBucket> {
        let limit = self.name()?;
        let kind = self.array::<1>()?;
        let [start, end, granted, returned, taken, freed, unleased, empty_until_ms, told, used_at_ms] =
            self.u64s()?;
        let mut account = Account {
            limit,
            kind: AccountKind::Quota,
            window_start_ms: start.cast_signed(),
            window_end_ms: end.cast_signed(),
            granted,
            returned,
            taken,
            freed,
            removed: 0,
            unleased,
            empty_until_ms,
            told,
            used_at_ms,
            rest: Rest::default(),
            level: Level::default(),
        };
        match kind {
            [0] => {}
            [1] => (account.kind, account.rest) = (AccountKind::Rate, self.rest()?),
            [2] => {
                let [refill_ms, counted_by_ms, at_ms, cap] = self.u64s()?;
                account.kind = AccountKind::Bucket { refill_ms };
                let owed = u128::from_le_bytes(self.array()?);
                account.level = Level { owed, refill_ms: counted_by_ms, at_ms, cap };
            }
            [3] => (account.kind, account.rest) = (AccountKind::Concurrency, self.rest()?),
            [4] => (account.kind, account.removed) = (AccountKind::Capacity, self.u64()?),
            _ => return Err(CorruptBucket),
        }
        Ok(account)
    }

    fn rest(&mut self) -> Result<Rest, CorruptBucket> {
        let count = self.u16()?;
        let (written, rest) = self.0.split_at_checked(count * 16).ok_or(CorruptBucket)?;
        self.0 = rest;
        let (written, _) = written.as_chunks::<16>();
        // Room for what the request takes.
        let mut entries = Vec::with_capacity(count + 1);
        entries.extend(written.iter().map(|entry| {
            let both = u128::from_le_bytes(*entry);
            (low(both), low(both >> 64))
        }));
        Ok(Rest { entries })
    }
}

#[cfg(test)]
mod tests;
