//! Rows of CSV (RFC 4180). A cell that a spreadsheet would take for a formula begins with `'`: what callers name subjects
//! and labels must not run on the machine of whoever opens the file.

/// Media type of CSV.
pub const MEDIA_TYPE: &str = "text/csv; charset=utf-8; header=present";

/// A cell of text, which others may have chosen.
pub fn text(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    let cell = if is_formula { format!("'{cell}") } else { cell.to_owned() };
    match cell.contains(['"', ',', ';', '\r', '\n', '\t']) || is_formula {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    }
}

/// A row of cells that are ready.
pub fn row(cells: &[String]) -> String {
    format!("{}\r\n", cells.join(","))
}

#[cfg(test)]
mod tests {
    use super::{row, text};

    #[test]
    fn what_looks_like_a_formula_is_text() {
        for (given, expected) in [
            ("user:alice", "user:alice"),
            ("", ""),
            ("=1+1", "\"'=1+1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("-2", "\"'-2\""),
            ("+2", "\"'+2\""),
            ("\t=1", "\"'\t=1\""),
            ("＝1", "\"'＝1\""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("a\r\nb", "\"a\r\nb\""),
        ] {
            assert_eq!(text(given), expected);
        }
        assert_eq!(row(&[text("a"), "1".to_owned()]), "a,1\r\n");
    }
}
