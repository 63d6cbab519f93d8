//! Running other people's command-line tools: their absence and their failure explained.

use std::{ffi::OsString, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::Command,
};

use crate::{Error, process};

/// Lines of a failed tool's output that are worth showing.
const TAIL: usize = 12;

/// A tool, what needs it, and how to get it.
#[derive(Debug)]
pub(crate) struct Tool {
    program: OsString,
    component: String,
    cure: String,
    leading: Vec<OsString>,
}

impl Tool {
    pub(crate) fn new(program: impl Into<OsString>, component: &str, cure: &str) -> Self {
        Self {
            program: program.into(),
            component: component.into(),
            cure: cure.into(),
            leading: Vec::new(),
        }
    }

    /// An option given at every call.
    pub(crate) fn leading(mut self, option: &str, value: impl Into<OsString>) -> Self {
        self.leading.push(option.into());
        self.leading.push(value.into());
        self
    }

    /// Whether it is on this machine.
    pub(crate) fn present(&self) -> Result<(), Error> {
        match crate::install::on_path(&self.program) {
            Some(_) => Ok(()),
            None => Err(self.missing()),
        }
    }

    fn missing(&self) -> Error {
        Error::MissingTool {
            component: self.component.clone(),
            tool: self.program.to_string_lossy().into_owned(),
            cure: self.cure.clone(),
        }
    }

    /// Runs it to its end and returns what it printed.
    pub(crate) async fn run(
        &self,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<String, Error> {
        self.follow(arguments, |_| ()).await
    }

    /// Runs it to its end, handing over each line of its standard error as it comes; returns its
    /// standard output.
    pub(crate) async fn follow(
        &self,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
        mut line_of_stderr: impl FnMut(&str),
    ) -> Result<String, Error> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.leading)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        arguments(&mut command);
        let words: Vec<_> = std::iter::once(command.as_std().get_program())
            .chain(command.as_std().get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let shown = words.join(" ");
        let mut group =
            process::Group::spawn(&mut command, &process::Guise::PLAIN).map_err(|source| {
                if source.kind() == std::io::ErrorKind::NotFound {
                    self.missing()
                } else {
                    Error::Io {
                        doing: "run",
                        path: self.program.clone().into(),
                        source,
                    }
                }
            })?;
        let (stdout, stderr) = group.take_output();
        let mut tail = Vec::new();
        let (out, (), status) = tokio::join!(
            collect(stdout),
            async {
                lines(stderr, |line| {
                    line_of_stderr(line);
                    if tail.len() == TAIL {
                        tail.remove(0);
                    }
                    tail.push(line.to_owned());
                })
                .await;
            },
            group.wait(),
        );
        let status = status.map_err(|source| Error::Io {
            doing: "wait for",
            path: self.program.clone().into(),
            source,
        })?;
        if status.success() {
            return Ok(out);
        }
        if tail.is_empty() {
            let start = out.lines().count().saturating_sub(TAIL);
            tail = out.lines().skip(start).map(str::to_owned).collect();
        }
        Err(Error::Command {
            command: shown,
            status: status.to_string(),
            tail,
        })
    }
}

async fn lines(stream: Option<impl AsyncRead + Unpin>, mut each: impl FnMut(&str)) {
    let Some(stream) = stream else { return };
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line).await, Ok(1..)) {
        each(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

async fn collect(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut text = String::new();
    lines(stream, |line| {
        text.push_str(line);
        text.push('\n');
    })
    .await;
    text
}
