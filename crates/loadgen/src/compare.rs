//! Whether one result is slower than another, and how sure that is.
//!
//! Neighbouring requests share their fate (a stall holds up all that come meanwhile), so single requests are no
//! independent samples, and an interval made from them would be far too narrow. What is drawn again and again here
//! (the bootstrap, by blocks) are the intervals of the timelines, each with all of its requests.

use std::collections::BTreeSet;

use comfy_table::{CellAlignment, Table, presets};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

use crate::summary::Summary;
use crate::timeline::Timeline;

/// How often intervals are drawn anew: enough for the tails of a 99 % interval.
pub const DRAWS: usize = 2000;
/// Fewer intervals say nothing about how much they differ.
const FEWEST_INTERVALS: usize = 10;
/// As many requests are to be beyond a percentile, or it hangs on one or two of them.
const FEWEST_BEYOND: f64 = 10.0;

/// What to compare, and how sure to be.
#[derive(Debug, Clone)]
pub struct Question {
    /// Percentiles by name and share.
    pub percentiles: Vec<(String, f64)>,
    /// How often all verdicts together are to be right, 0 to 1.
    pub confidence: f64,
    /// As large a difference does not matter: 0.05 for five hundredths.
    pub margin: f64,
    /// How often intervals are drawn anew, such as [`DRAWS`].
    pub draws: usize,
    /// Decides the draws.
    pub seed: u64,
}

/// Why two results cannot be compared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Incomparable {
    /// Too short.
    #[error(
        "{which} has {intervals} intervals with answers, and it takes {FEWEST_INTERVALS} to say how sure a difference is: run for 2 s or more"
    )]
    TooShort {
        /// The file.
        which: String,
        /// How many it has.
        intervals: usize,
    },
    /// Too few requests.
    #[error(
        "{percentile} takes at least {needed} requests to compare, and {which} has {requests}: run longer, or give a lower --percentile"
    )]
    TooFew {
        /// The percentile.
        percentile: String,
        /// The file.
        which: String,
        /// As many would do.
        needed: u64,
        /// How many there are.
        requests: u64,
    },
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// How often all verdicts together are right.
    pub confidence: f64,
    /// As large a difference was not to matter.
    pub margin: f64,
    /// One for each percentile.
    pub latency: Vec<Ratio>,
    /// Failed and timed out, of those sent.
    pub error_rate: Difference,
    /// Whether B is worse in one of them.
    pub worse: bool,
}

/// How many times as long B takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    /// Such as `p99`.
    pub percentile: String,
    /// Of A, in milliseconds.
    pub a_ms: f64,
    /// Of B, in milliseconds.
    pub b_ms: f64,
    /// B over A.
    pub ratio: f64,
    /// Where the ratio lies with the confidence asked for.
    pub interval: [f64; 2],
    /// What that means.
    pub verdict: Verdict,
}

/// How much more of B fails.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Of A, 0 to 1.
    pub a: f64,
    /// Of B, 0 to 1.
    pub b: f64,
    /// Where the difference lies with the confidence asked for.
    pub interval: [f64; 2],
    /// What that means.
    pub verdict: Verdict,
}

/// What an interval says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// B is, by more than the margin.
    Worse,
    /// B is, by more than the margin.
    Better,
    /// It may be either: no difference is shown, which is not to say that there is none.
    Open,
}

/// Compares `b` with `a`, which are called by their names in errors.
///
/// # Errors
/// When there is not enough of one of them to tell.
pub fn compare(
    (a_name, a): (&str, &Summary),
    (b_name, b): (&str, &Summary),
    question: &Question,
) -> Result<Comparison, Incomparable> {
    let samples = [(a_name, a), (b_name, b)].map(|(name, summary)| {
        let sample = Sample::new(&summary.timeline);
        sample.check(name, question).map(|()| sample)
    });
    let [a_sample, b_sample] = samples;
    let (a_sample, b_sample) = (a_sample?, b_sample?);

    let shares: Vec<_> = question
        .percentiles
        .iter()
        .map(|(_, share)| *share)
        .collect();
    let mut rng = StdRng::seed_from_u64(question.seed);
    let mut ratios = vec![Vec::with_capacity(question.draws); shares.len()];
    let mut differences = Vec::with_capacity(question.draws);
    for _ in 0..question.draws {
        let (a, b) = (
            a_sample.draw(&shares, &mut rng),
            b_sample.draw(&shares, &mut rng),
        );
        for ((all, b), a) in ratios.iter_mut().zip(&b.quantiles).zip(&a.quantiles) {
            all.push(b / a);
        }
        differences.push(b.error_rate - a.error_rate);
    }

    // Each verdict gets its part of what may go wrong, so that all of them together are as sure as was asked (Bonferroni).
    let doubt = (1.0 - question.confidence) / (shares.len() + 1) as f64;
    let latency: Vec<_> = question
        .percentiles
        .iter()
        .zip(&mut ratios)
        .map(|((name, share), draws)| {
            let at = |summary: &Summary| {
                summary
                    .histograms
                    .latency
                    .quantile_ms(*share)
                    .unwrap_or(0.0)
            };
            let (a_ms, b_ms) = (at(a), at(b));
            let interval = middle(draws, doubt);
            Ratio {
                percentile: name.clone(),
                a_ms,
                b_ms,
                ratio: b_ms / a_ms,
                interval,
                verdict: verdict(
                    interval,
                    1.0 / (1.0 + question.margin),
                    1.0 + question.margin,
                ),
            }
        })
        .collect();
    let interval = middle(&mut differences, doubt);
    let error_rate = Difference {
        a: a_sample.error_rate(),
        b: b_sample.error_rate(),
        interval,
        verdict: verdict(interval, 0.0, 0.0),
    };
    let worse = error_rate.verdict == Verdict::Worse
        || latency.iter().any(|ratio| ratio.verdict == Verdict::Worse);
    Ok(Comparison {
        confidence: question.confidence,
        margin: question.margin,
        latency,
        error_rate,
        worse,
    })
}

fn verdict([low, high]: [f64; 2], better_below: f64, worse_above: f64) -> Verdict {
    if low > worse_above {
        Verdict::Worse
    } else if high < better_below {
        Verdict::Better
    } else {
        Verdict::Open
    }
}

/// The interval that leaves half of `doubt` on either side.
fn middle(draws: &mut [f64], doubt: f64) -> [f64; 2] {
    draws.sort_by(f64::total_cmp);
    let last = (draws.len() - 1) as f64;
    let low = (last * doubt / 2.0).floor();
    [draws[low as usize], draws[(last - low) as usize]]
}

/// The intervals of a timeline, made for being added up often.
struct Sample {
    /// Each time that occurs: lowest and highest nanosecond, in order.
    cells: Vec<(u64, u64)>,
    blocks: Vec<Block>,
}

struct Block {
    sent: u64,
    errors: u64,
    /// Indices of cells, and how many requests each has.
    counts: Vec<(usize, u64)>,
}

struct Draw {
    quantiles: Vec<f64>,
    error_rate: f64,
}

impl Sample {
    fn new(timeline: &Timeline) -> Self {
        let intervals = timeline
            .intervals
            .iter()
            .filter(|interval| interval.sent > 0);
        let cells: BTreeSet<_> = intervals
            .clone()
            .flat_map(|interval| interval.latency.cells().map(|(low, high, _)| (low, high)))
            .collect();
        let cells: Vec<_> = cells.into_iter().collect();
        let blocks = intervals
            .map(|interval| Block {
                sent: interval.sent,
                errors: interval.errors,
                counts: interval
                    .latency
                    .cells()
                    .map(|(low, high, count)| {
                        (cells.partition_point(|cell| *cell < (low, high)), count)
                    })
                    .collect(),
            })
            .collect();
        Self { cells, blocks }
    }

    fn check(&self, name: &str, question: &Question) -> Result<(), Incomparable> {
        let timed = |block: &Block| block.counts.iter().map(|(_, count)| count).sum::<u64>();
        let intervals = self.blocks.iter().filter(|block| timed(block) > 0).count();
        if intervals < FEWEST_INTERVALS {
            return Err(Incomparable::TooShort {
                which: name.to_owned(),
                intervals,
            });
        }
        let requests: u64 = self.blocks.iter().map(timed).sum();
        for (percentile, share) in &question.percentiles {
            // A tiny bit less, or 10 / (1 - 0.99) would be 1000.0000000000009 and so 1001.
            let needed =
                (FEWEST_BEYOND / (1.0 - share).max(f64::MIN_POSITIVE) - 1e-6).ceil() as u64;
            if requests < needed {
                return Err(Incomparable::TooFew {
                    percentile: percentile.clone(),
                    which: name.to_owned(),
                    needed,
                    requests,
                });
            }
        }
        Ok(())
    }

    fn error_rate(&self) -> f64 {
        let (sent, errors) = self.blocks.iter().fold((0, 0), |(sent, errors), block| {
            (sent + block.sent, errors + block.errors)
        });
        errors as f64 / sent as f64
    }

    fn draw(&self, shares: &[f64], rng: &mut StdRng) -> Draw {
        let mut counts = vec![0; self.cells.len()];
        let (mut sent, mut errors, mut timed) = (0, 0, 0);
        // A block without answers (all of its connections failed) has no say in percentiles; draw until there are some.
        while timed == 0 {
            for _ in 0..self.blocks.len() {
                let block = &self.blocks[rng.random_range(0..self.blocks.len())];
                sent += block.sent;
                errors += block.errors;
                for (cell, count) in &block.counts {
                    counts[*cell] += count;
                    timed += count;
                }
            }
        }
        Draw {
            quantiles: shares
                .iter()
                .map(|share| self.quantile(&counts, timed, *share))
                .collect(),
            error_rate: errors as f64 / sent as f64,
        }
    }

    /// In nanoseconds; evenly spread within a cell, as cells are a hundredth wide and differences may be smaller.
    fn quantile(&self, counts: &[u64], total: u64, share: f64) -> f64 {
        let wanted = share * total as f64;
        let mut below = 0.0;
        for ((low, high), count) in self.cells.iter().zip(counts) {
            let count = *count as f64;
            if count > 0.0 && below + count >= wanted {
                let part = ((wanted - below) / count).clamp(0.0, 1.0);
                return *low as f64 + (high - low + 1) as f64 * part;
            }
            below += count;
        }
        self.cells.last().map_or(0.0, |(_, high)| *high as f64)
    }
}

/// The answer for people; ends in a line break.
pub fn text(comparison: &Comparison) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let sure = format!("{:.4}", comparison.confidence * 100.0);
    let sure = sure.trim_end_matches('0').trim_end_matches('.');
    table.set_header(vec![
        "",
        "A",
        "B",
        "B / A",
        &format!("{sure} % sure"),
        "B is",
    ]);
    for row in &comparison.latency {
        table.add_row(vec![
            format!("{} ms", row.percentile),
            format!("{:.3}", row.a_ms),
            format!("{:.3}", row.b_ms),
            format!("{:.3}", row.ratio),
            format!("{:.3} to {:.3}", row.interval[0], row.interval[1]),
            match row.verdict {
                Verdict::Worse => "slower",
                Verdict::Better => "faster",
                Verdict::Open => "no different, as far as this shows",
            }
            .to_owned(),
        ]);
    }
    let errors = &comparison.error_rate;
    let percent = |share: f64| format!("{:.3}", share * 100.0);
    table.add_row(vec![
        "errors %".to_owned(),
        percent(errors.a),
        percent(errors.b),
        String::new(),
        format!(
            "{} to {} more",
            percent(errors.interval[0]),
            percent(errors.interval[1])
        ),
        match errors.verdict {
            Verdict::Worse => "failing more",
            Verdict::Better => "failing less",
            Verdict::Open => "no different, as far as this shows",
        }
        .to_owned(),
    ]);
    for column in 1..=3 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{}\n", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::outcome::{End, Outcome};
    use crate::summary::{Paced, Recorder};

    /// A run of `seconds` at 200 requests a second whose latencies are exponential around 10 ms times `slower`. All
    /// requests of a fifth of a second share a factor of their own, as those around a garbage collection do.
    fn run(seed: u64, seconds: u64, slower: f64, failing: f64) -> Summary {
        let mut rng = StdRng::seed_from_u64(seed);
        let begin = Instant::now();
        let mut recorder = Recorder::new(begin, &["GET /".to_owned()], &[]);
        let mut weather = 1.0;
        for n in 0..seconds * 200 {
            if n % 40 == 0 {
                weather = rng.random_range(0.7..1.3);
            }
            let intended = begin + Duration::from_millis(5 * n);
            let seconds = -(1.0 - rng.random::<f64>()).ln() * 0.010 * slower * weather;
            let status = if rng.random_bool(failing) { 500 } else { 200 };
            recorder.record(Outcome {
                intended,
                started: intended,
                ended: intended + Duration::from_secs_f64(seconds),
                end: End::answered(status),
                trace: None,
                route: 0,
                arrival: true,
            });
        }
        let paced = Paced {
            planned: seconds * 200,
            dropped: 0,
            span: Duration::from_secs(seconds),
            wanted_rate: 200.0,
        };
        recorder.finish(paced, false)
    }

    fn question(percentiles: &[(&str, f64)]) -> Question {
        Question {
            percentiles: percentiles
                .iter()
                .map(|(name, share)| ((*name).to_owned(), *share))
                .collect(),
            confidence: 0.95,
            margin: 0.0,
            // Few, for the sake of the tests' time.
            draws: 200,
            seed: 1,
        }
    }

    fn asked(a: &Summary, b: &Summary, question: &Question) -> Result<Comparison, Incomparable> {
        compare(("a.json", a), ("b.json", b), question)
    }

    #[test]
    fn the_same_server_is_seldom_called_slower_and_a_slower_one_always() {
        let question = question(&[("p50", 0.5), ("p90", 0.9)]);
        let mut alarms = 0;
        for seed in 0..12 {
            let (a, b) = (run(seed, 20, 1.0, 0.01), run(1000 + seed, 20, 1.0, 0.01));
            let same = asked(&a, &b, &question).expect("enough to compare");
            alarms += u32::from(same.worse);
            let c = run(2000 + seed, 20, 1.3, 0.01);
            let slower = asked(&a, &c, &question).expect("enough to compare");
            assert!(slower.worse, "seed {seed}: {slower:?}");
            assert!(
                slower
                    .latency
                    .iter()
                    .all(|row| row.interval[0] < row.ratio && row.ratio < row.interval[1])
            );
            let faster = asked(&c, &a, &question).expect("enough to compare");
            assert!(
                !faster.worse && faster.latency[0].verdict == Verdict::Better,
                "{faster:?}"
            );
        }
        // One-sided, half of 5 % is expected.
        assert!(alarms <= 1, "{alarms} false alarms of 12");
    }

    #[test]
    fn failing_more_is_worse() {
        let (a, b) = (run(1, 10, 1.0, 0.01), run(2, 10, 1.0, 0.05));
        let answer = asked(&a, &b, &question(&[("p50", 0.5)])).expect("enough to compare");
        assert_eq!(answer.error_rate.verdict, Verdict::Worse, "{answer:?}");
        assert!(answer.worse && text(&answer).contains("failing more"));
        let none =
            asked(&run(1, 5, 1.0, 0.0), &run(2, 5, 1.0, 0.0), &question(&[])).expect("enough");
        assert_eq!(none.error_rate.interval, [0.0, 0.0]);
        assert!(!none.worse);
    }

    #[test]
    fn a_margin_forgives() {
        let (a, b) = (run(1, 20, 1.0, 0.0), run(2, 20, 1.3, 0.0));
        let mut question = question(&[("p50", 0.5)]);
        question.margin = 0.5;
        let answer = asked(&a, &b, &question).expect("enough to compare");
        assert!(!answer.worse, "{answer:?}");
        assert!(text(&answer).contains("no different"));
    }

    #[test]
    fn the_same_question_has_the_same_answer() {
        let (a, b) = (run(1, 5, 1.0, 0.0), run(2, 5, 1.0, 0.0));
        let question = question(&[("p90", 0.9)]);
        assert_eq!(asked(&a, &b, &question), asked(&a, &b, &question));
    }

    #[test]
    fn too_little_is_said_to_be_so() {
        let (short, long) = (run(1, 1, 1.0, 0.0), run(2, 6, 1.0, 0.0));
        let message = |percentile, share, a, b| {
            asked(a, b, &question(&[(percentile, share)]))
                .expect_err("not enough")
                .to_string()
        };
        assert!(
            message("p99", 0.99, &long, &short)
                .contains("at least 1000 requests to compare, and b.json has 200")
        );
        assert!(message("p99.9", 0.999, &long, &long).contains("at least 10000 requests"));
        assert!(message("p100", 1.0, &long, &long).contains("a.json has 1200"));
        let mut half = run(1, 1, 1.0, 0.0);
        half.timeline.intervals.truncate(9);
        assert!(message("p50", 0.5, &half, &long).contains("a.json has 9 intervals"));
    }
}
