//! Where the values of a YAML text stand, by path.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, Spanned};

use super::options;
use crate::document::fault::{item, member};

/// A line and a column, from 1.
type Place = (u64, u64);

/// All values of a text with their places; none if it cannot be read.
pub(super) struct Places(Vec<Entry>);

struct Entry {
    path: String,
    /// The path of the mapping that this is a member of.
    parent: Option<String>,
    /// Where the value is said to be: at its key, or in a sequence at the item itself.
    key: Place,
    value: Place,
}

impl Places {
    pub(super) fn read(text: &str) -> Self {
        let mut entries = Vec::new();
        if let Ok(root) = serde_saphyr::from_str_with_options::<Spanned<Node>>(
            text,
            options(DuplicateKeyPolicy::PassThrough),
        ) {
            let place = place(root.referenced);
            collect(String::new(), None, place, root, &mut entries);
        }
        Self(entries)
    }

    /// The place of the value at `path`, or of the nearest value around it that the text has.
    pub(super) fn find(&self, path: &str) -> Option<Place> {
        let around = |entry: &&Entry| {
            let rest = path.strip_prefix(entry.path.as_str());
            rest.is_some_and(|rest| rest.is_empty() || entry.path.is_empty() || rest.starts_with(['.', '[']))
        };
        self.0.iter().filter(around).max_by_key(|entry| entry.path.len()).map(|entry| entry.key)
    }

    /// The path of the value at a place, the innermost of those that start there. Empty: none does.
    pub(super) fn path_at(&self, place: Place) -> &str {
        self.innermost_at(place).map_or("", |entry| &entry.path)
    }

    /// The path of the mapping that the reader has just left, given the place that it tells then: that of the mapping's
    /// last key, or of the mapping itself if it has none.
    pub(super) fn path_around(&self, place: Place) -> &str {
        let last = self.innermost_at(place);
        last.map_or("", |entry| entry.parent.as_ref().filter(|_| entry.key == place).unwrap_or(&entry.path))
    }

    fn innermost_at(&self, place: Place) -> Option<&Entry> {
        let here = self.0.iter().filter(|entry| entry.value == place || entry.key == place);
        here.max_by_key(|entry| entry.path.len())
    }
}

fn collect(path: String, parent: Option<&str>, key: Place, node: Spanned<Node>, entries: &mut Vec<Entry>) {
    let value = place(node.referenced);
    entries.push(Entry { path: path.clone(), parent: parent.map(str::to_owned), key, value });
    match node.value {
        Node::Scalar => {}
        Node::Mapping(members) => {
            for (name, node) in members {
                collect(member(&path, &name.value), Some(&path), place(name.referenced), node, entries);
            }
        }
        Node::Sequence(items) => {
            for (index, node) in items.into_iter().enumerate() {
                collect(item(&path, index), None, place(node.referenced), node, entries);
            }
        }
    }
}

fn place(location: Location) -> Place {
    (location.line(), location.column())
}

/// A YAML value without its scalars.
enum Node {
    Scalar,
    Mapping(Vec<(Spanned<String>, Spanned<Node>)>),
    Sequence(Vec<Spanned<Node>>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(entry) = map.next_entry()? {
            members.push(entry);
        }
        Ok(Node::Mapping(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::Sequence(items))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Node::Scalar)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }
}
