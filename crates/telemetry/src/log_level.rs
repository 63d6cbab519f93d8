//! Which events reach the log, changeable while the program runs.

use tracing_subscriber::filter::{Builder, EnvFilter, LevelFilter};
use tracing_subscriber::{Registry, reload};

/// Reads and changes the log filter of the running process.
///
/// It decides what is *logged*. Traces have a fixed filter of their own, so that turning the log down to
/// `warn` leaves them whole, and `trace.id` on the lines that remain.
#[derive(Debug, Clone)]
pub struct LogLevel {
    handle: reload::Handle<EnvFilter, Registry>,
}

impl LogLevel {
    pub(crate) fn new(handle: reload::Handle<EnvFilter, Registry>) -> Self {
        Self { handle }
    }

    /// The directives in force, the most specific first; empty once logging has ended with the process.
    pub fn get(&self) -> String {
        self.handle
            .with_current(ToString::to_string)
            .unwrap_or_default()
    }

    /// Replaces the directives, or says what is wrong with them.
    ///
    /// # Errors
    /// A sentence for whoever typed the directives; the ones in force stay.
    pub fn set(&self, directives: &str) -> Result<(), String> {
        let filter = parse(directives)?;
        self.handle
            .reload(filter)
            .map_err(|error| error.to_string())
    }
}

/// Stricter than [`EnvFilter`], which takes a misspelt level for the name of a target and then logs nothing
/// but that target, and kinder: it minds spaces.
pub(crate) fn parse(directives: &str) -> Result<EnvFilter, String> {
    // The library cuts such text between bytes and panics (found by fuzzing); no target has such a name.
    if !directives.is_ascii() {
        return Err("the filter has to be written in ASCII".to_owned());
    }
    // Directives about spans and their fields have a grammar of their own: those are taken as they are.
    if directives.contains('[') {
        return builder()
            .parse(directives)
            .map_err(|error| error.to_string());
    }
    let directives: Vec<_> = directives
        .split(',')
        .map(str::trim)
        .filter(|directive| !directive.is_empty())
        .collect();
    if directives.is_empty() {
        return Err("the filter is empty; give a level such as info".to_owned());
    }
    let is_level = |directive: &str| directive.parse::<LevelFilter>().is_ok();
    if let Some(misspelt) = directives
        .iter()
        .find(|directive| !directive.contains('=') && !is_level(directive))
    {
        return Err(format!(
            "{misspelt:?} is neither a level (off, error, warn, info, debug, trace) nor target=level"
        ));
    }
    builder()
        .parse(directives.join(","))
        .map_err(|error| error.to_string())
}

/// Field values are compared as they are written. As regular expressions three hundred bytes of a filter, which the admin port
/// takes too, could fill gigabytes.
fn builder() -> Builder {
    EnvFilter::builder().with_regex(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_level(directives: &str) -> (reload::Layer<EnvFilter, Registry>, LogLevel) {
        let (layer, handle) = reload::Layer::new(parse(directives).expect("valid"));
        (layer, LogLevel::new(handle))
    }

    #[test]
    fn values_of_fields_are_no_regular_expressions() {
        // It would be one that cannot be read.
        assert!(parse("info,[request{route=(}]=debug").is_ok());
    }

    #[test]
    fn what_is_set_is_in_force_and_can_be_set_again() {
        let (_layer, log_level) = log_level("info");
        assert_eq!(log_level.get(), "info");
        for directives in [
            "debug",
            "OFF",
            "warn,sqlx=debug",
            "sqlx=debug, info",
            "info,[order{id=1}]=trace",
        ] {
            log_level.set(directives).expect(directives);
            let in_force = log_level.get();
            log_level
                .set(&in_force)
                .expect("what get returns can be set");
            assert_eq!(log_level.get(), in_force);
        }
    }

    #[test]
    fn nonsense_is_refused_and_changes_nothing() {
        let (_layer, log_level) = log_level("info,sqlx=warn");
        let before = log_level.get();
        for directives in [
            "",
            " ",
            "inof",
            "info,verbose",
            "sqlx=loud",
            ",",
            "=info=debug",
            "o×[ ",
            "info,é=debug",
        ] {
            let complaint = log_level.set(directives).expect_err(directives);
            assert!(!complaint.is_empty());
            assert_eq!(log_level.get(), before, "{directives}");
        }
    }
}
