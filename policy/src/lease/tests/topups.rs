//! What a grant is worth beside others, and beside maximums that change: what was bought can be used, what was used before
//! is none of it, and what is used because of it is burnt, once.

use super::world::{QUOTA_MS, window_at};
use crate::lease::{Book, Term, TermKind, Terms, WINDOW_LATE_MS};
use crate::limit::UNLIMITED;
use crate::subscription::Grant;
use crate::wire::AccountReport;

const LIMIT: &str = "calls.month";

/// One subject at one edge.
struct Shop {
    now_ms: i64,
    /// None while no tier is in force.
    units: Option<u64>,
    grants: Vec<Grant>,
    book: Book,
    /// Granted and used, of the window of `start_ms`.
    numbers: (u64, u64),
    returned: u64,
    start_ms: i64,
    /// Units of the window before may be granted too.
    skewed: bool,
}

impl Shop {
    fn new(units: u64) -> Self {
        let start_ms = window_at(1_700_000_000_000).start_ms;
        let (grants, book) = (Vec::new(), Book::default());
        Self {
            now_ms: start_ms,
            units: Some(units),
            grants,
            book,
            numbers: (0, 0),
            returned: 0,
            start_ms,
            skewed: false,
        }
    }

    fn terms(&self) -> Terms {
        let mut windows = vec![window_at(self.now_ms)];
        windows.extend(self.skewed.then(|| window_at(self.now_ms - QUOTA_MS)));
        let kind = TermKind::Quota { windows, soft: false };
        let term = |units| Term { limit: LIMIT.to_owned(), meter: None, units, kind: kind.clone() };
        Terms { limits: self.units.map(term).into_iter().collect(), grants: self.grants.clone() }
    }

    fn buy(&mut self, id: &str, units: u64, expires_ms: Option<i64>) {
        let expires_at_ms = expires_ms.map(|ms| self.now_ms + ms);
        let (id, limit) = (id.to_owned(), LIMIT.to_owned());
        self.grants.push(Grant { id, limit, units, burnt: 0, expires_at_ms });
    }

    fn sync(&mut self, want: u64) {
        let report = AccountReport {
            limit: LIMIT.to_owned(),
            window: self.start_ms,
            taken: self.numbers.1,
            freed: 0,
            removed: 0,
            returned: self.returned,
            want,
        };
        let answer = self.book.sync("s1", &[report], &self.terms(), self.now_ms);
        let told = answer.accounts.iter().find(|account| account.window == self.start_ms);
        self.numbers.0 = told.map_or(0, |told| told.granted).max(self.numbers.0);
        self.book.prune(self.now_ms);
    }

    /// Asks for units until there are no more, and up to `most`; answers how many it used.
    fn use_up(&mut self, most: u64) -> u64 {
        let before = self.numbers.1;
        self.sync(self.returned + before + most);
        self.numbers.1 = (self.numbers.0 - self.returned).min(before + most).max(before);
        self.sync(0);
        self.numbers.1 - before
    }

    /// The edge gives back what it holds and does not use.
    fn give_back(&mut self) {
        self.returned = self.numbers.0 - self.numbers.1;
        self.sync(0);
    }

    /// The edge says that it used units which nobody granted.
    fn use_without_asking(&mut self, units: u64) {
        self.numbers.1 += units;
        self.sync(0);
    }

    fn next_window(&mut self) {
        self.now_ms += QUOTA_MS;
        (self.start_ms, self.numbers, self.returned) = (window_at(self.now_ms).start_ms, (0, 0), 0);
    }

    fn burnt(&self, ids: &[&str]) -> Vec<u64> {
        ids.iter().map(|id| self.book.burnt(id)).collect()
    }

    /// The maximum as an edge reckons it of what it is told; it is the book's own.
    fn maximum(&mut self) -> u64 {
        let mut told = self.grants.clone();
        self.book.tell(&self.terms(), &mut told, self.now_ms);
        let held = told.iter().filter(|grant| grant.holds(self.now_ms));
        let most =
            self.units.unwrap_or(0) + held.map(|grant| grant.units.saturating_sub(grant.burnt)).sum::<u64>();
        assert_eq!(most, self.book.standings(&self.terms(), self.now_ms)[0].units);
        most
    }
}

#[test]
fn what_is_bought_after_a_used_grant_expired_can_be_used_in_that_window() {
    let mut shop = Shop::new(10);
    shop.buy("g0", 5, Some(1_000));
    assert_eq!(shop.use_up(20), 15);
    let mut told = shop.grants.clone();
    shop.book.tell(&shop.terms(), &mut told, shop.now_ms);
    shop.now_ms += 1_000;
    let mut told = shop.grants.clone();
    assert!(shop.book.tell(&shop.terms(), &mut told, shop.now_ms), "edges must hear of it");
    shop.buy("g1", 5, None);
    assert_eq!(shop.maximum(), 20);
    assert_eq!((shop.use_up(20), shop.burnt(&["g0", "g1"])), (5, vec![5, 5]));
    shop.next_window();
    assert_eq!((shop.maximum(), shop.use_up(20)), (10, 10));
}

#[test]
fn what_is_bought_after_a_used_grant_was_removed_can_be_used_in_that_window() {
    let mut shop = Shop::new(10);
    shop.buy("g1", 5, None);
    assert_eq!(shop.use_up(20), 15);
    shop.grants.clear();
    shop.sync(0);
    assert_eq!((shop.maximum(), shop.use_up(5)), (15, 0));
    shop.buy("g2", 5, None);
    assert_eq!(shop.maximum(), 20);
    assert_eq!((shop.use_up(20), shop.burnt(&["g2"])), (5, vec![5]));
    shop.next_window();
    assert_eq!((shop.maximum(), shop.use_up(20)), (10, 10));
}

#[test]
fn what_is_bought_after_a_downgrade_is_not_burnt_for_what_was_used_before() {
    for sync_between in [false, true] {
        let mut shop = Shop::new(10_000);
        assert_eq!(shop.use_up(3_000), 3_000);
        shop.units = Some(100);
        if sync_between {
            shop.sync(0);
        }
        shop.buy("g0", 1_000, None);
        assert_eq!((shop.use_up(50), shop.burnt(&["g0"])), (0, vec![0]), "this window is used up");
        shop.next_window();
        assert_eq!((shop.use_up(5_000), shop.burnt(&["g0"])), (1_100, vec![1_000]));
    }
}

#[test]
fn what_is_bought_is_not_burnt_for_a_debt_of_before() {
    for earlier in [false, true] {
        let mut shop = Shop::new(10);
        if earlier {
            shop.buy("over", 5, Some(1));
            shop.sync(0);
            shop.now_ms += 1;
        }
        assert_eq!(shop.use_up(10), 10);
        shop.use_without_asking(40);
        shop.buy("g0", 30, None);
        shop.sync(0);
        assert_eq!(shop.burnt(&["g0"]), [0]);
        shop.use_without_asking(7);
        assert_eq!(shop.burnt(&["g0"]), [7], "a debt of after is");
    }
}

#[test]
fn what_a_grant_admits_after_a_downgrade_is_burnt() {
    for between in [None, Some(UNLIMITED)] {
        let mut shop = Shop::new(10_000);
        shop.buy("g0", 30, None);
        assert_eq!((shop.use_up(20), shop.burnt(&["g0"])), (20, vec![0]));
        if let Some(units) = between {
            shop.units = Some(units);
            shop.sync(0);
        }
        shop.units = Some(10);
        shop.sync(0);
        shop.give_back();
        assert_eq!(shop.maximum(), 40);
        assert_eq!((shop.use_up(100), shop.burnt(&["g0"])), (20, vec![20]));
        shop.next_window();
        assert_eq!((shop.use_up(100), shop.burnt(&["g0"])), (20, vec![30]));
    }
}

#[test]
fn what_a_grant_that_expired_has_left_with_edges_is_taken_of_those_that_hold() {
    let mut shop = Shop::new(10);
    shop.buy("g0", 10, Some(1_000));
    shop.buy("g1", 10, None);
    shop.sync(20);
    shop.use_without_asking(13);
    assert_eq!((shop.numbers.0, shop.burnt(&["g0", "g1"])), (20, vec![3, 0]));
    shop.now_ms += 1_000;
    shop.sync(0);
    assert_eq!(shop.maximum(), 23);
    shop.use_without_asking(7);
    assert_eq!(shop.burnt(&["g0", "g1"]), [3, 7]);
    assert_eq!((shop.use_up(20), shop.burnt(&["g0", "g1"])), (3, vec![3, 10]));
}

#[test]
fn what_is_told_late_of_a_grant_that_expired_with_its_window_is_taken_of_no_other() {
    let mut shop = Shop::new(10);
    shop.buy("g0", 10, Some(QUOTA_MS));
    shop.buy("g1", 10, None);
    shop.sync(20);
    shop.skewed = true;
    shop.now_ms += QUOTA_MS;
    shop.use_without_asking(20);
    assert_eq!(shop.burnt(&["g0", "g1"]), [10, 0]);
}

#[test]
fn what_is_reported_while_no_tier_is_in_force_is_burnt_for_good() {
    let mut shop = Shop::new(0);
    shop.buy("g0", 10, None);
    shop.sync(10);
    shop.use_without_asking(5);
    shop.units = None;
    shop.use_without_asking(5);
    assert_eq!(shop.burnt(&["g0"]), [10]);
    shop.now_ms += WINDOW_LATE_MS;
    shop.next_window();
    shop.sync(0);
    assert_eq!(shop.burnt(&["g0"]), [10]);
    shop.units = Some(0);
    assert_eq!(shop.use_up(10), 0);
}
