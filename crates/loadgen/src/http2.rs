//! HTTP/2: many requests at a time on few connections.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use h2::client::SendRequest;
use http::header::{CONNECTION, HOST};
use http::{HeaderName, HeaderValue, Request};
use tokio::sync::Mutex;
use tokio::task::spawn_local;

use crate::client::{Client, Job, innermost, unconnected};
use crate::http1::{KEPT_BODY, Kept};
use crate::outcome::{End, Failure};

/// A server may have so much on its way to one stream and to a whole connection, in bytes, so that the window never
/// is what limits it.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 24;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The connections to one target; requests take turns.
#[derive(Debug)]
pub(crate) struct Connections {
    all: Vec<Rc<Connection>>,
    turn: Cell<usize>,
}

#[derive(Debug, Default)]
struct Connection {
    /// Locked while it is being made: who comes meanwhile waits for it.
    /// With the number of the connection, from 1.
    sender: Mutex<Option<(u64, SendRequest<Bytes>)>>,
}

impl Connections {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            all: (0..count).map(|_| Rc::default()).collect(),
            turn: Cell::new(0),
        }
    }

    fn next(&self) -> &Rc<Connection> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        &self.all[turn % self.all.len()]
    }
}

/// Sends a request, on a task of its own.
pub(crate) fn send(client: &Rc<Client>, connections: &Connections, job: Job) {
    let (client, connection) = (Rc::clone(client), Rc::clone(connections.next()));
    spawn_local(async move {
        let started = Instant::now();
        let (end, kept) =
            match tokio::time::timeout(client.manner.timeout, exchange(&client, &connection, &job))
                .await
            {
                Ok((end, kept)) => (end, kept),
                Err(_) => (End::TimedOut, None),
            };
        client.ended(job, started, end, kept);
    });
}

async fn exchange(client: &Rc<Client>, connection: &Connection, job: &Job) -> (End, Option<Kept>) {
    let mut sender = match connection.ready(client, job.shot.target).await {
        Ok(sender) => sender,
        Err(error) => return (End::Failed(unconnected(&error), innermost(&error)), None),
    };
    let failed = |failure, error: &h2::Error| (End::Failed(failure, innermost(error)), None);
    let shot = &job.shot;
    let request = match request(client, job) {
        Ok(request) => request,
        Err(error) => return (End::Failed(Failure::Exchange, error.to_string()), None),
    };
    let sent = sender.send_request(request, shot.body.is_empty());
    let (response, mut body) = match sent {
        Ok(sent) => sent,
        Err(error) => return failed(Failure::Exchange, &error),
    };
    if !shot.body.is_empty()
        && let Err(error) = body.send_data(shot.body.clone(), true)
    {
        return failed(Failure::Exchange, &error);
    }
    let (head, mut body) = match response.await {
        Ok(response) => response.into_parts(),
        Err(error) => return failed(Failure::Exchange, &error),
    };
    let mut kept = shot.keep.then(|| Kept {
        headers: head.headers,
        body: Vec::new(),
    });
    while let Some(chunk) = body.data().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return failed(Failure::Body, &error),
        };
        if let Some(kept) = &mut kept {
            let room = KEPT_BODY - kept.body.len();
            kept.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        // It fails when the stream has ended, and then there is nothing to make room for.
        let _ = body.flow_control().release_capacity(chunk.len());
    }
    (shot.answered(head.status), kept)
}

impl Connection {
    /// The connection, made when there is none, and ready for one more request.
    async fn ready(&self, client: &Rc<Client>, target: usize) -> io::Result<SendRequest<Bytes>> {
        let made = self.sender.lock().await.clone();
        let closed = match made {
            None => 0,
            Some((number, sender)) => match sender.ready().await {
                Ok(ready) => return Ok(ready),
                Err(_) => number,
            },
        };
        // Nothing has been sent on it. Of all that notice, the first one makes the next connection.
        let mut place = self.sender.lock().await;
        let sender = match &*place {
            Some((number, sender)) if *number > closed => sender.clone(),
            _ => {
                let sender = self.connect(client, target).await?;
                *place = Some((closed + 1, sender.clone()));
                sender
            }
        };
        drop(place);
        sender.ready().await.map_err(io::Error::other)
    }

    async fn connect(&self, client: &Rc<Client>, target: usize) -> io::Result<SendRequest<Bytes>> {
        let stream = client.connect(target).await?;
        let (sender, driver) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(stream)
            .await
            .map_err(io::Error::other)?;
        client.ledger.connected();
        let ledger = Rc::clone(&client.ledger);
        spawn_local(async move {
            // Every request on it hears of an error, too.
            let _ = driver.await;
            ledger.disconnected();
        });
        Ok(sender)
    }
}

fn request(client: &Client, job: &Job) -> Result<Request<()>, http::Error> {
    let shot = &job.shot;
    let target = &client.connector.targets()[shot.target];
    let mut request = Request::builder()
        .method(shot.method.clone())
        .uri(format!(
            "{}://{}{}",
            target.scheme, target.authority, shot.path
        ))
        .version(http::Version::HTTP_2)
        .body(())?;
    let headers = request.headers_mut();
    for (name, value) in &shot.headers {
        // The authority is a field of its own, and connections are no business of requests (RFC 9113, 8.2.2).
        if name != HOST && name != CONNECTION {
            headers.append(name, value.clone());
        }
    }
    if let Some(span) = &job.span {
        headers.insert(TRACEPARENT, HeaderValue::from_str(&span.traceparent())?);
    }
    Ok(request)
}
