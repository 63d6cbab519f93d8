//! Sends requests, each on a connection that is free or on a new one, and tells the ledger what became of them.
//!
//! All of it happens on one thread. A connection is a task that waits for work; giving it a request is putting that in
//! its slot and waking it. Nothing here waits for an answer before it takes the next request, nobody tries anything
//! twice, and nothing is held back: a request that cannot be sent has failed, and is counted. The one thing that pauses is
//! opening connections anew that are only there to be held, and it says so.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::Sleep;

use crate::client_span::ClientSpan;
use crate::http1::{Kept, Progress, Reader};
use crate::http2;
use crate::ledger::Ledger;
use crate::outcome::{End, Failure};
use crate::traffic::Shot;
use crate::transport::{Connector, Protocol, Stream};

/// Idle connections are given up before common servers close them (gunicorn after 2 s, actix after 5 s):
/// sending on a connection that is being closed would show as an error of the server.
const IDLE_CONNECTION: Duration = Duration::from_millis(1500);
/// So many connections that were to be held are opened anew at once.
const REOPENED: usize = 100;
/// The pause after one that cannot be opened anew.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);
/// As much is read at once; all connections share it.
const SCRATCH: usize = 64 * 1024;

/// How requests are sent.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// How long a request may take, from its actual start to the last byte of its answer.
    pub timeout: Duration,
    /// How long a connection may take to be made, as part of it.
    pub connect_timeout: Duration,
    /// Whether connections are used again.
    pub keep_alive: bool,
    /// As many connections are kept open all the time and take turns, instead of as many as it takes.
    pub held: Option<usize>,
}

/// A request on its way.
#[derive(Debug)]
pub struct Job {
    /// The request.
    pub shot: Rc<Shot>,
    /// When it was due.
    pub intended: Instant,
    /// Whether it begins a journey: what the pace counts.
    pub arrival: bool,
    /// Its span, and trace context.
    pub span: Option<ClientSpan>,
    /// Who wants to know.
    pub reply: Option<oneshot::Sender<Reply>>,
}

/// What a journey learns of a request.
#[derive(Debug)]
pub struct Reply {
    /// How it ended.
    pub end: End,
    /// When.
    pub ended: Instant,
    /// The answer, if it was to be kept.
    pub kept: Option<Kept>,
}

/// Sends requests.
#[derive(Debug)]
pub struct Client {
    pub(crate) connector: Connector,
    pub(crate) manner: Manner,
    pub(crate) ledger: Rc<Ledger>,
    pools: Vec<RefCell<Pool>>,
    multiplexed: Vec<http2::Connections>,
    scratch: RefCell<Box<[u8]>>,
    /// Held connections that are being opened anew, and from when on that is worth another try.
    reopening: Cell<usize>,
    reopen_from: Cell<Option<Instant>>,
}

/// Idle connections to one target; what was used last is at the back.
#[derive(Debug, Default)]
struct Pool {
    idle: VecDeque<(Rc<Slot>, Instant)>,
}

/// Where a connection's task is given work.
#[derive(Debug, Default)]
struct Slot {
    job: RefCell<Option<Job>>,
    waker: RefCell<Option<Waker>>,
    closed: Cell<bool>,
    retired: Cell<bool>,
}

impl Slot {
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn retire(&self) {
        self.retired.set(true);
        self.wake();
    }
}

impl Pool {
    /// A connection that is free.
    fn take(&mut self, held: bool) -> Option<Rc<Slot>> {
        loop {
            // Held ones take turns; of others the fewest possible are used, so that the rest can go.
            let (slot, since) = if held {
                self.idle.pop_front()?
            } else {
                self.idle.pop_back()?
            };
            if slot.closed.get() {
                continue;
            }
            if !held && since.elapsed() > IDLE_CONNECTION {
                slot.retire();
                continue;
            }
            return Some(slot);
        }
    }

    /// Lets go of those that have been idle for too long.
    fn sweep(&mut self, held: bool) {
        if held {
            self.idle.retain(|(slot, _)| !slot.closed.get());
            return;
        }
        while let Some((slot, since)) = self.idle.front() {
            if !slot.closed.get() && since.elapsed() <= IDLE_CONNECTION {
                break;
            }
            slot.retire();
            self.idle.pop_front();
        }
    }
}

impl Client {
    /// Sends over `connector`.
    pub fn new(connector: Connector, manner: Manner, ledger: Rc<Ledger>) -> Rc<Self> {
        let targets = connector.targets().len();
        Rc::new(Self {
            pools: (0..targets).map(|_| RefCell::default()).collect(),
            multiplexed: (0..targets)
                .map(|target| {
                    http2::Connections::new(share(manner.held.unwrap_or(targets), target, targets))
                })
                .collect(),
            connector,
            manner,
            ledger,
            scratch: RefCell::new(vec![0; SCRATCH].into()),
            reopening: Cell::new(0),
            reopen_from: Cell::new(None),
        })
    }

    /// Sends a request now, and returns at once.
    pub fn send(self: &Rc<Self>, job: Job) {
        self.ledger.sent();
        let target = job.shot.target;
        if self.connector.protocol() == Protocol::Http2 {
            http2::send(self, &self.multiplexed[target], job);
            return;
        }
        let free = self.pools[target]
            .borrow_mut()
            .take(self.manner.held.is_some());
        match free {
            Some(slot) => {
                *slot.job.borrow_mut() = Some(job);
                slot.wake();
            }
            None => {
                let client = Rc::clone(self);
                spawn_local(async move { client.on_new_connection(job).await });
            }
        }
    }

    /// Lets go of what is idle, and opens anew what was to be held and was closed. To be called now and then.
    pub fn sweep(self: &Rc<Self>) {
        let held = self.manner.held.is_some();
        for pool in &self.pools {
            pool.borrow_mut().sweep(held);
        }
        let Some(held) = self.manner.held else { return };
        if self.connector.protocol() == Protocol::Http2
            || self.reopening.get() > 0
            || self
                .reopen_from
                .get()
                .is_some_and(|time| Instant::now() < time)
        {
            return;
        }
        let open = usize::try_from(self.ledger.open_connections()).unwrap_or(held);
        for number in 0..held.saturating_sub(open).min(REOPENED) {
            self.reopening.set(self.reopening.get() + 1);
            spawn_local(Rc::clone(self).reopen(number % self.pools.len()));
        }
    }

    async fn reopen(self: Rc<Self>, target: usize) {
        let stream = self.connect(target).await;
        self.reopening.set(self.reopening.get() - 1);
        match stream {
            Ok(stream) => self.serve(target, stream, None).await,
            Err(error) => {
                // Once for all that fail together.
                let from = Instant::now() + REOPEN_PAUSE;
                if self
                    .reopen_from
                    .replace(Some(from))
                    .is_none_or(|time| time <= Instant::now())
                {
                    tracing::warn!(
                        "cannot open connections that are to be held: {error}; trying again in {REOPEN_PAUSE:?}"
                    );
                }
            }
        }
    }

    /// Opens the connections that are to be held, `at_once` of them at a time.
    ///
    /// # Errors
    /// When one of them cannot be had.
    pub async fn hold(self: &Rc<Self>, at_once: usize) -> io::Result<()> {
        let Some(held) = self.manner.held else {
            return Ok(());
        };
        if self.connector.protocol() == Protocol::Http2 {
            return Ok(());
        }
        let targets = self.pools.len();
        let mut opening = tokio::task::JoinSet::new();
        for number in 0..held {
            if opening.len() == at_once
                && let Some(opened) = opening.join_next().await
            {
                opened.map_err(io::Error::other)??;
            }
            let client = Rc::clone(self);
            opening.spawn_local(async move {
                let target = number % targets;
                let stream = client.connect(target).await?;
                spawn_local(async move { client.serve(target, stream, None).await });
                Ok::<_, io::Error>(())
            });
        }
        while let Some(opened) = opening.join_next().await {
            opened.map_err(io::Error::other)??;
        }
        Ok(())
    }

    pub(crate) async fn connect(&self, target: usize) -> io::Result<Stream> {
        let limit = self.manner.connect_timeout;
        tokio::time::timeout(limit, self.connector.connect(target))
            .await
            .unwrap_or_else(|_| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no connection within {limit:?}"),
                ))
            })
    }

    async fn on_new_connection(self: Rc<Self>, job: Job) {
        let started = Instant::now();
        let target = job.shot.target;
        // The time for the request includes that for its connection.
        match tokio::time::timeout(self.manner.timeout, self.connect(target)).await {
            Ok(Ok(stream)) => self.serve(target, stream, Some((job, started))).await,
            Ok(Err(error)) => self.ended(
                job,
                started,
                End::Failed(unconnected(&error), innermost(&error)),
                None,
            ),
            Err(_) => self.ended(job, started, End::TimedOut, None),
        }
    }

    /// The life of a connection.
    async fn serve(
        self: Rc<Self>,
        target: usize,
        mut stream: Stream,
        first: Option<(Job, Instant)>,
    ) {
        let pool = &self.pools[target];
        self.ledger.connected();
        let slot = Rc::new(Slot::default());
        let mut wire = Wire {
            reader: Reader::default(),
            out: Vec::new(),
            deadline: Box::pin(tokio::time::sleep(self.manner.timeout)),
        };
        let mut next = first;
        let orphan = loop {
            let (job, started) = match next.take() {
                Some(next) => next,
                None => {
                    pool.borrow_mut()
                        .idle
                        .push_back((Rc::clone(&slot), Instant::now()));
                    match self.idle(&mut stream, &slot).await {
                        Idle::Work(job) => (job, Instant::now()),
                        // Closed before the request was written: it has done nothing yet, and goes elsewhere.
                        Idle::Closed(job) => break job,
                    }
                }
            };
            let (end, reusable) = self.exchange(&mut stream, &mut wire, &job, started).await;
            let kept = wire.reader.take_kept();
            self.ended(job, started, end, kept);
            if !reusable || !self.manner.keep_alive {
                break None;
            }
        };
        slot.closed.set(true);
        self.ledger.disconnected();
        drop(stream);
        if let Some(job) = orphan {
            spawn_local(async move { self.on_new_connection(job).await });
        }
    }

    /// Waits for work, or the end of the connection.
    async fn idle(&self, stream: &mut Stream, slot: &Slot) -> Idle {
        poll_fn(|context| {
            {
                let mut waker = slot.waker.borrow_mut();
                if !waker
                    .as_ref()
                    .is_some_and(|waker| waker.will_wake(context.waker()))
                {
                    *waker = Some(context.waker().clone());
                }
            }
            // Whatever a server says to somebody who has asked nothing ends the connection.
            let mut scratch = self.scratch.borrow_mut();
            let closed = Pin::new(&mut *stream)
                .poll_read(context, &mut ReadBuf::new(&mut scratch))
                .is_ready();
            let job = slot.job.take();
            if closed || slot.retired.get() {
                return Poll::Ready(Idle::Closed(job));
            }
            job.map_or(Poll::Pending, |job| Poll::Ready(Idle::Work(job)))
        })
        .await
    }

    /// Sends a request and reads its answer; says how it ended, and whether the connection can be used again.
    async fn exchange(
        &self,
        stream: &mut Stream,
        wire: &mut Wire,
        job: &Job,
        started: Instant,
    ) -> (End, bool) {
        let Wire {
            reader,
            out,
            deadline,
        } = wire;
        let shot = &job.shot;
        reader.begin(&shot.method, shot.keep);
        out.clear();
        out.extend_from_slice(&shot.head);
        if let Some(span) = &job.span {
            out.extend_from_slice(b"traceparent: ");
            out.extend_from_slice(span.traceparent().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&shot.body);
        deadline
            .as_mut()
            .reset((started + self.manner.timeout).into());
        let mut written = 0;
        let mut flushed = false;
        let result = poll_fn(|context| {
            if let Err(error) = write(stream, context, out, &mut written, &mut flushed) {
                return Poll::Ready(Ok(Err(failed(reader, &error))));
            }
            if let Poll::Ready(result) = self.read(stream, context, reader) {
                return Poll::Ready(Ok(result));
            }
            deadline.as_mut().poll(context).map(Err)
        })
        .await;
        match result {
            Err(()) => (End::TimedOut, false),
            Ok(Err(end)) => (end, false),
            Ok(Ok(reusable)) => {
                let status = reader
                    .status()
                    .and_then(|status| StatusCode::from_u16(status).ok());
                match status {
                    // An answer to half a request leaves the other half in the way of the next one.
                    Some(status) => (shot.answered(status), reusable && flushed),
                    None => (
                        End::Failed(
                            Failure::Exchange,
                            "an answer with an impossible status".to_owned(),
                        ),
                        false,
                    ),
                }
            }
        }
    }

    /// Reads as much of an answer as there is; whether the connection can be used again, once it is whole.
    fn read(
        &self,
        stream: &mut Stream,
        context: &mut Context<'_>,
        reader: &mut Reader,
    ) -> Poll<Result<bool, End>> {
        let mut scratch = self.scratch.borrow_mut();
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            let progress = match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(failed(reader, &error))),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => reader.end(),
                Poll::Ready(Ok(())) => reader.feed(buffer.filled()),
            };
            match progress {
                Ok(Progress::More) => {}
                Ok(Progress::Whole { reusable }) => return Poll::Ready(Ok(reusable)),
                Err(error) => {
                    return Poll::Ready(Err(End::Failed(where_failed(reader), error.to_string())));
                }
            }
        }
    }

    /// Tells everybody what became of a request.
    pub(crate) fn ended(&self, job: Job, started: Instant, end: End, kept: Option<Kept>) {
        let ended = Instant::now();
        let trace = job.span.and_then(|span| {
            let trace = span.recorded_trace();
            span.end(&end);
            trace
        });
        if let Some(reply) = job.reply {
            // The journey is gone once the run is stopped; then nobody needs to know.
            let _ = reply.send(Reply {
                end: end.clone(),
                ended,
                kept,
            });
        }
        self.ledger.ended(crate::outcome::Outcome {
            intended: job.intended,
            started,
            ended,
            end,
            trace,
            route: job.shot.route,
            arrival: job.arrival,
        });
    }
}

/// What a connection has for one request after the other.
struct Wire {
    reader: Reader,
    out: Vec<u8>,
    deadline: Pin<Box<Sleep>>,
}

enum Idle {
    Work(Job),
    Closed(Option<Job>),
}

/// Writes as much of a request as goes.
fn write(
    stream: &mut Stream,
    context: &mut Context<'_>,
    out: &[u8],
    written: &mut usize,
    flushed: &mut bool,
) -> io::Result<()> {
    while *written < out.len() {
        match Pin::new(&mut *stream).poll_write(context, &out[*written..]) {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(count)) => *written += count,
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => return Ok(()),
        }
    }
    if !*flushed {
        match Pin::new(&mut *stream).poll_flush(context) {
            Poll::Ready(done) => {
                done?;
                *flushed = true;
            }
            Poll::Pending => {}
        }
    }
    Ok(())
}

fn failed(reader: &Reader, error: &io::Error) -> End {
    End::Failed(where_failed(reader), innermost(error))
}

fn where_failed(reader: &Reader) -> Failure {
    if reader.status().is_some() {
        Failure::Body
    } else {
        Failure::Exchange
    }
}

/// Whether it was the other side that did not take the connection, or this one that had no room for it.
pub(crate) fn unconnected(error: &io::Error) -> Failure {
    // EMFILE and ENFILE: no more files may be open; EADDRNOTAVAIL: no port is free.
    const LOCAL: [i32; 3] = [
        nix::errno::Errno::EMFILE as i32,
        nix::errno::Errno::ENFILE as i32,
        nix::errno::Errno::EADDRNOTAVAIL as i32,
    ];
    if error
        .raw_os_error()
        .is_some_and(|code| LOCAL.contains(&code))
    {
        Failure::Local
    } else {
        Failure::Connect
    }
}

/// What happened at the bottom ("Connection refused"), without the layers above it.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The part of `whole` that falls to one of several, at least one.
fn share(whole: usize, index: usize, of: usize) -> usize {
    (whole.saturating_sub(index)).div_ceil(of).max(1)
}
