//! A collector that speaks just enough OTLP over HTTP, and misbehaves on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use prost::Message;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Takes the spans.
    Accept,
    /// Answers with this status.
    Status(u16),
    /// Answers 503 so many times, then takes the spans.
    BusyFor(u32),
    /// Takes the connection and the request and never answers.
    Silence,
}

pub struct Collector {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    answer: Answer,
    requests: Vec<Request>,
}

/// What one export brought.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub accepted: bool,
    pub resource: BTreeMap<String, String>,
    /// Name, hex trace id, hex span id.
    pub spans: Vec<(String, String, String)>,
}

impl Collector {
    pub fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(Mutex::new(State {
            answer,
            requests: Vec::new(),
        }));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let state = shared.clone();
                let stream = stream.expect("a connection");
                // Ends with an error when the other side goes away, as it may.
                thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { address, state }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().expect("not poisoned").requests.clone()
    }

    /// All spans it answered with success, in order of arrival.
    pub fn spans(&self) -> Vec<(String, String, String)> {
        let requests = self.requests();
        requests
            .into_iter()
            .filter(|request| request.accepted)
            .flat_map(|request| request.spans)
            .collect()
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).expect("a request line").to_owned();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut body = vec![0; headers["content-length"].parse().expect("a length")];
        reader.read_exact(&mut body)?;

        let status = {
            let mut state = state.lock().expect("not poisoned");
            let status = match state.answer {
                Answer::Accept | Answer::BusyFor(0) => Some(200),
                Answer::Status(status) => Some(status),
                Answer::BusyFor(times) => {
                    state.answer = Answer::BusyFor(times - 1);
                    Some(503)
                }
                Answer::Silence => None,
            };
            state
                .requests
                .push(decode(path, headers, &body, status == Some(200)));
            status
        };
        let Some(status) = status else {
            // Keeps the connection until the other side gives up.
            return reader.read_to_end(&mut Vec::new()).map(|_| ());
        };
        write!(
            &mut &*stream,
            "HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n"
        )?;
    }
}

fn decode(path: String, headers: BTreeMap<String, String>, body: &[u8], accepted: bool) -> Request {
    let export = ExportTraceServiceRequest::decode(body).expect("OTLP");
    let mut request = Request {
        path,
        headers,
        accepted,
        resource: BTreeMap::new(),
        spans: Vec::new(),
    };
    for group in export.resource_spans {
        for attribute in group.resource.unwrap_or_default().attributes {
            let value = match attribute.value.and_then(|value| value.value) {
                Some(any_value::Value::StringValue(text)) => text,
                Some(any_value::Value::IntValue(number)) => number.to_string(),
                other => format!("{other:?}"),
            };
            request.resource.insert(attribute.key, value);
        }
        for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            request
                .spans
                .push((span.name, hex(&span.trace_id), hex(&span.span_id)));
        }
    }
    request
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An address at which connections are refused: the port is taken, by a client, and nobody listens.
pub struct Nobody {
    client: TcpStream,
    _server: TcpListener,
}

impl Nobody {
    pub fn there() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let client = TcpStream::connect(server.local_addr().expect("bound")).expect("it listens");
        Self {
            client,
            _server: server,
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.client.local_addr().expect("connected"))
    }
}
