//! [`Duration`]s in JSON: whole nanoseconds, and the field's name ends in `_ns`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// Writes nanoseconds.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}

/// [`nanos`](self) of a span that may be none.
pub mod option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes nanoseconds, or null.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        span.map(|span| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)).serialize(to)
    }

    /// Reads nanoseconds, or null.
    ///
    /// # Errors
    /// Something else stands there.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Option::deserialize(from)?.map(super::plausible).transpose()
    }
}

/// Reads nanoseconds.
///
/// # Errors
/// Something else stands there.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    u64::deserialize(from).and_then(plausible)
}

/// A span that a run can have. Sums of a few of them are still far from overflowing a moment.
fn plausible<E: serde::de::Error>(nanos: u64) -> Result<Duration, E> {
    const LONGEST: Duration = super::secs(10 * 365 * 24 * 3600);
    let span = Duration::from_nanos(nanos);
    if span > LONGEST {
        return Err(E::custom(format_args!("{nanos} ns are more than ten years: no duration of a run")));
    }
    Ok(span)
}
