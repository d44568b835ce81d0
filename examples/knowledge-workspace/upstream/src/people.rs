//! Who is in a project. Only its owner adds and removes people, also those who would like to leave: what is given back is
//! given back to who calls.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Workspace;
use crate::answer::{Failure, Sent};
use crate::caller::Caller;

/// A person to be added.
#[derive(Deserialize)]
pub struct Person {
    email: String,
    #[serde(default = "viewer")]
    role: String,
}

/// What a person may do.
#[derive(Deserialize)]
pub struct Role {
    role: String,
}

fn viewer() -> String {
    "viewer".to_owned()
}

pub async fn add(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path(id): Path<String>,
    Sent(person): Sent<Person>,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let team_joined = workspace.store().add_person(&id, &caller, &person.email, person.role.clone())?;
    let told = json!({
        "project_id": id, "email": person.email, "role": person.role, "team_joined": team_joined,
    });
    Ok((StatusCode::CREATED, Json(told)))
}

pub async fn list(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let store = workspace.store();
    let project = store.project(&id, &caller)?;
    Ok(Json(json!({"owner": project.owner, "collaborators": project.collaborators})))
}

pub async fn put(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path((id, email)): Path<(String, String)>,
    Sent(Role { role }): Sent<Role>,
) -> Result<Json<Value>, Failure> {
    workspace.store().put_person(&id, &caller, &email, role.clone())?;
    Ok(Json(json!({"project_id": id, "email": email, "role": role})))
}

pub async fn remove(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path((id, email)): Path<(String, String)>,
) -> Result<Json<Value>, Failure> {
    let team_left = workspace.store().remove_person(&id, &caller, &email)?;
    Ok(Json(json!({"project_id": id, "email": email, "team_left": team_left})))
}
