//! What the chatbot does with documents: it finds them as sources of its answers, and makes PDF files of what was said.
//! Who may have it done is not its business.

use axum::Json;
use axum::extract::Query;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

/// What is looked for.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    q: String,
}

/// What is printed.
#[derive(Debug, Deserialize)]
pub struct Page {
    title: String,
}

/// `GET /api/v1/documents/search`
pub async fn search(Query(wanted): Query<Wanted>) -> Json<Value> {
    let known = ["Acte uniforme, article 12", "Code général des impôts, article 4"];
    let found: Vec<&str> = known.into_iter().filter(|title| title.contains(&wanted.q)).collect();
    Json(json!({"sources": found}))
}

/// `POST /api/v1/documents/pdf`
pub async fn pdf(Json(page): Json<Page>) -> Response {
    let title: String = page.title.chars().filter(|c| c.is_ascii_alphanumeric() || *c == ' ').collect();
    let content = format!("BT /F1 18 Tf 72 720 Td ({title}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R \
         /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()),
    ];
    let mut file = "%PDF-1.4\n".to_owned();
    let mut table = String::new();
    for (number, object) in (1..).zip(objects) {
        table.push_str(&format!("{:010} 00000 n \n", file.len()));
        file.push_str(&format!("{number} 0 obj\n{object}\nendobj\n"));
    }
    let start = file.len();
    file.push_str(&format!(
        "xref\n0 5\n0000000000 65535 f \n{table}trailer << /Size 5 /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    ));
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/pdf"))], file).into_response()
}
