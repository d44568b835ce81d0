//! A control plane, some edges and a network that loses, repeats, delays and reorders what they say. Every step is
//! checked (`checks.rs`) against the truth, which only the world knows. Reproducible by its seed.

mod checks;

use std::collections::BTreeMap;

use crate::lease::{
    AccountKind, BUCKET_WINDOW, Book, CAPACITY_WINDOW, CONCURRENCY_WINDOW, Demand, OnShort, RATE_WINDOW,
    REQUEST_MS_MAX, Record, SessionId, Standing, Term, TermKind, Terms, Things, Verdict, apply_things,
    decide,
};
use crate::subscription::Entitlements;
use crate::thing::ThingId;
use crate::window::Window;
use crate::wire::{SubjectAnswer, SubjectReport};

pub const TTL_MS: u64 = 30_000;
/// Length of a quota's window.
pub const QUOTA_MS: i64 = 200_000;
const EPOCH_MS: i64 = 1_700_000_000_000 / QUOTA_MS * QUOTA_MS;
const SKEW_MS: i64 = 20_000;
const SUBJECT: &str = "user:alice";
const METER: &str = "calls";

/// xorshift64*: small, fast where nothing is optimised, and the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }

    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }
}

/// What one limit is in one version of the policy.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub name: &'static str,
    pub units: u64,
    pub kind: Kind,
    pub on_short: OnShort,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Quota,
    /// With its window, ms.
    Rate(u64),
    /// With the time that it takes to refill, ms.
    Bucket(u64),
    Concurrency,
    Capacity,
}

impl Rule {
    pub fn hard(name: &'static str, units: u64, kind: Kind) -> Self {
        Self { name, units, kind, on_short: OnShort::Refuse }
    }

    fn account_kind(&self) -> AccountKind {
        match self.kind {
            Kind::Quota => AccountKind::Quota,
            Kind::Rate(_) => AccountKind::Rate,
            Kind::Bucket(refill_ms) => AccountKind::Bucket { refill_ms },
            Kind::Concurrency => AccountKind::Concurrency,
            Kind::Capacity => AccountKind::Capacity,
        }
    }

    pub fn window(&self, wall_ms: i64) -> Window {
        let start_ms = match self.kind {
            Kind::Quota => return window_at(wall_ms),
            Kind::Rate(_) => RATE_WINDOW,
            Kind::Bucket(_) => BUCKET_WINDOW,
            Kind::Concurrency => CONCURRENCY_WINDOW,
            Kind::Capacity => CAPACITY_WINDOW,
        };
        Window { start_ms, end_ms: i64::MAX }
    }

    fn rest_ms(&self) -> u64 {
        match self.kind {
            Kind::Rate(window_ms) => window_ms,
            Kind::Concurrency => REQUEST_MS_MAX,
            _ => 0,
        }
    }

    fn is_counted(&self) -> bool {
        self.account_kind().is_counted()
    }

    fn is_hard(&self) -> bool {
        self.on_short == OnShort::Refuse
    }
}

/// What a request took of one limit.
#[derive(Debug, Clone, Copy)]
struct Taken {
    rule: Rule,
    start_ms: i64,
    units: u64,
    end_ms: u64,
}

#[derive(Debug, Clone)]
struct Request {
    session: SessionId,
    taken: Vec<Taken>,
    counted_at_ms: i64,
    /// True time.
    started_ms: u64,
    /// The edge's record before it.
    before: Record,
}

/// One proxy.
#[derive(Debug)]
pub struct Edge {
    pub session: SessionId,
    mono_offset_ms: u64,
    pub skew_ms: i64,
    valid_until_ms: u64,
    /// The version of the policy that it knows.
    version: usize,
    pub record: Option<Record>,
    /// The last report that was answered.
    told: Option<SubjectReport>,
    closed: bool,
    /// Last reports of closed sessions, until they are answered.
    finals: Vec<(SessionId, SubjectReport)>,
    in_flight: Vec<Request>,
}

#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "few of them, in tests")]
enum Message {
    Ask(Ask),
    Answer { ask: Ask, closed: bool, answer: Option<SubjectAnswer>, version: usize },
    Push { session: String },
}

#[derive(Debug, Clone)]
struct Ask {
    edge: usize,
    session: SessionId,
    last: bool,
    born_ms: u64,
    sent_ms: u64,
    report: Option<SubjectReport>,
}

struct Heard {
    at_ms: i64,
    closed: bool,
}

/// Taken, freed and removed; of usage the first two.
type Numbers = (u64, u64, u64);

pub struct World {
    pub random: Random,
    /// True time since the start.
    pub now_ms: u64,
    versions: Vec<Vec<Rule>>,
    pub book: Book,
    sessions: BTreeMap<SessionId, Heard>,
    pub edges: Vec<Edge>,
    wire: Vec<Message>,
    sessions_made: u64,
    pub lost_percent: u64,
    pub repeated_percent: u64,
    counts_usage: bool,
    /// Admissions under rates: limit, moment, units, and the window that the edge knew.
    admissions: Vec<(&'static str, u64, u64, u64)>,
    /// Admissions under buckets: limit, moment, units; and the shortest time of a refill.
    drawn: Vec<(&'static str, u64, u64)>,
    refills_ms: BTreeMap<&'static str, u64>,
    /// Of capacities: units added and removed in all.
    stock: BTreeMap<&'static str, (u64, u64)>,
    /// The control plane's things, and the last event that it heard of each session.
    things: Things,
    things_heard: BTreeMap<SessionId, u64>,
    by_id: bool,
    /// Per quota and window: units admitted and not refunded, and the highest maximum so far.
    admitted: BTreeMap<(&'static str, i64), u64>,
    ceilings: BTreeMap<(&'static str, i64), u64>,
    /// Units that answers cost beyond what was taken for them.
    overruns: u64,
    /// Per session, limit and window: what truly happened, and what reached the control plane.
    truth: BTreeMap<(SessionId, String, i64), Numbers>,
    heard: BTreeMap<(SessionId, String, i64), Numbers>,
    usage_truth: BTreeMap<(SessionId, i64), Numbers>,
    usage_heard: BTreeMap<(SessionId, i64), Numbers>,
    pub killed: Vec<SessionId>,
    pub evictions: u64,
}

impl Ord for SessionId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for SessionId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl World {
    pub fn new(seed: u64, rules: Vec<Rule>, edges: usize) -> Self {
        let mut world = Self {
            random: Random::new(seed),
            now_ms: 0,
            versions: vec![rules],
            book: Book::default(),
            sessions: BTreeMap::new(),
            edges: Vec::new(),
            wire: Vec::new(),
            sessions_made: 0,
            lost_percent: 0,
            repeated_percent: 0,
            counts_usage: seed.is_multiple_of(3),
            admissions: Vec::new(),
            drawn: Vec::new(),
            refills_ms: BTreeMap::new(),
            stock: BTreeMap::new(),
            things: Things::new(),
            things_heard: BTreeMap::new(),
            by_id: false,
            admitted: BTreeMap::new(),
            ceilings: BTreeMap::new(),
            overruns: 0,
            truth: BTreeMap::new(),
            heard: BTreeMap::new(),
            usage_truth: BTreeMap::new(),
            usage_heard: BTreeMap::new(),
            killed: Vec::new(),
            evictions: 0,
        };
        for _ in 0..edges {
            let session = world.new_session();
            let mono_offset_ms = world.random.below(1_000_000);
            world.edges.push(Edge {
                session,
                mono_offset_ms,
                skew_ms: 0,
                valid_until_ms: 0,
                version: 0,
                record: None,
                told: None,
                closed: false,
                finals: Vec::new(),
                in_flight: Vec::new(),
            });
        }
        world.raise_ceilings();
        world
    }

    fn new_session(&mut self) -> SessionId {
        self.sessions_made += 1;
        SessionId((u128::from(self.sessions_made) << 64).to_be_bytes())
    }

    pub fn wall_ms(&self) -> i64 {
        EPOCH_MS.saturating_add_unsigned(self.now_ms)
    }

    fn edge_wall_ms(&self, edge: usize) -> i64 {
        self.wall_ms() + self.edges[edge].skew_ms
    }

    fn mono_ms(&self, edge: usize) -> u64 {
        self.now_ms + self.edges[edge].mono_offset_ms
    }

    pub fn rules(&self) -> &[Rule] {
        self.versions.last().unwrap()
    }

    /// What the control plane holds to be the limits now.
    pub fn terms(&self) -> Terms {
        let now_ms = self.wall_ms();
        let current = window_at(now_ms);
        let mut windows = vec![current];
        if now_ms - current.start_ms < SKEW_MS {
            windows.push(window_at(current.start_ms - 1));
        }
        if current.end_ms - now_ms <= SKEW_MS {
            windows.push(window_at(current.end_ms));
        }
        let term = |rule: &Rule| Term {
            limit: rule.name.to_owned(),
            meter: (rule.kind != Kind::Concurrency).then(|| METER.to_owned()),
            units: rule.units,
            kind: match rule.kind {
                Kind::Quota => {
                    TermKind::Quota { windows: windows.clone(), soft: rule.on_short == OnShort::Pass }
                }
                Kind::Rate(window_ms) => TermKind::Rate { window_ms },
                Kind::Bucket(refill_ms) => TermKind::Bucket { refill_ms },
                Kind::Concurrency => TermKind::Concurrency,
                Kind::Capacity => TermKind::Capacity,
            },
        };
        Terms { limits: self.rules().iter().map(term).collect(), grants: Vec::new() }
    }

    /// A new version of the policy at the control plane; edges learn of it from answers.
    pub fn change_rules(&mut self, rules: Vec<Rule>) {
        self.versions.push(rules);
        self.raise_ceilings();
    }

    fn raise_ceilings(&mut self) {
        for rule in self.rules().to_vec() {
            let term = self.terms().limits.into_iter().find(|term| term.limit == rule.name).unwrap();
            let starts = match term.kind {
                TermKind::Quota { windows, .. } => windows.iter().map(|w| w.start_ms).collect(),
                _ => vec![rule.window(0).start_ms],
            };
            for start in starts {
                let ceiling = self.ceilings.entry((rule.name, start)).or_default();
                *ceiling = (*ceiling).max(rule.units);
            }
            if let Kind::Bucket(refill_ms) = rule.kind {
                let shortest = self.refills_ms.entry(rule.name).or_insert(refill_ms);
                *shortest = (*shortest).min(refill_ms);
            }
        }
    }

    pub fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        // The proxy ends requests that take too long.
        for edge in 0..self.edges.len() {
            while let Some(at) = self.edges[edge]
                .in_flight
                .iter()
                .position(|request| self.now_ms >= request.started_ms + REQUEST_MS_MAX)
            {
                self.settle_at(edge, at, false);
            }
        }
        self.raise_ceilings();
    }

    /// One request at an edge that costs `units` of each named limit.
    pub fn request(&mut self, edge: usize, costs: &[(&'static str, u64)]) -> Verdict {
        let (wall_ms, mono_ms) = (self.edge_wall_ms(edge), self.mono_ms(edge));
        let counts_usage = self.counts_usage;
        let this = &mut self.edges[edge];
        let rules = &self.versions[this.version];
        let session = this.session;
        let record = this.record.get_or_insert_with(|| {
            this.told = None;
            Record::new(SUBJECT, session, mono_ms)
        });
        if !record.known {
            return Verdict::Ask;
        }
        let before = record.clone();
        let mut demands = Vec::new();
        let mut asked = Vec::new();
        for (limit, units) in costs {
            let rule = *rules.iter().find(|rule| rule.name == *limit).unwrap();
            let account = record.open(limit, rule.account_kind(), rule.window(wall_ms));
            let (window_ms, on_short) = (rule.rest_ms(), rule.on_short);
            demands.push(Demand { account, units: *units, limit_units: rule.units, window_ms, on_short });
            asked.push(rule);
        }
        let numbers = |record: &Record| -> Vec<[u64; 3]> {
            record.accounts.iter().map(|a| [a.granted, a.returned, a.taken]).collect()
        };
        let mut expected = numbers(record);
        let valid = mono_ms < this.valid_until_ms && !this.closed;
        let verdict = decide(record, &demands, valid, wall_ms, mono_ms);
        let over = match verdict {
            Verdict::Admit { over } => over,
            _ => {
                assert_eq!(numbers(record), expected, "a request that does not pass takes nothing");
                assert!(
                    asked.iter().any(Rule::is_hard),
                    "only a hard limit refuses, or makes a request wait"
                );
                return verdict;
            }
        };
        let is_taken = |at: usize| asked[at].on_short != OnShort::Shadow || over >> at & 1 == 0;
        let taken_at = (0..demands.len()).filter(|at| is_taken(*at)).collect::<Vec<_>>();
        taken_at.iter().for_each(|at| expected[demands[*at].account][2] += demands[*at].units);
        assert_eq!(numbers(record), expected, "all demands are taken");
        let mut taken = Vec::new();
        for at in taken_at {
            let (rule, demand) = (asked[at], demands[at]);
            let account = &record.accounts[demand.account];
            let (start_ms, units, end_ms) = (account.window_start_ms, demand.units, account.taken_end_ms());
            taken.push(Taken { rule, start_ms, units, end_ms });
            self.truth.entry((session, rule.name.to_owned(), start_ms)).or_default().0 += units;
            match rule.kind {
                Kind::Rate(window_ms) => self.admissions.push((rule.name, self.now_ms, units, window_ms)),
                Kind::Bucket(_) => self.drawn.push((rule.name, self.now_ms, units)),
                Kind::Quota => *self.admitted.entry((rule.name, start_ms)).or_default() += units,
                Kind::Capacity => self.stock.entry(rule.name).or_default().0 += units,
                Kind::Concurrency => {}
            }
        }
        if counts_usage {
            record.count(METER, "", 1, wall_ms);
            self.usage_truth.entry((session, hour(wall_ms))).or_default().0 += 1;
        }
        let started_ms = self.now_ms;
        this.in_flight.push(Request { session, taken, counted_at_ms: wall_ms, started_ms, before });
        verdict
    }

    /// Some request in flight at the edge ends; a refund restores exactly what it took.
    pub fn settle(&mut self, edge: usize, is_refunded: bool) {
        if !self.edges[edge].in_flight.is_empty() {
            let at = self.random.index(self.edges[edge].in_flight.len());
            self.settle_at(edge, at, is_refunded);
        }
    }

    fn settle_at(&mut self, edge: usize, at: usize, is_refunded: bool) {
        let this = &mut self.edges[edge];
        let request = this.in_flight.swap_remove(at);
        let Some(record) = this.record.as_mut().filter(|r| r.session == request.session) else {
            return;
        };
        for Taken { rule, start_ms, units, end_ms } in &request.taken {
            let Some(at) = record.account(rule.name, *start_ms) else { continue };
            let account = &mut record.accounts[at];
            let (used, free) = (account.used(), account.free());
            let (freed, removed) = (account.freed, account.removed);
            account.end(*end_ms, *units);
            if is_refunded {
                account.refund(*units);
            }
            match rule.kind {
                Kind::Concurrency => {
                    // Nothing to free if its time has passed, or the record was dropped since.
                    assert!([used, used - units].contains(&account.used()));
                }
                Kind::Rate(_) | Kind::Bucket(_) => {
                    assert_eq!((account.used(), account.free()), (used, free), "these units go on resting");
                }
                Kind::Capacity if is_refunded => {
                    let truth = (request.session, rule.name.to_owned(), *start_ms);
                    let truth = self.truth.get_mut(&truth).unwrap();
                    truth.1 += account.freed - freed;
                    truth.2 += account.removed - removed;
                    assert_eq!(account.freed - freed + account.removed - removed, *units);
                    self.stock.get_mut(rule.name).unwrap().0 -= units;
                }
                Kind::Quota if is_refunded => {
                    let restored = used - account.used();
                    // A record that was dropped and has not been restored yet cannot take the refund.
                    assert_eq!(restored, *units.min(&used));
                    assert_eq!(account.held().saturating_sub(used - restored), account.free());
                    *self.admitted.get_mut(&(rule.name, *start_ms)).unwrap() -= restored;
                    self.truth.get_mut(&(request.session, rule.name.to_owned(), *start_ms)).unwrap().1 +=
                        restored;
                }
                Kind::Quota | Kind::Capacity => {}
            }
        }
        if self.counts_usage && is_refunded {
            let freed = |r: &Record| r.usage.iter().map(|u| u.freed).sum::<u64>();
            let before = freed(record);
            record.uncount(METER, "", 1, request.counted_at_ms);
            let hour = hour(request.counted_at_ms);
            self.usage_truth.get_mut(&(request.session, hour)).unwrap().1 += freed(record) - before;
        }
    }

    /// The answer to some request in flight at the edge cost `units` more than was taken for it.
    pub fn overrun(&mut self, edge: usize, units: u64) {
        let mono_ms = self.mono_ms(edge);
        let this = &mut self.edges[edge];
        if this.in_flight.is_empty() {
            return;
        }
        let request = &this.in_flight[self.random.index(this.in_flight.len())];
        let Some(record) = this.record.as_mut().filter(|r| r.session == request.session) else { return };
        for Taken { rule, start_ms, .. } in
            request.taken.iter().filter(|taken| taken.rule.kind == Kind::Quota)
        {
            let Some(at) = record.account(rule.name, *start_ms) else { continue };
            record.accounts[at].take(units, 0, rule.units, mono_ms);
            self.truth.entry((request.session, rule.name.to_owned(), *start_ms)).or_default().0 += units;
            self.overruns += units;
        }
    }

    /// The last request at the edge, of this very moment, does not pass after all: another subject's limit refused it.
    pub fn undo(&mut self, edge: usize) {
        let mono_ms = self.mono_ms(edge);
        let this = &mut self.edges[edge];
        let mut request = this.in_flight.pop().unwrap();
        let record = this.record.as_mut().unwrap();
        for Taken { rule, start_ms, units, end_ms } in &request.taken {
            let at = record.account(rule.name, *start_ms).unwrap();
            record.accounts[at].undo(*end_ms, *units);
            let truth = self.truth.get_mut(&(request.session, rule.name.to_owned(), *start_ms)).unwrap();
            truth.1 += if rule.is_counted() { *units } else { 0 };
            match rule.kind {
                Kind::Rate(_) => drop(self.admissions.pop()),
                Kind::Bucket(_) => drop(self.drawn.pop()),
                Kind::Quota => *self.admitted.get_mut(&(rule.name, *start_ms)).unwrap() -= units,
                Kind::Capacity => self.stock.get_mut(rule.name).unwrap().0 -= units,
                Kind::Concurrency => {}
            }
        }
        for account in &mut request.before.accounts {
            account.settle(mono_ms);
            let at = record.account(&account.limit, account.window_start_ms).unwrap();
            let now = &record.accounts[at];
            assert_eq!(
                (account.used(), account.free()),
                (now.used(), now.free()),
                "an undone take leaves no trace"
            );
            assert_eq!((&account.rest, account.level.owed), (&now.rest, now.level.owed));
        }
        if self.counts_usage {
            record.uncount(METER, "", 1, request.counted_at_ms);
            self.usage_truth.get_mut(&(request.session, hour(request.counted_at_ms))).unwrap().1 += 1;
        }
    }

    /// A worker traps: its requests end, and nobody says so.
    pub fn trap(&mut self, edge: usize) {
        let keep = self.random.index(4);
        self.edges[edge].in_flight.truncate(keep);
    }

    /// Units of a capacity that exist in truth; below 0 where more was removed than there was.
    pub fn exists(&self, limit: &str) -> i64 {
        let (added, removed) = self.stock.get(limit).copied().unwrap_or_default();
        added.cast_signed() - removed.cast_signed()
    }

    /// Units of a capacity that requests in flight have added.
    pub fn in_flight(&self, limit: &str) -> u64 {
        let requests = self.edges.iter().flat_map(|edge| &edge.in_flight);
        requests.flat_map(|request| &request.taken).filter(|t| t.rule.name == limit).map(|t| t.units).sum()
    }

    /// Units of a capacity are removed at an edge.
    pub fn remove(&mut self, edge: usize, limit: &'static str, units: u64) {
        let Some(record) = self.edges[edge].record.as_mut().filter(|record| record.known) else { return };
        let session = record.session;
        let window = Window { start_ms: CAPACITY_WINDOW, end_ms: i64::MAX };
        let at = record.open(limit, AccountKind::Capacity, window);
        let account = &mut record.accounts[at];
        let (freed, removed) = (account.freed, account.removed);
        account.release(units);
        let truth = self.truth.entry((session, limit.to_owned(), CAPACITY_WINDOW)).or_default();
        truth.1 += account.freed - freed;
        truth.2 += account.removed - removed;
        self.stock.entry(limit).or_default().1 += units;
    }

    /// What a request has added or removed is told by its id.
    pub fn note_thing(&mut self, edge: usize, id: u8, units: u64, present: bool) {
        self.by_id = true;
        let mono_ms = self.mono_ms(edge);
        if let Some(record) = self.edges[edge].record.as_mut().filter(|record| record.known) {
            assert!(record.note_thing(METER, ThingId::of(&[id]), units, present, mono_ms));
        }
    }

    /// Units of the things that the control plane knows.
    pub fn known_things(&self) -> u64 {
        self.things.values().sum()
    }

    pub fn standing(&self, limit: &str) -> Standing {
        let standings = self.book.standings(&self.terms(), self.wall_ms());
        standings.into_iter().find(|standing| standing.limit == limit).unwrap()
    }

    /// The edge gives back some of its idle units; they are reported with the next message.
    pub fn give_back(&mut self, edge: usize) {
        let mono_ms = self.mono_ms(edge);
        let Some(record) = &mut self.edges[edge].record else { return };
        for account in &mut record.accounts {
            account.settle(mono_ms);
            let units =
                if self.random.percent(50) { u64::MAX } else { self.random.below(account.free() + 1) };
            account.give_back(units);
        }
    }

    /// The edge asks, wanting what is missing for `units` of each account to be free.
    pub fn ask_for(&mut self, edge: usize, units: u64) {
        let mono_ms = self.mono_ms(edge);
        let accounts = self.edges[edge].record.iter_mut().flat_map(|record| &mut record.accounts);
        let missing = accounts.map(|account| {
            account.settle(mono_ms);
            account.missing(units)
        });
        let more = missing.max().unwrap_or(0);
        self.ask(edge, more);
    }

    /// The edge asks, wanting `more` units of each account.
    pub fn ask(&mut self, edge: usize, more: u64) {
        let sent_ms = self.mono_ms(edge);
        let this = &self.edges[edge];
        for (session, report) in &this.finals {
            let report = Some(report.clone());
            let ask = Ask { edge, session: *session, last: true, born_ms: 0, sent_ms, report };
            self.wire.push(Message::Ask(ask));
        }
        let report = this.record.as_ref().map(|record| record.report_open(|_| more));
        let born_ms = this.record.as_ref().map_or(0, |record| record.born_ms);
        let ask = Ask { edge, session: this.session, last: false, born_ms, sent_ms, report };
        self.wire.push(Message::Ask(ask));
    }

    /// The edge forgets what it may.
    pub fn forget(&mut self, edge: usize) {
        let (wall_ms, mono_ms) = (self.edge_wall_ms(edge), self.mono_ms(edge));
        let this = &mut self.edges[edge];
        let (Some(record), Some(told)) = (&mut this.record, &this.told) else { return };
        record.forget_told(told, wall_ms);
        if record.is_told(told) && record.is_idle(mono_ms) {
            this.record = None;
            self.evictions += 1;
        }
    }

    /// An edge that learnt that its session is closed opens a new one.
    pub fn renew(&mut self, edge: usize) {
        let session = self.new_session();
        let this = &mut self.edges[edge];
        if this.closed {
            if let Some(record) = this.record.take() {
                this.finals.push((record.session, record.report(|_| 0)));
            }
            (this.session, this.closed, this.valid_until_ms) = (session, false, 0);
        }
    }

    /// The edge's memory is lost, with the requests in it.
    pub fn kill(&mut self, edge: usize) {
        let session = self.new_session();
        let this = &mut self.edges[edge];
        self.killed.push(this.session);
        self.killed.extend(this.finals.drain(..).map(|(session, _)| session));
        this.in_flight.clear();
        (this.record, this.told, this.session) = (None, None, session);
        (this.closed, this.valid_until_ms) = (false, 0);
    }

    pub fn close_silent(&mut self) {
        self.close_silent_for(TTL_MS);
    }

    fn close_silent_for(&mut self, ms: u64) {
        let now_ms = self.wall_ms();
        for (session, heard) in &mut self.sessions {
            if !heard.closed && now_ms > heard.at_ms.saturating_add_unsigned(ms) {
                heard.closed = true;
                self.book.close(&session.to_string(), heard.at_ms, TTL_MS);
            }
        }
    }

    /// A message arrives, is lost, or arrives and will arrive again.
    pub fn deliver_some(&mut self) {
        if self.wire.is_empty() {
            return;
        }
        let at = self.random.index(self.wire.len());
        let again = self.random.percent(self.repeated_percent);
        let message = if again { self.wire[at].clone() } else { self.wire.swap_remove(at) };
        if !self.random.percent(self.lost_percent) {
            self.deliver(message);
        }
    }

    /// All messages arrive in order, and what they cause too.
    pub fn deliver_all(&mut self) {
        while !self.wire.is_empty() {
            let message = self.wire.remove(0);
            self.deliver(message);
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Ask(ask) => self.hear(ask),
            Message::Answer { ask, closed, answer, version } => self.learn(&ask, closed, answer, version),
            Message::Push { session } => {
                if let Some(edge) = self.edges.iter().position(|e| e.session.to_string() == session) {
                    self.ask(edge, 0);
                }
            }
        }
    }

    /// The control plane's side of a sync.
    fn hear(&mut self, ask: Ask) {
        let now_ms = self.wall_ms();
        self.close_silent_for(TTL_MS + 15_000);
        let version = self.versions.len() - 1;
        let session = ask.session.to_string();
        let terms = self.terms();
        let heard = self.sessions.entry(ask.session).or_insert(Heard { at_ms: now_ms, closed: false });
        for account in ask.report.iter().flat_map(|report| &report.accounts) {
            let key = (ask.session, account.limit.clone(), account.window);
            merge(self.heard.entry(key).or_default(), (account.taken, account.freed, account.removed));
        }
        for usage in ask.report.iter().flat_map(|report| &report.usage) {
            let numbers = self.usage_heard.entry((ask.session, usage.hour)).or_default();
            merge(numbers, (usage.taken, usage.freed, 0));
        }
        let things = ask.report.as_ref().map_or(&[][..], |report| &report.things);
        let things_heard = self.things_heard.entry(ask.session).or_default();
        let applied = apply_things(&mut self.things, *things_heard, things);
        *things_heard = applied.seq;
        for (meter, units) in applied.released {
            self.book.release(&terms, &meter, units, now_ms);
        }
        let reports = ask.report.as_ref().map_or(&[][..], |report| &report.accounts);
        if heard.closed {
            self.book.settle(&session, reports, ask.last);
            self.wire.push(Message::Answer { ask, closed: true, answer: None, version });
            return;
        }
        heard.at_ms = now_ms;
        if ask.last {
            heard.closed = true;
        }
        let answer = self.book.sync(&session, reports, &terms, now_ms);
        if ask.last {
            self.book.close(&session, now_ms, TTL_MS);
            self.book.settle(&session, reports, true);
        }
        self.book.prune(now_ms);
        self.wire.extend(answer.recalled.into_iter().map(|session| Message::Push { session }));
        let answer = ask.report.as_ref().map(|report| SubjectAnswer {
            subject: SUBJECT.to_owned(),
            entitlements: (report.revision != Some(version as u64)).then(Entitlements::default),
            revision: version as u64,
            things_seq: applied.seq,
            accounts: answer.accounts,
        });
        self.wire.push(Message::Answer { closed: ask.last, ask, answer, version });
    }

    /// The edge's side of an answer.
    fn learn(&mut self, ask: &Ask, closed: bool, answer: Option<SubjectAnswer>, version: usize) {
        let mono_ms = self.mono_ms(ask.edge);
        let this = &mut self.edges[ask.edge];
        if ask.last {
            this.finals.retain(|(session, _)| *session != ask.session);
        }
        this.version = this.version.max(version);
        if this.session != ask.session {
            return;
        }
        if closed {
            this.closed = true;
            return;
        }
        this.valid_until_ms = this.valid_until_ms.max(ask.sent_ms + TTL_MS);
        let (Some(record), Some(report), Some(answer)) = (&mut this.record, &ask.report, &answer) else {
            return;
        };
        if record.born_ms != ask.born_ms {
            return;
        }
        record.merge(report, answer, ask.sent_ms, mono_ms);
        this.told = Some(report.clone());
        let mut returned = 0;
        for told in answer.accounts.iter().filter(|told| told.recall) {
            if let Some(at) = record.account(&told.limit, told.window) {
                record.accounts[at].settle(mono_ms);
                returned += record.accounts[at].give_back(u64::MAX);
            }
        }
        if returned > 0 {
            self.ask(ask.edge, 0);
        }
    }

    pub fn forget_old_admissions(&mut self) {
        self.admissions.retain(|(_, at_ms, _, window_ms)| self.now_ms < at_ms + window_ms);
    }

    /// The network is repaired, requests end, everybody is heard, and who is silent is closed.
    pub fn quieten(&mut self) {
        for round in 0..6 {
            for edge in 0..self.edges.len() {
                while !self.edges[edge].in_flight.is_empty() {
                    self.settle(edge, false);
                }
                self.renew(edge);
                self.ask(edge, 0);
            }
            self.deliver_all();
            self.close_silent();
            self.pass(if round < 4 { 9_000 } else { 10 });
        }
        self.check();
    }

    /// One request that asks and waits as long as the answers promise anything, for two seconds at most.
    pub fn insist(&mut self, edge: usize, limit: &'static str, units: u64) -> String {
        for _ in 0..20 {
            match self.request(edge, &[(limit, units)]) {
                Verdict::Admit { .. } => {
                    self.settle(edge, false);
                    return "ok".to_owned();
                }
                Verdict::Refuse(refusal) if refusal.never => return "never".to_owned(),
                Verdict::Refuse(_) => return "exhausted".to_owned(),
                Verdict::Ask => {
                    self.ask(edge, units);
                    self.deliver_all();
                    self.pass(100);
                }
            }
        }
        "waited".to_owned()
    }

    /// The edge asks for one unit after the other until it is refused for good, or has got `most`; answers how many it got.
    /// The requests of a concurrency limit do not end meanwhile.
    pub fn drain(&mut self, edge: usize, limit: &'static str, most: u64) -> u64 {
        let (mut got, mut refused) = (0, 0);
        while refused < 12 && got < most {
            match self.request(edge, &[(limit, 1)]) {
                Verdict::Admit { .. } => {
                    (got, refused) = (got + 1, 0);
                    let rule = self.rules().iter().find(|rule| rule.name == limit).unwrap();
                    if rule.kind != Kind::Concurrency {
                        self.settle(edge, false);
                    }
                }
                Verdict::Refuse(_) => {
                    refused += 1;
                    self.pass(250);
                }
                Verdict::Ask => {
                    refused += 1;
                    self.ask(edge, 1);
                    self.deliver_all();
                    self.pass(20);
                }
            }
            self.check();
        }
        got
    }

    /// Time passes while every edge goes on reporting.
    pub fn idle_for(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            self.pass((until_ms - self.now_ms).min(5_000));
            (0..self.edges.len()).for_each(|edge| self.ask(edge, 0));
            self.deliver_all();
            self.close_silent();
            self.check();
        }
    }
}

pub fn window_at(wall_ms: i64) -> Window {
    let start_ms = wall_ms.div_euclid(QUOTA_MS) * QUOTA_MS;
    Window { start_ms, end_ms: start_ms + QUOTA_MS }
}

fn hour(wall_ms: i64) -> i64 {
    wall_ms.div_euclid(3_600_000) * 3_600_000
}

fn merge(numbers: &mut Numbers, told: Numbers) {
    *numbers = (numbers.0.max(told.0), numbers.1.max(told.1), numbers.2.max(told.2));
}
