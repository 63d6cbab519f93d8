//! A server whose latencies are known before they are measured: a queue with one place that serves a request every
//! 1 / CAPACITY seconds, a fixed way there and back, and one stall. `run.py` compiles it with `rustc -O`.
//!
//! Usage: server CAPACITY DELAY_MS STALL_AFTER_S STALL_S
//!
//! CAPACITY 0 answers at once. The clock of the stall starts with the first request. Prints its address.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

struct Queue {
    service: Duration,
    delay: Duration,
    stall_after: Duration,
    stall: Duration,
    state: Mutex<Option<State>>,
}

struct State {
    begin: Instant,
    free_at: Instant,
}

impl Queue {
    /// When the answer to a request that comes now is to leave.
    fn leaves_at(&self) -> Instant {
        let now = Instant::now();
        let mut state = self.state.lock().expect("no thread panics");
        let state = state.get_or_insert(State {
            begin: now,
            free_at: now,
        });
        let mut start = now.max(state.free_at);
        let stall = state.begin + self.stall_after;
        if start >= stall && start < stall + self.stall {
            start = stall + self.stall;
        }
        state.free_at = start + self.service;
        state.free_at + self.delay
    }
}

fn serve(mut stream: TcpStream, queue: Option<&Queue>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 8192];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        // None of the generators sends a body or more than one request at a time.
        if !buffer[..filled].ends_with(b"\r\n\r\n") {
            continue;
        }
        filled = 0;
        if let Some(queue) = queue {
            let leaves_at = queue.leaves_at();
            thread::sleep(leaves_at.saturating_duration_since(Instant::now()));
        }
        stream.write_all(ANSWER)?;
    }
}

fn main() {
    let numbers: Vec<f64> = std::env::args()
        .skip(1)
        .map(|text| text.parse().expect("a number"))
        .collect();
    let [capacity, delay_ms, stall_after, stall] = numbers[..] else {
        panic!("usage: server CAPACITY DELAY_MS STALL_AFTER_S STALL_S");
    };
    let queue = (capacity > 0.0).then(|| {
        Arc::new(Queue {
            service: Duration::from_secs_f64(1.0 / capacity),
            delay: Duration::from_secs_f64(delay_ms / 1e3),
            stall_after: Duration::from_secs_f64(stall_after),
            stall: Duration::from_secs_f64(stall),
            state: Mutex::new(None),
        })
    });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    println!("http://{}/", listener.local_addr().expect("it is bound"));
    for stream in listener.incoming().flatten() {
        let queue = queue.clone();
        // A connection that breaks is the client's affair.
        thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(move || serve(stream, queue.as_deref()))
            .expect("a thread");
    }
}
