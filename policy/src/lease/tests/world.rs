//! A control plane, some edges and a network that loses, repeats, delays and reorders what they say. Every step is
//! checked against the truth, which only this file knows. Reproducible by its seed.

use std::collections::BTreeMap;

use crate::lease::{Account, Book, Demand, Record, SessionId, Term, TermKind, Terms, Verdict, decide};
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
    /// A rate's window; none for a quota.
    pub rate_ms: Option<u64>,
}

#[derive(Debug, Clone)]
struct Request {
    session: SessionId,
    taken: Vec<(&'static str, i64, u64)>,
    counted_at_ms: i64,
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

/// Taken and freed.
type Numbers = (u64, u64);

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
    /// Per quota and window: units admitted and not refunded, and the highest maximum so far.
    admitted: BTreeMap<(&'static str, i64), u64>,
    ceilings: BTreeMap<(&'static str, i64), u64>,
    /// Per session, limit and window: what truly happened, and what reached the control plane.
    truth: BTreeMap<(SessionId, String, i64), Numbers>,
    heard: BTreeMap<(SessionId, String, i64), Numbers>,
    usage_truth: BTreeMap<(SessionId, i64), Numbers>,
    usage_heard: BTreeMap<(SessionId, i64), Numbers>,
    killed: Vec<SessionId>,
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
            admitted: BTreeMap::new(),
            ceilings: BTreeMap::new(),
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
            meter: METER.to_owned(),
            units: rule.units,
            kind: match rule.rate_ms {
                Some(window_ms) => TermKind::Rate { window_ms },
                None => TermKind::Quota(windows.clone()),
            },
        };
        Terms { limits: self.rules().iter().map(term).collect() }
    }

    /// A new version of the policy at the control plane; edges learn of it from answers.
    pub fn change_rules(&mut self, rules: Vec<Rule>) {
        self.versions.push(rules);
        self.raise_ceilings();
    }

    fn raise_ceilings(&mut self) {
        for term in self.terms().limits {
            let name = self.rules().iter().find(|rule| rule.name == term.limit).unwrap().name;
            let starts = match &term.kind {
                TermKind::Rate { .. } => vec![0],
                TermKind::Quota(windows) => windows.iter().map(|w| w.start_ms).collect(),
            };
            for start in starts {
                let ceiling = self.ceilings.entry((name, start)).or_default();
                *ceiling = (*ceiling).max(term.units);
            }
        }
    }

    pub fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
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
        let mut demands = Vec::new();
        for (limit, units) in costs {
            let rule = rules.iter().find(|rule| rule.name == *limit).unwrap();
            let (start_ms, end_ms) = match rule.rate_ms {
                Some(_) => (0, i64::MAX),
                None => (window_at(wall_ms).start_ms, window_at(wall_ms).end_ms),
            };
            let account = record.account(limit, start_ms).unwrap_or_else(|| {
                record.accounts.push(Account {
                    limit: (*limit).to_owned(),
                    window_start_ms: start_ms,
                    window_end_ms: end_ms,
                    ..Account::default()
                });
                record.accounts.len() - 1
            });
            let window_ms = rule.rate_ms.unwrap_or(0);
            demands.push(Demand { account, units: *units, limit_units: rule.units, window_ms });
        }
        let numbers = |record: &Record| -> Vec<[u64; 4]> {
            record.accounts.iter().map(|a| [a.granted, a.returned, a.taken, a.freed]).collect()
        };
        let mut expected = numbers(record);
        let valid = mono_ms < this.valid_until_ms && !this.closed;
        let verdict = decide(record, &demands, valid, wall_ms, mono_ms);
        if verdict == Verdict::Admit {
            demands.iter().for_each(|demand| expected[demand.account][2] += demand.units);
        }
        assert_eq!(numbers(record), expected, "all demands are taken, or none");
        if verdict != Verdict::Admit {
            return verdict;
        }
        let mut taken = Vec::new();
        for ((limit, units), demand) in costs.iter().zip(&demands) {
            let start_ms = record.accounts[demand.account].window_start_ms;
            taken.push((*limit, start_ms, *units));
            self.truth.entry((session, (*limit).to_owned(), start_ms)).or_default().0 += units;
            if demand.window_ms > 0 {
                self.admissions.push((limit, self.now_ms, *units, demand.window_ms));
            } else {
                *self.admitted.entry((limit, start_ms)).or_default() += units;
            }
        }
        if counts_usage {
            record.count(METER, 1, wall_ms);
            self.usage_truth.entry((session, hour(wall_ms))).or_default().0 += 1;
        }
        this.in_flight.push(Request { session, taken, counted_at_ms: wall_ms });
        verdict
    }

    /// Some request in flight at the edge ends; a refund restores exactly what it took.
    pub fn settle(&mut self, edge: usize, is_refunded: bool) {
        let this = &mut self.edges[edge];
        if this.in_flight.is_empty() {
            return;
        }
        let at = self.random.index(this.in_flight.len());
        let request = this.in_flight.swap_remove(at);
        let Some(record) = this.record.as_mut().filter(|r| is_refunded && r.session == request.session)
        else {
            return;
        };
        for (limit, start_ms, units) in &request.taken {
            let Some(at) = record.account(limit, *start_ms) else { continue };
            let account = &mut record.accounts[at];
            let (used, free) = (account.used(), account.free());
            account.refund(*units);
            if account.is_rate() {
                assert_eq!((account.used(), account.free()), (used, free), "a rate's units go on resting");
                continue;
            }
            let restored = used - account.used();
            // A record that was dropped and has not been restored yet cannot take the refund.
            assert_eq!(restored, *units.min(&used));
            assert_eq!(account.held().saturating_sub(used - restored), account.free());
            *self.admitted.get_mut(&(*limit, *start_ms)).unwrap() -= restored;
            self.truth.get_mut(&(request.session, (*limit).to_owned(), *start_ms)).unwrap().1 += restored;
        }
        if self.counts_usage {
            let freed = |r: &Record| r.usage.iter().map(|u| u.freed).sum::<u64>();
            let before = freed(record);
            record.uncount(METER, 1, request.counted_at_ms);
            let hour = hour(request.counted_at_ms);
            self.usage_truth.get_mut(&(request.session, hour)).unwrap().1 += freed(record) - before;
        }
    }

    /// The edge gives back some of its idle units; they are reported with the next message.
    pub fn give_back(&mut self, edge: usize) {
        let mono_ms = self.mono_ms(edge);
        let Some(record) = &mut self.edges[edge].record else { return };
        for account in &mut record.accounts {
            account.rest.expire(mono_ms);
            let units =
                if self.random.percent(50) { u64::MAX } else { self.random.below(account.free() + 1) };
            account.give_back(units);
        }
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
        let report = this.record.as_ref().map(|record| record.report(|_| more));
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
        let now_ms = self.wall_ms();
        for (session, heard) in &mut self.sessions {
            if !heard.closed && now_ms > heard.at_ms.saturating_add_unsigned(TTL_MS) {
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
        let version = self.versions.len() - 1;
        let session = ask.session.to_string();
        let heard = self.sessions.entry(ask.session).or_insert(Heard { at_ms: now_ms, closed: false });
        for account in ask.report.iter().flat_map(|report| &report.accounts) {
            let key = (ask.session, account.limit.clone(), account.window);
            merge(self.heard.entry(key).or_default(), (account.taken, account.freed));
        }
        for usage in ask.report.iter().flat_map(|report| &report.usage) {
            let numbers = self.usage_heard.entry((ask.session, usage.hour)).or_default();
            merge(numbers, (usage.taken, usage.freed));
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
        let terms = self.terms();
        let answer = self.book.sync(&session, reports, &terms, now_ms);
        if ask.last {
            self.book.close(&session, now_ms, TTL_MS);
            self.book.settle(&session, reports, true);
        }
        self.book.prune(now_ms);
        self.wire.extend(answer.recalled.into_iter().map(|session| Message::Push { session }));
        let answer = ask.report.is_some().then(|| SubjectAnswer {
            subject: SUBJECT.to_owned(),
            subscription: None,
            subscription_revision: version as u64,
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
        record.merge(report, answer, mono_ms);
        this.told = Some(report.clone());
        let mut returned = 0;
        for told in answer.accounts.iter().filter(|told| told.recall) {
            if let Some(at) = record.account(&told.limit, told.window) {
                record.accounts[at].rest.expire(mono_ms);
                returned += record.accounts[at].give_back(u64::MAX);
            }
        }
        if returned > 0 {
            self.ask(ask.edge, 0);
        }
    }

    /// What must hold at every moment.
    pub fn check(&self) {
        let now_ms = self.wall_ms();
        for ((limit, start_ms), units) in &self.admitted {
            let ceiling = self.ceilings.get(&(*limit, *start_ms)).copied().unwrap_or(0);
            assert!(*units <= ceiling, "{limit} of window {start_ms}: {units} units of {ceiling} admitted");
        }
        for rule in self.rules() {
            let start_ms = if rule.rate_ms.is_some() { 0 } else { window_at(now_ms).start_ms };
            let ceiling = self.ceilings[&(rule.name, start_ms)];
            let committed = self.book.committed(rule.name, start_ms, now_ms);
            assert!(committed <= ceiling, "{}: {committed} units of {ceiling} committed", rule.name);
            if rule.rate_ms.is_some() {
                let counts = |admission: &&(&str, u64, u64, u64)| {
                    admission.0 == rule.name && self.now_ms < admission.1 + admission.3
                };
                let units: u64 = self.admissions.iter().filter(counts).map(|admission| admission.2).sum();
                assert!(units <= ceiling, "{}: {units} units of {ceiling} in one window", rule.name);
            }
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

    /// What the control plane counts is what happened, but for what died with an edge.
    pub fn check_quiet(&self) {
        assert!(
            self.wire.is_empty() && self.edges.iter().all(|e| e.finals.is_empty() && e.in_flight.is_empty())
        );
        for (key, (taken, freed)) in &self.truth {
            if !self.killed.contains(&key.0) && (taken, freed) != (&0, &0) {
                let heard = self.heard.get(key).copied().unwrap_or_default();
                assert_eq!(heard, (*taken, *freed), "{key:?}: what was heard is not what happened");
            }
        }
        for (key, numbers) in &self.usage_truth {
            if !self.killed.contains(&key.0) {
                assert_eq!(self.usage_heard.get(key), Some(numbers), "{key:?}: usage");
            }
        }
        let book = serde_json::to_value(&self.book).unwrap();
        let number = |of: &serde_json::Value, name: &str| of[name].as_u64().unwrap_or(0);
        for account in book["accounts"].as_array().unwrap() {
            let Some(_) = account["end"].as_i64() else { continue };
            let (limit, start_ms) = (account["limit"].as_str().unwrap(), account["window"].as_i64().unwrap());
            let mut used = number(account, "settled");
            for holding in account["open"].as_object().into_iter().flat_map(|o| o.values()) {
                used += number(holding, "t") - number(holding, "f");
            }
            for closed in account["closed"].as_object().into_iter().flat_map(|o| o.values()) {
                used += number(closed, "taken") - number(closed, "freed");
            }
            let of_account = |key: &(SessionId, String, i64)| key.1 == limit && key.2 == start_ms;
            let heard: u64 =
                self.heard.iter().filter(|(key, _)| of_account(key)).map(|(_, (t, f))| t - f).sum();
            assert_eq!(used, heard, "{limit} of window {start_ms}: the book counts otherwise");
        }
    }

    /// One request that asks and waits as long as the answers promise anything, for two seconds at most.
    pub fn insist(&mut self, edge: usize, limit: &'static str, units: u64) -> String {
        for _ in 0..20 {
            match self.request(edge, &[(limit, units)]) {
                Verdict::Admit => {
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

    /// The edge asks for one unit after the other until it is refused for good; answers how many it got.
    pub fn drain(&mut self, edge: usize, limit: &'static str) -> u64 {
        let (mut got, mut refused) = (0, 0);
        while refused < 12 {
            match self.request(edge, &[(limit, 1)]) {
                Verdict::Admit => {
                    (got, refused) = (got + 1, 0);
                    self.settle(edge, false);
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
    *numbers = (numbers.0.max(told.0), numbers.1.max(told.1));
}
