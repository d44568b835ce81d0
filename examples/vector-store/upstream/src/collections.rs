//! Collections of documents: each belongs to whom the gateway says, and is searched by words. A real service would have
//! vectors here; nothing of what is shown depends on that.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Refusal, Store};

/// Who calls, as the gateway says. It removes what a client says of this itself.
const SUBJECT: &str = "x-tollgate-subject";

/// Most documents that a search tells.
const RESULTS_MAX: usize = 5;

pub const NO_COLLECTION: Refusal = Refusal(StatusCode::NOT_FOUND, "Collection not found");

/// Whose collections they are. All callers without a token share some.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner(String);

/// All collections, by owner and name.
#[derive(Debug, Default)]
pub struct Collections {
    by_name: Mutex<BTreeMap<(Owner, String), Vec<Document>>>,
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The file's name.
    pub name: String,
    /// The file's length.
    pub size_bytes: u64,
    /// The beginning of the file, as text: what is searched.
    pub text: String,
}

/// What is in a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contents {
    name: String,
    documents: usize,
    bytes: u64,
}

impl<S: Sync> FromRequestParts<S> for Owner {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let subject = parts.headers.get(SUBJECT).and_then(|value| value.to_str().ok());
        Ok(Self(subject.unwrap_or("anonymous").to_owned()))
    }
}

impl Contents {
    fn of(name: &str, documents: &[Document]) -> Self {
        let bytes = documents.iter().map(|document| document.size_bytes).sum();
        Self { name: name.to_owned(), documents: documents.len(), bytes }
    }
}

impl Collections {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Owner, String), Vec<Document>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was not there before.
    fn create(&self, owner: Owner, name: String) -> bool {
        let mut by_name = self.lock();
        let before = by_name.len();
        by_name.entry((owner, name)).or_default();
        by_name.len() > before
    }

    fn list(&self, owner: &Owner) -> Vec<Contents> {
        let by_name = self.lock();
        let own = by_name.iter().filter(|((whose, _), _)| whose == owner);
        own.map(|((_, name), documents)| Contents::of(name, documents)).collect()
    }

    fn show(&self, owner: Owner, name: String) -> Result<Contents, Refusal> {
        let key = (owner, name);
        self.lock().get(&key).map(|documents| Contents::of(&key.1, documents)).ok_or(NO_COLLECTION)
    }

    /// Removes it and tells what was in it: of several that ask at once, to one alone.
    fn delete(&self, owner: Owner, name: String) -> Result<Contents, Refusal> {
        let key = (owner, name);
        let documents = self.lock().remove(&key).ok_or(NO_COLLECTION)?;
        Ok(Contents::of(&key.1, &documents))
    }

    /// Adds a document. The collection may have gone while its file was read.
    pub fn add(&self, owner: Owner, name: String, document: Document) -> Result<(), Refusal> {
        let mut by_name = self.lock();
        let documents = by_name.get_mut(&(owner, name)).ok_or(NO_COLLECTION)?;
        documents.push(document);
        Ok(())
    }

    /// Documents with words of the question, those with most of them first.
    fn search(&self, owner: Owner, name: String, question: &str) -> Result<Vec<(usize, Document)>, Refusal> {
        let by_name = self.lock();
        let documents = by_name.get(&(owner, name)).ok_or(NO_COLLECTION)?;
        let asked = words(question);
        let score = |text: &str| words(text).intersection(&asked).count();
        let mut found: Vec<_> = documents.iter().map(|document| (score(&document.text), document)).collect();
        found.retain(|(score, _)| *score > 0);
        found.sort_by_key(|(score, _)| Reverse(*score));
        Ok(found.into_iter().take(RESULTS_MAX).map(|(score, document)| (score, document.clone())).collect())
    }
}

fn words(text: &str) -> BTreeSet<String> {
    let words = text.split(|character: char| !character.is_alphanumeric());
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// The body of `…/search`.
#[derive(Debug, Deserialize)]
pub struct Search {
    query: String,
}

/// The body of `…/ask`.
#[derive(Debug, Deserialize)]
pub struct Question {
    question: String,
}

pub async fn list(State(store): State<Store>, owner: Owner) -> Json<Value> {
    Json(json!({"collections": store.collections.list(&owner)}))
}

pub async fn create(
    State(store): State<Store>,
    owner: Owner,
    Path(name): Path<String>,
) -> (StatusCode, Json<Value>) {
    match store.collections.create(owner, name.clone()) {
        true => (StatusCode::CREATED, Json(json!({"message": "Collection created", "name": name}))),
        false => (StatusCode::OK, Json(json!({"message": "Collection exists already", "name": name}))),
    }
}

pub async fn show(
    State(store): State<Store>,
    owner: Owner,
    Path(name): Path<String>,
) -> Result<Json<Contents>, Refusal> {
    store.collections.show(owner, name).map(Json)
}

pub async fn delete(
    State(store): State<Store>,
    owner: Owner,
    Path(name): Path<String>,
) -> Result<Json<Contents>, Refusal> {
    store.collections.delete(owner, name).map(Json)
}

pub async fn search(
    State(store): State<Store>,
    owner: Owner,
    Path(name): Path<String>,
    Json(search): Json<Search>,
) -> Result<Json<Value>, Refusal> {
    let found = store.collections.search(owner, name, &search.query)?;
    let result = |(score, document): (usize, Document)| json!({"document": document.name, "score": score});
    Ok(Json(json!({"results": found.into_iter().map(result).collect::<Vec<_>>()})))
}

pub async fn ask(
    State(store): State<Store>,
    owner: Owner,
    Path(name): Path<String>,
    Json(asked): Json<Question>,
) -> Result<Json<Value>, Refusal> {
    let found = store.collections.search(owner, name, &asked.question)?;
    Ok(Json(match found.first() {
        Some((_, best)) => json!({"answer": best.text.trim(), "source": best.name}),
        None => json!({"answer": null, "source": null}),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Owner {
        Owner(name.to_owned())
    }

    fn document(name: &str, text: &str) -> Document {
        Document { name: name.to_owned(), size_bytes: text.len() as u64, text: text.to_owned() }
    }

    #[test]
    fn a_deletion_tells_once_what_was_there() {
        let collections = Collections::default();
        assert!(collections.create(owner("a"), "books".into()));
        assert!(!collections.create(owner("a"), "books".into()));
        collections.add(owner("a"), "books".into(), document("one", "1234")).unwrap();
        collections.add(owner("a"), "books".into(), document("two", "12")).unwrap();
        let was_there = Contents { name: "books".to_owned(), documents: 2, bytes: 6 };
        assert_eq!(collections.delete(owner("a"), "books".into()), Ok(was_there));
        assert_eq!(collections.delete(owner("a"), "books".into()), Err(NO_COLLECTION));
    }

    #[test]
    fn a_document_of_a_collection_that_has_gone_is_not_kept() {
        let collections = Collections::default();
        assert_eq!(collections.add(owner("a"), "books".into(), document("one", "1")), Err(NO_COLLECTION));
    }

    #[test]
    fn nobody_sees_or_deletes_what_others_have() {
        let collections = Collections::default();
        collections.create(owner("a"), "books".into());
        assert_eq!(collections.list(&owner("b")), []);
        assert_eq!(collections.delete(owner("b"), "books".into()), Err(NO_COLLECTION));
        assert_eq!(collections.list(&owner("a")).len(), 1);
    }

    #[test]
    fn the_document_with_most_of_the_words_is_found_first() {
        let collections = Collections::default();
        collections.create(owner("a"), "books".into());
        for (name, text) in
            [("sea", "A whale at sea."), ("ship", "The white whale, the ship."), ("tax", "A tax.")]
        {
            collections.add(owner("a"), "books".into(), document(name, text)).unwrap();
        }
        let found = collections.search(owner("a"), "books".into(), "White WHALE?").unwrap();
        let found: Vec<_> = found.iter().map(|(score, document)| (*score, document.name.as_str())).collect();
        assert_eq!(found, [(2, "ship"), (1, "sea")]);
    }
}
