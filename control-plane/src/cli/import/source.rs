//! Files of users, as other systems write them: JSON, JSON Lines and CSV, each as records with named fields.

use std::path::Path;

use clap::ValueEnum;
use serde_json::{Map, Value as Json};

/// The field that has a record's key, where records are the members of an object.
pub const KEY_FIELD: &str = "@key";

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// An array of objects, or an object of objects by name, or an object with one such array.
    Json,
    /// An object a line.
    Jsonl,
    /// A heading with the fields' names, and a record a line (RFC 4180). Cells are text.
    Csv,
}

/// One user.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Where it stands, for people: `line 7`, `item 3`, `"alice"`.
    pub place: String,
    /// Its fields, or why it cannot be read.
    pub fields: Result<Map<String, Json>, String>,
}

impl Format {
    /// The format that a file's name tells.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "json" => Some(Self::Json),
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    /// Reads all records, or says why there are none.
    pub fn read(self, text: &[u8]) -> Result<Vec<Record>, String> {
        // Spreadsheets put a byte order mark before what they save.
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        match self {
            Self::Json => read_json(text),
            Self::Jsonl => Ok(read_lines(text)),
            Self::Csv => read_csv(text),
        }
    }
}

fn read_json(text: &[u8]) -> Result<Vec<Record>, String> {
    let json: Json = serde_json::from_slice(text).map_err(|error| format!("it is not JSON: {error}"))?;
    match json {
        Json::Array(items) => Ok(read_items(items)),
        Json::Object(members) if members.values().all(Json::is_object) => {
            let records = members.into_iter().map(|(key, value)| {
                let mut fields = object(value);
                if let Ok(fields) = &mut fields {
                    fields.entry(KEY_FIELD).or_insert_with(|| key.as_str().into());
                }
                Record { place: format!("{key:?}"), fields }
            });
            Ok(records.collect())
        }
        Json::Object(members) => {
            let mut lists = members.into_iter().filter_map(|(_, value)| match value {
                Json::Array(items) => Some(items),
                _ => None,
            });
            match (lists.next(), lists.next()) {
                (Some(items), None) => Ok(read_items(items)),
                _ => Err("it is an object, but neither one of users by name nor one with one list of users"
                    .to_owned()),
            }
        }
        _ => Err("it is neither a list of users nor an object of users by name".to_owned()),
    }
}

fn read_items(items: Vec<Json>) -> Vec<Record> {
    let records = items.into_iter().enumerate();
    records
        .map(|(index, item)| Record { place: format!("item {}", index + 1), fields: object(item) })
        .collect()
}

fn read_lines(text: &[u8]) -> Vec<Record> {
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    let record = |(index, line): (usize, &[u8])| {
        let json = serde_json::from_slice(line).map_err(|error| format!("it is not JSON: {error}"));
        Record { place: format!("line {}", index + 1), fields: json.and_then(object) }
    };
    lines.map(record).collect()
}

fn read_csv(text: &[u8]) -> Result<Vec<Record>, String> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text);
    let heading = reader.headers().map_err(|error| format!("its heading cannot be read: {error}"))?.clone();
    let mut records = Vec::new();
    for row in reader.records() {
        let line = |position: Option<&csv::Position>| {
            format!("line {}", position.map(csv::Position::line).unwrap_or_default())
        };
        records.push(match row {
            Ok(row) if row.len() == heading.len() => {
                let fields =
                    heading.iter().zip(&row).map(|(name, cell)| (name.trim().to_owned(), cell.into()));
                Record { place: line(row.position()), fields: Ok(fields.collect()) }
            }
            Ok(row) => {
                let why = format!("it has {} cells, and the heading has {}", row.len(), heading.len());
                Record { place: line(row.position()), fields: Err(why) }
            }
            Err(error) => {
                Record { place: line(error.position()), fields: Err(format!("it cannot be read: {error}")) }
            }
        });
    }
    Ok(records)
}

fn object(json: Json) -> Result<Map<String, Json>, String> {
    match json {
        Json::Object(fields) => Ok(fields),
        other => Err(format!("it is no object: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::Format;

    /// Each record as its place and its fields.
    fn check(format: Format, text: &str, expected: &[&str]) {
        let found: Vec<String> = match format.read(text.as_bytes()) {
            Ok(records) => records
                .into_iter()
                .map(|record| match record.fields {
                    Ok(fields) => format!("{} {}", record.place, serde_json::Value::Object(fields)),
                    Err(why) => format!("{} !{why}", record.place),
                })
                .collect(),
            Err(why) => vec![format!("!{why}")],
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn json_is_a_list_or_users_by_name() {
        check(Format::Json, r#"[{"id": 1}, 7]"#, &[r#"item 1 {"id":1}"#, "item 2 !it is no object: 7"]);
        check(Format::Json, r#"{"alice": {"id": 1}}"#, &[r#""alice" {"@key":"alice","id":1}"#]);
        check(Format::Json, r#"{"users": [{"id": 1}], "total": 1}"#, &[r#"item 1 {"id":1}"#]);
        check(
            Format::Json,
            r#"{"a": [], "b": []}"#,
            &["!it is an object, but neither one of users by name nor one with one list of users"],
        );
        check(Format::Json, "7", &["!it is neither a list of users nor an object of users by name"]);
        check(Format::Json, "{}", &[]);
    }

    #[test]
    fn a_bad_line_does_not_hide_the_others() {
        check(
            Format::Jsonl,
            "{\"id\": 1}\n\n[\n{\"id\": 2}\r\n",
            &[
                r#"line 1 {"id":1}"#,
                "line 3 !it is not JSON: EOF while parsing a list at line 1 column 1",
                r#"line 4 {"id":2}"#,
            ],
        );
        check(
            Format::Csv,
            "\u{feff}id,name\n1,\"a, \"\"b\"\"\nc\"\n2\n=1+1,x\n",
            &[
                r#"line 2 {"id":"1","name":"a, \"b\"\nc"}"#,
                "line 4 !it has 1 cells, and the heading has 2",
                r#"line 5 {"id":"=1+1","name":"x"}"#,
            ],
        );
    }
}
