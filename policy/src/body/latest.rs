//! The amounts, and the texts, of a stream of JSON texts: of each pointer the last that there was.

use super::Unread;
use super::json::{JsonFault, Values, Wanted};
use super::pointer::Pointer;

#[derive(Debug, Clone)]
pub(super) struct Latest {
    wanted: Wanted,
    amounts: Vec<Result<u64, Unread>>,
    texts: Vec<Option<Box<str>>>,
}

impl Latest {
    pub(super) fn new(pointers: &[Pointer], texts: &[Pointer]) -> Self {
        Self {
            wanted: Wanted::new(pointers.iter().chain(texts)),
            amounts: vec![Err(Unread::Missing); pointers.len()],
            texts: vec![None; texts.len()],
        }
    }

    /// Takes the amounts of the next text. What is no amount does not replace one.
    pub(super) fn read(&mut self, text: &[u8]) -> Result<(), JsonFault> {
        let values = self.wanted.values(text, self.amounts.len())?;
        for (latest, told) in self.texts.iter_mut().zip(values.texts) {
            *latest = told.or_else(|| latest.take());
        }
        for (latest, amount) in self.amounts.iter_mut().zip(values.amounts) {
            if amount.is_ok() || *latest == Err(Unread::Missing) {
                *latest = amount;
            }
        }
        Ok(())
    }

    /// The amounts, of which those that are missing may be in what could not be read; and the texts.
    pub(super) fn finish(mut self, unread: Option<Unread>) -> Values {
        for amount in self.amounts.iter_mut().filter(|amount| **amount == Err(Unread::Missing)) {
            *amount = Err(unread.unwrap_or(Unread::Missing));
        }
        Values { amounts: self.amounts, texts: self.texts }
    }
}
