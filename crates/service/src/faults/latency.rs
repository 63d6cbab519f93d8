//! Waiting times of a distribution.

use std::time::Duration;

use rand_distr::{Distribution as _, LogNormal, Normal, Pareto, Uniform};

use super::Settings;

/// One waiting time, as the settings of the latency fault describe them.
pub(super) fn sample(settings: &Settings) -> Duration {
    let delay = settings.time("delay").as_secs_f64();
    let spread = settings.time("spread").as_secs_f64();
    let shape = settings.number("shape");
    let rng = &mut rand::rng();
    // Where a parameter admits no distribution, a spread of 0 say, the delay itself is it.
    let seconds = match settings.text("distribution") {
        Some("uniform") => Uniform::new_inclusive(delay - spread, delay + spread)
            .map(|d| d.sample(rng))
            .ok(),
        Some("normal") => Normal::new(delay, spread).map(|d| d.sample(rng)).ok(),
        // The median of a log-normal distribution is e to the mean of its logarithm.
        Some("lognormal") => LogNormal::new(delay.ln(), shape)
            .map(|d| d.sample(rng))
            .ok(),
        Some("pareto") => Pareto::new(delay, shape).map(|d| d.sample(rng)).ok(),
        _ => None,
    };
    let longest = settings.time("longest");
    let seconds = seconds.unwrap_or(delay).clamp(0.0, longest.as_secs_f64());
    Duration::from_secs_f64(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Fault;

    const N: usize = 20_000;

    /// Sorted samples, in seconds.
    fn samples(given: &[(&str, &str)]) -> Vec<f64> {
        let settings = Settings::read(Fault::Latency, given.iter().copied()).unwrap();
        let mut times: Vec<f64> = (0..N).map(|_| sample(&settings).as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        times
    }

    fn mean(times: &[f64]) -> f64 {
        times.iter().sum::<f64>() / times.len() as f64
    }

    #[track_caller]
    fn assert_near(value: f64, expected: f64, tolerance: f64) {
        assert!(
            (value - expected).abs() < tolerance,
            "{value} is not {expected}"
        );
    }

    #[test]
    fn each_distribution_has_the_figures_that_the_table_promises() {
        // Tolerances are ten standard errors and more.
        let fixed = samples(&[("delay", "300ms")]);
        assert_eq!((fixed[0], fixed[N - 1]), (0.3, 0.3));

        let uniform = samples(&[
            ("distribution", "uniform"),
            ("delay", "300ms"),
            ("spread", "100ms"),
        ]);
        assert!(uniform[0] >= 0.2 && uniform[N - 1] <= 0.4);
        assert_near(mean(&uniform), 0.3, 0.005);
        assert_near(uniform[N / 10], 0.22, 0.01);

        let normal = samples(&[
            ("distribution", "normal"),
            ("delay", "300ms"),
            ("spread", "50ms"),
        ]);
        assert_near(mean(&normal), 0.3, 0.005);
        // One standard deviation above the mean is the 84.13th percentile.
        assert_near(normal[N * 8413 / 10_000], 0.35, 0.01);

        let lognormal = samples(&[
            ("distribution", "lognormal"),
            ("delay", "100ms"),
            ("shape", "1"),
        ]);
        assert_near(lognormal[N / 2], 0.1, 0.02);
        assert_near(
            lognormal[N * 8413 / 10_000],
            0.1 * std::f64::consts::E,
            0.05,
        );

        let pareto = samples(&[
            ("distribution", "pareto"),
            ("delay", "100ms"),
            ("shape", "2"),
        ]);
        assert!(pareto[0] >= 0.1);
        // The survival function is (least/x)^alpha: a quarter waits over twice the least.
        assert_near(pareto[N * 3 / 4], 0.2, 0.02);
    }

    #[test]
    fn no_time_is_negative_or_over_the_longest() {
        for distribution in ["fixed", "uniform", "normal", "lognormal", "pareto"] {
            for (delay, spread) in [("0", "0"), ("0", "30s"), ("100ms", "0"), ("30s", "30s")] {
                let times = samples(&[
                    ("distribution", distribution),
                    ("delay", delay),
                    ("spread", spread),
                    ("shape", "0.1"),
                    ("longest", "5s"),
                ]);
                assert!(
                    times[0] >= 0.0 && times[N - 1] <= 5.0,
                    "{distribution} {delay} {spread}"
                );
            }
        }
    }
}
