//! The rate that a run wants at each moment, and the way back: when the area under it reaches a value.
//!
//! Areas are kept in integers, in halves of a millionth of a request per second times a nanosecond: a piece that
//! rises evenly covers a whole number of these ([`START`] of them are one start), so that pieces add up
//! without an error however long the run is.

use std::f64::consts::TAU;

use crate::pacing::Rate;

/// The area of one start.
pub const START: u128 = 2 * 1_000_000_000 * 1_000_000;

/// A rate over time, in millionths of a start per second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Curve {
    /// The same rate all the time.
    Constant(Rate),
    /// One piece after the other; the rate of the last one's end is held from there on.
    Pieces(Pieces),
    /// Up and down between two rates, from the lower one.
    Sine {
        /// The lowest rate, at the begin; may be zero.
        low: u64,
        /// The highest rate, after half a period; not zero.
        high: u64,
        /// The length of a wave in nanoseconds; not zero.
        period: u64,
    },
    /// One curve after the other; the rate of the last one's end is held from there on.
    Phases(Phases),
}

/// Curves that follow each other, each for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phases {
    phases: Vec<Phase>,
    /// Where the last one ends, in nanoseconds.
    end: u128,
    /// The area up to there.
    area: u128,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Phase {
    curve: Curve,
    begin: u128,
    /// In nanoseconds.
    length: u128,
    /// The area before it.
    before: u128,
}

impl Phases {
    /// `curves` in this order, each for a time in nanoseconds.
    pub fn new(curves: impl IntoIterator<Item = (Curve, u128)>) -> Self {
        let mut all = Self {
            phases: Vec::new(),
            end: 0,
            area: 0,
        };
        for (curve, length) in curves {
            let area = curve.area(length);
            all.phases.push(Phase {
                curve,
                begin: all.end,
                length,
                before: all.area,
            });
            all.end += length;
            all.area += area;
        }
        all
    }

    /// Where the last one ends, in nanoseconds.
    pub fn end(&self) -> u128 {
        self.end
    }

    /// Whether the rate is zero all the time.
    pub fn is_nothing(&self) -> bool {
        self.area == 0
    }

    fn tail(&self) -> f64 {
        self.phases
            .last()
            .map_or(0.0, |last| last.curve.rate_at(last.length))
    }

    fn reached(&self, area: u128) -> Option<u128> {
        if area >= self.area {
            let tail = (self.tail() * 1e6).round() as u128;
            return (tail > 0).then(|| self.end + (area - self.area) / (2 * tail));
        }
        // The last one that begins at or below the area, which skips pauses: they have none.
        let at = self
            .phases
            .partition_point(|phase| phase.before <= area)
            .checked_sub(1)?;
        let phase = &self.phases[at];
        let within = phase.curve.reached(area - phase.before)?;
        Some(phase.begin + within.min(phase.length))
    }

    fn rate_at(&self, nanos: u128) -> f64 {
        let after = self.phases.partition_point(|phase| phase.begin <= nanos);
        match after.checked_sub(1).map(|at| &self.phases[at]) {
            Some(phase) if nanos < self.end => phase.curve.rate_at(nanos - phase.begin),
            _ => self.tail(),
        }
    }

    fn area(&self, nanos: u128) -> u128 {
        if nanos >= self.end {
            return self.area + ((self.tail() * 2e6).round() as u128) * (nanos - self.end);
        }
        let after = self.phases.partition_point(|phase| phase.begin <= nanos);
        after.checked_sub(1).map_or(0, |at| {
            let phase = &self.phases[at];
            phase.before + phase.curve.area(nanos - phase.begin)
        })
    }
}

/// Pieces of a curve that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    pieces: Vec<Placed>,
    /// Where the last piece ends, in nanoseconds.
    end: u128,
    /// The area up to there.
    area: u128,
    /// The rate from there on.
    tail: u64,
}

/// A stretch of time in which the rate goes evenly from one value to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The rate at the begin, in millionths of a start per second.
    pub from: u64,
    /// The rate at the end.
    pub to: u64,
    /// How long it lasts, in nanoseconds; not zero.
    pub length: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Placed {
    piece: Piece,
    begin: u128,
    /// The area before it.
    before: u128,
}

impl Piece {
    fn area(&self) -> u128 {
        (u128::from(self.from) + u128::from(self.to)) * u128::from(self.length)
    }

    /// When, after the begin of the piece, the area under it reaches `area`.
    fn reached(&self, area: u128) -> u128 {
        if area == 0 {
            return 0;
        }
        if self.from == self.to {
            return area / (2 * u128::from(self.from));
        }
        // area = 2 from t + slope t²; this form of the solution does not cancel.
        let (from, to, length) = (self.from as f64, self.to as f64, self.length as f64);
        let area = area as f64;
        let slope = (to - from) / length;
        let root = (from * from + slope * area).max(0.0).sqrt();
        ((area / (from + root)) as u128).min(u128::from(self.length))
    }

    fn rate_at(&self, nanos: u128) -> f64 {
        let (from, to) = (self.from as f64, self.to as f64);
        from + (to - from) * (nanos as f64 / self.length as f64)
    }

    /// The area up to a moment within it.
    fn area_at(&self, nanos: u128) -> u128 {
        if self.from == self.to {
            return 2 * u128::from(self.from) * nanos;
        }
        let mean = (self.from as f64 + self.rate_at(nanos)) / 2.0;
        (2.0 * mean * nanos as f64) as u128
    }
}

impl Pieces {
    /// `pieces` in this order.
    pub fn new(pieces: impl IntoIterator<Item = Piece>) -> Self {
        let mut all = Self {
            pieces: Vec::new(),
            end: 0,
            area: 0,
            tail: 0,
        };
        for piece in pieces {
            all.pieces.push(Placed {
                piece,
                begin: all.end,
                before: all.area,
            });
            all.end += u128::from(piece.length);
            all.area += piece.area();
            all.tail = piece.to;
        }
        all
    }

    /// Where the last piece ends, in nanoseconds.
    pub fn end(&self) -> u128 {
        self.end
    }

    /// Whether the rate is zero all the time.
    pub fn is_nothing(&self) -> bool {
        self.area == 0 && self.tail == 0
    }

    fn reached(&self, area: u128) -> Option<u128> {
        if area >= self.area {
            return (self.tail > 0)
                .then(|| self.end + (area - self.area) / (2 * u128::from(self.tail)));
        }
        // The last piece that begins at or below the area, which skips pauses: they have none.
        let at = self
            .pieces
            .partition_point(|placed| placed.before <= area)
            .checked_sub(1)?;
        let placed = &self.pieces[at];
        Some(placed.begin + placed.piece.reached(area - placed.before))
    }

    fn rate_at(&self, nanos: u128) -> f64 {
        let after = self.pieces.partition_point(|placed| placed.begin <= nanos);
        match after.checked_sub(1).map(|at| &self.pieces[at]) {
            Some(placed) if nanos < self.end => placed.piece.rate_at(nanos - placed.begin),
            _ => self.tail as f64,
        }
    }

    fn area_at(&self, nanos: u128) -> u128 {
        if nanos >= self.end {
            return self.area + 2 * u128::from(self.tail) * (nanos - self.end);
        }
        let after = self.pieces.partition_point(|placed| placed.begin <= nanos);
        after.checked_sub(1).map_or(0, |at| {
            let placed = &self.pieces[at];
            placed.before + placed.piece.area_at(nanos - placed.begin)
        })
    }
}

impl Curve {
    /// When the area under the curve reaches `area`, in nanoseconds, rounded down; `None` if it never does.
    pub fn reached(&self, area: u128) -> Option<u128> {
        match self {
            Self::Constant(rate) => Some(area / (2 * u128::from(rate.millionths()))),
            Self::Pieces(pieces) => pieces.reached(area),
            Self::Sine { low, high, period } => {
                let wave = (u128::from(*low) + u128::from(*high)) * u128::from(*period);
                let within = within_wave(*low, *high, *period, (area % wave) as f64);
                Some(area / wave * u128::from(*period) + u128::from(within))
            }
            Self::Phases(phases) => phases.reached(area),
        }
    }

    /// The area under the curve up to a moment.
    fn area(&self, nanos: u128) -> u128 {
        match self {
            Self::Constant(rate) => 2 * u128::from(rate.millionths()) * nanos,
            Self::Pieces(pieces) => pieces.area_at(nanos),
            Self::Sine { low, high, period } => {
                let period = u128::from(*period);
                let wave = (u128::from(*low) + u128::from(*high)) * period;
                let (low, high) = (*low as f64, *high as f64);
                let within = wave_area(low, high, period as f64, (nanos % period) as f64);
                nanos / period * wave + within as u128
            }
            Self::Phases(phases) => phases.area(nanos),
        }
    }

    /// The rate at a moment, in starts per second.
    pub fn rate_at(&self, nanos: u128) -> f64 {
        let millionths = match self {
            Self::Constant(rate) => rate.millionths() as f64,
            Self::Pieces(pieces) => pieces.rate_at(nanos),
            Self::Sine { low, high, period } => {
                let (low, high) = (*low as f64, *high as f64);
                let phase = (nanos % u128::from(*period)) as f64 / *period as f64;
                low + (high - low) * (1.0 - (TAU * phase).cos()) / 2.0
            }
            Self::Phases(phases) => return phases.rate_at(nanos),
        };
        millionths / 1e6
    }
}

/// When the area under one wave reaches `area`: the sine has no inverse in closed form, and the area only grows,
/// so halving finds it to the nanosecond.
fn within_wave(low: u64, high: u64, period: u64, area: f64) -> u64 {
    let (low, high, length) = (low as f64, high as f64, period as f64);
    let up_to = |nanos: u64| wave_area(low, high, length, nanos as f64);
    let (mut below, mut above) = (0, period);
    while below < above {
        let middle = below + (above - below) / 2;
        if up_to(middle) < area {
            below = middle + 1;
        } else {
            above = middle;
        }
    }
    below
}

/// The area under a wave up to a moment within it.
fn wave_area(low: f64, high: f64, length: f64, nanos: f64) -> f64 {
    let phase = nanos / length;
    length * ((low + high) * phase - (high - low) * (TAU * phase).sin() / TAU)
}
