//! Grafana's units: how a number is written.

/// What a number counts, by Grafana's identifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    scale: Scale,
    suffix: String,
    prefix: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// As it is.
    One,
    /// A share of one, written in percent.
    Share,
    /// K, Mil, Bil, Tri: Grafana's `short`.
    Short,
    /// k, M, G before a unit.
    Decimal,
    /// Ki, Mi, Gi before a unit.
    Binary,
    /// A time, given in units of so many nanoseconds.
    Time(u64),
    /// Milliseconds since 1970.
    Date,
    /// Whether something is so.
    Bool(&'static str, &'static str),
}

const SECOND: u64 = 1_000_000_000;

impl Unit {
    /// The unit that Grafana calls so. One it does not know is written after the number, as Grafana does.
    #[must_use]
    pub fn parse(id: &str) -> Self {
        let (scale, suffix) = match id {
            "" | "none" | "string" => (Scale::One, ""),
            "short" | "locale" | "sishort" => (Scale::Short, ""),
            "percent" => (Scale::One, "%"),
            "percentunit" => (Scale::Share, "%"),
            "bytes" => (Scale::Binary, "B"),
            "decbytes" => (Scale::Decimal, "B"),
            "bits" => (Scale::Binary, "b"),
            "decbits" => (Scale::Decimal, "b"),
            "kbytes" | "deckbytes" | "mbytes" | "decmbytes" => (Scale::One, kilo(id)),
            "Bps" => (Scale::Decimal, "B/s"),
            "binBps" => (Scale::Binary, "B/s"),
            "bps" => (Scale::Decimal, "b/s"),
            "binbps" => (Scale::Binary, "b/s"),
            "pps" => (Scale::Short, " p/s"),
            "reqps" => (Scale::Short, " req/s"),
            "rps" => (Scale::Short, " rd/s"),
            "wps" => (Scale::Short, " wr/s"),
            "ops" => (Scale::Short, " ops/s"),
            "iops" => (Scale::Short, " io/s"),
            "cps" => (Scale::Short, " c/s"),
            "eps" => (Scale::Short, " evt/s"),
            "mps" => (Scale::Short, " msg/s"),
            "reqpm" => (Scale::Short, " req/min"),
            "opm" => (Scale::Short, " ops/min"),
            "cpm" => (Scale::Short, " c/min"),
            "hertz" => (Scale::Decimal, "Hz"),
            "celsius" => (Scale::One, " °C"),
            "ns" => (Scale::Time(1), ""),
            "µs" => (Scale::Time(1_000), ""),
            "ms" => (Scale::Time(1_000_000), ""),
            "s" | "dtdurations" | "clocks" | "timeticks" => (Scale::Time(SECOND), ""),
            "m" => (Scale::Time(60 * SECOND), ""),
            "h" => (Scale::Time(3600 * SECOND), ""),
            "d" => (Scale::Time(86_400 * SECOND), ""),
            "bool" => (Scale::Bool("True", "False"), ""),
            "bool_yes_no" => (Scale::Bool("Yes", "No"), ""),
            "bool_on_off" => (Scale::Bool("On", "Off"), ""),
            _ if id.starts_with("dateTime") => (Scale::Date, ""),
            "currencyUSD" => return Self::around("$", Scale::Short, ""),
            "currencyEUR" => return Self::around("€", Scale::Short, ""),
            "currencyGBP" => return Self::around("£", Scale::Short, ""),
            _ => match id.split_once(':') {
                Some(("suffix", text)) => return Self::around("", Scale::One, &spaced(text)),
                Some(("prefix", text)) => return Self::around(text, Scale::One, ""),
                Some(("si", text)) => return Self::around("", Scale::Decimal, text),
                Some(("count" | "currency", text)) => {
                    return Self::around("", Scale::Short, &spaced(text));
                }
                _ => return Self::around("", Scale::One, &spaced(id)),
            },
        };
        Self::around("", scale, suffix)
    }

    fn around(prefix: &str, scale: Scale, suffix: &str) -> Self {
        Self {
            scale,
            suffix: suffix.into(),
            prefix: prefix.into(),
        }
    }

    /// A value with its unit. Three digits that count, unless `decimals` says otherwise.
    #[must_use]
    pub fn show(&self, value: f64, decimals: Option<usize>) -> String {
        if value.is_nan() {
            return "NaN".into();
        }
        if value.is_infinite() {
            return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
        }
        match self.scale {
            Scale::Date => return date(value),
            Scale::Bool(yes, no) => return if value == 0.0 { no } else { yes }.into(),
            _ => {}
        }
        let (divisor, word) = self.step(value.abs());
        let scaled = value / divisor;
        let decimals = decimals.unwrap_or_else(|| digits(scaled));
        // What rounds up to the next step is written in it: 1 K, not 1000.
        let rounded = format!("{:.decimals$}", scaled.abs()).parse::<f64>();
        let up = rounded.map_or(value.abs(), |it| it * divisor);
        let (divisor, word) = if up > value.abs() && self.step(up) != (divisor, word) {
            self.step(up)
        } else {
            (divisor, word)
        };
        self.written(value / divisor, decimals, word)
    }

    /// As many decimals as a whole axis needs, so that its labels are alike.
    pub(crate) fn show_tick(&self, value: f64, step: f64) -> String {
        if matches!(self.scale, Scale::Date | Scale::Bool(..)) {
            return self.show(value, None);
        }
        let (divisor, word) = self.step(value.abs());
        if value.abs() < step * 1e-6 {
            return self.written(0.0, 0, word);
        }
        let step = step / divisor;
        let decimals = (0..9).find(|&it| {
            let scaled = step * 10_f64.powi(it);
            (scaled - scaled.round()).abs() < 1e-6 * scaled.max(1.0)
        });
        let decimals = decimals.map_or(2, |it| it as usize);
        self.written(value / divisor, decimals, word)
    }

    fn written(&self, scaled: f64, decimals: usize, word: &str) -> String {
        let number = if scaled.abs() >= 1e15 {
            format!("{scaled:.2e}")
        } else {
            format!("{scaled:.decimals$}")
        };
        let number = match number.strip_prefix('-') {
            Some(rest) if rest.bytes().all(|it| matches!(it, b'0' | b'.')) => rest.to_owned(),
            _ => number,
        };
        let (prefix, suffix) = (&self.prefix, &self.suffix);
        match self.scale {
            Scale::Binary | Scale::Decimal => {
                format!("{prefix}{number} {word}{suffix}").trim_end().into()
            }
            Scale::Time(_) => format!("{number}{word}"),
            _ => format!("{prefix}{number}{word}{suffix}"),
        }
    }

    /// By what to divide, and how that is called.
    fn step(&self, size: f64) -> (f64, &'static str) {
        const SHORT: [&str; 5] = ["", " K", " Mil", " Bil", " Tri"];
        const DECIMAL: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        let power = |base: f64, words: &[&'static str]| {
            let mut divisor = 1.0;
            let mut at = 0;
            while size / divisor >= base && at + 1 < words.len() {
                divisor *= base;
                at += 1;
            }
            (divisor, words[at])
        };
        match self.scale {
            Scale::One | Scale::Date | Scale::Bool(..) => (1.0, ""),
            Scale::Share => (0.01, ""),
            Scale::Short => power(1000.0, &SHORT),
            Scale::Decimal => power(1000.0, &DECIMAL),
            Scale::Binary => power(1024.0, &BINARY),
            Scale::Time(unit) => {
                const STEPS: [(u64, &str); 7] = [
                    (86_400 * SECOND, " d"),
                    (3600 * SECOND, " h"),
                    (60 * SECOND, " min"),
                    (SECOND, " s"),
                    (1_000_000, " ms"),
                    (1_000, " µs"),
                    (1, " ns"),
                ];
                #[expect(clippy::cast_precision_loss, reason = "a day has 2^47 nanoseconds")]
                let found = STEPS
                    .iter()
                    .map(|&(step, word)| (step as f64 / unit as f64, word))
                    .find(|(divisor, _)| size >= *divisor * (1.0 - 1e-9));
                match found {
                    Some(found) => found,
                    #[expect(clippy::cast_precision_loss, reason = "as above")]
                    None if size == 0.0 => (SECOND as f64 / unit as f64, " s"),
                    #[expect(clippy::cast_precision_loss, reason = "as above")]
                    None => (1.0 / unit as f64, " ns"),
                }
            }
        }
    }

    /// What one step of an axis up to `size` is a multiple of: bytes have round numbers of their own.
    pub(crate) fn axis_base(&self, size: f64) -> f64 {
        self.step(size.abs()).0
    }
}

fn kilo(id: &str) -> &'static str {
    match id {
        "kbytes" => " KiB",
        "deckbytes" => " kB",
        "mbytes" => " MiB",
        _ => " MB",
    }
}

/// Grafana puts nothing between a number and a suffix; a word needs a space.
fn spaced(text: &str) -> String {
    let needs = text.chars().next().is_some_and(char::is_alphanumeric);
    format!("{}{text}", if needs { " " } else { "" })
}

/// Decimals that leave three digits that count, and none that are only zeros.
fn digits(value: f64) -> usize {
    if value == 0.0 {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "between -324 and 308")]
    let before = value.abs().log10().floor() as i32;
    let most = usize::try_from(2 - before).unwrap_or(0).min(12);
    let text = format!("{value:.most$}");
    let zeros = text.bytes().rev().take_while(|&it| it == b'0').count();
    most.saturating_sub(zeros)
}

fn date(milliseconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and is checked")]
    match jiff::Timestamp::from_millisecond(milliseconds as i64) {
        Ok(at) => at.strftime("%F %T").to_string(),
        Err(_) => format!("{milliseconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn shows(unit: &str, value: f64, text: &str) {
        assert_eq!(Unit::parse(unit).show(value, None), text);
    }

    #[test]
    fn numbers_are_written_with_three_digits_that_count() {
        shows("none", 0.0, "0");
        shows("none", 12.0, "12");
        shows("none", 1.2345, "1.23");
        shows("none", 0.012_345, "0.0123");
        shows("short", 1234.0, "1.23 K");
        shows("short", 999.9, "1 K");
        shows("short", -1_500_000.0, "-1.5 Mil");
        shows("reqps", 10.04, "10 req/s");
        shows("reqps", 10.26, "10.3 req/s");
    }

    #[test]
    fn shares_are_percent() {
        shows("percentunit", 0.9987, "99.9%");
        shows("percentunit", 0.0, "0%");
        shows("percent", 12.5, "12.5%");
        assert_eq!(Unit::parse("percentunit").show(0.99912, Some(3)), "99.912%");
    }

    #[test]
    fn bytes_have_powers_of_1024_and_rates_of_1000() {
        shows("bytes", 0.0, "0 B");
        shows("bytes", 1024.0 * 1024.0 * 1.5, "1.5 MiB");
        shows("decbytes", 1500.0, "1.5 kB");
        shows("Bps", 2_000_000.0, "2 MB/s");
        shows("binBps", 2048.0, "2 KiB/s");
    }

    #[test]
    fn times_choose_their_unit() {
        shows("s", 0.0, "0 s");
        shows("s", 0.0123, "12.3 ms");
        shows("s", 0.000_002, "2 µs");
        shows("s", 90.0, "1.5 min");
        shows("s", 1e-12, "0.001 ns");
        shows("ms", 1500.0, "1.5 s");
        shows("s", 86_400.0 * 30.0, "30 d");
        shows("dateTimeAsIso", 1_700_000_000_000.0, "2023-11-14 22:13:20");
    }

    #[test]
    fn what_is_no_number_is_said() {
        shows("bytes", f64::NAN, "NaN");
        shows("s", f64::INFINITY, "+Inf");
        shows("short", f64::NEG_INFINITY, "-Inf");
        shows("short", 1e300, "1.00e288 Tri");
        shows("none", -0.0, "0");
    }

    #[test]
    fn a_unit_nobody_knows_is_written_behind() {
        shows("orders", 3.0, "3 orders");
        shows("suffix:x", 14.4, "14.4 x");
        shows("prefix:#", 3.0, "#3");
        shows("currencyUSD", 12.5, "$12.5");
    }

    #[test]
    fn ticks_of_an_axis_are_alike() {
        let unit = Unit::parse("s");
        assert_eq!(unit.show_tick(0.05, 0.05), "50 ms");
        assert_eq!(unit.show_tick(0.1, 0.05), "100 ms");
        assert_eq!(unit.show_tick(0.0, 0.05), "0 s");
        let unit = Unit::parse("reqps");
        assert_eq!(unit.show_tick(2.0, 0.5), "2.0 req/s");
        assert_eq!(unit.show_tick(2.5, 0.5), "2.5 req/s");
    }
}
