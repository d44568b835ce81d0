//! The tables' versions: each migration can be undone, a file is copied before it is changed, and everything that the tables
//! hold can be taken to another database.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection as _, Executor as _, Row as _};
use tempfile::TempDir;
use tokio::process::Command;
use tollgate_control_plane::service::everything::{EverythingError, export, load};
use tollgate_control_plane::store::everything::tables;
use tollgate_control_plane::store::{Database, StoreError};

use super::support::{START_MS, Served, TestDatabase, on_each_database, session, sync_body};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

/// What only one of two schemas has.
fn differences(left: &Schema, right: &Schema) -> Vec<String> {
    let lines = |schema: &Schema| {
        let columns = schema.tables.iter().flat_map(|(table, columns)| {
            columns.iter().map(move |(name, kind)| format!("{table}.{name} {kind:?}"))
        });
        columns.chain(schema.indices.iter().cloned()).collect::<BTreeSet<_>>()
    };
    lines(left).symmetric_difference(&lines(right)).cloned().collect()
}

/// A connection of either kind that asks what tables there are.
struct Inspector {
    connection: AnyConnection,
    is_sqlite: bool,
}

/// Tables with their columns (name, whether they hold numbers, whether they may be empty), and the indices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Schema {
    tables: BTreeMap<String, BTreeMap<String, (bool, bool)>>,
    indices: BTreeSet<String>,
}

impl Inspector {
    async fn connect(url: &str) -> Self {
        sqlx::any::install_default_drivers();
        let is_sqlite = url.starts_with("sqlite");
        let url = if is_sqlite { format!("{url}?mode=rwc") } else { url.to_owned() };
        Self { connection: AnyConnection::connect(&url).await.unwrap(), is_sqlite }
    }

    async fn rows(&mut self, statement: &str) -> Vec<sqlx::any::AnyRow> {
        sqlx::query(sqlx::AssertSqlSafe(statement)).fetch_all(&mut self.connection).await.unwrap()
    }

    async fn run(&mut self, statement: &str) {
        let done = self.connection.execute(sqlx::AssertSqlSafe(statement)).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    async fn count(&mut self, table: &str) -> i64 {
        self.rows(&format!("SELECT CAST(COUNT(*) AS BIGINT) FROM {table}")).await[0].get(0)
    }

    async fn schema(&mut self) -> Schema {
        let columns = match self.is_sqlite {
            true => {
                "SELECT m.name, c.name, c.type, CASE WHEN c.\"notnull\" + c.pk > 0 THEN 'NO' ELSE 'YES' END
                 FROM sqlite_master m JOIN pragma_table_info(m.name) c
                 WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' AND m.name <> '_sqlx_migrations'"
            }
            false => {
                "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT), UPPER(CAST(data_type AS TEXT)),
                        CAST(is_nullable AS TEXT)
                 FROM information_schema.columns
                 WHERE table_schema = current_schema() AND table_name <> '_sqlx_migrations'"
            }
        };
        let indices = match self.is_sqlite {
            true => "SELECT name || ': ' || sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
            false => {
                "SELECT CAST(indexdef AS TEXT) FROM pg_indexes
                 WHERE schemaname = current_schema() AND tablename <> '_sqlx_migrations'"
            }
        };
        let mut schema = Schema::default();
        for row in self.rows(columns).await {
            let text = |column: usize| row.get::<String, _>(column);
            let column = (text(2) == "BIGINT", text(3) == "YES");
            assert!(["BIGINT", "TEXT"].contains(&text(2).as_str()), "{}.{}: {}", text(0), text(1), text(2));
            schema.tables.entry(text(0)).or_default().insert(text(1), column);
        }
        schema.indices = self.rows(indices).await.iter().map(|row| row.get(0)).collect();
        schema
    }

    /// Puts a row into each table: text that is JSON, and no two the same.
    async fn fill(&mut self, schema: &Schema, number: i64) {
        let refers = |table: &&String| *table == "configuration";
        let (last, first): (Vec<&String>, Vec<&String>) = schema.tables.keys().partition(refers);
        for table in first.into_iter().chain(last) {
            if table == "configuration" && self.count(table).await > 0 {
                self.run(&format!("UPDATE configuration SET policy_version = {number}")).await;
                continue;
            }
            let columns = &schema.tables[table];
            let names: Vec<&str> = columns.keys().map(String::as_str).collect();
            let value = |(is_number, _): &(bool, bool)| match is_number {
                true => number.to_string(),
                false => format!("'{number}'"),
            };
            let values: Vec<String> = columns.values().map(value).collect();
            self.run(&format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), values.join(", ")))
                .await;
        }
    }
}

fn versions() -> Vec<i64> {
    let ups = MIGRATIONS.iter().filter(|migration| migration.migration_type.is_up_migration());
    ups.map(|migration| migration.version).collect()
}

async fn migrate(url: &str, version: i64) {
    if url.starts_with("sqlite") {
        let mut connection = sqlx::SqliteConnection::connect(&format!("{url}?mode=rwc")).await.unwrap();
        MIGRATIONS.run_to(version, &mut connection).await.unwrap();
    } else {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        MIGRATIONS.run_to(version, &mut connection).await.unwrap();
    }
}

async fn revert(url: &str, version: i64) {
    let database = Database::open_unchanged(url).await.unwrap();
    database.revert(version).await.unwrap();
    database.close().await;
}

#[test]
fn every_migration_says_how_it_is_undone_and_what_that_loses() {
    for version in versions() {
        let down = MIGRATIONS
            .iter()
            .find(|migration| migration.version == version && migration.migration_type.is_down_migration());
        let down = down.unwrap_or_else(|| panic!("migration {version} has no .down.sql"));
        let sql = down.sql.as_str();
        assert!(sql.starts_with("-- "), "the .down.sql of {version} does not begin with what is lost: {sql}");
    }
}

#[tokio::test]
async fn tables_with_data_go_back_to_each_version_and_up_again() {
    on_each_database(async |test| {
        let versions = versions();
        let mut schemas = BTreeMap::new();
        for version in &versions {
            migrate(&test.url, *version).await;
            schemas.insert(*version, Inspector::connect(&test.url).await.schema().await);
        }
        let newest = *versions.last().unwrap();
        for (round, version) in versions.iter().rev().enumerate() {
            let mut inspector = Inspector::connect(&test.url).await;
            let number = 100 + i64::try_from(round).unwrap();
            inspector.fill(&schemas[&newest], number).await;
            inspector.connection.close().await.unwrap();
            revert(&test.url, *version).await;
            let mut inspector = Inspector::connect(&test.url).await;
            let different = differences(&inspector.schema().await, &schemas[version]);
            assert_eq!(different, [""; 0], "reverted to {version}");
            for table in schemas[version].tables.keys() {
                assert!(inspector.count(table).await > 0, "reverting to {version} emptied {table}");
            }
            inspector.connection.close().await.unwrap();
            migrate(&test.url, newest).await;
            let mut inspector = Inspector::connect(&test.url).await;
            let different = differences(&inspector.schema().await, &schemas[&newest]);
            assert_eq!(different, [""; 0], "from {version} up again");
            inspector.connection.close().await.unwrap();
        }
        revert(&test.url, 0).await;
        assert_eq!(Inspector::connect(&test.url).await.schema().await, Schema::default(), "nothing is left");
    })
    .await;
}

#[tokio::test]
async fn an_earlier_release_can_read_the_subscriptions_it_goes_back_to() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        served.put("/v1/subscriptions/user:a", json!({"tier": "pro", "expires_at_ms": START_MS + 9})).await;
        served.stop().await;
        let mut inspector = Inspector::connect(&test.url).await;
        let trial = json!({"tier": "pro", "state": "trialing", "anchor_ms": 1, "trial_ends_at_ms": 7,
                           "changes": [{"at_ms": 5, "tier": "free"}], "overrides": {"calls.hour": 2}});
        inspector
            .run(&format!("INSERT INTO subjects (subject, subscription) VALUES ('user:b', '{trial}')"))
            .await;
        inspector.connection.close().await.unwrap();
        revert(&test.url, 2).await;
        let mut inspector = Inspector::connect(&test.url).await;
        let rows = inspector.rows("SELECT subscription FROM subjects ORDER BY subject").await;
        let found: Vec<Value> =
            rows.iter().map(|row| serde_json::from_str(row.get::<&str, _>(0)).unwrap()).collect();
        assert_eq!(
            found,
            [
                json!({"tier": "pro", "state": "active", "anchor_ms": START_MS, "expires_at_ms": START_MS + 9}),
                json!({"tier": "pro", "state": "trialing", "anchor_ms": 1, "expires_at_ms": 7,
                       "overrides": {"calls.hour": 2}}),
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn an_export_has_every_table_and_every_column() {
    on_each_database(async |test| {
        Database::open(&test.url).await.unwrap().close().await;
        let there = Inspector::connect(&test.url).await.schema().await.tables;
        let kind = |is_number| if is_number { "bigint" } else { "text" };
        let listed = tables().iter().flat_map(|table| {
            let columns = table.columns.iter();
            columns.map(|column| format!("{} {} {}", table.name, column.name, kind(column.is_number)))
        });
        let listed: BTreeSet<String> = listed.collect();
        let there = there.iter().flat_map(|(table, columns)| {
            columns.iter().map(move |(name, (is_number, _))| format!("{table} {name} {}", kind(*is_number)))
        });
        let there: BTreeSet<String> = there.collect();
        let different: Vec<&String> = listed.symmetric_difference(&there).collect();
        assert_eq!(different, [""; 0], "list tables and columns in store/everything.rs as they are");
    })
    .await;
}

/// All lines of an export but the first and the last, sorted.
async fn exported(database: &Database) -> (Vec<u8>, Vec<String>) {
    let mut file = Vec::new();
    let count = export(database, START_MS, &mut file).await.unwrap();
    let text = String::from_utf8(file.clone()).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let head: Value = serde_json::from_str(&lines.remove(0)).unwrap();
    assert_eq!((&head["tollgate_export"], &head["made_ms"]), (&json!(1), &json!(START_MS)));
    assert!(lines.pop().unwrap().contains(&format!("\"rows\":{count}")));
    lines.sort();
    (file, lines)
}

async fn loaded(url: &str, file: &[u8]) -> Result<u64, EverythingError> {
    let database = Database::open(url).await.unwrap();
    let done = load(&database, || Ok(file)).await;
    database.close().await;
    done
}

/// Every database into each kind, with rows in every table, more than are read at a time, and text that could hurt.
#[tokio::test]
async fn everything_is_exported_and_loaded_into_another_database() {
    on_each_database(async |test| {
        let database = Database::open(&test.url).await.unwrap();
        let mut inspector = Inspector::connect(&test.url).await;
        let schema = inspector.schema().await;
        for number in [7, 8] {
            inspector.fill(&schema, number).await;
        }
        let hard = "'\"\\ =1+1 %' OR '1'='1 {rows $1 r} \n\t ü 漢 \u{1f600} \u{202e}".replace('\'', "''");
        inspector
            .run(&format!(
                "INSERT INTO policies VALUES ({}, '{hard}', '{hard}', NULL, {}, '')",
                i64::MAX,
                i64::MIN
            ))
            .await;
        for chunk in 0..3 {
            let rows: Vec<String> =
                (0..900).map(|row| format!("('user:{chunk}-{row}', 'calls', '{row}', {row})")).collect();
            inspector
                .run(&format!("INSERT INTO things (subject, meter, id, units) VALUES {}", rows.join(", ")))
                .await;
        }
        let (file, lines) = exported(&database).await;
        assert!(lines.len() > 2_700 + 2 * tables().len());
        on_each_database(async |other| {
            assert_eq!(loaded(&other.url, &file).await.unwrap(), lines.len() as u64);
            let copy = Database::open(&other.url).await.unwrap();
            assert_eq!(exported(&copy).await.1, lines, "nothing was lost, added or changed");
            copy.close().await;
            let again = loaded(&other.url, &file).await;
            assert!(matches!(again, Err(EverythingError::InUse)), "{again:?}");
        })
        .await;
        database.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_control_plane_goes_on_from_what_was_loaded() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        served.put("/v1/subscriptions/user:a", json!({"tier": "pro"})).await;
        let sync = sync_body(&session(1), "user:a", 2, 5);
        let (_, before) = served.sync(sync.clone()).await;
        let (file, _) = exported(&served.plane.database).await;
        served.stop().await;
        let other = TestDatabase::sqlite();
        loaded(&other.url, &file).await.unwrap();
        let served = Served::start(&other.url).await;
        let (status, after) = served.sync(sync).await;
        assert_eq!((status.as_u16(), &after["subjects"]), (200, &before["subjects"]), "{after}");
        let (status, _) =
            served.send(Method::PUT, "/v1/subscriptions/user:b", Some(json!({"tier": "pro"}))).await;
        assert_eq!(status, 200, "the numbers of the audit log go on");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_file_that_was_cut_off_or_changed_is_not_loaded() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let (file, _) = exported(&served.plane.database).await;
    served.stop().await;
    let text = String::from_utf8(file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let without = |index: usize| {
        let kept =
            lines.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, line)| format!("{line}\n"));
        kept.collect::<String>()
    };
    let head = lines[0];
    let newest = versions().pop().unwrap();
    for (damaged, why) in [
        (String::new(), "line 1: the file ends early"),
        ("{}\n".to_owned(), "line 1: no export wrote this line"),
        (text[..text.len() - 1].to_owned(), "the file ends early"),
        (without(lines.len() - 1), "the file ends early"),
        (without(3), "lines before it are missing or were changed"),
        (
            text.replacen("\"actor\":\"test\"", "\"actor\":\"tost\"", 1),
            "lines before it are missing or were changed",
        ),
        (text.replacen("\"counters\"", "\"countess\"", 1), "line 2: there is no table \"countess\""),
        (text.replacen("\"name\":", "\"nome\":", 1), "line 2: \"counters\" has other columns"),
        (text.replacen(head, &head.replace("export\":1", "export\":2"), 1), "line 1: its form is 2"),
        (
            text.replacen(head, &head.replace(&format!("tables\":{newest}"), "tables\":1"), 1),
            "tables of version 1",
        ),
    ] {
        assert_ne!(damaged, text, "{why}");
        let other = TestDatabase::sqlite();
        let error = loaded(&other.url, damaged.as_bytes()).await.unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
        assert_eq!(
            loaded(&other.url, text.as_bytes()).await.unwrap(),
            lines.len() as u64 - 2,
            "it is empty still"
        );
    }
}

fn backups(url: &str) -> Vec<PathBuf> {
    let directory = PathBuf::from(url.strip_prefix("sqlite://").unwrap());
    let files = std::fs::read_dir(directory.parent().unwrap()).unwrap();
    let mut found: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    found.retain(|path| path.to_string_lossy().contains(".before-"));
    found.sort();
    found
}

#[tokio::test]
async fn a_file_is_copied_before_its_tables_change_and_only_then() {
    let test = TestDatabase::sqlite();
    let newest = versions().pop().unwrap();
    migrate(&test.url, 1).await;
    let mut inspector = Inspector::connect(&test.url).await;
    inspector.run("INSERT INTO subjects (subject) VALUES ('user:before')").await;
    let before = inspector.schema().await;
    inspector.connection.close().await.unwrap();

    // Two at once, as replicas that are replaced together.
    let (first, second) = tokio::join!(Database::open(&test.url), Database::open(&test.url));
    first.unwrap().close().await;
    second.unwrap().close().await;
    let kept = backups(&test.url);
    assert!(!kept.is_empty(), "there is a copy");
    for copy in &kept {
        assert!(copy.display().to_string().contains(&format!("test.db.before-{newest}.")), "{kept:?}");
        assert!(copy.display().to_string().ends_with(".backup"), "nothing half done is left: {kept:?}");
        let mut inspector = Inspector::connect(&format!("sqlite://{}", copy.display())).await;
        assert_eq!(inspector.schema().await, before, "{}", copy.display());
        assert_eq!(inspector.count("subjects").await, 1);
    }

    Database::open(&test.url).await.unwrap().close().await;
    assert_eq!(backups(&test.url), kept, "its tables did not change");
    revert(&test.url, 1).await;
    Database::open(&test.url).await.unwrap().close().await;
    let more = backups(&test.url);
    assert_eq!(more.len(), kept.len() + 1, "no copy replaces another: {more:?}");

    let fresh = TestDatabase::sqlite();
    Database::open(&fresh.url).await.unwrap().close().await;
    assert_eq!(backups(&fresh.url), Vec::<PathBuf>::new(), "a new one has nothing to lose");
}

#[tokio::test]
async fn tables_stay_as_they_are_when_there_is_no_copy() {
    let test = TestDatabase::sqlite();
    migrate(&test.url, 1).await;
    let path = test.url.strip_prefix("sqlite://").unwrap();
    let newest = versions().pop().unwrap();
    for number in 1..=100 {
        let number = if number == 1 { String::new() } else { format!(".{number}") };
        std::fs::write(format!("{path}.before-{newest}{number}.backup"), "").unwrap();
    }
    let error = Database::open(&test.url).await.unwrap_err();
    assert!(matches!(error, StoreError::Backup { .. }), "{error:?}");
    let mut inspector = Inspector::connect(&test.url).await;
    assert!(!inspector.schema().await.tables.contains_key("archives"), "nothing was changed");
    assert_eq!(backups(&test.url).len(), 100, "nothing half done is left");
}

async fn run(url: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let output = command.args(arguments).env("TOLLGATE_DATABASE_URL", url).output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn commands_export_load_back_up_and_revert() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let directory = TempDir::new().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    let good = async |url: &str, arguments: &[&str]| {
        let (succeeded, said) = run(url, arguments).await;
        assert!(succeeded, "{arguments:?}: {said}");
        said
    };
    let bad = async |url: &str, arguments: &[&str]| {
        let (succeeded, said) = run(url, arguments).await;
        assert!(!succeeded, "{arguments:?}: {said}");
        said
    };
    let newest = versions().pop().unwrap();
    assert!(
        good(&test.url, &["database", "status"])
            .await
            .contains(&format!("sqlite, tables of version {newest}"))
    );
    good(&test.url, &["database", "backup", &file("copy.db")]).await;
    std::fs::write(file("all.jsonl.partial"), "").unwrap();
    std::fs::set_permissions(file("all.jsonl.partial"), Permissions::from_mode(0o644)).unwrap();
    bad(&test.url, &["database", "backup", &file("copy.db")]).await;
    good(&test.url, &["export", "--output", &file("all.jsonl")]).await;
    for made in ["copy.db", "all.jsonl"] {
        let mode = std::fs::metadata(file(made)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{made} holds secrets, and is for its owner alone");
    }
    let said = good(&test.url, &["export"]).await;
    assert!(said.starts_with("{\"made_ms\":") || said.starts_with("{\"tollgate_export\":"), "{said}");
    let other = format!("sqlite://{}", file("other.db"));
    bad(&other, &["export"]).await;
    assert!(!directory.path().join("other.db").exists(), "looking makes no database");
    good(&other, &["import", "--everything", &file("all.jsonl")]).await;
    assert!(bad(&other, &["import", "--everything", &file("all.jsonl")]).await.contains("in use already"));
    served.stop().await;

    let said = good(&test.url, &["database", "revert", "--to", "1"]).await;
    assert!(said.contains("Lost: bypasses") && said.contains("Nothing was changed"), "{said}");
    bad(&test.url, &["database", "revert", "--to", "99"]).await;
    let said = good(&test.url, &["database", "revert", "--to", "1", "--yes"]).await;
    assert!(said.contains("Kept a copy") && said.contains("The tables are of version 1"), "{said}");
    assert_eq!(backups(&test.url).len(), 1);
    let said = bad(&test.url, &["export"]).await;
    assert!(said.contains("its tables are of version 1"), "{said}");
    let served = Served::start(&test.url).await;
    assert_eq!(served.get("/v1/policy").await["version"], 1, "it goes on");
    served.stop().await;
}

#[tokio::test]
async fn a_database_that_holds_anything_is_not_loaded_over() {
    on_each_database(async |test| {
        let empty = TestDatabase::sqlite();
        let database = Database::open(&empty.url).await.unwrap();
        let (file, _) = exported(&database).await;
        database.close().await;
        // What a control plane leaves that was started and not used.
        Served::start(&test.url).await.stop().await;
        let mut inspector = Inspector::connect(&test.url).await;
        let schema = inspector.schema().await;
        let derived =
            ["counters", "configuration", "usage_sink", "usage_tops", "usage_tops_made", "recurring_days"];
        for (table, columns) in schema.tables.iter().filter(|(table, _)| !derived.contains(&table.as_str())) {
            let only = Schema { tables: [(table.clone(), columns.clone())].into(), ..Schema::default() };
            inspector.fill(&only, 1).await;
            let refused = loaded(&test.url, &file).await;
            assert!(matches!(refused, Err(EverythingError::InUse)), "{table}: {refused:?}");
            assert_eq!(inspector.count(table).await, 1, "{table} keeps what it has");
            inspector.run(&format!("DELETE FROM {table}")).await;
        }
        loaded(&test.url, &file).await.unwrap();
    })
    .await;
}
