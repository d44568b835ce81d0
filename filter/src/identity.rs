//! Who calls: verified tokens, remembered until they expire, within a bound.
//!
//! Tokens are remembered by their full bytes, never by a hash alone that could collide. Nothing unverified gets in.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;

use quick_cache::Weighter;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use tollgate_policy::decision::KeptPlan;
use tollgate_policy::jwt::{Caller, Keyring, TokenFault};

use crate::records::{Key, Records};

/// Most bytes that one worker remembers of tokens and their callers: some 20,000 of the usual length.
pub const REMEMBERED_BYTES_MAX: u64 = 24 << 20;

/// About what a caller takes besides its token: names, its limits' plan, its place.
pub const CALLER_BYTES: u64 = 512;

/// Callers that fit, about: for as many that did not stay the cache remembers that they came.
const CALLERS: usize = 20_000;

/// A verified caller, with what this worker has worked out about it.
#[derive(Debug)]
pub struct Identity {
    /// What the token says.
    pub caller: Caller,
    /// Where the subject's record is.
    pub key: Key,
    /// The subject as it stands in sets and queues.
    pub subject: Rc<str>,
    /// The member of an organisation that calls, where the token names both.
    pub member: Option<Member>,
    /// The round of [`Edge::touch`](crate::edge::Edge::touch) in which its use was last noted.
    pub touched: Cell<u64>,
    /// The limits in force when they were last worked out.
    pub plan: RefCell<Option<KeptPlan>>,
}

/// A member of an organisation.
#[derive(Debug)]
pub struct Member {
    /// Where its record is.
    pub key: Key,
    /// `member:acme/alice`.
    pub subject: Rc<str>,
}

/// Tokens that were verified. Which of them make room for others the cache decides: those that are used seldom, so that
/// most are found even where somewhat more are in use than fit.
pub struct Tokens(Cache<Vec<u8>, Rc<Identity>, Cost, ByTail>);

/// What a token takes of the bound.
#[derive(Debug, Clone, Copy)]
struct Cost;

impl Weighter<Vec<u8>, Rc<Identity>> for Cost {
    fn weight(&self, token: &Vec<u8>, _: &Rc<Identity>) -> u64 {
        token.len() as u64 + CALLER_BYTES
    }
}

impl Default for Tokens {
    fn default() -> Self {
        let lifecycle = DefaultLifecycle::default();
        Self(Cache::with(CALLERS, REMEMBERED_BYTES_MAX, Cost, ByTail::default(), lifecycle))
    }
}

impl Tokens {
    /// The caller of a token, verified now or before.
    pub fn identify(
        &mut self,
        records: &Records,
        keyring: &Keyring,
        token: &[u8],
        now_ms: i64,
    ) -> Result<Rc<Identity>, TokenFault> {
        if let Some(known) = self.0.get(token) {
            if is_current(&known.caller, now_ms) {
                return Ok(known.clone());
            }
            self.0.remove(token);
        }
        let caller = keyring.verify(token, now_ms)?;
        let identity = Rc::new(Identity::of(records, caller));
        self.0.insert(token.to_vec(), identity.clone());
        Ok(identity)
    }

    /// A caller without a token, under the subject of its address. Kept among the tokens, where none can stand: a space
    /// is in no token.
    pub fn anonymous(&mut self, records: &Records, subject: &str, tier: &str) -> Rc<Identity> {
        let key = format!(" {tier} {subject}").into_bytes();
        if let Some(known) = self.0.get(&key) {
            return known.clone();
        }
        let caller = Caller {
            subject: subject.to_owned(),
            user: None,
            organization: None,
            tier: Some(tier.to_owned()),
            expires_at_ms: i64::MAX,
            not_before_ms: None,
            issuer: usize::MAX,
            is_organization_admin: false,
        };
        let known = Rc::new(Identity::of(records, caller));
        self.0.insert(key, known.clone());
        known
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all: the keys changed, and a token may no longer hold.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Identity {
    fn of(records: &Records, caller: Caller) -> Self {
        let member =
            caller.member().map(|subject| Member { key: records.key(&subject), subject: Rc::from(subject) });
        Self {
            key: records.key(&caller.subject),
            subject: Rc::from(caller.subject.as_str()),
            touched: Cell::new(0),
            member,
            plan: RefCell::new(None),
            caller,
        }
    }
}

/// Hashes a token by its last bytes, which are its signature's: as good as random, since only verified tokens are kept,
/// and some 700 bytes less to go through. Equality is that of all bytes.
#[derive(Debug, Clone, Default)]
struct ByTail(std::collections::hash_map::RandomState);

struct TailHasher(std::collections::hash_map::DefaultHasher);

const TAIL_BYTES: usize = 32;

impl BuildHasher for ByTail {
    type Hasher = TailHasher;

    fn build_hasher(&self) -> TailHasher {
        TailHasher(self.0.build_hasher())
    }
}

impl Hasher for TailHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes.get(bytes.len().saturating_sub(TAIL_BYTES)..).unwrap_or(bytes));
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

fn is_current(caller: &Caller, now_ms: i64) -> bool {
    now_ms < caller.expires_at_ms && caller.not_before_ms.is_none_or(|start_ms| now_ms >= start_ms)
}
