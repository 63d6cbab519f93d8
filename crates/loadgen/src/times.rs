//! Many times in little room: an HdrHistogram of nanoseconds, and how it is written down.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as Decoder, Serializer as _, V2DeflateSerializer};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest time that is told apart, a day in nanoseconds; a longer one counts as a day.
const LONGEST_NANOS: u64 = 24 * 3600 * 1_000_000_000;
/// The shortest upper bound that an HdrHistogram can begin with.
const SMALLEST: u64 = 2;

/// Times, told apart to a number of significant digits.
///
/// In JSON it is what HdrHistogram's tools of every language read and write: base64 of its compressed V2 form.
#[derive(Clone, PartialEq)]
pub struct Times(Histogram<u64>);

impl Times {
    /// None yet; `digits` are told apart, 1 to 5.
    pub fn new(digits: u8) -> Self {
        let mut histogram = Histogram::new_with_max(SMALLEST, digits)
            .expect("the bounds and the precision are valid");
        // Grows with the longest time, which is short as a rule.
        histogram.auto(true);
        Self(histogram)
    }

    /// Takes one more.
    pub fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(LONGEST_NANOS);
        self.0
            .record(nanos.min(LONGEST_NANOS))
            .expect("it grows as far as a day");
    }

    /// Takes all of `others`.
    pub fn add(&mut self, others: &Self) {
        self.0
            .add(&others.0)
            .expect("it grows as far as the others");
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that a share of them, 0 to 1, does not exceed, in milliseconds; `None` when there are none.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(share) as f64 / 1e6)
    }

    /// Their mean in milliseconds; `None` when there are none.
    pub fn mean_ms(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.mean() / 1e6)
    }

    /// Each time that is told apart and occurs, in nanoseconds, as lowest, highest and number.
    pub fn cells(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.0.iter_recorded().map(|step| {
            let value = step.value_iterated_to();
            (
                self.0.lowest_equivalent(value),
                self.0.highest_equivalent(value),
                step.count_at_value(),
            )
        })
    }

    fn encoded(&self) -> Result<String, String> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.0, &mut bytes)
            .map_err(|error| error.to_string())?;
        Ok(STANDARD.encode(bytes))
    }

    fn decoded(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
        let mut histogram: Histogram<u64> = Decoder::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| error.to_string())?;
        histogram.auto(true);
        Ok(Self(histogram))
    }
}

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not its thousands of cells.
        f.debug_struct("Times")
            .field("count", &self.count())
            .field("p50_ms", &self.quantile_ms(0.5))
            .field("max_ms", &self.quantile_ms(1.0))
            .finish()
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encoded().map_err(S::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::decoded(&text)
            .map_err(|error| D::Error::custom(format!("not an HdrHistogram in base64: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(millis: impl IntoIterator<Item = u64>) -> Times {
        let mut times = Times::new(3);
        for millis in millis {
            times.record(Duration::from_millis(millis));
        }
        times
    }

    #[test]
    fn what_is_written_is_read_again() {
        for all in [times([]), times(0..5000), times([1, 86_400_000])] {
            let text = serde_json::to_string(&all).expect("JSON");
            // How every V2 histogram in base64 begins: its cookie 0x1c849304.
            assert!(text.is_empty() || text.starts_with("\"HISTFAAA"), "{text}");
            let again: Times = serde_json::from_str(&text).expect("it was written a moment ago");
            assert_eq!(again, all);
        }
    }

    #[test]
    fn what_another_implementation_wrote_is_read() {
        // Written by HdrHistogram for Python 0.10: 1 to 1000 ms.
        let text = "\"HISTFAAAAJp4nJNpmSzMwMC+nQECmKE0IwOD35SJ/gwM9h8gAgfXMTL95WdazcF0np3pMAvTU2YQes7MdJ6J6SMjCvoMJq8yMpVjhZVwVjSTNZMlCRibqDyTNJMsEEsTpIlTRZ4ufiZeIORGIynlD01dnEzMTKxwyIyFhV2UNroGk1tGui5GIAQT6JAiQeqbSCdrhqzDR60ZvNagcQGds0AJ\"";
        let read: Times = serde_json::from_str(text).expect("it is one");
        assert_eq!(read.count(), 1000);
        assert_eq!(read.quantile_ms(0.99), Some(990.380_031));
        assert_eq!(
            read.cells().collect::<Vec<_>>(),
            times(1..=1000).cells().collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        for text in ["\"\"", "\"HISTFAAAACF42pNp\"", "\"not base64\"", "7"] {
            assert!(serde_json::from_str::<Times>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn adding_up_is_recording_together() {
        let mut sum = times(0..100);
        sum.add(&times(100..3000));
        assert_eq!(sum, times(0..3000));
        assert_eq!(sum.count(), 3000);
        let cells: u64 = sum.cells().map(|(_, _, count)| count).sum();
        assert_eq!(cells, 3000);
        assert!(sum.cells().all(|(low, high, _)| low <= high));
    }

    #[test]
    fn more_than_a_day_counts_as_a_day() {
        let mut times = times([]);
        times.record(Duration::MAX);
        let day = 86_400_000.0;
        let max = times.quantile_ms(1.0).expect("there is one");
        assert!((max - day).abs() < day / 1000.0, "{max}");
    }
}
