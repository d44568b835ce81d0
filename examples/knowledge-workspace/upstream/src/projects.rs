//! Projects: made, looked at, deleted.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Workspace;
use crate::answer::{Failure, Sent};
use crate::caller::Caller;

/// A project to be made.
#[derive(Deserialize)]
pub struct Wish {
    name: String,
    #[serde(default)]
    description: String,
}

pub async fn create(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Sent(wish): Sent<Wish>,
) -> (StatusCode, Json<Value>) {
    let (project, team_joined) = workspace.store().create(&caller, wish.name, wish.description);
    let told = json!({
        "id": project.id, "name": project.name, "description": project.description, "owner": project.owner,
        "team_joined": team_joined,
    });
    (StatusCode::CREATED, Json(told))
}

pub async fn list(State(workspace): State<Workspace>, Caller(caller): Caller) -> Json<Value> {
    let projects = workspace.store().projects_of(&caller);
    let row = |project: &crate::store::Project| json!({"id": project.id, "owner": project.owner});
    Json(json!({"projects": projects.iter().map(row).collect::<Vec<_>>()}))
}

pub async fn show(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    Ok(Json(json!(workspace.store().project(&id, &caller)?)))
}

pub async fn delete(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let deleted = workspace.store().delete_project(&id, &caller)?;
    Ok(Json(json!({
        "deleted": id, "documents_size": deleted.documents_size, "team_left": deleted.team_left,
    })))
}
