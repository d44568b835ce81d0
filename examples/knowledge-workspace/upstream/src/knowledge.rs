//! Documents: four ways in, one way out. Each is answered with its `file_size`, and a deletion with the same.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Failure, Sent, read};
use crate::caller::Caller;
use crate::store::Document;
use crate::{Workspace, multipart};

/// Where a file goes, and what it is called, where its body is the file itself.
#[derive(Deserialize)]
pub struct File {
    project_id: Option<String>,
    filename: Option<String>,
}

/// A text.
#[derive(Deserialize)]
pub struct Text {
    project_id: Option<String>,
    #[serde(default)]
    title: String,
    content: String,
}

type Added = Result<(StatusCode, Json<Document>), Failure>;

/// A file: the part `file` of a form, or the whole body.
pub async fn import_file(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Query(file): Query<File>,
    headers: HeaderMap,
    body: Body,
) -> Added {
    let body = read(body).await?;
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (name, file_size) = match multipart::boundary(media_type) {
        Some(boundary) => {
            let part = multipart::file(&body, boundary).ok_or(Failure::Unreadable)?;
            (part.name, part.content.len())
        }
        None => (file.filename.unwrap_or_default(), body.len()),
    };
    added(&workspace, &caller, file.project_id, name, file_size)
}

pub async fn import_text(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Sent(text): Sent<Text>,
) -> Added {
    added(&workspace, &caller, text.project_id, text.title, text.content.len())
}

pub async fn add_document(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path(project_id): Path<String>,
    Sent(text): Sent<Text>,
) -> Added {
    added(&workspace, &caller, Some(project_id), text.title, text.content.len())
}

pub async fn list(State(workspace): State<Workspace>, Caller(caller): Caller) -> Json<Value> {
    Json(json!({"documents": workspace.store().documents_of(&caller)}))
}

pub async fn of_project(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path(project_id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let store = workspace.store();
    store.project(&project_id, &caller)?;
    Ok(Json(json!({"documents": store.documents_in(&project_id)})))
}

pub async fn delete(
    State(workspace): State<Workspace>,
    Caller(caller): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let document = workspace.store().delete_document(&id, &caller)?;
    Ok(Json(json!({"deleted": document.id, "file_size": document.file_size})))
}

fn added(
    workspace: &Workspace,
    caller: &str,
    project_id: Option<String>,
    title: String,
    file_size: usize,
) -> Added {
    let document = workspace.store().add_document(caller, project_id, title, file_size)?;
    Ok((StatusCode::CREATED, Json(document)))
}
