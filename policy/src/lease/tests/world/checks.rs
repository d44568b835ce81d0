//! What must hold in a world: at every moment, and once all is quiet.

use super::*;

impl World {
    /// The control plane has not committed more of a capacity than there is: units held or used, less all that was removed,
    /// though some of it may turn out to have removed nothing.
    fn check_committed(&self, limit: &str, ceiling: u64) {
        let book = serde_json::to_value(&self.book).unwrap();
        let number = |of: &serde_json::Value, name: &str| of[name].as_i64().unwrap_or(0);
        for account in book["accounts"].as_array().unwrap().iter().filter(|a| a["limit"] == limit) {
            let mut committed = number(account, "settled") - number(&account["removals"], "settled");
            for holding in account["open"].as_object().into_iter().flat_map(|o| o.values()) {
                let (held, used) = (
                    number(holding, "g") - number(holding, "r"),
                    number(holding, "t") - number(holding, "f"),
                );
                committed += held.max(used) - number(holding, "d");
            }
            for closed in account["closed"].as_object().into_iter().flat_map(|o| o.values()) {
                committed += number(closed, "charge") - number(closed, "removed");
            }
            assert!(committed <= ceiling.cast_signed(), "{limit}: {committed} of {ceiling} committed");
        }
        let Standing { used, leased, .. } = self.standing(limit);
        let shown = self.book.committed(limit, CAPACITY_WINDOW, self.wall_ms());
        assert_eq!(used + leased, shown, "{limit}: what is shown");
    }

    /// What is shown to be in use of a capacity exists, but for what sessions held that closed and never reported again (the
    /// answer that granted it was lost with the record), or what a killed edge held, and removed and did not tell of.
    pub fn check_exact(&self, limit: &str) {
        let Standing { used, clamped, .. } = self.standing(limit);
        let (shown, exists) = (used.cast_signed() - clamped.cast_signed(), self.exists(limit));
        let book = serde_json::to_value(&self.book).unwrap();
        let accounts =
            book["accounts"].as_array().unwrap().iter().filter(|account| account["limit"] == limit);
        let closed = accounts.filter_map(|account| account["closed"].as_object()).flat_map(|o| o.values());
        let number = |of: &serde_json::Value, name: &str| of[name].as_i64().unwrap_or(0);
        let forfeited = |c| number(c, "charge") - number(c, "taken") + number(c, "freed");
        let forfeited: i64 = closed.map(forfeited).sum();
        if self.killed.is_empty() {
            assert!((shown - forfeited..=shown).contains(&exists), "{limit}: {shown} in use, {exists} exist");
        } else {
            assert!(used.cast_signed() >= exists, "{limit}: {used} units in use, and {exists} exist");
        }
    }

    /// What must hold at every moment.
    pub fn check(&self) {
        let now_ms = self.wall_ms();
        for ((limit, start_ms), units) in &self.admitted {
            let is_hard = self.rules().iter().any(|rule| rule.name == *limit && rule.is_hard());
            let ceiling = self.ceilings.get(&(*limit, *start_ms)).copied().unwrap_or(0);
            assert!(
                *units <= ceiling || !is_hard,
                "{limit} of window {start_ms}: {units} units of {ceiling} admitted"
            );
        }
        for rule in self.rules().iter().filter(|rule| rule.is_hard()) {
            let (name, start_ms) = (rule.name, rule.window(now_ms).start_ms);
            let ceiling = self.ceilings[&(name, start_ms)];
            let committed = self.book.committed(name, start_ms, now_ms);
            assert!(
                committed <= ceiling.saturating_add(self.overruns) || rule.kind == Kind::Capacity,
                "{name}: {committed} units of {ceiling} committed"
            );
            if rule.kind == Kind::Quota {
                self.check_held(name, start_ms, ceiling);
            }
            match rule.kind {
                Kind::Quota => {}
                Kind::Rate(_) => {
                    let counts = |admission: &&(&str, u64, u64, u64)| {
                        admission.0 == name && self.now_ms < admission.1 + admission.3
                    };
                    let units: u64 = self.admissions.iter().filter(counts).map(|admission| admission.2).sum();
                    assert!(units <= ceiling, "{name}: {units} units of {ceiling} in one window");
                }
                Kind::Bucket(_) => self.check_bucket(name, ceiling),
                Kind::Concurrency => {
                    let units = self.in_flight(name);
                    assert!(units <= ceiling, "{name}: {units} units of {ceiling} in flight");
                }
                // What came and went by id is known to the control plane alone.
                Kind::Capacity if self.by_id => self.check_committed(name, ceiling),
                Kind::Capacity => {
                    self.check_committed(name, ceiling);
                    let exists = self.exists(name);
                    assert!(exists <= ceiling.cast_signed(), "{name}: {exists} units of {ceiling} exist");
                }
            }
        }
    }

    /// Edges hold no more than there is, whatever was used beyond that: what is freed of it may be used again.
    fn check_held(&self, name: &str, start_ms: i64, ceiling: u64) {
        let book = serde_json::to_value(&self.book).unwrap();
        let number = |of: &serde_json::Value, name: &str| of[name].as_u64().unwrap_or(0);
        let accounts = book["accounts"].as_array().unwrap().iter();
        let mut found = accounts.filter(|account| account["limit"] == name && account["window"] == start_ms);
        let open = found.next().and_then(|account| account["open"].as_object());
        let held: u64 =
            open.iter().flat_map(|open| open.values()).map(|h| number(h, "g") - number(h, "r")).sum();
        assert!(held <= ceiling, "{name}: {held} units of {ceiling} are held");
    }

    /// In each time that ends now, no more was admitted than the burst and what came back in it.
    fn check_bucket(&self, name: &str, burst: u64) {
        let refill_ms = u128::from(self.refills_ms[name]);
        let mut units = 0;
        for (limit, at_ms, drawn) in self.drawn.iter().rev() {
            if *limit == name {
                units += u128::from(*drawn);
                let passed_ms = u128::from(self.now_ms - at_ms);
                let most = u128::from(burst) * (refill_ms + passed_ms);
                assert!(
                    units * refill_ms <= most,
                    "{name}: {units} units in {passed_ms} ms of a burst of {burst}"
                );
            }
        }
    }

    /// What the control plane counts is what happened, but for what died with an edge.
    pub fn check_quiet(&self) {
        assert!(
            self.wire.is_empty() && self.edges.iter().all(|e| e.finals.is_empty() && e.in_flight.is_empty())
        );
        for (key, truth) in &self.truth {
            if !self.killed.contains(&key.0) && *truth != (0, 0, 0) {
                let mut heard = self.heard.get(key).copied().unwrap_or_default();
                if !self.rules().iter().any(|rule| rule.name == key.1 && rule.is_counted()) {
                    // Units that rest are freed when nobody looks.
                    heard.1 = truth.1;
                }
                assert_eq!(heard, *truth, "{key:?}: what was heard is not what happened");
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
            let is_capacity = account["capacity"].as_bool().unwrap_or(false);
            if account["end"].is_null() && !is_capacity {
                continue;
            }
            let (limit, start_ms) = (account["limit"].as_str().unwrap(), account["window"].as_i64().unwrap());
            let mut used = number(account, "settled");
            let (mut removed, mut forfeited) = (number(&account["removals"], "settled"), 0);
            // What was taken since more was removed than was known to be used: that can be of nothing in it.
            let mut young = 0;
            for holding in account["open"].as_object().into_iter().flat_map(|o| o.values()) {
                used += number(holding, "t") - number(holding, "f");
                removed += number(holding, "d");
                if !holding["o"].is_null() {
                    let taken = number(holding, "t") - number(holding, "f");
                    young += taken - taken.min(number(holding, "o").saturating_sub(number(holding, "f")));
                }
            }
            for closed in account["closed"].as_object().into_iter().flat_map(|o| o.values()) {
                let known = number(closed, "taken") - number(closed, "freed");
                used += known;
                removed += number(closed, "removed");
                forfeited += number(closed, "charge").saturating_sub(known);
            }
            let of_account = |key: &(SessionId, String, i64)| key.1 == limit && key.2 == start_ms;
            let heard = self.heard.iter().filter(|(key, _)| of_account(key));
            let heard = heard.fold((0, 0), |sum, (_, (t, f, r))| (sum.0 + t - f, sum.1 + r));
            let is_hard = self.rules().iter().all(|rule| rule.name != limit || rule.is_hard());
            if is_hard {
                assert_eq!(used, heard.0, "{limit} of window {start_ms}: the book counts otherwise");
            } else {
                // What was taken without a grant in a window that was over when it was told is in the ledger alone.
                assert!(used <= heard.0, "{limit} of window {start_ms}: the book counts more than there was");
            }
            if is_capacity {
                let by_id = removed - heard.1;
                assert!(by_id == 0 || self.by_id);
                let standing = self.standing(limit);
                let old = used + forfeited - young;
                let counted = (old + standing.clamped).saturating_sub(removed).min(old) + young;
                assert_eq!(standing.used, counted, "{limit}: what is shown to be in use");
            }
        }
        for rule in self.rules().iter().filter(|rule| rule.kind == Kind::Quota) {
            let standing = self.standing(rule.name);
            assert_eq!(standing.overage, standing.used.saturating_sub(rule.units), "{}", rule.name);
        }
    }
}
