//! One text of SQL for two databases. Three things differ, and a statement's text names them in braces:
//!
//! - `{rows $1 r subject text, taken bigint}`: the JSON array of objects in parameter 1, as rows named `r`;
//! - `{text outcome state}`, `{bigint outcome expires_at_ms}`: a member of the JSON object in a column;
//! - `{lock}`: `FOR UPDATE` where rows can be locked; SQLite's one writer needs none.
//!
//! Parameters are `$1`, `$2`, … on both.

use std::sync::OnceLock;

/// Which database speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

/// A statement, written once.
#[derive(Debug)]
pub(super) struct Statement {
    text: &'static str,
    sqlite: OnceLock<String>,
    postgres: OnceLock<String>,
}

impl Statement {
    /// A statement of this text.
    pub(super) const fn new(text: &'static str) -> Self {
        Self { text, sqlite: OnceLock::new(), postgres: OnceLock::new() }
    }

    /// The text for one database.
    pub(super) fn text(&'static self, dialect: Dialect) -> &'static str {
        let cell = match dialect {
            Dialect::Sqlite => &self.sqlite,
            Dialect::Postgres => &self.postgres,
        };
        cell.get_or_init(|| expand(self.text, dialect))
    }
}

fn expand(text: &str, dialect: Dialect) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (word, after) = after.split_once('}').unwrap_or((after, ""));
        expanded.push_str(before);
        expanded.push_str(&expand_word(word, dialect));
        rest = after;
    }
    expanded.push_str(rest);
    expanded
}

fn expand_word(word: &str, dialect: Dialect) -> String {
    match (word, dialect) {
        ("lock", Dialect::Sqlite) => String::new(),
        ("lock", Dialect::Postgres) => "FOR UPDATE".to_owned(),
        (word, dialect) if word.starts_with("text ") || word.starts_with("bigint ") => {
            let mut parts = word.splitn(3, ' ');
            let mut part = || parts.next().unwrap_or_default();
            let (kind, column, member) = (part(), part(), part());
            match dialect {
                Dialect::Sqlite => format!("CAST({column} ->> '{member}' AS {kind})"),
                Dialect::Postgres => format!("CAST(CAST({column} AS jsonb) ->> '{member}' AS {kind})"),
            }
        }
        _ => {
            let word = word.strip_prefix("rows ").unwrap_or(word);
            let mut parts = word.splitn(3, ' ');
            let (parameter, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            expand_rows(parameter, name, parts.next().unwrap_or_default(), dialect)
        }
    }
}

fn expand_rows(parameter: &str, name: &str, columns: &str, dialect: Dialect) -> String {
    match dialect {
        Dialect::Postgres => format!("jsonb_to_recordset(CAST({parameter} AS jsonb)) AS {name}({columns})"),
        Dialect::Sqlite => {
            let columns = columns.split(',').map(|column| {
                let column = column.trim().split(' ').next().unwrap_or_default();
                format!("value ->> '{column}' AS {column}")
            });
            let columns = columns.collect::<Vec<_>>().join(", ");
            format!("(SELECT {columns} FROM json_each({parameter})) AS {name}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Dialect, expand};

    #[test]
    fn members_of_json_are_of_a_kind() {
        let text = "{bigint outcome end_ms}";
        assert_eq!(expand(text, Dialect::Sqlite), "CAST(outcome ->> 'end_ms' AS bigint)");
        assert_eq!(expand(text, Dialect::Postgres), "CAST(CAST(outcome AS jsonb) ->> 'end_ms' AS bigint)");
    }

    #[test]
    fn one_text_serves_two_databases() {
        let text = "SELECT r.a FROM {rows $1 r a text, b bigint} {lock}";
        assert_eq!(
            expand(text, Dialect::Sqlite),
            "SELECT r.a FROM (SELECT value ->> 'a' AS a, value ->> 'b' AS b FROM json_each($1)) AS r "
        );
        assert_eq!(
            expand(text, Dialect::Postgres),
            "SELECT r.a FROM jsonb_to_recordset(CAST($1 AS jsonb)) AS r(a text, b bigint) FOR UPDATE"
        );
    }
}
