//! Who calls: verified tokens, remembered within a bound.
//!
//! Tokens are remembered by their full bytes, never by a hash alone that could collide. Nothing unverified gets in.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;

use tollgate_policy::decision::KeptPlan;
use tollgate_policy::jwt::{Caller, Keyring, TokenFault};

use crate::records::{Key, Records};

/// Most tokens that one worker remembers.
pub const TOKENS_MAX: usize = 16_384;

/// Most bytes of tokens that one worker remembers.
pub const TOKEN_BYTES_MAX: usize = 16 << 20;

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

/// Tokens that were verified, in the order in which they came. The oldest makes room, unless it was used since it came or
/// was passed over: so all stay that fit, in whatever order they are used, and one that is used no more goes when
/// its turn has come.
#[derive(Debug, Default)]
pub struct Tokens {
    known: HashMap<Rc<[u8]>, Known, ByTail>,
    /// All that are known, each once.
    order: VecDeque<Rc<[u8]>>,
    bytes: usize,
}

#[derive(Debug)]
struct Known {
    identity: Rc<Identity>,
    used: Cell<bool>,
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
        if let Some(known) = self.known.get(token)
            && is_current(&known.identity.caller, now_ms)
        {
            known.used.set(true);
            return Ok(known.identity.clone());
        }
        let caller = keyring.verify(token, now_ms)?;
        let identity = Rc::new(Identity::of(records, caller));
        self.remember(token, &identity);
        Ok(identity)
    }

    /// A caller without a token, under the subject of its address. Kept among the tokens, where none can stand: a space
    /// is in no token.
    pub fn anonymous(&mut self, records: &Records, subject: &str, tier: &str) -> Rc<Identity> {
        let key = format!(" {tier} {subject}").into_bytes();
        if let Some(known) = self.known.get(&*key) {
            known.used.set(true);
            return known.identity.clone();
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
        self.remember(&key, &known);
        known
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Forgets all: the keys changed, and a token may no longer hold.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes of all that are known.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn remember(&mut self, token: &[u8], identity: &Rc<Identity>) {
        let known = Known { identity: identity.clone(), used: Cell::new(false) };
        if let Some(before) = self.known.get_mut(token) {
            *before = known;
            return;
        }
        // A token that was used is passed over once; at worst, in some milliseconds, all of them are.
        while self.known.len() >= TOKENS_MAX || self.bytes + token.len() > TOKEN_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            if self.known.get(&oldest).is_some_and(|known| known.used.replace(false)) {
                self.order.push_back(oldest);
            } else {
                self.bytes -= oldest.len();
                self.known.remove(&oldest);
            }
        }
        let token = Rc::<[u8]>::from(token);
        self.bytes += token.len();
        self.order.push_back(token.clone());
        self.known.insert(token, known);
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

/// Hashes a token by its last bytes, which are its signature's: as good as random, since only verified tokens are kept (and
/// addresses, which are short), and it saves going through some 700 bytes. Equality is that of all bytes.
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
