//! Colours that can be read on a light page and on a dark one.

use std::fmt::Write as _;

use plotters::style::RGBColor;

/// One of nine, each with a shade for light pages and one for dark ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Good.
    Green,
    /// Look at it.
    Yellow,
    /// Trouble.
    Orange,
    /// Bad.
    Red,
    /// Neutral.
    Blue,
    /// Neutral.
    Purple,
    /// Neutral.
    Teal,
    /// Neutral.
    Pink,
    /// Of no weight.
    Grey,
}

type Rgb = (u8, u8, u8);

impl Colour {
    const ALL: [Self; 9] = [
        Self::Green,
        Self::Yellow,
        Self::Orange,
        Self::Red,
        Self::Blue,
        Self::Purple,
        Self::Teal,
        Self::Pink,
        Self::Grey,
    ];

    /// In the order series get them: far apart for neighbours.
    const SERIES: [Self; 8] = [
        Self::Blue,
        Self::Orange,
        Self::Green,
        Self::Purple,
        Self::Teal,
        Self::Red,
        Self::Yellow,
        Self::Pink,
    ];

    /// The colour of the n-th series.
    #[must_use]
    pub fn of_series(n: usize) -> Self {
        Self::SERIES[n % Self::SERIES.len()]
    }

    /// The one that Grafana calls so (`red`, `semi-dark-red`), or the nearest to `#e02f44`: one fixed shade would not be
    /// readable on both themes. `None` for what is no colour of its own, as `transparent`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(hex) = text.strip_prefix('#') {
            let channel = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
            return match (channel(0), channel(2), channel(4)) {
                (Some(red), Some(green), Some(blue)) => Some(Self::nearest((red, green, blue))),
                _ => None,
            };
        }
        let name = text.rsplit('-').next().unwrap_or_default();
        if matches!(name, "text" | "gray") {
            return Some(Self::Grey);
        }
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    fn nearest((red, green, blue): Rgb) -> Self {
        let [red, green, blue] = [red, green, blue].map(i32::from);
        let most = red.max(green).max(blue);
        let spread = most - red.min(green).min(blue);
        if spread * 5 < most || most == 0 {
            return Self::Grey;
        }
        let hue = if most == red {
            60 * (green - blue) / spread
        } else if most == green {
            120 + 60 * (blue - red) / spread
        } else {
            240 + 60 * (red - green) / spread
        };
        match hue.rem_euclid(360) {
            0..15 | 340..360 => Self::Red,
            15..38 => Self::Orange,
            38..68 => Self::Yellow,
            68..165 => Self::Green,
            165..200 => Self::Teal,
            200..250 => Self::Blue,
            250..295 => Self::Purple,
            _ => Self::Pink,
        }
    }

    /// As in class names and CSS variables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Yellow => "yellow",
            Self::Orange => "orange",
            Self::Red => "red",
            Self::Blue => "blue",
            Self::Purple => "purple",
            Self::Teal => "teal",
            Self::Pink => "pink",
            Self::Grey => "grey",
        }
    }

    /// The class that gives text and `currentColor` this colour.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Green => "ink-green",
            Self::Yellow => "ink-yellow",
            Self::Orange => "ink-orange",
            Self::Red => "ink-red",
            Self::Blue => "ink-blue",
            Self::Purple => "ink-purple",
            Self::Teal => "ink-teal",
            Self::Pink => "ink-pink",
            Self::Grey => "ink-grey",
        }
    }

    /// The class that puts this colour behind readable text.
    #[must_use]
    pub fn background(self) -> &'static str {
        match self {
            Self::Green => "back-green",
            Self::Yellow => "back-yellow",
            Self::Orange => "back-orange",
            Self::Red => "back-red",
            Self::Blue => "back-blue",
            Self::Purple => "back-purple",
            Self::Teal => "back-teal",
            Self::Pink => "back-pink",
            Self::Grey => "back-grey",
        }
    }

    fn light(self) -> Rgb {
        match self {
            Self::Green => (0x1b, 0x7f, 0x4b),
            Self::Yellow => (0x8f, 0x62, 0x00),
            Self::Orange => (0xb5, 0x49, 0x00),
            Self::Red => (0xb3, 0x26, 0x1e),
            Self::Blue => (0x0b, 0x57, 0xd0),
            Self::Purple => (0x75, 0x3c, 0xab),
            Self::Teal => (0x00, 0x6f, 0x85),
            Self::Pink => (0xb0, 0x21, 0x66),
            Self::Grey => (0x5a, 0x60, 0x68),
        }
    }

    fn dark(self) -> Rgb {
        match self {
            Self::Green => (0x5b, 0xd1, 0x8b),
            Self::Yellow => (0xf2, 0xcc, 0x60),
            Self::Orange => (0xff, 0x9e, 0x57),
            Self::Red => (0xff, 0x8a, 0x80),
            Self::Blue => (0x8a, 0xb4, 0xf8),
            Self::Purple => (0xc9, 0xa3, 0xff),
            Self::Teal => (0x5f, 0xd3, 0xe5),
            Self::Pink => (0xff, 0x9c, 0xcf),
            Self::Grey => (0xa6, 0xac, 0xb4),
        }
    }

    pub(crate) fn rgb(self) -> RGBColor {
        let (red, green, blue) = self.light();
        RGBColor(red, green, blue)
    }

    /// Rules that turn what plotters wrote into the theme's colours: its SVG knows no classes, but a rule outweighs an
    /// attribute.
    pub(crate) fn rules() -> String {
        let hex = |(red, green, blue): Rgb| format!("#{red:02X}{green:02X}{blue:02X}");
        let mut rules = String::new();
        let mut variables = String::new();
        for colour in Self::ALL {
            let (name, light, dark) = (colour.name(), hex(colour.light()), hex(colour.dark()));
            let _ = write!(variables, "--plot-{name}:light-dark({light},{dark});");
            let _ = writeln!(
                rules,
                ".plot [stroke=\"{light}\"]{{stroke:var(--plot-{name})}}\n.plot [fill=\"{light}\"]{{fill:var(--plot-{name})}}\n.{ink}{{color:var(--plot-{name})}}\n.{back}{{background:var(--plot-{name});color:light-dark(#FFF,#111)}}",
                ink = colour.class(),
                back = colour.background(),
            );
        }
        format!(":root{{{variables}}}\n{rules}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance((red, green, blue): Rgb) -> f64 {
        let linear = |it: u8| {
            let it = f64::from(it) / 255.0;
            if it <= 0.040_45 {
                it / 12.92
            } else {
                ((it + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
    }

    /// WCAG 2.2, 1.4.3: text needs 4.5 to 1.
    #[test]
    fn every_colour_can_be_read_as_text_on_both_themes() {
        for colour in Colour::ALL {
            let light = 1.05 / (luminance(colour.light()) + 0.05);
            let page = luminance((0x1c, 0x1c, 0x1e)) + 0.05;
            let dark = (luminance(colour.dark()) + 0.05) / page;
            assert!(light >= 4.5, "{colour:?} on white: {light:.2}");
            assert!(dark >= 4.5, "{colour:?} on dark: {dark:.2}");
        }
    }

    #[test]
    fn grafanas_names_and_hex_values_find_their_colour() {
        assert_eq!(Colour::parse("red"), Some(Colour::Red));
        assert_eq!(Colour::parse("super-light-blue"), Some(Colour::Blue));
        assert_eq!(Colour::parse("#F2495C"), Some(Colour::Red));
        assert_eq!(Colour::parse("#73BF69"), Some(Colour::Green));
        assert_eq!(Colour::parse("#FF9830"), Some(Colour::Orange));
        assert_eq!(Colour::parse("#808080"), Some(Colour::Grey));
        assert_eq!(Colour::parse("text"), Some(Colour::Grey));
        assert_eq!(Colour::parse("transparent"), None);
        assert_eq!(Colour::parse("#zz"), None);
        assert_eq!(Colour::parse("#ä1234"), None);
    }

    #[test]
    fn a_rule_for_each_colour_that_plotters_writes() {
        let rules = Colour::rules();
        assert!(rules.contains(".plot [stroke=\"#0B57D0\"]{stroke:var(--plot-blue)}"));
        assert!(rules.contains("--plot-blue:light-dark(#0B57D0,#8AB4F8);"));
    }
}
