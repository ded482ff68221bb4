//! How many digits the numbers of records have.

use serde::{Serialize, Serializer};

/// Numbers from here on have no decimals to round.
const WHOLE: f64 = 1e15;

/// Rounds to about five significant digits, at most four decimals: the precision of the numbers in
/// records.
#[must_use]
pub fn rounded(value: f64) -> f64 {
    let decimals = match value.abs() {
        v if v >= WHOLE => return value,
        v if v >= 1000.0 => 10.0,
        v if v >= 10.0 => 100.0,
        v if v >= 1.0 => 1000.0,
        _ => 10_000.0,
    };
    // Adding 0 turns −0 into 0.
    (value * decimals).round() / decimals + 0.0
}

pub(super) fn digits<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(rounded(*value))
}

pub(super) fn digit<S: Serializer>(value: &f32, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(rounded(f64::from(*value)))
}

/// Rounds to microseconds, so that frames of one stream keep their order.
pub(super) fn fine<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(if value.abs() < WHOLE { (value * 1e6).round() / 1e6 } else { *value })
}

pub(super) fn fine_rows<S: Serializer>(rows: &[[f32; 4]; 3], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(rows.map(|row| row.map(|v| (f64::from(v) * 1e4).round() / 1e4 + 0.0)))
}

pub(super) fn list<S: Serializer, T: AsRef<[f32]>>(values: &T, s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(values.as_ref().iter().map(|v| rounded(f64::from(*v))))
}

pub(super) fn optional_list<S: Serializer>(
    values: &Option<Vec<f32>>,
    s: S,
) -> Result<S::Ok, S::Error> {
    list(&values.as_deref().unwrap_or_default(), s)
}

pub(super) fn pair<S: Serializer>(value: &Option<[f32; 2]>, s: S) -> Result<S::Ok, S::Error> {
    value.map(|v| v.map(|v| rounded(f64::from(v)))).serialize(s)
}

pub(super) fn rows<S: Serializer, const N: usize>(
    rows: &Option<Vec<[f32; N]>>,
    s: S,
) -> Result<S::Ok, S::Error>
where
    [f64; N]: Serialize,
{
    s.collect_seq(rows.iter().flatten().map(|row| row.map(|v| rounded(f64::from(v)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(serde_json::to_string(&rounded(0.123_456_78)).expect("a number"), "0.1235");
        assert_eq!(serde_json::to_string(&rounded(1234.5678)).expect("a number"), "1234.6");
        assert_eq!(serde_json::to_string(&rounded(-0.000_01)).expect("a number"), "0.0");
    }
}
