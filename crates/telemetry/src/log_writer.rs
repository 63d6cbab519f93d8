//! Log lines leave the process through a bounded queue and a thread of their own, so that a slow, blocked or
//! closed output costs lines, which are counted, and never a request.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder};
use tracing_subscriber::fmt::MakeWriter;

use crate::LogOutput;

/// Some ten seconds of a busy service. The default, 128,000, can hold a gigabyte of long lines.
const QUEUED_LINES: usize = 16_384;

/// Words the line about so many missing lines.
pub(crate) type Notice = Box<dyn Fn(u64) -> String + Send>;

#[derive(Debug, Clone)]
pub(crate) struct LogWriter {
    queue: NonBlocking,
    lines: Arc<Lines>,
    overflow: ErrorCounter,
}

#[derive(Debug, Default)]
struct Lines {
    submitted: AtomicU64,
    /// Taken from the queue, and written or failed.
    settled: AtomicU64,
    failed: AtomicU64,
}

impl LogWriter {
    /// Writes to a duplicate of the descriptor: the locks around Rust's own handles would let one blocked
    /// write stop every thread that prints or panics.
    ///
    /// `notice` words the line that tells how many lines are missing before it.
    pub(crate) fn open(output: LogOutput, notice: Notice) -> io::Result<Self> {
        let descriptor = match output {
            LogOutput::Stdout => io::stdout().as_fd().try_clone_to_owned()?,
            LogOutput::Stderr => io::stderr().as_fd().try_clone_to_owned()?,
        };
        Ok(Self::spawn(File::from(descriptor), notice))
    }

    fn spawn(sink: impl Write + Send + 'static, notice: Notice) -> Self {
        let lines = Arc::new(Lines::default());
        // The queue's counter exists only once the queue does, which wants the sink.
        let overflow_seen = Arc::new(OnceLock::new());
        let sink = LineSink {
            sink,
            torn: false,
            lines: lines.clone(),
            overflow: overflow_seen.clone(),
            notice,
            told: 0,
        };
        let (queue, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(QUEUED_LINES)
            .thread_name("telemetry-logs")
            .finish(sink);
        // Dropped, the guard would end the thread: after up to 1.1 s whatever our deadline, and with a plain
        // text line on stdout if the queue is full. `flush` waits for the queue instead.
        std::mem::forget(guard);
        let overflow = queue.error_counter();
        let _ = overflow_seen.set(overflow.clone());
        Self {
            queue,
            lines,
            overflow,
        }
    }

    /// Lines that did not fit in the queue or could not be written.
    pub(crate) fn dropped(&self) -> u64 {
        self.overflow.dropped_lines() as u64 + self.lines.failed.load(Ordering::Relaxed)
    }

    /// Waits until every line so far is written or given up; false if that takes longer than allowed.
    pub(crate) fn flush(&self, until: Instant) -> bool {
        let submitted = self.lines.submitted.load(Ordering::Acquire);
        loop {
            let overflow = self.overflow.dropped_lines() as u64;
            if self.lines.settled.load(Ordering::Acquire) + overflow >= submitted {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        self.clone()
    }
}

impl Write for LogWriter {
    /// Queues a line, which `line` must hold as a whole; never blocks, never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.submitted.fetch_add(1, Ordering::AcqRel);
        self.queue.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The end of the queue: one call of `write` is one line.
struct LineSink<W> {
    sink: W,
    /// The last line was cut short, so the next must not continue it.
    torn: bool,
    lines: Arc<Lines>,
    overflow: Arc<OnceLock<ErrorCounter>>,
    notice: Notice,
    /// Missing lines that have been told of.
    told: u64,
}

impl<W: Write> LineSink<W> {
    /// Tells how many lines are missing since it was last told.
    fn write_notice(&mut self) -> io::Result<()> {
        let overflow = self.overflow.get();
        let overflow = overflow.map_or(0, |overflow| overflow.dropped_lines() as u64);
        let dropped = overflow + self.lines.failed.load(Ordering::Relaxed);
        if dropped > self.told {
            let notice = (self.notice)(dropped - self.told);
            self.write_whole(notice.as_bytes())?;
            self.told = dropped;
        }
        Ok(())
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.write_notice()?;
        self.write_whole(line)
    }

    fn write_whole(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.write_bytes(b"\n")?;
            self.torn = false;
        }
        self.write_bytes(line)
    }

    fn write_bytes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len();
        while !bytes.is_empty() {
            match self.sink.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A parent may have made the pipe non-blocking; waiting is what this thread is for.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(5))
                }
                Err(error) => {
                    self.torn |= bytes.len() < length;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl<W: Write> Write for LineSink<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.write_line(line).is_err() {
            self.lines.failed.fetch_add(1, Ordering::Relaxed);
        }
        self.lines.settled.fetch_add(1, Ordering::AcqRel);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    fn notice() -> Notice {
        Box::new(|missing| format!("missing {missing}\n"))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("not poisoned").clone())
                .expect("lines are UTF-8")
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Answers each call as the script says, then takes everything.
    struct Scripted {
        answers: Vec<io::Result<usize>>,
        buffer: Buffer,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let allowed = if self.answers.is_empty() {
                bytes.len()
            } else {
                self.answers.remove(0)?
            };
            self.buffer.write(&bytes[..allowed.min(bytes.len())])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_arrives_in_order() {
        let buffer = Buffer::default();
        let mut writer = LogWriter::spawn(buffer.clone(), notice());
        let expected: String = (0..1000).map(|n| format!("{n}\n")).collect();
        for line in expected.split_inclusive('\n') {
            writer.write_all(line.as_bytes()).expect("never fails");
        }
        assert!(writer.flush(soon()));
        assert_eq!(buffer.text(), expected);
        assert_eq!(writer.dropped(), 0);
    }

    #[test]
    fn a_blocked_output_blocks_nobody_and_loses_only_what_it_counts() {
        struct Blocked {
            entered: mpsc::Sender<()>,
            gate: mpsc::Receiver<()>,
            buffer: Buffer,
        }
        impl Write for Blocked {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                // Both return at once when the test drops the other end.
                let _ = self.entered.send(());
                let _ = self.gate.recv();
                self.buffer.write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (release, gate) = mpsc::channel::<()>();
        let (entered, writing) = mpsc::channel();
        let buffer = Buffer::default();
        let blocked = Blocked {
            entered,
            gate,
            buffer: buffer.clone(),
        };
        let mut writer = LogWriter::spawn(blocked, notice());
        let lines = QUEUED_LINES + 1000;
        writer.write_all(b"x\n").expect("never fails");
        // Or what is missing could be told before the first line.
        writing.recv().expect("the line is being written");
        for _ in 1..lines {
            writer.write_all(b"x\n").expect("never fails");
        }
        assert!(writer.dropped() >= 999, "{}", writer.dropped());
        assert!(
            !writer.flush(Instant::now()),
            "nothing can have been written"
        );
        drop(release);
        assert!(writer.flush(soon()));
        let text = buffer.text();
        let (told, written): (Vec<_>, Vec<_>) =
            text.lines().partition(|line| line.starts_with("missing "));
        assert_eq!(written.len() as u64 + writer.dropped(), lines as u64);
        // The line in the blocked write came before; the very next says how many are missing.
        assert_eq!(text.lines().nth(1), told.first().copied());
        let told: u64 = told
            .iter()
            .map(|line| line[8..].parse::<u64>().unwrap())
            .sum();
        assert_eq!(told, writer.dropped());
    }

    #[test]
    fn failures_are_counted_and_a_torn_line_never_joins_the_next() {
        let broken = || Err(io::Error::from(ErrorKind::BrokenPipe));
        let busy = || Err(io::Error::from(ErrorKind::WouldBlock));
        for (answers, expected, dropped) in [
            (vec![broken()], "missing 1\ntwo\nthree\n", 1),
            (vec![Ok(2), broken()], "on\nmissing 1\ntwo\nthree\n", 1),
            (vec![Ok(2), broken(), broken()], "on\nmissing 2\nthree\n", 2),
            (vec![busy(), Ok(2), busy()], "one\ntwo\nthree\n", 0),
            (vec![Ok(0)], "missing 1\ntwo\nthree\n", 1),
            (vec![broken(), broken(), broken()], "", 3),
        ] {
            let buffer = Buffer::default();
            let scripted = Scripted {
                answers,
                buffer: buffer.clone(),
            };
            let mut writer = LogWriter::spawn(scripted, notice());
            for line in ["one\n", "two\n", "three\n"] {
                writer.write_all(line.as_bytes()).expect("never fails");
            }
            assert!(writer.flush(soon()));
            assert_eq!(
                (buffer.text().as_str(), writer.dropped()),
                (expected, dropped)
            );
        }
    }
}
