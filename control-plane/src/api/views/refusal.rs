//! Why a function of a template was refused. A template looks at what callers send, so that it is told to them, and not as a
//! fault of the template.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind};

use crate::api::problem::{Problem, ProblemKind};

/// The last refusal of a rendering, if there was one. All clones share it.
#[derive(Clone, Default)]
pub struct Refusal(Arc<Mutex<Option<Problem>>>);

impl Refusal {
    /// Before a rendering.
    pub fn clear(&self) {
        *self.slot() = None;
    }

    /// Why the rendering could not go on.
    pub fn problem(&self) -> Option<Problem> {
        self.slot().clone()
    }

    /// Ends the rendering.
    pub fn refuse(&self, problem: Problem) -> Error {
        *self.slot() = Some(problem);
        Error::new(ErrorKind::InvalidOperation, "this was refused")
    }

    fn slot(&self) -> MutexGuard<'_, Option<Problem>> {
        // All that is done under it is to look and to put in.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An argument by its place or its name; null and what is not there count as not given.
pub fn argument(placed: Option<Value>, named: &Kwargs, name: &str) -> Result<Option<Value>, Error> {
    let given = match placed {
        Some(value) => Some(value),
        None => named.get::<Option<Value>>(name)?,
    };
    Ok(given.filter(|value| !value.is_undefined() && !value.is_none()))
}

/// An argument that makes no sense.
pub fn wrong(detail: String) -> Problem {
    Problem::new(ProblemKind::QueryMalformed, detail)
}
