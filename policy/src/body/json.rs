//! Amounts at several pointers, read from a JSON text in one pass that builds no tree of it.
//!
//! Where a member is named twice, the last one counts, with all that is in it. A text that is an array is what a JSON-RPC
//! batch is answered with: pointers then start at each of its elements, and what they find there is added up. Says nothing
//! about what a missing amount means.

mod number;

use super::Unread;
use super::pointer::Pointer;
pub use super::scan::JsonFault;
use super::scan::{Scanner, unescape};
use super::work;

/// Most of a text that is read, bytes: enough to tell that it is too long for a label.
pub const TEXT_BYTES_MAX: usize = 1_024;

/// The amount at each of the pointers, in their order.
///
/// An amount is a whole number from 0 to 2^64 - 1, however it is written (`12`, `12.0`, `1.2e1`), and never a string.
pub fn numbers(text: &[u8], pointers: &[Pointer]) -> Result<Vec<Result<u64, Unread>>, JsonFault> {
    Wanted::new(pointers).numbers(text)
}

/// The text at each of the pointers, in their order: what a string says, or a number or a truth value as it is written. No
/// more of it than [`TEXT_BYTES_MAX`] bytes; none where elements of an array say different things.
pub fn texts(text: &[u8], pointers: &[Pointer]) -> Result<Vec<Option<Box<str>>>, JsonFault> {
    Ok(Wanted::new(pointers).values(text, 0)?.texts)
}

/// What a text has at the places that were wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// By pointer of an amount.
    pub amounts: Vec<Result<u64, Unread>>,
    /// By pointer of a text.
    pub texts: Vec<Option<Box<str>>>,
}

/// The places that pointers name, as one tree, so that one pass finds them all.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The first is the value itself.
    nodes: Vec<Node>,
    /// By pointer: the node that it names.
    ends: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Node {
    /// Its last token, as one of the tokens of a pointer that goes through it: `None` for the value itself.
    token: Option<(Pointer, usize)>,
    /// The token as the number of an array's element.
    index: Option<usize>,
    first_child: Option<usize>,
    sibling: Option<usize>,
}

/// What one value has at the places that were wanted.
pub(super) struct Found<'b> {
    /// By node.
    places: Vec<Place<'b>>,
}

#[derive(Clone, Copy, Default)]
struct Place<'b> {
    text: Option<&'b [u8]>,
    ambiguous: bool,
}

impl Wanted {
    pub(super) fn new<'p>(pointers: impl IntoIterator<Item = &'p Pointer>) -> Self {
        let root = Node { token: None, index: None, first_child: None, sibling: None };
        let mut wanted = Self { nodes: vec![root], ends: Vec::new() };
        for pointer in pointers {
            let end = (0..pointer.tokens().len()).fold(0, |node, token| wanted.child(node, pointer, token));
            wanted.ends.push(end);
        }
        wanted
    }

    /// The child of `node` that has this token of `pointer`, made if there is none.
    fn child(&mut self, node: usize, pointer: &Pointer, token: usize) -> usize {
        let text = &*pointer.tokens()[token];
        if let Some(child) = self.children(node).find(|&child| self.nodes[child].name() == text.as_bytes()) {
            return child;
        }
        let sibling = self.nodes[node].first_child;
        let token = Some((pointer.clone(), token));
        self.nodes.push(Node { token, index: index(text), first_child: None, sibling });
        let child = self.nodes.len() - 1;
        self.nodes[node].first_child = Some(child);
        child
    }

    fn children(&self, node: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(self.nodes[node].first_child, |&child| self.nodes[child].sibling)
            .inspect(|_| work::count(1))
    }

    /// The amounts in a whole text.
    pub(super) fn numbers(&self, text: &[u8]) -> Result<Vec<Result<u64, Unread>>, JsonFault> {
        Ok(self.values(text, self.ends.len())?.amounts)
    }

    /// The amounts of the first pointers, so many of them, and the texts of the others.
    pub(super) fn values(&self, text: &[u8], amounts: usize) -> Result<Values, JsonFault> {
        let mut scanner = Scanner::new(text);
        let mut found = self.nothing();
        let mut sums = vec![Err(Unread::Missing); amounts];
        let mut said = vec![None; self.ends.len().saturating_sub(amounts)];
        if scanner.peek()? == b'[' {
            let mut items = scanner.open()?;
            while scanner.item(&mut items)? {
                self.find(&mut scanner, &mut found)?;
                for (pointer, sum) in sums.iter_mut().enumerate() {
                    *sum = added(*sum, self.number(&found, pointer));
                }
                for (pointer, said) in said.iter_mut().enumerate() {
                    agree(said, self.label(&found, amounts + pointer));
                }
            }
        } else {
            self.find(&mut scanner, &mut found)?;
            for (pointer, sum) in sums.iter_mut().enumerate() {
                *sum = self.number(&found, pointer);
            }
            for (pointer, said) in said.iter_mut().enumerate() {
                agree(said, self.label(&found, amounts + pointer));
            }
        }
        scanner.end()?;
        Ok(Values { amounts: sums, texts: said.into_iter().map(Option::flatten).collect() })
    }

    /// Where the findings of a value go. It can be used again.
    pub(super) fn nothing<'b>(&self) -> Found<'b> {
        Found { places: vec![Place::default(); self.nodes.len()] }
    }

    /// Goes past a value and takes what is wanted from it.
    pub(super) fn find<'b>(&self, scanner: &mut Scanner<'b>, found: &mut Found<'b>) -> Result<(), JsonFault> {
        self.forget(0, found);
        self.find_below(0, scanner, found)
    }

    /// No deeper than pointers go: what nobody wants is skipped without recursion.
    fn find_below<'b>(
        &self,
        node: usize,
        scanner: &mut Scanner<'b>,
        found: &mut Found<'b>,
    ) -> Result<(), JsonFault> {
        let start = scanner.start()?;
        match scanner.peek()? {
            b'{' if self.nodes[node].first_child.is_some() => {
                let mut items = scanner.open()?;
                while scanner.item(&mut items)? {
                    let name = scanner.name()?;
                    match self.child_named(node, name, found) {
                        Some(child) => {
                            if found.places[child].text.is_some() {
                                self.forget(child, found);
                                found.places[child].ambiguous = true;
                            }
                            self.find_below(child, scanner, found)?;
                        }
                        None => scanner.skip()?,
                    }
                }
            }
            b'[' if self.nodes[node].first_child.is_some() => {
                let mut items = scanner.open()?;
                let mut index = 0;
                while scanner.item(&mut items)? {
                    match self.children(node).find(|&child| self.nodes[child].index == Some(index)) {
                        Some(child) => self.find_below(child, scanner, found)?,
                        None => scanner.skip()?,
                    }
                    index += 1;
                }
            }
            _ => scanner.skip()?,
        }
        found.places[node].text = Some(scanner.since(start));
        Ok(())
    }

    /// The child that a member's name, in quotes, names. A name that only some readers take for a child's is noted there.
    fn child_named(&self, node: usize, quoted: &[u8], found: &mut Found<'_>) -> Option<usize> {
        let unescaped;
        let mut name = &quoted[1..quoted.len() - 1];
        if name.contains(&b'\\') {
            unescaped = unescape(quoted);
            name = unescaped.as_bytes();
        }
        let mut named = None;
        for child in self.children(node) {
            let wanted = self.nodes[child].name();
            if name == wanted {
                named = Some(child);
            } else if alike(name, wanted) {
                found.places[child].ambiguous = true;
            }
        }
        named
    }

    fn forget(&self, node: usize, found: &mut Found<'_>) {
        found.places[node] = Place::default();
        for child in self.children(node) {
            self.forget(child, found);
        }
    }

    /// How many pointers there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text of what the pointer of this number names.
    pub(super) fn text<'b>(&self, found: &Found<'b>, pointer: usize) -> Option<&'b [u8]> {
        found.places[self.ends[pointer]].text
    }

    /// Whether other readers may find something else there: the member is named twice, or once more in other letters'
    /// cases, which Go's `encoding/json` takes for the same.
    pub(super) fn is_ambiguous(&self, found: &Found<'_>, pointer: usize) -> bool {
        found.places[self.ends[pointer]].ambiguous
    }

    /// What stands at the pointer of this number, as a text.
    pub(super) fn label(&self, found: &Found<'_>, pointer: usize) -> Option<Box<str>> {
        let text = self.text(found, pointer)?;
        let said = match text.first()? {
            b'"' => unescape(text),
            b'{' | b'[' | b'n' => return None,
            _ => String::from_utf8_lossy(text),
        };
        Some(said.get(..said.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default().into())
    }

    /// The amount that the pointer of this number names.
    pub(super) fn number(&self, found: &Found<'_>, pointer: usize) -> Result<u64, Unread> {
        self.text(found, pointer).map_or(Err(Unread::Missing), number::parse)
    }
}

impl Node {
    fn name(&self) -> &[u8] {
        match &self.token {
            Some((pointer, token)) => pointer.tokens()[*token].as_bytes(),
            None => b"",
        }
    }
}

/// The number of an array's element that a token names: digits without leading zeros. `-` names one that is not there.
fn index(token: &str) -> Option<usize> {
    let canonical = token == "0" || !token.starts_with('0');
    if canonical && token.bytes().all(|byte| byte.is_ascii_digit()) { token.parse().ok() } else { None }
}

/// Whether two names differ in letters' cases only.
fn alike(name: &[u8], wanted: &[u8]) -> bool {
    if name.is_ascii() || wanted.is_empty() {
        return name.eq_ignore_ascii_case(wanted);
    }
    // `ſ` and the Kelvin sign are an s and a k in another case.
    let folded = |name: &[u8]| -> Option<String> {
        Some(std::str::from_utf8(name).ok()?.to_uppercase().to_lowercase())
    };
    // A letter has at most three bytes in another case.
    name.len() <= 3 * wanted.len() && folded(name).is_some_and(|name| Some(name) == folded(wanted))
}

/// What several say: nothing where they say different things. `None`: nobody has said anything yet.
pub(crate) fn agree(said: &mut Option<Option<Box<str>>>, next: Option<Box<str>>) {
    match (&*said, next) {
        (_, None) => {}
        (None, Some(next)) => *said = Some(Some(next)),
        (Some(before), next) if *before == next => {}
        (Some(_), _) => *said = Some(None),
    }
}

/// Missing elements of an array, such as those of failed calls, add nothing; one that cannot be read spoils the sum.
fn added(sum: Result<u64, Unread>, next: Result<u64, Unread>) -> Result<u64, Unread> {
    match (sum, next) {
        (sum, Err(Unread::Missing)) => sum,
        (Err(Unread::Missing), next) => next,
        (Ok(sum), Ok(next)) => sum.checked_add(next).ok_or(Unread::NotANumber),
        (Err(unread), _) | (_, Err(unread)) => Err(unread),
    }
}

#[cfg(test)]
pub(super) mod tests;
