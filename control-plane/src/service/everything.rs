//! Everything in one file: JSON Lines, the same from SQLite and PostgreSQL, so that it can be kept, read by other programs,
//! and loaded into an empty database of either kind.
//!
//! The first line says what it is, each further line is a row of a table, the last one says how many there were and the
//! SHA-256 of all before it: a file that was cut off or changed is not loaded.

use std::io::{BufRead, Read as _, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::hex::hex;
use crate::store::everything::{self, PAGE_ROWS, Table, tables};
use crate::store::migrations::newest_version;
use crate::store::{Database, Retry, StoreError, Tx};

/// Version of the file's own form.
const FORM: u32 = 1;

/// Longest line: a row with a book, a policy or a body in it.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    tollgate_export: u32,
    /// Version of the tables.
    tables: i64,
    /// When it was made, Unix ms.
    made_ms: i64,
}

/// Any other line.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Row { table: String, row: Map<String, Json> },
    End { end: bool, rows: u64, sha256: String },
}

/// Why not everything was exported or loaded.
#[derive(Debug, thiserror::Error)]
pub enum EverythingError {
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be read or written.
    #[error("the file cannot be read or written")]
    File(#[from] std::io::Error),
    /// The file is not one that an export wrote, or not all of it.
    #[error("line {line}: {why}")]
    Malformed {
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The tables were of another version.
    #[error(
        "it has tables of version {found}, and this program's are of {newest}; load it with the release that wrote it, \
         and let this one bring that database up to date"
    )]
    Version {
        /// The file's.
        found: i64,
        /// This program's.
        newest: i64,
    },
    /// Something is in the database already.
    #[error("the database is in use already; load it into an empty one")]
    InUse,
}

impl Retry for EverythingError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

/// Writes everything as it is at one moment; others may go on using the database. Answers how many rows there were.
pub async fn export(
    database: &Database,
    now_ms: i64,
    out: &mut (impl Write + Send),
) -> Result<u64, EverythingError> {
    database.expect_newest().await?;
    let mut out = Hashed { inner: out, hash: Sha256::new() };
    let head = Head { tollgate_export: FORM, tables: newest_version(), made_ms: now_ms };
    out.line(&json!(head))?;
    let mut tx = everything::snapshot(database).await?;
    let mut count = 0;
    for table in tables() {
        let mut after: Option<Map<String, Json>> = None;
        loop {
            let mut page = everything::page(&mut tx, table, after.as_ref()).await?;
            let is_last = page.len() < PAGE_ROWS;
            after = page.last().cloned();
            for row in page.drain(..) {
                out.line(&json!({ "table": table.name, "row": row }))?;
                count += 1;
            }
            if is_last {
                break;
            }
        }
    }
    let sha256 = hex(&out.hash.clone().finalize());
    out.line(&json!({ "end": true, "rows": count, "sha256": sha256 }))?;
    out.inner.flush()?;
    Ok(count)
}

/// Loads everything into a database that nobody has used yet: all of it or nothing. `open` opens the file; it may be asked
/// to do so again. Answers how many rows there were.
pub async fn load<R: BufRead + Send>(
    database: &Database,
    open: impl Fn() -> std::io::Result<R> + Sync,
) -> Result<u64, EverythingError> {
    let open = &open;
    database.transact("load everything", |tx| Box::pin(async move { load_in(tx, open()?).await })).await
}

async fn load_in(tx: &mut Tx<'_>, file: impl BufRead + Send) -> Result<u64, EverythingError> {
    let mut lines = Lines { file, hash: Sha256::new(), line: 0, text: Vec::new() };
    let head: Head = lines.next()?;
    if head.tollgate_export != FORM {
        return Err(lines.malformed(format!("its form is {}, and {FORM} is read here", head.tollgate_export)));
    }
    if head.tables != newest_version() {
        return Err(EverythingError::Version { found: head.tables, newest: newest_version() });
    }
    if !everything::is_unused(tx).await? {
        return Err(EverythingError::InUse);
    }
    everything::clear(tx).await?;
    let (mut count, mut batch): (u64, Batch) = (0, Batch::default());
    loop {
        let hash_before = lines.hash.clone();
        match lines.next()? {
            Line::Row { table, row } => {
                let Some(table) = tables().iter().find(|known| known.name == table) else {
                    return Err(lines.malformed(format!("there is no table {table:?}")));
                };
                if row.len() != table.columns.len()
                    || !table.columns.iter().all(|column| row.contains_key(column.name))
                {
                    return Err(lines.malformed(format!("{:?} has other columns", table.name)));
                }
                batch.add(tx, table, row).await?;
                count += 1;
            }
            Line::End { end: true, rows, sha256 }
                if rows == count && sha256 == hex(&hash_before.finalize()) =>
            {
                batch.write(tx).await?;
                return Ok(count);
            }
            Line::End { .. } => {
                return Err(lines.malformed("lines before it are missing or were changed".to_owned()));
            }
        }
    }
}

/// Rows of one table that are to be written together.
#[derive(Default)]
struct Batch {
    table: Option<&'static Table>,
    rows: Vec<Json>,
}

impl Batch {
    async fn add(
        &mut self,
        tx: &mut Tx<'_>,
        table: &'static Table,
        row: Map<String, Json>,
    ) -> Result<(), StoreError> {
        if self.rows.len() >= PAGE_ROWS || self.table.is_some_and(|mine| mine.name != table.name) {
            self.write(tx).await?;
        }
        self.table = Some(table);
        self.rows.push(Json::Object(row));
        Ok(())
    }

    async fn write(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        if let Some(table) = self.table {
            everything::insert(tx, table, &self.rows).await?;
        }
        self.rows.clear();
        Ok(())
    }
}

struct Hashed<'a, W> {
    inner: &'a mut W,
    hash: Sha256,
}

impl<W: Write> Hashed<'_, W> {
    fn line(&mut self, json: &Json) -> std::io::Result<()> {
        let line = format!("{json}\n");
        self.hash.update(&line);
        self.inner.write_all(line.as_bytes())
    }
}

struct Lines<R> {
    file: R,
    /// Of all lines that were read.
    hash: Sha256,
    line: u64,
    text: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, EverythingError> {
        self.line += 1;
        self.text.clear();
        self.file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut self.text)?;
        self.hash.update(&self.text);
        if self.text.last() != Some(&b'\n') {
            return Err(self.malformed("the file ends early".to_owned()));
        }
        serde_json::from_slice(&self.text).map_err(|_| self.malformed("no export wrote this line".to_owned()))
    }

    fn malformed(&self, why: String) -> EverythingError {
        EverythingError::Malformed { line: self.line, why }
    }
}
