//! The application: projects, the people in them, and what they know. It knows nothing of tiers, limits, usage or tokens:
//! who calls stands in a header that Envoy's filter sets. What it says of itself, because only it can know, is how large
//! a document is and how many people came to or left somebody's team.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::routing::{delete, get, post, put};

mod answer;
mod caller;
mod knowledge;
mod multipart;
mod people;
mod projects;
mod store;
mod work;

use store::Store;

/// As in `envoy.yaml`.
const PORT: u16 = 18203;

/// What there is, for all requests.
#[derive(Clone, Default)]
struct Workspace(Arc<Mutex<Store>>);

impl Workspace {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    example_listen::serve("knowledge-workspace-upstream", PORT, application()).await
}

fn application() -> Router {
    Router::new()
        .route("/projects", get(projects::list).post(projects::create))
        .route("/projects/{id}", get(projects::show).delete(projects::delete))
        .route("/projects/{id}/collaborators", get(people::list).post(people::add))
        .route("/projects/{id}/collaborators/{email}", put(people::put).delete(people::remove))
        .route("/projects/{id}/code/generate", post(work::generate_code))
        .route("/projects/{id}/analytics", get(work::analytics))
        .route("/projects/{id}/maturity", get(work::maturity))
        .route("/projects/{id}/github/import", post(work::import_repository))
        .route("/projects/{id}/github/export", post(work::export_repository))
        .route("/projects/{id}/llm", get(work::model).put(work::choose_model))
        .route("/projects/{id}/nlu", post(work::understand))
        .route("/projects/{id}/skills", get(work::skills).put(work::set_skills))
        .route("/knowledge/import/file", post(knowledge::import_file))
        .route("/knowledge/import/text", post(knowledge::import_text))
        .route("/knowledge/documents", get(knowledge::list))
        .route("/knowledge/documents/{id}", delete(knowledge::delete))
        .route("/{project_id}/knowledge", get(knowledge::of_project))
        .route("/{project_id}/knowledge/documents", post(knowledge::add_document))
        .route("/{project_id}/knowledge/add", post(knowledge::add_document))
        .with_state(Workspace::default())
}
