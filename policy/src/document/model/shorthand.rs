//! Values that may be written as a number or as something longer. Read by hand: serde's `untagged` would lose the place
//! and the words of what is wrong inside.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};

/// A whole number, or a mapping that says more.
pub(super) enum NumberOr<T> {
    Number(i64),
    Mapping(T),
}

/// Reads a number or a mapping.
pub(super) fn number_or_mapping<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<NumberOr<T>, D::Error> {
    from.deserialize_any(NumberOrMapping(PhantomData))
}

struct NumberOrMapping<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NumberOrMapping<T> {
    type Value = NumberOr<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number or a mapping")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(NumberOr::Number(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        let outside = || {
            E::invalid_value(
                Unexpected::Unsigned(number),
                &"a whole number of at most 9007199254740991 (2^53 - 1), or a mapping",
            )
        };
        i64::try_from(number).map(NumberOr::Number).map_err(|_| outside())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(NumberOr::Mapping)
    }
}

/// Reads a number, 0 or more, or one certain word; `None` is the word.
pub(super) fn number_or_word<'de, D: Deserializer<'de>>(
    from: D,
    word: &'static str,
) -> Result<Option<u64>, D::Error> {
    from.deserialize_any(NumberOrWord(word))
}

struct NumberOrWord(&'static str);

impl Visitor<'_> for NumberOrWord {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number, 0 or more, or `{}`", self.0)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        u64::try_from(number).map(Some).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if text == self.0 { Ok(None) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
    }
}
