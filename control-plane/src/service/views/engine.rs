//! The language that views are written in: Jinja, in which every value is written as JSON and nothing goes on without end.
//!
//! A template cannot read files, include other templates or reach anything but what it is given.
//!
//! Its author is trusted with time and memory: an instruction may handle as much as there is, such as a text that was doubled
//! thirty times, and nothing here can stop one that has begun. What callers send is bounded before it gets here.

use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, filters};

/// Most instructions of one rendering: about a millisecond of plain ones.
const FUEL: u64 = 100_000;

/// Stack of the thread of a rendering. Values within values are read and dropped level by level on it, and each level takes an
/// instruction: there are fewer than [`FUEL`]. What is not used of it takes no memory.
pub(super) const STACK_BYTES: usize = 256 << 20;

/// Deepest nesting of calls of macros.
const RECURSION_MAX: usize = 64;

/// Most numbers that `range` makes: an instruction may look at all of them.
const RANGE_MAX: i64 = 10_000;

/// Most digits of a width or a precision in `format`.
const WIDTH_DIGITS_MAX: usize = 2;

/// Largest answer, bytes.
pub(super) const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Most digits after the point that a number is rounded to: more than these a double does not have.
const DIGITS_MAX: u32 = 15;

/// Units of bytes, and how many bytes they are.
const BYTES: [(&str, f64); 9] = [
    ("B", 1.0),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
];

/// An environment without templates.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // What a subject lacks is null, and so is what that would have had.
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_auto_escape_callback(|_| AutoEscape::Json);
    environment.set_formatter(write_json);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION_MAX);
    // It would let a value change the structure of an answer.
    environment.remove_filter("safe");
    // It shows all that a template is given.
    environment.remove_global("debug");
    // What a loop puts into it grows with each round.
    environment.remove_global("namespace");
    // They fill up to any size, and are for pages.
    for name in ["indent", "batch", "slice", "pprint"] {
        environment.remove_filter(name);
    }
    add_text_filters(&mut environment);
    environment.add_function("range", range);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("gb", gb);
    environment.add_filter("bytes", bytes);
    environment.add_filter("money", money);
    environment
}

/// The filters that make texts of texts, but so that what they make is written as JSON like other values, also of what a template
/// has written down itself: a changed part of an answer is none any more.
fn add_text_filters(environment: &mut Environment<'static>) {
    let text_filters = [
        ("lower", Value::from_function(filters::lower)),
        ("upper", Value::from_function(filters::upper)),
        ("capitalize", Value::from_function(filters::capitalize)),
        ("replace", Value::from_function(filters::replace)),
        ("trim", Value::from_function(filters::trim)),
        ("reverse", Value::from_function(filters::reverse)),
        ("join", Value::from_function(filters::join)),
        ("split", Value::from_function(filters::split)),
        ("lines", Value::from_function(filters::lines)),
        ("list", Value::from_function(filters::list)),
        ("first", Value::from_function(filters::first)),
        ("last", Value::from_function(filters::last)),
    ];
    for (name, filter) in text_filters {
        environment.add_filter(name, move |state: &mut State<'_, '_>, arguments: Rest<ValueOrKwargs>| {
            plainly(&filter, state, &arguments.into_values())
        });
    }
    environment.add_filter("format", |state: &mut State<'_, '_>, arguments: Rest<ValueOrKwargs>| {
        let arguments = arguments.into_values();
        check_format(arguments.first().and_then(Value::as_str).unwrap_or_default())?;
        plainly(&Value::from_function(filters::format), state, &arguments)
    });
    // As HTML, where a template says `autoescape 'html'`, they would write a text without its quotation marks.
    environment.add_filter("e", escape);
    environment.add_filter("escape", escape);
}

/// What a filter makes of plain arguments, as plain values.
fn plainly(filter: &Value, state: &mut State<'_, '_>, arguments: &[Value]) -> Result<Value, Error> {
    let arguments: Vec<Value> = arguments.iter().map(plain).collect::<Result<_, _>>()?;
    plain(&filter.call(state, &arguments)?)
}

/// A text that is no part of an answer yet, and a list of such.
fn plain(value: &Value) -> Result<Value, Error> {
    let text = |value: &Value| match value.as_str().filter(|_| value.is_safe()) {
        Some(text) => Value::from(text),
        None => value.clone(),
    };
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => Ok(value.try_iter()?.map(|value| text(&value)).collect()),
        _ => Ok(text(value)),
    }
}

/// Refuses a width or a precision of more than two digits, or one that stands in an argument.
fn check_format(format: &str) -> Result<(), Error> {
    for specification in format.split('%').skip(1) {
        // `%(name)5d` names its argument.
        let named = specification.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let layout = named.map_or(specification, |(_, layout)| layout);
        let layout = layout.split(char::is_alphabetic).next().unwrap_or_default();
        let is_long = |digits: &str| digits.len() > WIDTH_DIGITS_MAX;
        if layout.contains('*') || layout.split(|at: char| !at.is_ascii_digit()).any(is_long) {
            let text = format!("format takes widths and precisions of at most {WIDTH_DIGITS_MAX} digits");
            return Err(Error::new(ErrorKind::InvalidOperation, text));
        }
    }
    Ok(())
}

/// A value as a part of the answer.
fn escape(value: &Value) -> Result<Value, Error> {
    match value.is_safe() {
        true => Ok(value.clone()),
        false => Ok(Value::from_safe_string(json_text(value)?)),
    }
}

/// Writes a value as JSON, also where a template says `autoescape false`: only what a template has itself written down, or what
/// is JSON already, goes out as it is.
fn write_json(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if let Some(text) = value.as_str().filter(|_| value.is_safe()) {
        return Ok(out.write_str(text)?);
    }
    Ok(out.write_str(&json_text(value)?)?)
}

fn json_text(value: &Value) -> Result<String, Error> {
    let mut text = Bounded::default();
    serde_json::to_writer(&mut text, value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, format!("it is no JSON: {error}")))?;
    Ok(String::from_utf8_lossy(&text.0).into_owned())
}

/// A text that ends before it is too long.
#[derive(Debug, Default)]
pub(super) struct Bounded(pub(super) Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len().saturating_add(bytes.len()) > OUTPUT_BYTES_MAX {
            return Err(std::io::Error::other(format!("more than {OUTPUT_BYTES_MAX} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn range(lower: i64, upper: Option<i64>, step: Option<i64>) -> Result<Vec<i64>, Error> {
    let (start, end) = upper.map_or((0, lower), |upper| (lower, upper));
    let step = step.unwrap_or(1);
    let fault = |text: String| Err(Error::new(ErrorKind::InvalidOperation, text));
    if step == 0 {
        return fault("range needs a step that is not 0".to_owned());
    }
    if start.abs_diff(end) / step.unsigned_abs() >= RANGE_MAX.unsigned_abs() {
        return fault(format!("range makes at most {RANGE_MAX} numbers"));
    }
    let numbers = std::iter::successors(Some(start), |at| at.checked_add(step));
    Ok(numbers.take_while(|at| if step > 0 { *at < end } else { *at > end }).collect())
}

/// As Jinja's, for null too: a reader cannot tell what is null from what is not there.
fn default(value: &Value, other: Option<Value>, also_false: Option<bool>) -> Value {
    let is_missing = value.is_undefined() || value.is_none();
    match is_missing || (also_false == Some(true) && !value.is_true()) {
        true => other.unwrap_or_else(|| Value::from("")),
        false => value.clone(),
    }
}

fn gb(value: &Value, digits: Option<u32>) -> Result<Value, Error> {
    bytes(value, Some("GiB"), digits)
}

fn bytes(value: &Value, unit: Option<&str>, digits: Option<u32>) -> Result<Value, Error> {
    let unit = unit.unwrap_or("GiB");
    match BYTES.iter().find(|(name, _)| *name == unit) {
        Some((_, size)) => Ok(rounded(value, *size, digits.unwrap_or(2))),
        None => {
            let names = BYTES.map(|(name, _)| name).join(", ");
            Err(Error::new(ErrorKind::InvalidOperation, format!("bytes are counted in {names}, not {unit}")))
        }
    }
}

/// Minor units of a currency as its major ones.
fn money(value: &Value, exponent: Option<u32>) -> Value {
    let exponent = exponent.unwrap_or(2).min(DIGITS_MAX);
    rounded(value, 10_f64.powi(i32::try_from(exponent).unwrap_or_default()), exponent)
}

/// A number in parts of `size`; what is none, such as null or `unlimited`, stays as it is.
#[allow(clippy::cast_possible_truncation, reason = "a number beyond that is not rounded to a whole one")]
fn rounded(value: &Value, size: f64, digits: u32) -> Value {
    let number = Some(value).filter(|value| value.kind() == ValueKind::Number);
    let Some(number) = number.and_then(|value| f64::try_from(value.clone()).ok()) else {
        return value.clone();
    };
    let places = 10_f64.powi(i32::try_from(digits.min(DIGITS_MAX)).unwrap_or_default());
    let rounded = (number / size * places).round() / places;
    match digits {
        // A whole number is written as one: 12 and not 12.0.
        0 if rounded.abs() < 9e15 => Value::from(rounded as i64),
        _ => Value::from(rounded),
    }
}
