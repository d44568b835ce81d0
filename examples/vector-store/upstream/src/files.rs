//! Files that are uploaded: the field `file` of a form, or the whole body. They pass through; of each only the beginning is
//! kept as text, so that a gigabyte takes no more memory than a page.

use std::fmt::Display;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::{Stream, StreamExt};
use multer::Multipart;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::collections::{Document, Owner};
use crate::{Refusal, Store};

/// So much of a file is searched.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// What stands behind the path.
#[derive(Debug, Deserialize)]
pub struct Name {
    name: Option<String>,
}

pub async fn upload(
    State(store): State<Store>,
    owner: Owner,
    Path(collection): Path<String>,
    Query(Name { name }): Query<Name>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let file = match content_type.map(multer::parse_boundary) {
        Some(Ok(boundary)) => of_form(Multipart::new(body.into_data_stream(), boundary)).await?,
        _ => read("document", body.into_data_stream()).await?,
    };
    let document = Document { name: name.unwrap_or(file.name), ..file };
    let (name, size) = (document.name.clone(), document.size_bytes);
    store.collections.add(owner, collection.clone(), document)?;
    Ok(Json(json!({"message": "File uploaded", "collection": collection, "document": name, "size": size})))
}

async fn of_form(mut form: Multipart<'_>) -> Result<Document, Refusal> {
    while let Some(field) = form.next_field().await.map_err(unreadable)? {
        if field.name() == Some("file") {
            let name = field.file_name().unwrap_or("document").to_owned();
            return read(&name, field).await;
        }
    }
    Err(Refusal(StatusCode::BAD_REQUEST, "No file uploaded"))
}

/// Reads a file to its end.
async fn read<E: Display>(
    name: &str,
    file: impl Stream<Item = Result<Bytes, E>>,
) -> Result<Document, Refusal> {
    let mut file = std::pin::pin!(file);
    let (mut size_bytes, mut beginning) = (0, Vec::new());
    while let Some(chunk) = file.next().await {
        let chunk = chunk.map_err(unreadable)?;
        size_bytes += chunk.len() as u64;
        let room = TEXT_BYTES_MAX - beginning.len();
        beginning.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    let text = String::from_utf8_lossy(&beginning).into_owned();
    Ok(Document { name: name.to_owned(), size_bytes, text })
}

fn unreadable(error: impl Display) -> Refusal {
    eprintln!("vector-store-upstream: an upload broke off: {error}");
    Refusal(StatusCode::BAD_REQUEST, "The file cannot be read")
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    const PAGE: &[u8] = &[b'x'; 40_000];

    fn chunks(chunks: &[&'static [u8]]) -> impl Stream<Item = Result<Bytes, Infallible>> + 'static {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk))).collect();
        stream::iter(chunks)
    }

    #[tokio::test]
    async fn a_file_of_any_length_is_counted_to_the_byte_and_kept_in_part() {
        let file = read("large", chunks(&[PAGE; 3])).await.unwrap();
        assert_eq!((file.size_bytes, file.text.len()), (120_000, TEXT_BYTES_MAX));
    }

    #[tokio::test]
    async fn of_a_form_the_file_alone_is_counted() {
        let form: &[u8] = b"--b\r\ncontent-disposition: form-data; name=\"note\"\r\n\r\nx\r\n\
            --b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n12345\r\n--b--\r\n";
        let file = of_form(Multipart::new(chunks(&[form]), "b")).await.unwrap();
        let expected = Document { name: "a.txt".to_owned(), size_bytes: 5, text: "12345".to_owned() };
        assert_eq!(file, expected);
    }

    #[tokio::test]
    async fn a_form_without_a_file_is_refused() {
        let form: &[u8] = b"--b\r\ncontent-disposition: form-data; name=\"note\"\r\n\r\nx\r\n--b--\r\n";
        let refused = of_form(Multipart::new(chunks(&[form]), "b")).await;
        assert_eq!(refused, Err(Refusal(StatusCode::BAD_REQUEST, "No file uploaded")));
    }
}
