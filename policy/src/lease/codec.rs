//! Records as bytes in the proxy's shared memory: a bucket holds the records of all subjects whose hash falls on it.
//!
//! Little-endian, fixed widths, length-prefixed strings; the key that a bucket is stored under carries the layout's
//! version. Reading refuses what is not exactly a bucket. Nothing here allocates more than the bytes it is given say.

use super::account::Account;
use super::record::{Record, SessionId, Usage};
use super::rest::Rest;

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
    put_u64(out, record.subscription_revision);
    put_bytes(out, &record.subscription);
    put_bytes(out, record.tier_claim.as_bytes());
    put_u16(out, record.accounts.len());
    for account in &record.accounts {
        put_bytes(out, account.limit.as_bytes());
        put_u64(out, account.window_start_ms.cast_unsigned());
        put_u64(out, account.window_end_ms.cast_unsigned());
        for number in [
            account.granted,
            account.returned,
            account.taken,
            account.freed,
            account.unleased,
            account.empty_until_ms,
            account.told,
            account.used_at_ms,
        ] {
            put_u64(out, number);
        }
        put_u16(out, account.rest.entries.len());
        for (end_ms, units) in &account.rest.entries {
            put_u64(out, *end_ms);
            put_u64(out, *units);
        }
    }
    put_u16(out, record.usage.len());
    for usage in &record.usage {
        put_bytes(out, usage.meter.as_bytes());
        put_u64(out, usage.hour_ms.cast_unsigned());
        put_u64(out, usage.taken);
        put_u64(out, usage.freed);
    }
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(prefix) = out.get_mut(start..start + 4) {
        prefix.copy_from_slice(&length.to_le_bytes());
    }
}

fn read(bytes: &[u8]) -> Result<Record, CorruptBucket> {
    let mut reader = Reader(bytes);
    let mut record = Record {
        subject: reader.string()?,
        session: SessionId(reader.array::<16>()?),
        born_ms: reader.u64()?,
        known: reader.array::<1>()? == [1],
        subscription_revision: reader.u64()?,
        subscription: reader.bytes()?.to_vec(),
        tier_claim: reader.string()?,
        accounts: Vec::new(),
        usage: Vec::new(),
    };
    let accounts = reader.u16()?;
    record.accounts.reserve_exact(accounts.min(64));
    for _ in 0..accounts {
        let mut account = Account {
            limit: reader.string()?,
            window_start_ms: reader.u64()?.cast_signed(),
            window_end_ms: reader.u64()?.cast_signed(),
            granted: reader.u64()?,
            returned: reader.u64()?,
            taken: reader.u64()?,
            freed: reader.u64()?,
            unleased: reader.u64()?,
            empty_until_ms: reader.u64()?,
            told: reader.u64()?,
            used_at_ms: reader.u64()?,
            rest: Rest::default(),
        };
        let entries = reader.u16()?;
        account.rest.entries.reserve_exact(entries.min(128) + 1);
        for _ in 0..entries {
            account.rest.entries.push((reader.u64()?, reader.u64()?));
        }
        record.accounts.push(account);
    }
    for _ in 0..reader.u16()? {
        record.usage.push(Usage {
            meter: reader.string()?,
            hour_ms: reader.u64()?.cast_signed(),
            taken: reader.u64()?,
            freed: reader.u64()?,
        });
    }
    if reader.0.is_empty() { Ok(record) } else { Err(CorruptBucket) }
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
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

    fn string(&mut self) -> Result<String, CorruptBucket> {
        std::str::from_utf8(self.bytes()?).map(str::to_owned).map_err(|_| CorruptBucket)
    }
}

#[cfg(test)]
mod tests;
