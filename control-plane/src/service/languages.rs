//! Which of a text's languages a reader gets.

use tollgate_policy::document::Localized;

/// Most languages of an `Accept-Language` that are looked at.
const LANGUAGES_MAX: usize = 16;

/// The languages that a reader understands, the best first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Languages(Vec<String>);

impl Languages {
    /// From the header `Accept-Language` (RFC 9110 12.5.4). What cannot be read of it is left out.
    pub fn accepted(header: &str) -> Self {
        let readable = header.split(',').take(LANGUAGES_MAX).map(str::trim).filter(|item| is_readable(item));
        let readable = readable.collect::<Vec<_>>().join(",");
        let ordered = accept_language::parse_with_quality(&readable);
        let wanted = ordered.into_iter().filter(|(tag, quality)| tag != "*" && *quality > 0.0);
        Self(wanted.map(|(tag, _)| tag.to_ascii_lowercase()).collect())
    }

    /// The best of them, in small letters.
    pub fn best(&self) -> Option<&str> {
        self.0.first().map(String::as_str)
    }

    /// The text in the reader's best language that it has, else in English, else in any; and which that is. A text that is the
    /// same in every language has none.
    ///
    /// A language is looked up as RFC 4647 3.4 says: `fr-CH` is also served by `fr`.
    pub fn choose<'t>(&self, text: &'t Localized) -> (&'t str, Option<&'t str>) {
        let Localized::ByLanguage(texts) = text else { return (text.any(), None) };
        let find = |wanted: &str| texts.iter().find(|(tag, _)| tag.eq_ignore_ascii_case(wanted));
        for tag in &self.0 {
            let mut range = tag.as_str();
            loop {
                if let Some((tag, text)) = find(range) {
                    return (text, Some(tag));
                }
                match range.rsplit_once('-') {
                    // A single letter begins an extension, and says nothing without what follows it.
                    Some((shorter, _)) => range = shorter.strip_suffix("-x").unwrap_or(shorter),
                    None => break,
                }
            }
        }
        let any = find("en").or_else(|| texts.iter().next());
        any.map_or(("", None), |(tag, text)| (text, Some(tag)))
    }
}

/// A tag, perhaps with a quality that is a plain number: the library's order is not total on others.
fn is_readable(item: &str) -> bool {
    let (tag, quality) = item.split_once(';').unwrap_or((item, "q=1"));
    let is_tag =
        !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-* ".contains(&byte));
    let number = quality.trim().strip_prefix("q=").or(quality.trim().strip_prefix("Q="));
    let is_number =
        |number: &str| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    is_tag && number.is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, expected: &str) {
        let texts = [("en", "hello"), ("fr", "bonjour"), ("pt-BR", "oi"), ("de", "hallo")];
        let text = Localized::ByLanguage(texts.map(|(tag, text)| (tag.to_owned(), text.to_owned())).into());
        let (text, tag) = Languages::accepted(header).choose(&text);
        assert_eq!(format!("{text} {}", tag.unwrap_or_default()), expected, "{header}");
    }

    #[test]
    fn the_best_language_that_there_is_wins() {
        check("fr", "bonjour fr");
        check("fr-CH, fr;q=0.9, en;q=0.8", "bonjour fr");
        check("en;q=0.5, de;q=0.9", "hallo de");
        check("PT-br", "oi pt-BR");
        check("de-Latn-DE-1996", "hallo de");
        check("ja, it;q=0.5", "hello en");
        check("", "hello en");
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        check("de;q=0, fr;q=0.1", "bonjour fr");
        check("*", "hello en");
        check("fr;q=NaN, de;q=0.1", "hallo de");
        check("fr;q=inf,,;q=1,=,de", "hallo de");
        check(&"xx;q=NaN,".repeat(10_000), "hello en");
        check(&format!("{}fr", "ja,".repeat(15)), "bonjour fr");
        check(&format!("{}fr", "ja,".repeat(16)), "hello en");
    }

    #[test]
    fn a_text_for_all_has_no_language_and_one_without_english_has_some() {
        let languages = Languages::accepted("fr");
        assert_eq!(languages.choose(&Localized::Text("Pro".to_owned())), ("Pro", None));
        let german = Localized::ByLanguage([("de".to_owned(), "hallo".to_owned())].into());
        assert_eq!(languages.choose(&german), ("hallo", Some("de")));
    }
}
