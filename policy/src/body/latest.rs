//! The amounts of a stream of JSON texts: of each pointer the last that there was.

use super::Unread;
use super::json::{JsonFault, Wanted};
use super::pointer::Pointer;

#[derive(Debug, Clone)]
pub(super) struct Latest {
    wanted: Wanted,
    amounts: Vec<Result<u64, Unread>>,
}

impl Latest {
    pub(super) fn new(pointers: &[Pointer]) -> Self {
        Self { wanted: Wanted::new(pointers), amounts: vec![Err(Unread::Missing); pointers.len()] }
    }

    /// Takes the amounts of the next text. What is no amount does not replace one.
    pub(super) fn read(&mut self, text: &[u8]) -> Result<(), JsonFault> {
        for (latest, amount) in self.amounts.iter_mut().zip(self.wanted.numbers(text)?) {
            if amount.is_ok() || *latest == Err(Unread::Missing) {
                *latest = amount;
            }
        }
        Ok(())
    }

    /// The amounts; those that are missing may be in what could not be read.
    pub(super) fn finish(mut self, unread: Option<Unread>) -> Vec<Result<u64, Unread>> {
        for amount in self.amounts.iter_mut().filter(|amount| **amount == Err(Unread::Missing)) {
            *amount = Err(unread.unwrap_or(Unread::Missing));
        }
        self.amounts
    }
}
