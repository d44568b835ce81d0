//! Things: what a capacity counts, where the policy names an id for each, so that one is added once and released once.
//!
//! An edge cannot know what another has added; so it tells the control plane in order what came and went ([`ThingReport`]),
//! and the control plane, which keeps every subject's things, says how many units that sets free.

use std::collections::BTreeMap;

use crate::thing::ThingId;
use crate::wire::ThingReport;

/// Most events of one record that wait to be told.
pub const THINGS_MAX: usize = 256;

/// What an edge saw of one thing and has not told yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThingEvent {
    /// Rises with each event of a session.
    pub seq: u64,
    /// The meter's name.
    pub meter: super::Name,
    /// Names the thing among those of its subject and meter.
    pub id: ThingId,
    /// Units that it takes.
    pub units: u64,
    /// It was added; else it was removed.
    pub present: bool,
}

/// The things of one subject, by meter and id, with the units that each takes. Of a subject with many it need only hold
/// those that the events name.
pub type Things = BTreeMap<(String, ThingId), u64>;

/// What events have changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ThingsApplied {
    /// The last event of the session that was heard.
    pub seq: u64,
    /// Units that are free again, by meter.
    pub released: BTreeMap<String, u64>,
}

/// Applies a session's events to the things of a subject. `heard_seq` is the last event of the session that was heard before:
/// events up to it are repetitions. What is added though it is there replaces it; what is removed though it is not there is
/// not heard of.
pub fn apply_things(things: &mut Things, heard_seq: u64, events: &[ThingReport]) -> ThingsApplied {
    let mut applied = ThingsApplied { seq: heard_seq, released: BTreeMap::new() };
    for event in events {
        if event.seq <= applied.seq {
            continue;
        }
        applied.seq = event.seq;
        let key = (event.meter.clone(), event.id);
        let before = if event.present { things.insert(key, event.units) } else { things.remove(&key) };
        if let Some(units) = before.filter(|units| *units > 0) {
            let released = applied.released.entry(event.meter.clone()).or_default();
            *released = released.saturating_add(units);
        }
    }
    applied
}

#[cfg(test)]
mod tests;
