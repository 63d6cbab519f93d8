//! Servers to send load to, on free ports, each on a thread of its own.

use std::future::pending;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use tokio::sync::watch;

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub query: String,
    pub traceparent: Option<String>,
    pub idempotency_key: Option<String>,
    pub body: Vec<u8>,
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Answers at once, with a JSON body.
    Now(u16, String),
    /// Answers 200 no earlier than this.
    NotBefore(Instant),
    /// Answers 200 once this says so.
    Once(watch::Receiver<bool>),
    /// Never answers.
    Never,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self::Now(status, String::new())
    }
}

type Answering = dyn Fn(usize, &Seen) -> Answer + Send + Sync;

struct State {
    seen: Mutex<Vec<Seen>>,
    answer: Box<Answering>,
}

/// A server; it lives as long as the test process.
pub struct Target {
    pub url: String,
    state: Arc<State>,
}

impl Target {
    /// `answer` is called with the number of the request (from 0) and the request, one at a time.
    pub fn start(answer: impl Fn(usize, &Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(State {
            seen: Mutex::default(),
            answer: Box::new(answer),
        });
        let data = web::Data::from(Arc::clone(&state));
        thread::spawn(move || {
            let server = HttpServer::new(move || {
                App::new()
                    .app_data(data.clone())
                    .default_service(web::to(handle))
            })
            .workers(1)
            .disable_signals()
            .listen(listener)
            .expect("a bound listener");
            actix_web::rt::System::new().block_on(server.run())
        });
        Self { url, state }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn wait_for(&self, requests: usize) {
        eventually("the server sees the requests", || {
            (self.seen().len() >= requests).then_some(())
        });
    }
}

async fn handle(request: HttpRequest, body: web::Bytes, state: web::Data<State>) -> HttpResponse {
    let header = |name| {
        request
            .headers()
            .get(name)
            .map(|value| value.to_str().expect("ASCII").to_owned())
    };
    let seen = Seen {
        method: request.method().to_string(),
        path: request.path().to_owned(),
        query: request.query_string().to_owned(),
        traceparent: header("traceparent"),
        idempotency_key: header("idempotency-key"),
        body: body.into(),
    };
    let answer = {
        let mut all = state.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = (state.answer)(all.len(), &seen);
        all.push(seen);
        answer
    };
    match answer {
        Answer::Now(status, body) => {
            HttpResponse::build(StatusCode::from_u16(status).expect("a status")).body(body)
        }
        Answer::NotBefore(time) => {
            tokio::time::sleep_until(time.into()).await;
            HttpResponse::Ok().finish()
        }
        Answer::Once(mut released) => {
            released
                .wait_for(|released| *released)
                .await
                .expect("the test releases it");
            HttpResponse::Ok().finish()
        }
        Answer::Never => pending().await,
    }
}

/// A server that reads the head of a request, sends `bytes` and hangs up.
pub fn hangs_up_after(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = Vec::new();
            let mut buffer = [0; 1024];
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(length) => head.extend_from_slice(&buffer[..length]),
                }
            }
            let _ = stream.write_all(bytes);
        }
    });
    url
}

/// An address that refuses connections for as long as the returned socket lives.
pub fn refusing() -> (tokio::net::TcpSocket, String) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    // Bound and never listening: nobody else can take the port, and nobody answers there.
    socket
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a free port");
    let url = format!("http://{}", socket.local_addr().expect("an address"));
    (socket, url)
}

/// Asks until there is an answer; gives up after a time no healthy machine needs.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        // The pause between two looks at the condition.
        thread::sleep(Duration::from_millis(5));
    }
}
