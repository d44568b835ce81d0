//! What one does in a project. Stand-ins, with answers that are true of the project: nothing here asks who may.

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Workspace;
use crate::answer::{Failure, Sent};
use crate::caller::Caller;

/// What is to be written.
#[derive(Deserialize)]
pub struct Description {
    description: String,
}

/// A repository.
#[derive(Deserialize)]
pub struct Repository {
    repository: String,
}

/// A language model.
#[derive(Deserialize)]
pub struct Model {
    model: String,
}

/// A sentence.
#[derive(Deserialize)]
pub struct Sentence {
    text: String,
}

/// What the project's people can do.
#[derive(Deserialize)]
pub struct Skills {
    skills: Vec<String>,
}

type Answer = Result<Json<Value>, Failure>;

pub async fn generate_code(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path(id): Path<String>,
    Sent(wish): Sent<Description>,
) -> Answer {
    workspace.store().project(&id, &caller)?;
    let code = format!("def generated():\n    \"\"\"{}\"\"\"\n", wish.description);
    Ok(Json(json!({"project_id": id, "language": "python", "code": code})))
}

pub async fn analytics(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path(id): Path<String>,
) -> Answer {
    let store = workspace.store();
    let people = 1 + store.project(&id, &caller)?.collaborators.len();
    let documents = store.documents_in(&id);
    let bytes: usize = documents.iter().map(|document| document.file_size).sum();
    Ok(Json(
        json!({"project_id": id, "people": people, "documents": documents.len(), "documents_size": bytes}),
    ))
}

pub async fn maturity(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path(id): Path<String>,
) -> Answer {
    let store = workspace.store();
    store.project(&id, &caller)?;
    let phase = if store.documents_in(&id).is_empty() { "discovery" } else { "analysis" };
    Ok(Json(json!({"project_id": id, "phase": phase})))
}

pub async fn import_repository(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path(id): Path<String>,
    Sent(from): Sent<Repository>,
) -> Answer {
    workspace.store().project(&id, &caller)?;
    Ok(Json(json!({"project_id": id, "imported_from": from.repository})))
}

pub async fn export_repository(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path(id): Path<String>,
    Sent(to): Sent<Repository>,
) -> Answer {
    workspace.store().project(&id, &caller)?;
    Ok(Json(json!({"project_id": id, "exported_to": to.repository})))
}

pub async fn model(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path(id): Path<String>,
) -> Answer {
    Ok(Json(json!({"project_id": id, "model": workspace.store().project(&id, &caller)?.model})))
}

pub async fn choose_model(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path(id): Path<String>,
    Sent(choice): Sent<Model>,
) -> Answer {
    workspace.store().project_mut(&id, &caller)?.model.clone_from(&choice.model);
    Ok(Json(json!({"project_id": id, "model": choice.model})))
}

pub async fn understand(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path(id): Path<String>,
    Sent(said): Sent<Sentence>,
) -> Answer {
    workspace.store().project(&id, &caller)?;
    Ok(Json(json!({"project_id": id, "words": said.text.split_whitespace().collect::<Vec<_>>()})))
}

pub async fn skills(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path(id): Path<String>,
) -> Answer {
    Ok(Json(json!({"project_id": id, "skills": workspace.store().project(&id, &caller)?.skills})))
}

pub async fn set_skills(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path(id): Path<String>,
    Sent(told): Sent<Skills>,
) -> Answer {
    workspace.store().project_mut(&id, &caller)?.skills.clone_from(&told.skills);
    Ok(Json(json!({"project_id": id, "skills": told.skills})))
}
