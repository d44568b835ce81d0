//! Random histories of quotas with grants: whatever is lost, repeated, returned, refunded or closed, no window has more than
//! its own maximum and what the grants hold, no unit of a grant is used twice, and at the end what is burnt is what was used
//! beyond the windows' own maximums.

use std::collections::BTreeMap;

use super::world::{QUOTA_MS, Random, window_at};
use crate::lease::{Book, Term, TermKind, Terms, WINDOW_LATE_MS};
use crate::subscription::Grant;
use crate::window::Window;
use crate::wire::AccountReport;

const LIMIT: &str = "calls.day";
const TTL_MS: u64 = 30_000;
const STEPS: usize = 250;

/// One edge's numbers of one window: granted, returned, taken, freed.
#[derive(Debug, Clone, Copy, Default)]
struct Numbers {
    granted: u64,
    returned: u64,
    taken: u64,
    freed: u64,
}

impl Numbers {
    fn used(self) -> u64 {
        self.taken - self.freed
    }

    fn free(self) -> u64 {
        self.granted.saturating_sub(self.returned).saturating_sub(self.used())
    }
}

struct Edge {
    session: String,
    accounts: BTreeMap<i64, Numbers>,
    /// Reports that were sent and may still arrive, again too.
    sent: Vec<Vec<AccountReport>>,
}

struct Pools {
    random: Random,
    now_ms: i64,
    base: u64,
    book: Book,
    grants: Vec<Grant>,
    edges: Vec<Edge>,
    sessions: usize,
    /// What all edges used, by window; and the highest maximum of its own that a window had.
    used: BTreeMap<i64, u64>,
    bases: BTreeMap<i64, u64>,
    /// At most this much of it is a window's own: what was used by a higher maximum before it fell.
    own: BTreeMap<i64, u64>,
    /// Units of all grants that ever were.
    bought: u64,
    /// Units that dead edges held: they count as used, whether they were or not.
    forfeits: bool,
    /// The maximum changes, and so a window's own part of what was used is not what it is at the end.
    changes: bool,
}

impl Pools {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let base = random.pick(&[0, 3, 10, 40]);
        let edges = 1 + random.index(3);
        let mut pools = Self {
            random,
            now_ms: window_at(1_700_000_000_000).start_ms,
            base,
            book: Book::default(),
            grants: Vec::new(),
            edges: Vec::new(),
            sessions: 0,
            used: BTreeMap::new(),
            bases: BTreeMap::new(),
            own: BTreeMap::new(),
            bought: 0,
            forfeits: false,
            changes: false,
        };
        for _ in 0..edges {
            let edge = pools.new_edge();
            pools.edges.push(edge);
        }
        pools
    }

    fn new_edge(&mut self) -> Edge {
        self.sessions += 1;
        Edge { session: format!("s{}", self.sessions), accounts: BTreeMap::new(), sent: Vec::new() }
    }

    fn window(&self) -> Window {
        window_at(self.now_ms)
    }

    fn terms(&self) -> Terms {
        let windows = vec![self.window()];
        let kind = TermKind::Quota { windows, soft: false };
        let term = Term { limit: LIMIT.to_owned(), meter: None, units: self.base, kind };
        Terms { limits: vec![term], grants: self.grants.clone() }
    }

    fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
    }

    /// A window is forgotten long after its end; edges tell what they used within seconds.
    fn pass_long(&mut self) {
        for edge in 0..self.edges.len() {
            self.edges[edge].sent.clear();
            self.send(edge, 0);
            self.deliver(edge, false);
        }
        self.pass(WINDOW_LATE_MS);
    }

    fn buy(&mut self) {
        let ends =
            self.random.percent(50).then(|| self.random.pick(&[5_000, 60_000, QUOTA_MS, 3 * QUOTA_MS]));
        let units = self.random.pick(&[1, 5, 30]);
        self.bought += units;
        let id = format!("g{}", self.grants.len());
        let expires_at_ms = ends.map(|ms| self.now_ms + ms);
        self.grants.push(Grant { id, limit: LIMIT.to_owned(), units, burnt: 0, expires_at_ms });
    }

    /// An edge asks for `more` units of the current window on top of what it has.
    fn send(&mut self, edge: usize, more: u64) {
        let start_ms = self.window().start_ms;
        let edge = &mut self.edges[edge];
        edge.accounts.entry(start_ms).or_default();
        let reports = edge.accounts.iter().map(|(window, n)| AccountReport {
            limit: LIMIT.to_owned(),
            window: *window,
            taken: n.taken,
            freed: n.freed,
            removed: 0,
            returned: n.returned,
            want: if *window == start_ms && more > 0 { n.granted + more } else { 0 },
        });
        let reports = reports.collect();
        edge.sent.push(reports);
    }

    fn deliver(&mut self, edge: usize, again: bool) {
        if self.edges[edge].sent.is_empty() {
            return;
        }
        let at = self.random.index(self.edges[edge].sent.len());
        let report = self.edges[edge].sent[at].clone();
        if !again {
            self.edges[edge].sent.remove(at);
        }
        let session = self.edges[edge].session.clone();
        let (base, start_ms) = (self.base, self.window().start_ms);
        let highest = self.bases.entry(start_ms).or_default();
        *highest = base.max(*highest);
        let own = self.own.entry(start_ms).or_default();
        *own = base.max(*own);
        let answer = self.book.sync(&session, &report, &self.terms(), self.now_ms);
        self.book.prune(self.now_ms);
        for told in answer.accounts {
            let numbers = self.edges[edge].accounts.entry(told.window).or_default();
            numbers.granted = numbers.granted.max(told.granted);
        }
    }

    fn take(&mut self, edge: usize, units: u64) {
        let start_ms = self.window().start_ms;
        let numbers = self.edges[edge].accounts.entry(start_ms).or_default();
        let units = units.min(numbers.free());
        numbers.taken += units;
        *self.used.entry(start_ms).or_default() += units;
    }

    fn refund(&mut self, edge: usize) {
        let start_ms = self.window().start_ms;
        let numbers = self.edges[edge].accounts.entry(start_ms).or_default();
        let units = numbers.used().min(2);
        numbers.freed += units;
        *self.used.entry(start_ms).or_default() -= units;
    }

    fn give_back(&mut self, edge: usize) {
        let start_ms = self.window().start_ms;
        let numbers = self.edges[edge].accounts.entry(start_ms).or_default();
        numbers.returned += numbers.free();
    }

    /// The edge dies, or begins a new session and tells the last numbers of the old one.
    fn replace(&mut self, edge: usize, tells: bool) {
        let new = self.new_edge();
        let old = std::mem::replace(&mut self.edges[edge], new);
        self.book.close(&old.session, self.now_ms, TTL_MS);
        if tells {
            let last = old.accounts.iter().map(|(window, n)| AccountReport {
                limit: LIMIT.to_owned(),
                window: *window,
                taken: n.taken,
                freed: n.freed,
                removed: 0,
                returned: n.returned,
                want: 0,
            });
            let last: Vec<_> = last.collect();
            self.book.settle(&old.session, &last, true);
            self.book.settle(&old.session, &last, true);
        } else {
            self.forfeits = true;
        }
        self.book.draw(&self.terms(), self.now_ms);
    }

    /// All is told and given back, and then the maximum is another one.
    fn change(&mut self) {
        self.tell_all();
        let start_ms = self.window().start_ms;
        self.base = self.random.pick(&[0, 3, 10, 40]);
        self.changes = true;
        let committed = self.book.committed(LIMIT, start_ms, self.now_ms);
        let own = self.own.entry(start_ms).or_default();
        *own = self.base.max(committed.min(*own));
        self.send(0, 0);
        self.deliver(0, false);
    }

    fn tell_all(&mut self) {
        for edge in 0..self.edges.len() {
            self.edges[edge].sent.clear();
            for numbers in self.edges[edge].accounts.values_mut() {
                numbers.returned += numbers.free();
            }
            self.send(edge, 0);
            self.deliver(edge, false);
        }
    }

    fn beyond(&self) -> u64 {
        self.beyond_of(&self.bases)
    }

    fn beyond_of(&self, own: &BTreeMap<i64, u64>) -> u64 {
        let own = |window| own.get(window).copied().unwrap_or_default();
        self.used.iter().map(|(window, used)| used.saturating_sub(own(window))).sum()
    }

    fn burnt(&self) -> u64 {
        self.grants.iter().map(|grant| self.book.burnt(&grant.id)).sum()
    }

    fn check(&self) {
        assert!(self.beyond() <= self.bought, "{} used of {} bought", self.beyond(), self.bought);
        for grant in &self.grants {
            let burnt = self.book.burnt(&grant.id);
            assert!(burnt <= grant.units, "{burnt} burnt of {grant:?}");
        }
    }

    /// All is told and given back: what is burnt is what was used, and what is left is all there.
    fn check_quiet(&mut self) {
        self.tell_all();
        self.check();
        assert!(self.burnt() >= self.beyond_of(&self.own), "what grants admitted is burnt");
        let standing = self.book.standings(&self.terms(), self.now_ms).remove(0);
        self.check_told(standing.units);
        if self.changes {
            return;
        }
        if !self.forfeits {
            assert_eq!(self.burnt(), self.beyond(), "burnt, and used beyond the windows' own maximums");
        }
        assert!(self.burnt() >= self.beyond());
        let held = |grant: &&Grant| grant.expires_at_ms.is_none_or(|end_ms| self.now_ms < end_ms);
        let left: u64 =
            self.grants.iter().filter(held).map(|grant| grant.units - self.book.burnt(&grant.id)).sum();
        let own = self.base.saturating_sub(standing.used);
        assert_eq!(standing.unleased, own + left, "{standing:?}");
    }

    /// What edges are told makes the same maximum, once burnt units elsewhere are told too.
    fn check_told(&mut self, units: u64) {
        let mut told = self.grants.clone();
        self.book.tell(&self.terms(), &mut told, self.now_ms);
        let mut again = self.grants.clone();
        assert!(!self.book.tell(&self.terms(), &mut again, self.now_ms), "nothing changed since");
        let held = told.iter().filter(|grant| grant.holds(self.now_ms));
        let most = self.base + held.map(|grant| grant.units - grant.burnt).sum::<u64>();
        assert_eq!(most, units, "what edges are told, and what there is");
    }
}

fn history(seed: u64) {
    let mut pools = Pools::new(seed);
    let changing = pools.random.percent(30);
    for _ in 0..STEPS {
        let edge = pools.random.index(pools.edges.len());
        let ms = pools.random.pick(&[0, 0, 10, 1_000, 20_000]);
        pools.pass(ms);
        match pools.random.below(100) {
            0..3 => pools.buy(),
            3..5 => pools.pass(QUOTA_MS),
            5 => pools.pass_long(),
            6..8 if changing => pools.change(),
            8 => {
                let tells = pools.random.percent(70);
                pools.replace(edge, tells);
            }
            9..35 => {
                let more = pools.random.pick(&[0, 1, 1, 4, 50]);
                pools.send(edge, more);
            }
            35..60 => {
                let again = pools.random.percent(20);
                pools.deliver(edge, again);
            }
            60..90 => {
                let units = pools.random.pick(&[1, 1, 2, 9]);
                pools.take(edge, units);
            }
            90..94 => pools.refund(edge),
            _ => pools.give_back(edge),
        }
        pools.check();
    }
    pools.check_quiet();
}

#[test]
fn no_history_uses_a_grant_twice_or_burns_what_was_not_used() {
    for seed in 0..1_500 {
        let run = std::panic::catch_unwind(|| history(seed));
        assert!(run.is_ok(), "seed {seed}");
    }
}

#[test]
fn what_is_left_of_a_grant_is_gone_when_it_has_expired() {
    let mut pools = Pools::new(1);
    pools.base = 0;
    let start_ms = pools.now_ms;
    for (id, expires_at_ms) in [("g0", Some(start_ms + 5_000)), ("g1", None)] {
        let (id, limit) = (id.to_owned(), LIMIT.to_owned());
        pools.grants.push(Grant { id, limit, units: 5, burnt: 0, expires_at_ms });
    }
    pools.bought = 5;
    pools.pass(5_000);
    for _ in 0..3 {
        pools.send(0, 20);
        pools.deliver(0, false);
        pools.take(0, 20);
        pools.send(0, 0);
        pools.deliver(0, false);
        pools.check();
    }
    assert_eq!((pools.book.burnt("g0"), pools.book.burnt("g1")), (0, 5));
}
