//! Edges on a network that loses, repeats and reorders what they say, against a real control plane on a real database.
//! Each edge decides with the arithmetic that the filter decides with; the truth is known here alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate_control_plane::clock::Clock as _;
use tollgate_control_plane::service::ControlPlane;
use tollgate_control_plane::service::sweeper::Sweeper;
use tollgate_control_plane::service::usage::{UsagePeriod, UsageQuery};
use tollgate_control_plane::store::subjects;
use tollgate_policy::lease::{
    AccountKind, BUCKET_WINDOW, CAPACITY_WINDOW, CONCURRENCY_WINDOW, Demand, OnShort, RATE_WINDOW,
    REQUEST_MS_MAX, Record, SessionId, Term, TermKind, Terms, Verdict, decide,
};
use tollgate_policy::window::Window;
use tollgate_policy::wire::{SubjectReport, SyncRequest, SyncResponse};

use super::support::TestClock;

pub const RATE_MS: u64 = 60_000;
const HOUR_MS: i64 = 3_600_000;
/// Within what the control plane takes for a clock that is a little off.
const SKEW_MS: [i64; 4] = [0, 0, -4_000, 4_000];

/// How long the bucket of a tier takes to fill, ms.
pub const REFILL_MS: u64 = 10_000;

/// A tier with a limit of each kind, one of which is reached long before the others.
#[derive(Debug, Clone, Copy)]
pub struct Tier {
    pub name: &'static str,
    /// Units an hour.
    pub quota: u64,
    /// Units a minute.
    pub rate: u64,
    /// What the token bucket holds.
    pub burst: u64,
    /// Requests in flight.
    pub flight: u64,
    /// Rooms at once.
    pub rooms: u64,
}

const AMPLE: Tier = Tier { name: "", quota: 1_000, rate: 100, burst: 100, flight: 100, rooms: 100 };

pub const TIERS: [Tier; 12] = [
    Tier { name: "quota1", quota: 1, ..AMPLE },
    Tier { name: "quota3", quota: 3, ..AMPLE },
    Tier { name: "quota40", quota: 40, ..AMPLE },
    Tier { name: "rate1", rate: 1, ..AMPLE },
    Tier { name: "rate3", rate: 3, ..AMPLE },
    Tier { name: "rate10", rate: 10, ..AMPLE },
    Tier { name: "both", quota: 20, rate: 5, ..AMPLE },
    Tier { name: "burst2", burst: 2, ..AMPLE },
    Tier { name: "burst9", burst: 9, ..AMPLE },
    Tier { name: "flight2", flight: 2, ..AMPLE },
    Tier { name: "rooms3", rooms: 3, ..AMPLE },
    Tier { name: "all", quota: 30, rate: 6, burst: 4, flight: 3, rooms: 5 },
];

/// xorshift64*: the same history for the same seed, everywhere.
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

    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }
}

struct Subject {
    name: String,
    tier: Tier,
    /// Moments (true time) of admissions: a rate's truth.
    admissions: Vec<u64>,
    /// By window: admitted and not refunded.
    admitted: BTreeMap<i64, u64>,
    /// Moments of admissions: a bucket's truth.
    drawn: Vec<u64>,
    /// Rooms added and removed in all.
    rooms: (u64, u64),
}

struct InFlight {
    subject: usize,
    window: i64,
    counted_at_ms: i64,
    /// True time.
    started_ms: u64,
    /// Until when it counts at most as in flight, for the edge.
    end_ms: u64,
    adds_room: bool,
}

struct Edge {
    session: SessionId,
    mono_offset_ms: u64,
    skew_ms: i64,
    valid_until_ms: u64,
    closed: bool,
    /// Until this moment nothing it says, or is told, arrives.
    cut_until_ms: u64,
    records: Vec<Record>,
    in_flight: Vec<InFlight>,
    /// Final reports of closed sessions, until they are answered.
    finals: Vec<(SessionId, Vec<SubjectReport>)>,
}

#[derive(Clone)]
struct Ask {
    edge: usize,
    session: SessionId,
    sent_ms: u64,
    request: SyncRequest,
}

enum Message {
    Ask(Ask),
    Answer(Ask, SyncResponse),
}

/// By session and subject: charged and refunded.
type Counts = BTreeMap<(String, usize), (u64, u64)>;

pub struct World<'a> {
    pub random: Random,
    plane: &'a Arc<ControlPlane>,
    clock: &'a TestClock,
    sweeper: &'a mut Sweeper,
    seed: u64,
    subjects: Vec<Subject>,
    edges: Vec<Edge>,
    wire: Vec<Message>,
    sessions_made: u64,
    truth: Counts,
    heard: Counts,
    killed: Vec<String>,
}

impl<'a> World<'a> {
    pub fn new(
        seed: u64,
        plane: &'a Arc<ControlPlane>,
        clock: &'a TestClock,
        sweeper: &'a mut Sweeper,
        subjects: usize,
    ) -> Self {
        let mut random = Random::new(seed);
        let edges = 1 + random.index(4);
        let subjects = (0..subjects).map(|number| Subject {
            name: format!("user:{seed}-{number}"),
            tier: random.pick(&TIERS),
            admissions: Vec::new(),
            admitted: BTreeMap::new(),
            drawn: Vec::new(),
            rooms: (0, 0),
        });
        let mut world = Self {
            subjects: subjects.collect(),
            random,
            plane,
            clock,
            sweeper,
            seed,
            edges: Vec::new(),
            wire: Vec::new(),
            sessions_made: 0,
            truth: BTreeMap::new(),
            heard: BTreeMap::new(),
            killed: Vec::new(),
        };
        for _ in 0..edges {
            let session = world.new_session();
            let (mono_offset_ms, skew_ms) = (world.random.below(1_000_000), world.random.pick(&SKEW_MS));
            let records = world.records(session, mono_offset_ms);
            world.edges.push(Edge {
                session,
                mono_offset_ms,
                skew_ms,
                valid_until_ms: 0,
                closed: false,
                cut_until_ms: 0,
                records,
                in_flight: Vec::new(),
                finals: Vec::new(),
            });
        }
        world
    }

    fn new_session(&mut self) -> SessionId {
        self.sessions_made += 1;
        SessionId(((u128::from(self.seed) << 64) + u128::from(self.sessions_made)).to_be_bytes())
    }

    fn records(&self, session: SessionId, mono_offset_ms: u64) -> Vec<Record> {
        let born_ms = self.now_ms() + mono_offset_ms;
        let record = |subject: &Subject| Record {
            tier_claim: subject.tier.name.to_owned(),
            ..Record::new(&subject.name, session, born_ms)
        };
        self.subjects.iter().map(record).collect()
    }

    /// True time, ms.
    fn now_ms(&self) -> u64 {
        self.clock.monotonic_ms()
    }

    fn times(&self, edge: usize) -> (i64, u64) {
        let edge = &self.edges[edge];
        (self.clock.now_ms() + edge.skew_ms, self.now_ms() + edge.mono_offset_ms)
    }

    pub fn edge(&mut self) -> usize {
        self.random.index(self.edges.len())
    }

    pub async fn pass(&mut self, ms: u64) {
        self.clock.pass(ms);
        let now_ms = self.now_ms();
        for edge in 0..self.edges.len() {
            // The proxy ends requests that take too long.
            let is_over = |request: &InFlight| now_ms >= request.started_ms + REQUEST_MS_MAX;
            while let Some(at) = self.edges[edge].in_flight.iter().position(is_over) {
                self.end_request(edge, at, false);
            }
        }
        if ms > 5_000 || self.random.percent(10) {
            self.sweeper.sweep(self.plane).await.unwrap();
        }
    }

    /// Requests of most subjects, so that each has a history of its own although they share one wire.
    pub fn request(&mut self, edge: usize) {
        let mut waiting = false;
        for subject in 0..self.subjects.len() {
            for _ in 0..self.random.pick(&[0, 1, 1, 2]) {
                waiting |= self.request_of(edge, subject) == Verdict::Ask;
            }
        }
        if waiting && self.random.percent(60) {
            self.ask(edge, 80, 4);
        }
    }

    /// One request of a subject: a unit of each of its limits, or none; of rooms only if it adds one.
    fn request_of(&mut self, edge: usize, at: usize) -> Verdict {
        let (wall_ms, mono_ms) = self.times(edge);
        let (now_ms, tier) = (self.now_ms(), self.subjects[at].tier);
        let this = &mut self.edges[edge];
        let record = &mut this.records[at];
        let window = wall_ms.div_euclid(HOUR_MS) * HOUR_MS;
        let adds_room = self.random.percent(20);
        let all_time = |start_ms| Window { start_ms, end_ms: i64::MAX };
        let hour = Window { start_ms: window, end_ms: window + HOUR_MS };
        let bucket = AccountKind::Bucket { refill_ms: REFILL_MS };
        let mut demands = Vec::new();
        for (limit, kind, window, limit_units, window_ms) in [
            ("calls.60s", AccountKind::Rate, all_time(RATE_WINDOW), tier.rate, RATE_MS),
            ("calls.10s.burst", bucket, all_time(BUCKET_WINDOW), tier.burst, 0),
            ("calls.hour", AccountKind::Quota, hour, tier.quota, 0),
            (
                "concurrency",
                AccountKind::Concurrency,
                all_time(CONCURRENCY_WINDOW),
                tier.flight,
                REQUEST_MS_MAX,
            ),
            ("rooms", AccountKind::Capacity, all_time(CAPACITY_WINDOW), tier.rooms, 0),
        ] {
            let account = record.open(limit, kind, window);
            let units = if kind == AccountKind::Capacity { u64::from(adds_room) } else { 1 };
            demands.push(Demand { account, units, limit_units, window_ms, on_short: OnShort::Refuse });
        }
        let valid = mono_ms < this.valid_until_ms && !this.closed;
        let verdict = decide(record, &demands, valid, wall_ms, mono_ms);
        if !matches!(verdict, Verdict::Admit { .. }) {
            return verdict;
        }
        record.count("calls", "", 1, wall_ms);
        let end_ms = record.accounts[demands[3].account].taken_end_ms();
        let (counted_at_ms, started_ms) = (wall_ms, now_ms);
        this.in_flight.push(InFlight { subject: at, window, counted_at_ms, started_ms, end_ms, adds_room });
        self.truth.entry((this.session.to_string(), at)).or_default().0 += 1;
        let subject = &mut self.subjects[at];
        subject.admissions.push(now_ms);
        subject.drawn.push(now_ms);
        subject.rooms.0 += u64::from(adds_room);
        // In each time that ends now, no more than the burst and what came back in it.
        for (units, at_ms) in (1_u64..).zip(subject.drawn.iter().rev()) {
            let most = tier.burst * (REFILL_MS + now_ms - at_ms);
            assert!(
                units * REFILL_MS <= most,
                "{}: {units} units of a burst of {}",
                subject.name,
                tier.burst
            );
        }
        *self.subjects[at].admitted.entry(window).or_default() += 1;
        verdict
    }

    /// Half of the requests end; those that failed are refunded.
    pub fn settle(&mut self, edge: usize, refunded_percent: u64) {
        for _ in 0..self.edges[edge].in_flight.len().div_ceil(2) {
            let is_refunded = self.random.percent(refunded_percent);
            self.settle_one(edge, is_refunded);
        }
    }

    fn settle_one(&mut self, edge: usize, is_refunded: bool) {
        let at = self.random.index(self.edges[edge].in_flight.len());
        self.end_request(edge, at, is_refunded);
    }

    fn end_request(&mut self, edge: usize, at: usize, is_refunded: bool) {
        let this = &mut self.edges[edge];
        let request = this.in_flight.swap_remove(at);
        let record = &mut this.records[request.subject];
        let subject = &mut self.subjects[request.subject];
        for account in &mut record.accounts {
            account.end(request.end_ms, 1);
            let is_its_own = match account.kind {
                AccountKind::Quota => account.window_start_ms == request.window,
                AccountKind::Capacity => request.adds_room,
                _ => true,
            };
            if is_refunded && is_its_own {
                account.refund(1);
                subject.rooms.0 -= u64::from(account.kind == AccountKind::Capacity);
            }
        }
        if is_refunded {
            record.uncount("calls", "", 1, request.counted_at_ms);
            self.truth.get_mut(&(this.session.to_string(), request.subject)).unwrap().1 += 1;
            *subject.admitted.get_mut(&request.window).unwrap() -= 1;
        }
    }

    /// A worker traps: its requests end, and nobody says so.
    pub fn trap(&mut self, edge: usize) {
        let keep = self.random.index(8);
        self.edges[edge].in_flight.truncate(keep);
    }

    /// Rooms of some subjects are removed at the edge, wherever they were added.
    pub fn remove_rooms(&mut self, edge: usize) {
        for at in 0..self.subjects.len() {
            let requests = self.edges.iter().flat_map(|edge| &edge.in_flight);
            // What a request that may still fail has added cannot be removed yet.
            let adding = requests.filter(|request| request.subject == at && request.adds_room).count() as u64;
            let subject = &mut self.subjects[at];
            let there = subject.rooms.0.saturating_sub(subject.rooms.1 + adding);
            let units = self.random.below(3).min(there);
            let window = Window { start_ms: CAPACITY_WINDOW, end_ms: i64::MAX };
            if units > 0 {
                let record = &mut self.edges[edge].records[at];
                let account = record.open("rooms", AccountKind::Capacity, window);
                record.accounts[account].release(units);
                subject.rooms.1 += units;
            }
        }
    }

    pub fn give_back(&mut self, edge: usize) {
        let (_, mono_ms) = self.times(edge);
        for record in &mut self.edges[edge].records {
            for account in &mut record.accounts {
                account.settle(mono_ms);
                account.give_back(self.random.below(account.free() + 1));
            }
        }
    }

    /// The edge reports a random part of its subjects, and wants some more units.
    pub fn ask(&mut self, edge: usize, share_percent: u64, more: u64) {
        let (_, sent_ms) = self.times(edge);
        let this = &self.edges[edge];
        let mut asks = Vec::new();
        for (session, subjects) in &this.finals {
            asks.push((*session, true, subjects.clone()));
        }
        let mut subjects = Vec::new();
        for record in &this.records {
            if self.random.percent(share_percent) {
                let more = self.random.below(more + 1);
                subjects.push(record.report_open(|_| more));
            }
        }
        asks.push((this.session, false, subjects));
        for (session, last, subjects) in asks {
            let request =
                SyncRequest { version: 1, session: session.to_string(), last, subjects, denials: Vec::new() };
            self.wire.push(Message::Ask(Ask { edge, session, sent_ms, request }));
        }
    }

    /// Some message arrives, perhaps again later; or is lost.
    pub async fn deliver_some(&mut self, lost_percent: u64, repeated_percent: u64) {
        let now_ms = self.now_ms();
        let can_arrive = |message: &Message| {
            let (Message::Ask(ask) | Message::Answer(ask, _)) = message;
            now_ms >= self.edges[ask.edge].cut_until_ms
        };
        let waiting: Vec<usize> = (0..self.wire.len()).filter(|at| can_arrive(&self.wire[*at])).collect();
        let Some(&newest) = waiting.last() else {
            return;
        };
        // Mostly the newest, or leases would have run out before they arrive.
        let at = if self.random.percent(75) { newest } else { self.random.pick(&waiting) };
        let message = self.wire.remove(at);
        if self.random.percent(repeated_percent) {
            let again = match &message {
                Message::Ask(ask) => Message::Ask(ask.clone()),
                Message::Answer(ask, response) => Message::Answer(ask.clone(), response.clone()),
            };
            self.wire.insert(0, again);
        }
        if !self.random.percent(lost_percent) {
            self.deliver(message).await;
        }
    }

    async fn deliver(&mut self, message: Message) {
        match message {
            Message::Ask(ask) => {
                self.note_heard(&ask.request);
                let response = self.plane.sync(&ask.request, "edge").await.unwrap();
                self.check_books(&ask.request).await;
                self.wire.push(Message::Answer(ask, response));
            }
            Message::Answer(ask, response) => self.learn(&ask, &response),
        }
    }

    fn note_heard(&mut self, request: &SyncRequest) {
        for report in &request.subjects {
            let at = self.subjects.iter().position(|subject| subject.name == report.subject).unwrap();
            // Sums of monotone numbers are monotone, so the newest report is the largest.
            let taken = report.usage.iter().map(|usage| usage.taken).sum();
            let freed = report.usage.iter().map(|usage| usage.freed).sum();
            let heard = self.heard.entry((request.session.clone(), at)).or_default();
            *heard = (heard.0.max(taken), heard.1.max(freed));
        }
    }

    fn learn(&mut self, ask: &Ask, response: &SyncResponse) {
        let (_, mono_ms) = self.times(ask.edge);
        let this = &mut self.edges[ask.edge];
        if ask.request.last {
            this.finals.retain(|(session, _)| *session != ask.session);
            return;
        }
        if this.session != ask.session {
            return;
        }
        if response.closed {
            this.closed = true;
            return;
        }
        this.valid_until_ms = this.valid_until_ms.max(ask.sent_ms + response.lease_ttl_ms);
        for (report, answer) in ask.request.subjects.iter().zip(&response.subjects) {
            assert_eq!(report.subject, answer.subject, "answers come in the order of the reports");
            let record = this.records.iter_mut().find(|record| record.subject == answer.subject).unwrap();
            record.merge(report, answer, ask.sent_ms, mono_ms);
        }
    }

    /// The edge is cut off for a while. What it and the control plane say meanwhile arrives later, or not at all.
    pub fn cut(&mut self, edge: usize, ms: u64) {
        self.edges[edge].cut_until_ms = self.now_ms() + ms;
    }

    /// An edge that learnt that its session is closed opens a new one, once its requests have ended.
    pub fn renew(&mut self, edge: usize) {
        if self.edges[edge].closed {
            self.replace_session(edge);
        }
    }

    /// The edge opens a new session for reasons of its own, once its requests have ended.
    pub fn replace_session(&mut self, edge: usize) {
        if !self.edges[edge].in_flight.is_empty() {
            return;
        }
        let session = self.new_session();
        let records = self.records(session, self.edges[edge].mono_offset_ms);
        let this = &mut self.edges[edge];
        let old = std::mem::replace(&mut this.records, records);
        this.finals.push((this.session, old.iter().map(|record| record.report(|_| 0)).collect()));
        (this.session, this.closed, this.valid_until_ms) = (session, false, 0);
    }

    /// The edge is killed and started again: its memory is lost, with the requests in it.
    pub fn kill(&mut self, edge: usize) {
        let session = self.new_session();
        let records = self.records(session, self.edges[edge].mono_offset_ms);
        let this = &mut self.edges[edge];
        self.killed.push(this.session.to_string());
        self.killed.extend(this.finals.drain(..).map(|(session, _)| session.to_string()));
        this.in_flight.clear();
        (this.session, this.closed, this.valid_until_ms, this.records) = (session, false, 0, records);
    }

    /// No limit is exceeded: not now, and not in any minute or hour.
    pub fn check(&mut self) {
        let now_ms = self.now_ms();
        for (at, subject) in self.subjects.iter_mut().enumerate() {
            let requests = self.edges.iter().flat_map(|edge| &edge.in_flight);
            let in_flight = requests.filter(|request| request.subject == at).count() as u64;
            assert!(in_flight <= subject.tier.flight, "{}: {in_flight} in flight", subject.name);
            subject.admissions.retain(|at_ms| now_ms < at_ms + RATE_MS);
            let (name, Tier { quota, rate, .. }) = (&subject.name, subject.tier);
            let in_minute = subject.admissions.len() as u64;
            assert!(in_minute <= rate, "{name}: {in_minute} in one minute, of {rate}");
            assert!(
                subject.rooms.0 <= subject.rooms.1 + subject.tier.rooms,
                "{name}: {:?} rooms",
                subject.rooms
            );
            for (window, admitted) in &subject.admitted {
                assert!(*admitted <= quota, "{name}: {admitted} in the hour from {window}, of {quota}");
            }
        }
    }

    /// In every state that was committed, no more is held and charged than there is.
    async fn check_books(&mut self, request: &SyncRequest) {
        let now_ms = self.clock.now_ms();
        let window = now_ms.div_euclid(HOUR_MS) * HOUR_MS;
        if request.subjects.is_empty() || self.random.percent(50) {
            return;
        }
        let name = &request.subjects[self.random.index(request.subjects.len())].subject;
        let subject = self.subjects.iter().find(|subject| subject.name == *name).unwrap();
        let row = subjects::read(&self.plane.database, name).await.unwrap();
        let Tier { quota, rate, burst, flight, .. } = subject.tier;
        for (limit, window, units) in [
            ("calls.hour", window, quota),
            ("calls.60s", RATE_WINDOW, rate),
            ("calls.10s.burst", BUCKET_WINDOW, burst),
            ("concurrency", CONCURRENCY_WINDOW, flight),
        ] {
            let committed = row.book.committed(limit, window, now_ms);
            assert!(committed <= units, "{name}: {committed} of {limit} committed, of {units}");
        }
    }

    /// The network is repaired, requests end, and everybody is heard.
    pub async fn quieten(&mut self) {
        for _ in 0..4 {
            for edge in 0..self.edges.len() {
                while !self.edges[edge].in_flight.is_empty() {
                    self.settle(edge, 0);
                }
                self.renew(edge);
                self.ask(edge, 100, 0);
            }
            while let Some(message) = self.wire.pop() {
                self.deliver(message).await;
            }
            self.pass(10).await;
        }
        self.check();
    }

    /// The ledger holds what was admitted, less what a killed edge had not reported.
    pub async fn check_ledger(&self) {
        for (key, truth) in &self.truth {
            let heard = self.heard.get(key).copied().unwrap_or_default();
            match self.killed.contains(&key.0) {
                true => assert!(heard.0 <= truth.0 && heard.1 <= truth.1, "{key:?}: {heard:?} of {truth:?}"),
                false => assert_eq!(heard, *truth, "{key:?}: not all that was admitted was heard"),
            }
        }
        for (at, subject) in self.subjects.iter().enumerate() {
            let of_subject = self.heard.iter().filter(|((_, subject), _)| *subject == at);
            let heard = of_subject.fold((0, 0), |sum, (_, heard)| (sum.0 + heard.0, sum.1 + heard.1));
            let query = UsageQuery { by: UsagePeriod::Total, ..UsageQuery::default() };
            let usage = self.plane.usage(&subject.name, &query).await.unwrap();
            let ledger =
                usage.sums.first().map_or((0, 0), |sum| (sum.sum.taken as u64, sum.sum.freed as u64));
            assert_eq!(ledger, heard, "{}: the ledger", subject.name);
            let row = subjects::read(&self.plane.database, &subject.name).await.unwrap();
            let term = Term {
                limit: "rooms".to_owned(),
                meter: Some("rooms".to_owned()),
                units: subject.tier.rooms,
                kind: TermKind::Capacity,
            };
            let standing = row
                .book
                .standings(&Terms { limits: vec![term], grants: Vec::new() }, self.clock.now_ms())
                .remove(0);
            let (shown, there) = (standing.used - standing.clamped, subject.rooms.0 - subject.rooms.1);
            match self.killed.is_empty() {
                true => assert_eq!(shown, there, "{}: rooms in use", subject.name),
                // What a killed edge held may have been added; what it removed and did not tell of stays charged.
                false => {
                    let charged = standing.used + standing.leased;
                    assert!(charged >= there, "{}: {charged} rooms of {there}", subject.name);
                }
            }
        }
    }

    /// Nobody is left open for the next world to wait for.
    pub async fn end(mut self) {
        self.pass(40_000).await;
        self.sweeper.sweep(self.plane).await.unwrap();
    }

    pub fn subjects(&self) -> usize {
        self.subjects.len()
    }
}
