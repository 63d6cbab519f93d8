//! How a pace is written on the command line.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;

use crate::curve::{Curve, Phases, Piece, Pieces};
use crate::pacing::{Arrivals, LONGEST, Rate, Schedule};

/// The ways to write one, for `--help` and for errors.
pub const FORMS: &str = "\
  50                          50 a second
  ramp:10..200/1m             from 10 a second evenly to 200 within a minute
  steps:10/30s,10..200/1m,0/5s  one after the other; two rates make a ramp, 0 is a pause
  spike:20..500@30s/5s        20 a second, and 500 a second for 5 s after 30 s
  sine:10..100/1m             in waves of a minute, from the lower rate
  replay:FILE                 recorded: lines of SECONDS,RATE, each rate up to the next line's time
  poisson:PACE                any of these, with random arrivals instead of even ones (see --seed)";

/// The rate over time, and how starts are spread under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    curve: Curve,
    random: bool,
    /// When it ends by itself, if it does.
    end: Option<Duration>,
    text: String,
}

/// Why a text is no [`Pace`].
#[derive(Debug, thiserror::Error)]
pub enum PaceError {
    /// It has not the form of one.
    #[error("{0}")]
    Form(String),
    /// The recording cannot be read.
    #[error("cannot read {file}: {source}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A line of the recording is not as it should be.
    #[error("{file}, line {line}: {why}")]
    Recording {
        /// The file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

impl Pace {
    /// An even, constant rate.
    pub fn constant(rate: Rate) -> Self {
        Self {
            curve: Curve::Constant(rate),
            random: false,
            end: None,
            text: rate.to_string(),
        }
    }

    /// The pace that `text` describes, in one of the [`FORMS`]; `read` gives the content of a recording.
    ///
    /// # Errors
    /// When it does not, with what to write instead.
    pub fn parse(
        text: &str,
        read: impl FnOnce(&Path) -> io::Result<String>,
    ) -> Result<Self, PaceError> {
        let text = text.trim();
        let (random, shape) = match text.strip_prefix("poisson:") {
            Some(shape) => (true, shape),
            None => (false, text),
        };
        let curve = match shape.split_once(':') {
            None => Curve::Constant(rate(shape)?),
            Some(("ramp", rest)) => Curve::Pieces(Pieces::new([ramp(rest)?])),
            Some(("steps", rest)) => Curve::Pieces(Pieces::new(
                rest.split(',').map(step).collect::<Result<Vec<_>, _>>()?,
            )),
            Some(("spike", rest)) => Curve::Pieces(spike(rest)?),
            Some(("sine", rest)) => sine(rest)?,
            Some(("replay", file)) => {
                let content = read(Path::new(file)).map_err(|source| PaceError::Unreadable {
                    file: file.to_owned(),
                    source,
                })?;
                Curve::Pieces(recording(file, &content)?)
            }
            Some((unknown, _)) => {
                return Err(PaceError::Form(format!(
                    "there is no pace called {unknown:?}; there are\n{FORMS}"
                )));
            }
        };
        if matches!(&curve, Curve::Pieces(pieces) if pieces.is_nothing()) {
            return Err(PaceError::Form(
                "the rate is 0 all the time: give one that is not".to_owned(),
            ));
        }
        let end = match &curve {
            Curve::Pieces(pieces) => Some(Duration::from_nanos_u128(pieces.end())),
            Curve::Constant(_) | Curve::Sine { .. } | Curve::Phases(_) => None,
        };
        if end.is_some_and(|end| end > LONGEST) {
            return Err(PaceError::Form(
                "that takes longer than a year (8760h)".to_owned(),
            ));
        }
        Ok(Self {
            curve,
            random,
            // A spike goes on at its base.
            end: end.filter(|_| !shape.starts_with("spike:")),
            text: text.to_owned(),
        })
    }

    /// One pace after the other, each for as long as it says, or as it takes by itself.
    ///
    /// # Errors
    /// With the number of the phase that is wrong.
    pub fn phases<'a>(
        phases: impl IntoIterator<Item = (&'a Self, Option<Duration>)>,
        random: bool,
    ) -> Result<Self, (usize, String)> {
        let mut curves = Vec::new();
        let mut texts = Vec::new();
        for (n, (pace, length)) in phases.into_iter().enumerate() {
            let Some(length) = length.or(pace.end) else {
                let why = "it says not how long it lasts; give for example `for: 5m`";
                return Err((n, why.to_owned()));
            };
            curves.push((pace.curve.clone(), length.as_nanos()));
            texts.push(format!("{pace} for {length:?}"));
        }
        let last = curves.len().saturating_sub(1);
        let all = Phases::new(curves);
        if all.is_nothing() {
            return Err((
                0,
                "the rate is 0 in all phases: give one that is not".to_owned(),
            ));
        }
        let end = Duration::from_nanos_u128(all.end());
        if end > LONGEST {
            return Err((
                last,
                "all together takes longer than a year (8760h)".to_owned(),
            ));
        }
        Ok(Self {
            curve: Curve::Phases(all),
            random,
            end: Some(end),
            text: texts.join(", "),
        })
    }

    /// Whether arrivals are random.
    pub fn is_random(&self) -> bool {
        self.random
    }

    /// The starts within `length`; without one, ramps, steps and recordings end by themselves. `seed` decides random
    /// arrivals.
    pub fn schedule(&self, length: Option<Duration>, seed: u64) -> Schedule {
        let arrivals = if self.random {
            Arrivals::Poisson { seed }
        } else {
            Arrivals::Even
        };
        Schedule::new(self.curve.clone(), arrivals, length.or(self.end))
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// More than nothing and at most [`LONGEST`].
///
/// # Errors
/// Otherwise, with what to write instead.
pub fn length(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text
        .trim()
        .parse()
        .map_err(|_| "not a duration; give for example 500ms, 30s, 2m or 1h30m".to_owned())?;
    match Duration::try_from(parsed) {
        Ok(length) if !length.is_zero() && length <= LONGEST => Ok(length),
        _ => Err("out of range; give more than nothing and at most a year (8760h)".to_owned()),
    }
}

fn form<T>(text: &str, example: &str) -> Result<T, PaceError> {
    Err(PaceError::Form(format!(
        "{text:?} is not of the form {example}"
    )))
}

fn rate(text: &str) -> Result<Rate, PaceError> {
    text.parse()
        .map_err(|error| PaceError::Form(format!("{text:?} is {error}")))
}

/// A rate that may be 0, in millionths.
fn rate_or_none(text: &str) -> Result<u64, PaceError> {
    match text.trim().parse::<f64>() {
        Ok(0.0) => Ok(0),
        _ => rate(text).map(Rate::millionths),
    }
}

fn nanos(text: &str) -> Result<u64, PaceError> {
    match length(text) {
        Ok(length) => Ok(u64::try_from(length.as_nanos()).expect("a year of nanoseconds fits")),
        Err(error) => Err(PaceError::Form(format!("{text:?} is {error}"))),
    }
}

fn two_rates(text: &str, example: &str) -> Result<(u64, u64), PaceError> {
    let Some((from, to)) = text.split_once("..") else {
        return form(text, example);
    };
    Ok((rate_or_none(from)?, rate_or_none(to)?))
}

fn ramp(text: &str) -> Result<Piece, PaceError> {
    const EXAMPLE: &str = "FROM..TO/DURATION, for example 10..200/1m";
    let Some((rates, length)) = text.split_once('/') else {
        return form(text, EXAMPLE);
    };
    let (from, to) = two_rates(rates, EXAMPLE)?;
    Ok(Piece {
        from,
        to,
        length: nanos(length)?,
    })
}

fn step(text: &str) -> Result<Piece, PaceError> {
    if text.contains("..") {
        return ramp(text);
    }
    let Some((rate, length)) = text.split_once('/') else {
        return form(
            text,
            "RATE/DURATION or FROM..TO/DURATION, for example 50/30s,50..200/1m",
        );
    };
    let rate = rate_or_none(rate)?;
    Ok(Piece {
        from: rate,
        to: rate,
        length: nanos(length)?,
    })
}

fn spike(text: &str) -> Result<Pieces, PaceError> {
    const EXAMPLE: &str = "BASE..PEAK@AFTER/DURATION, for example 20..500@30s/5s";
    let Some((rates, (after, length))) = text
        .split_once('@')
        .and_then(|(rates, times)| Some((rates, times.split_once('/')?)))
    else {
        return form(text, EXAMPLE);
    };
    let (base, peak) = two_rates(rates, EXAMPLE)?;
    let even = |rate, length| Piece {
        from: rate,
        to: rate,
        length,
    };
    // The last piece is there for its rate, which is held.
    Ok(Pieces::new([
        even(base, nanos(after)?),
        even(peak, nanos(length)?),
        even(base, 1),
    ]))
}

fn sine(text: &str) -> Result<Curve, PaceError> {
    const EXAMPLE: &str = "LOW..HIGH/PERIOD, for example 10..100/1m";
    let Some((rates, period)) = text.split_once('/') else {
        return form(text, EXAMPLE);
    };
    let (low, high) = two_rates(rates, EXAMPLE)?;
    if low > high || high == 0 {
        return form(text, EXAMPLE);
    }
    Ok(Curve::Sine {
        low,
        high,
        period: nanos(period)?,
    })
}

/// Lines of `SECONDS,RATE`: from that time on, that rate. The first time is the begin, so Unix times do as well; the
/// last line's time is the end, and its rate is not used. Empty lines, lines with `#` and one line of headings are
/// passed over.
fn recording(file: &str, content: &str) -> Result<Pieces, PaceError> {
    let wrong = |line: usize, why: String| PaceError::Recording {
        file: file.to_owned(),
        line: line + 1,
        why,
    };
    let mut points: Vec<(Duration, u64)> = Vec::new();
    let mut headings = true;
    for (number, line) in content.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((time, rate)) = line.split_once(',') else {
            return Err(wrong(
                number,
                format!("{line:?} is not of the form SECONDS,RATE, for example 60,12.5"),
            ));
        };
        let seconds = time.trim().parse::<f64>().ok();
        let first = std::mem::replace(&mut headings, false);
        if first && seconds.is_none() {
            continue;
        }
        let time = seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .ok_or_else(|| wrong(number, format!("{time:?} is no time in seconds")))?;
        let rate = rate_or_none(rate).map_err(|error| wrong(number, error.to_string()))?;
        if points.last().is_some_and(|(before, _)| *before >= time) {
            return Err(wrong(
                number,
                "its time is not later than that of the line before".to_owned(),
            ));
        }
        if points
            .first()
            .is_some_and(|(begin, _)| time - *begin > LONGEST)
        {
            return Err(wrong(
                number,
                "that is more than a year after the begin".to_owned(),
            ));
        }
        points.push((time, rate));
    }
    if points.len() < 2 {
        return Err(wrong(
            content.lines().count().saturating_sub(1),
            "a recording has two lines at least: the last one says when it ends".to_owned(),
        ));
    }
    Ok(Pieces::new(points.windows(2).map(|pair| Piece {
        from: pair[0].1,
        to: pair[0].1,
        length:
            u64::try_from((pair[1].0 - pair[0].0).as_nanos()).expect("a year of nanoseconds fits"),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Pace, String> {
        Pace::parse(text, |path| {
            Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no {}", path.display()),
            ))
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_no_pace_is_told_with_what_to_write() {
        for (text, said) in [
            ("", "not a number"),
            ("fast", "not a number"),
            ("0", "between 0.000001 and 1000000"),
            ("-5", "between 0.000001 and 1000000"),
            ("poisson:", "not a number"),
            ("poisson:poisson:5", "no pace called"),
            ("stairs:1/1s", "spike:20..500@30s/5s"),
            ("ramp:10..20", "10..200/1m"),
            ("ramp:10/20s", "10..200/1m"),
            ("ramp:10..many/20s", "\"many\" is not a number"),
            ("ramp:10..20/soon", "for example 500ms"),
            ("ramp:0..0/1m", "0 all the time"),
            ("steps:", "RATE/DURATION"),
            ("steps:10/1s,", "RATE/DURATION"),
            ("steps:10/0s", "more than nothing"),
            ("steps:0/1s", "0 all the time"),
            ("steps:1/8760h,1/1s", "longer than a year"),
            ("spike:1..5@10s", "20..500@30s/5s"),
            ("spike:5@10s/1s", "20..500@30s/5s"),
            ("sine:10..1/1m", "LOW..HIGH/PERIOD"),
            ("sine:0..0/1m", "LOW..HIGH/PERIOD"),
            ("replay:gone.csv", "cannot read gone.csv: no gone.csv"),
        ] {
            let message = parse(text).expect_err(text);
            assert!(message.contains(said), "{text:?}: {message}");
        }
    }

    #[test]
    fn which_paces_end_by_themselves() {
        for (text, seconds) in [
            ("5", None),
            ("poisson:5", None),
            ("sine:1..5/1m", None),
            ("spike:1..5@1m/1s", None),
            ("ramp:1..5/1m", Some(60)),
            ("poisson:ramp:1..5/1m", Some(60)),
            ("steps:1/1m, 2..3/30s", Some(90)),
        ] {
            let pace = parse(text).expect(text);
            assert_eq!(pace.to_string(), text);
            let length = |asked| pace.schedule(asked, 1).length();
            assert_eq!(length(None), seconds.map(Duration::from_secs), "{text}");
            let asked = Some(Duration::from_secs(7));
            assert_eq!(length(asked), asked, "{text}");
        }
    }

    #[test]
    fn a_recording_is_replayed() {
        let content = "time,rate\n# of last night\n1700000000,2\n\n1700000001,0\n1700000003.5,4\n1700000004, 9\n";
        let pace = Pace::parse("replay:night.csv", |path| {
            assert_eq!(path, Path::new("night.csv"));
            Ok(content.to_owned())
        })
        .expect("a recording");
        let schedule = pace.schedule(None, 1);
        let due: Vec<_> = schedule
            .starts()
            .map(|start| start.due.as_millis())
            .collect();
        assert_eq!(due, [0, 500, 3500, 3750]);
        assert_eq!(schedule.length(), Some(Duration::from_secs(4)));
    }

    #[test]
    fn what_is_wrong_with_a_recording_is_told_with_its_line() {
        for (content, said) in [
            ("", "line 1: a recording has two lines"),
            ("0,5", "line 1: a recording has two lines"),
            ("0,5\n1", "line 2: \"1\" is not of the form SECONDS,RATE"),
            ("0,5\nx,5", "line 2: \"x\" is no time"),
            ("0,5\n-1,5", "line 2: \"-1\" is no time"),
            ("0,5\n1,-5", "line 2: \"-5\" is out of range"),
            ("0,5\n0,5", "line 2: its time is not later"),
            ("0,5\n1,5\n31536001,5", "line 3: that is more than a year"),
        ] {
            let message = Pace::parse("replay:r.csv", |_| Ok(content.to_owned()))
                .expect_err(content)
                .to_string();
            assert!(message.contains(said), "{content:?}: {message}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("30s", Some(Duration::from_secs(30))),
            ("2m", Some(Duration::from_mins(2))),
            ("1h30m", Some(Duration::from_mins(90))),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("8760h", Some(LONGEST)),
            ("8761h", None),
            ("0s", None),
            ("-1s", None),
            ("30", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(length(text).ok(), expected, "{text:?}");
        }
    }
}
