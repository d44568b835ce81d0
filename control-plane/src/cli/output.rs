//! What commands print: tables for people, JSON for machines.

use std::io::Write as _;

use serde_json::Value as Json;

/// Prints a text. A reader that went away (`| head`) is no error of ours.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| match text.ends_with('\n') {
        true => Ok(()),
        false => out.write_all(b"\n"),
    });
}

/// Prints JSON, indented.
pub fn print_json(json: &Json) {
    print(&format!("{json:#}"));
}

/// Rows under a heading, in columns. Numbers stand to the right.
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = heading
        .iter()
        .enumerate()
        .map(|(column, name)| {
            let widest = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
            widest.unwrap_or(0).max(name.chars().count())
        })
        .collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, &width)| {
            let number = !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
            if number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    let heading: Vec<String> = heading.iter().map(|name| name.to_uppercase()).collect();
    let mut text = line(&heading);
    rows.iter().for_each(|row| text.push_str(&line(row)));
    text
}

/// A member of a JSON object as text for people.
pub fn cell(json: &Json, name: &str) -> String {
    match json.get(name) {
        None | Some(Json::Null) => "-".to_owned(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The items of a page or list.
pub fn items<'a>(json: &'a Json, name: &str) -> &'a [Json] {
    json.get(name).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default()
}
