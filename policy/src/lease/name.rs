//! Names of limits and meters in a record: read with every request, so they live in place and not on the heap.

/// Bytes of a name that are kept in place.
const INLINE_MAX: usize = 38;

/// A name. Nearly all are short; a longer one is allocated.
#[derive(Clone)]
pub struct Name(Text);

#[derive(Clone)]
enum Text {
    Inline(u8, [u8; INLINE_MAX]),
    Long(Box<str>),
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        let mut bytes = [0; INLINE_MAX];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(text.as_bytes());
                Self(Text::Inline(length, bytes))
            }
            _ => Self(Text::Long(text.into())),
        }
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl Name {
    /// A name that was written by [`Name::as_bytes`]. Short bytes that are no text, which only a fault could cause, are read as
    /// a name that is none: checking them with every request is not worth it.
    pub(super) fn read(name: &[u8]) -> Option<Self> {
        let mut bytes = [0; INLINE_MAX];
        match (bytes.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(name);
                Some(Self(Text::Inline(length, bytes)))
            }
            _ => std::str::from_utf8(name).ok().map(|text| Self(Text::Long(text.into()))),
        }
    }

    /// The name's bytes, which are UTF-8.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Inline(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Text::Long(text) => text.as_bytes(),
        }
    }
}

impl std::ops::Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        // Made of a `str`, so that the fallback is not reached.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl Default for Name {
    fn default() -> Self {
        Self::from("")
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<String> for Name {
    fn eq(&self, other: &String) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&**self, f)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self)
    }
}
