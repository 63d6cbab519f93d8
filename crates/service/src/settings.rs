//! Flags and environment variables, read so that everything wrong with them is said at once.

use std::{ffi::OsString, fmt::Write as _, process::ExitCode};

use clap::{
    ArgMatches, Command, CommandFactory, FromArgMatches,
    builder::ValueParser,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

use crate::program::complain;

/// Reads the settings of a program and runs it; when they are wrong it says all of what is wrong,
/// and ends with 2.
pub fn start<A: CommandFactory + FromArgMatches>(run: impl FnOnce(A) -> ExitCode) -> ExitCode {
    start_with(std::env::args_os(), run)
}

/// As [`start`], for a program that is part of another one.
pub fn start_with<A: CommandFactory + FromArgMatches>(
    arguments: impl IntoIterator<Item = OsString>,
    run: impl FnOnce(A) -> ExitCode,
) -> ExitCode {
    match read(arguments) {
        Ok(args) => run(args),
        // Help and version, which are no mistakes, and what clap words better than we could.
        Err(Refusal::Clap(error)) => {
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
        Err(Refusal::Mistakes(mistakes)) => {
            complain(&worded(&mistakes));
            ExitCode::from(2)
        }
    }
}

/// Why there are no settings.
#[derive(Debug)]
pub enum Refusal {
    /// One thing for clap to say: help, the version, a mistake that is alone of its kind.
    Clap(clap::Error),
    /// Everything that is wrong, each in a sentence.
    Mistakes(Vec<String>),
}

/// Reads settings from `arguments`, the first of which is the program's name, and the environment.
///
/// clap stops at the first value it does not like. Asked again with that value allowed, it goes on to
/// the next one.
///
/// # Errors
/// See [`Refusal`].
pub fn read<A: CommandFactory + FromArgMatches>(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<A, Refusal> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut command = A::command();
    // Only a command that is built can say how it names its arguments.
    let mut described = command.clone();
    described.build();
    let mut wrong = Vec::new();
    let mut mistakes = Vec::new();
    // Each round allows one argument more, or takes one away, so there is an end to them.
    let matches = loop {
        let error = match command.clone().try_get_matches_from(&arguments) {
            Ok(matches) => break Some(matches),
            Err(error) => error,
        };
        match (error.kind(), named(&error, &described)) {
            (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _) => {
                return Err(Refusal::Clap(error));
            }
            (ErrorKind::ValueValidation | ErrorKind::InvalidValue, Some(id))
                if !wrong.iter().any(|(known, _)| *known == id) =>
            {
                command = command.mut_arg(&id, |arg| {
                    arg.value_parser(ValueParser::os_string())
                        .value_delimiter(None)
                });
                wrong.push((id, error));
            }
            (ErrorKind::UnknownArgument, _) => match unknown(&error, &arguments) {
                Some(index) => {
                    arguments.remove(index);
                    mistakes.push(first_line(&error));
                }
                None => {
                    mistakes.push(first_line(&error));
                    break None;
                }
            },
            _ if mistakes.is_empty() && wrong.is_empty() => return Err(Refusal::Clap(error)),
            _ => {
                mistakes.push(first_line(&error));
                break None;
            }
        }
    };
    let told = wrong
        .iter()
        .map(|(id, error)| sentence(&described, matches.as_ref(), id, error));
    let mistakes: Vec<String> = told.chain(mistakes).collect();
    match matches {
        Some(matches) if mistakes.is_empty() => {
            A::from_arg_matches(&matches).map_err(Refusal::Clap)
        }
        _ => Err(Refusal::Mistakes(mistakes)),
    }
}

/// The argument that an error is about, which clap names as its help does.
fn named(error: &clap::Error, command: &Command) -> Option<String> {
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let arg = command
        .get_arguments()
        .find(|arg| arg.to_string() == *name)?;
    Some(arg.get_id().to_string())
}

/// Where an argument stands that nobody knows.
fn unknown(error: &clap::Error, arguments: &[OsString]) -> Option<usize> {
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let is_it = |argument: &OsString| {
        let argument = argument.to_string_lossy();
        argument.split('=').next() == Some(name.as_str())
    };
    (1..arguments.len()).find(|&index| is_it(&arguments[index]))
}

/// What is wrong with a value, where it came from, and the value itself unless it may be a secret.
fn sentence(
    command: &Command,
    matches: Option<&ArgMatches>,
    id: &str,
    error: &clap::Error,
) -> String {
    let arg = command
        .get_arguments()
        .find(|arg| arg.get_id() == id)
        .expect("it was found before");
    let flag = arg.get_long().map(|long| format!("--{long}"));
    let flag = flag.unwrap_or_else(|| id.to_owned());
    let variable = arg.get_env().map(|name| name.to_string_lossy());
    let from_environment = matches
        .and_then(|matches| matches.value_source(id))
        .is_some_and(|source| source == ValueSource::EnvVariable);
    let mut sentence = match (&variable, from_environment) {
        (Some(variable), true) => format!("{variable} (or {flag})"),
        (Some(variable), false) => format!("{flag} (or {variable})"),
        (None, _) => flag,
    };
    if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue)
        && !arg.is_hide_env_values_set()
    {
        let _ = write!(sentence, " is {value:?}");
    }
    let reason = std::error::Error::source(error).map(ToString::to_string);
    let reason = reason.unwrap_or_else(|| match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => format!("it is one of {}", values.join(", ")),
        _ => first_line(error),
    });
    let _ = write!(sentence, ": {reason}");
    sentence
}

/// clap's own words, without usage and colours.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// All mistakes as one message.
fn worded(mistakes: &[String]) -> String {
    match mistakes {
        [mistake] => mistake.clone(),
        mistakes => {
            let mut text = format!("{} settings are wrong:", mistakes.len());
            for mistake in mistakes {
                let _ = write!(text, "\n  {mistake}");
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Args {
        #[arg(long, default_value = "127.0.0.1:1")]
        listen: SocketAddr,
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=9))]
        retries: u32,
        #[arg(long, value_parser = ["fast", "slow"])]
        pace: Option<String>,
        /// Its variable is one that every process has.
        #[arg(long, env = "PATH", hide_env_values = true, value_parser = |_: &str| Err::<u32, _>("no secret"))]
        secret: Option<u32>,
        #[arg(long, conflicts_with = "retries")]
        once: bool,
    }

    fn mistakes(arguments: &[&str]) -> Vec<String> {
        let arguments = ["program"].iter().chain(arguments).map(OsString::from);
        match read::<Args>(arguments).expect_err("wrong") {
            Refusal::Mistakes(mistakes) => mistakes,
            Refusal::Clap(error) => panic!("{error}"),
        }
    }

    #[test]
    fn every_mistake_is_told_with_its_cure_and_no_secret() {
        let told = mistakes(&[
            "--listen=nowhere",
            "--colour=red",
            "--retries",
            "12",
            "--pace=brisk",
            "--secret=hunter2",
            "--flavour=sweet",
        ]);
        let expected = [
            r#"--listen is "nowhere": invalid socket address syntax"#,
            r#"--retries is "12": 12 is not in 1..=9"#,
            r#"--pace is "brisk": it is one of fast, slow"#,
            "--secret (or PATH): no secret",
            "unexpected argument '--colour' found",
            "unexpected argument '--flavour' found",
        ];
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for text in expected {
            assert!(told.iter().any(|told| told == text), "{text} in {told:#?}");
        }
        let text = worded(&told);
        assert!(text.starts_with("6 settings are wrong:\n  "), "{text}");
        assert!(!text.contains("hunter2"));
    }

    #[test]
    fn a_variable_is_named_when_it_is_the_one_that_is_wrong() {
        let told = mistakes(&[]);
        assert_eq!(told, ["PATH (or --secret): no secret"]);
        assert_eq!(worded(&told), told[0]);
    }

    #[test]
    fn mistakes_of_another_kind_come_last() {
        let told = mistakes(&["--listen=nowhere", "--once", "--retries=1"]);
        assert!(
            told.len() == 3 && told[2].contains("cannot be used with"),
            "{told:#?}"
        );
    }

    #[test]
    fn help_is_no_mistake() {
        let arguments = ["program", "--listen=nowhere", "--help"].map(OsString::from);
        match read::<Args>(arguments) {
            Err(Refusal::Clap(error)) => assert_eq!(error.kind(), ErrorKind::DisplayHelp),
            other => panic!("{other:?}"),
        }
    }
}
