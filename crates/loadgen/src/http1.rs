//! HTTP/1.1 (RFC 9112) as a client needs it that has one request at a time on a connection: the head of a request
//! as bytes, and a reader of answers that takes them in whatever pieces they come.
//!
//! It does no I/O and, but for answers that are to be kept, allocates nothing per request: this is the path on which
//! loadgen makes its peak.

use std::fmt::Write as _;

use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// A head of an answer longer than this is refused.
const LONGEST_HEAD: usize = 64 * 1024;
/// More fields than this are refused.
const MOST_FIELDS: usize = 128;
/// More of an answer than this is read but not kept.
pub const KEPT_BODY: usize = 1024 * 1024;

/// The head of a request without its last, empty line, so that more fields can follow.
pub fn head(
    method: &Method,
    path: &str,
    authority: &str,
    headers: &HeaderMap,
    body: usize,
    keep_alive: bool,
) -> Vec<u8> {
    let mut head = Vec::with_capacity(256);
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| head.extend_from_slice(part));
    put(&[
        method.as_str().as_bytes(),
        b" ",
        path.as_bytes(),
        b" HTTP/1.1\r\n",
    ]);
    if !headers.contains_key(HOST) {
        put(&[b"host: ", authority.as_bytes(), b"\r\n"]);
    }
    for (name, value) in headers {
        put(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    // A POST without a body says so (RFC 9110, 8.6); other methods need not.
    if body > 0 || matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        let mut length = String::new();
        let _ = write!(length, "{body}");
        put(&[
            CONTENT_LENGTH.as_str().as_bytes(),
            b": ",
            length.as_bytes(),
            b"\r\n",
        ]);
    }
    if !keep_alive {
        put(&[b"connection: close\r\n"]);
    }
    head
}

/// Why what came is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not HTTP/1.
    #[error("not an answer in HTTP/1.1: {0}")]
    Head(httparse::Error),
    /// No end of it in sight.
    #[error("the head of the answer is longer than 64 KiB")]
    LongHead,
    /// RFC 9112, 6.3: such an answer may be an attack.
    #[error("the answer's content-length makes no sense")]
    Length,
    /// RFC 9112, 7.1.
    #[error("the answer is not in the chunks that it announces")]
    Chunk,
    /// The server hung up.
    #[error("the connection was closed before the head of an answer was there")]
    NoHead,
    /// The server hung up.
    #[error("the connection was closed within the body of an answer")]
    CutBody,
}

/// How far an answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is more to come.
    More,
    /// It is whole; whether the connection takes another request.
    Whole {
        /// It does.
        reusable: bool,
    },
}

/// Reads one answer after the other.
#[derive(Debug, Default)]
pub struct Reader {
    state: State,
    /// The begin of a head whose end has not come.
    partial: Vec<u8>,
    without_body: bool,
    persistent: bool,
    status: u16,
    kept: Option<Kept>,
}

/// An answer that is looked into.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Kept {
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body, or the first [`KEPT_BODY`] bytes.
    pub body: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// As many bytes are left.
    Length(u64),
    Chunked(Chunk),
    /// What comes up to the end of the connection.
    ToTheEnd,
    Whole,
}

/// Where in a chunked body (RFC 9112, 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the size: a chunk extension, which means nothing to us, up to the line feed.
    Extension {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// The line break behind the data.
    DataEnd {
        seen_cr: bool,
    },
    /// Trailer fields, up to an empty line; as many bytes of the line so far.
    Trailer {
        length: u64,
    },
}

impl Reader {
    /// Makes ready for the answer to a request; `keep` what is to be looked into.
    pub fn begin(&mut self, method: &Method, keep: bool) {
        self.state = State::Head;
        self.partial.clear();
        self.without_body = *method == Method::HEAD;
        self.status = 0;
        self.kept = keep.then(Kept::default);
    }

    /// The status, once the head is there.
    pub fn status(&self) -> Option<u16> {
        (self.status != 0).then_some(self.status)
    }

    /// What was to be kept.
    pub fn take_kept(&mut self) -> Option<Kept> {
        self.kept.take()
    }

    /// Takes the next bytes of the connection.
    ///
    /// # Errors
    /// When they are no answer.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Progress, Malformed> {
        let mut bytes = bytes;
        let joined;
        if self.state == State::Head {
            if !self.partial.is_empty() {
                self.partial.extend_from_slice(bytes);
                joined = std::mem::take(&mut self.partial);
                bytes = &joined;
            }
            loop {
                let Some(length) = self.head(bytes)? else {
                    if bytes.len() > LONGEST_HEAD {
                        return Err(Malformed::LongHead);
                    }
                    self.partial = bytes.to_vec();
                    return Ok(Progress::More);
                };
                bytes = &bytes[length..];
                // Interim answers (100, 103) precede the answer proper.
                if self.state != State::Head {
                    break;
                }
            }
        }
        self.body(bytes)
    }

    /// Takes the end of the connection.
    ///
    /// # Errors
    /// When the answer is not whole.
    pub fn end(&mut self) -> Result<Progress, Malformed> {
        match self.state {
            State::ToTheEnd | State::Whole => Ok(Progress::Whole { reusable: false }),
            State::Head => Err(Malformed::NoHead),
            State::Length(_) | State::Chunked(_) => Err(Malformed::CutBody),
        }
    }

    /// Reads a head and returns its length; `None` when it is not all there.
    fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut head = httparse::Response::new(&mut fields);
        let length = match head.parse(bytes).map_err(Malformed::Head)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Ok(None),
        };
        let status = head.code.unwrap_or_default();
        if (100..200).contains(&status) && status != 101 {
            return Ok(Some(length));
        }
        self.persistent = head.version == Some(1);
        let mut content_length = None;
        let mut transfer = None;
        for field in head.headers.iter() {
            if field.name.eq_ignore_ascii_case("content-length") {
                let value = number(field.value).ok_or(Malformed::Length)?;
                if content_length
                    .replace(value)
                    .is_some_and(|other| other != value)
                {
                    return Err(Malformed::Length);
                }
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                transfer = Some(field.value);
            } else if field.name.eq_ignore_ascii_case("connection") {
                if has_token(field.value, b"close") {
                    self.persistent = false;
                } else if has_token(field.value, b"keep-alive") {
                    self.persistent = true;
                }
            }
        }
        self.status = status;
        if let Some(kept) = &mut self.kept {
            for field in head.headers.iter() {
                if let (Ok(name), Ok(value)) = (
                    HeaderName::from_bytes(field.name.as_bytes()),
                    HeaderValue::from_bytes(field.value),
                ) {
                    kept.headers.append(name, value);
                }
            }
        }
        self.state = if self.without_body || matches!(status, 204 | 304) {
            State::Whole
        } else if let Some(transfer) = transfer {
            if ends_in_chunked(transfer) {
                State::Chunked(Chunk::Size { size: 0, digits: 0 })
            } else {
                State::ToTheEnd
            }
        } else {
            match content_length {
                Some(0) => State::Whole,
                Some(length) => State::Length(length),
                None => State::ToTheEnd,
            }
        };
        if status == 101 {
            // Another protocol from here on, which nobody asked for.
            self.state = State::Whole;
            self.persistent = false;
        }
        Ok(Some(length))
    }

    fn body(&mut self, mut bytes: &[u8]) -> Result<Progress, Malformed> {
        loop {
            match self.state {
                State::Head => unreachable!("the head has been read"),
                State::Whole => {
                    return Ok(Progress::Whole {
                        // What follows an answer unasked is none that a request can be sent after.
                        reusable: self.persistent && bytes.is_empty(),
                    });
                }
                State::ToTheEnd => {
                    self.keep(bytes);
                    return Ok(Progress::More);
                }
                State::Length(left) => {
                    let (taken, rest) = split(bytes, left);
                    self.keep(taken);
                    bytes = rest;
                    let left = left - taken.len() as u64;
                    if left > 0 {
                        self.state = State::Length(left);
                        return Ok(Progress::More);
                    }
                    self.state = State::Whole;
                }
                State::Chunked(Chunk::Data { left }) => {
                    let (taken, rest) = split(bytes, left);
                    self.keep(taken);
                    bytes = rest;
                    let left = left - taken.len() as u64;
                    if left > 0 {
                        self.state = State::Chunked(Chunk::Data { left });
                        return Ok(Progress::More);
                    }
                    self.state = State::Chunked(Chunk::DataEnd { seen_cr: false });
                }
                State::Chunked(chunk) => {
                    let Some((&byte, rest)) = bytes.split_first() else {
                        return Ok(Progress::More);
                    };
                    bytes = rest;
                    self.state = chunk.next(byte)?;
                }
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if let Some(kept) = &mut self.kept {
            let room = KEPT_BODY - kept.body.len();
            kept.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
}

impl Chunk {
    /// Where `byte` leads, outside of data.
    fn next(self, byte: u8) -> Result<State, Malformed> {
        let next = match (self, byte) {
            (Self::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == 16 {
                    return Err(Malformed::Chunk);
                }
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                Self::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (Self::Size { digits: 0, .. }, _) => return Err(Malformed::Chunk),
            (Self::Size { size, .. } | Self::Extension { size }, b'\n') => {
                if size == 0 {
                    Self::Trailer { length: 0 }
                } else {
                    Self::Data { left: size }
                }
            }
            (Self::Size { size, .. }, b'\r' | b';' | b' ' | b'\t') => Self::Extension { size },
            (Self::Extension { size }, _) => Self::Extension { size },
            (Self::DataEnd { seen_cr: false }, b'\r') => Self::DataEnd { seen_cr: true },
            (Self::DataEnd { .. }, b'\n') => Self::Size { size: 0, digits: 0 },
            (Self::Trailer { length: 0 }, b'\n') => return Ok(State::Whole),
            (Self::Trailer { .. }, b'\n') => Self::Trailer { length: 0 },
            (Self::Trailer { length }, b'\r') => Self::Trailer { length },
            (Self::Trailer { length }, _) if length < LONGEST_HEAD as u64 => {
                Self::Trailer { length: length + 1 }
            }
            _ => return Err(Malformed::Chunk),
        };
        Ok(State::Chunked(next))
    }
}

fn split(bytes: &[u8], at: u64) -> (&[u8], &[u8]) {
    bytes.split_at(usize::try_from(at).map_or(bytes.len(), |at| at.min(bytes.len())))
}

/// Digits and nothing else (RFC 9110, 8.6).
fn number(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok()?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

fn tokens(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn has_token(value: &[u8], token: &[u8]) -> bool {
    tokens(value).any(|one| one.eq_ignore_ascii_case(token))
}

fn ends_in_chunked(value: &[u8]) -> bool {
    tokens(value)
        .next_back()
        .is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]], method: &Method) -> (Result<Progress, Malformed>, Reader) {
        let mut reader = Reader::default();
        reader.begin(method, true);
        let mut progress = Ok(Progress::More);
        for piece in pieces {
            progress = reader.feed(piece);
            if progress != Ok(Progress::More) {
                break;
            }
        }
        (progress, reader)
    }

    const REUSABLE: Result<Progress, Malformed> = Ok(Progress::Whole { reusable: true });
    const LAST: Result<Progress, Malformed> = Ok(Progress::Whole { reusable: false });

    #[test]
    fn answers_are_read_the_same_however_they_are_cut() {
        for (answer, method, progress, status, body) in [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                Method::GET,
                REUSABLE,
                200,
                "ok",
            ),
            (
                "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
                Method::GET,
                REUSABLE,
                200,
                "",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok",
                Method::GET,
                Err(Malformed::Length),
                0,
                "",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
                Method::GET,
                REUSABLE,
                200,
                "ok",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
                Method::GET,
                Err(Malformed::Length),
                0,
                "",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
                Method::GET,
                Err(Malformed::Length),
                0,
                "",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP",
                Method::GET,
                LAST,
                200,
                "ok",
            ),
            (
                "HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 2\r\n\r\nok",
                Method::GET,
                LAST,
                200,
                "ok",
            ),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
                Method::GET,
                LAST,
                200,
                "ok",
            ),
            (
                "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
                Method::GET,
                REUSABLE,
                200,
                "ok",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n",
                Method::HEAD,
                REUSABLE,
                200,
                "",
            ),
            (
                "HTTP/1.1 204 No Content\r\n\r\n",
                Method::GET,
                REUSABLE,
                204,
                "",
            ),
            (
                "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n",
                Method::GET,
                REUSABLE,
                304,
                "",
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 1\r\n\r\nx",
                Method::POST,
                REUSABLE,
                201,
                "x",
            ),
            (
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
                Method::GET,
                LAST,
                101,
                "",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0A;name=\"v\"\r\n0123456789\r\n0\r\n\r\n",
                Method::GET,
                REUSABLE,
                200,
                "abc0123456789",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, Chunked\r\ncontent-length: 1\r\n\r\n1 \r\na\r\n00\r\nt: 1\r\nu: 2\r\n\r\n",
                Method::GET,
                REUSABLE,
                200,
                "a",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\r\n",
                Method::GET,
                Err(Malformed::Chunk),
                200,
                "",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab",
                Method::GET,
                Err(Malformed::Chunk),
                200,
                "a",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n11111111111111111\r\n",
                Method::GET,
                Err(Malformed::Chunk),
                200,
                "",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
                Method::GET,
                Err(Malformed::Chunk),
                200,
                "",
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\nup to the end",
                Method::GET,
                Ok(Progress::More),
                200,
                "up to the end",
            ),
            (
                "SSH-2.0-OpenSSH_9.2\r\n",
                Method::GET,
                Err(Malformed::Head(httparse::Error::Version)),
                0,
                "",
            ),
        ] {
            let bytes = answer.as_bytes();
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let mut cuts = vec![vec![bytes], single];
            cuts.extend((0..bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]));
            for pieces in cuts {
                // Whether more follows unasked can only be seen when it is there.
                let (found, mut reader) = read(&pieces, &method);
                let asked = answer.ends_with("okHTTP") && pieces.len() > 1;
                assert!(
                    found == progress || asked,
                    "{answer:?} in {pieces:?}: {found:?}"
                );
                assert_eq!(reader.status().unwrap_or_default(), status, "{answer:?}");
                let kept = reader.take_kept().expect("it was to be kept");
                assert_eq!(
                    String::from_utf8_lossy(&kept.body),
                    body,
                    "{answer:?} in {pieces:?}"
                );
            }
        }
    }

    #[test]
    fn the_end_of_a_connection_ends_only_an_answer_without_a_length() {
        for (answer, end) in [
            ("", Err(Malformed::NoHead)),
            ("HTTP/1.1 200 OK\r\ncontent-le", Err(Malformed::NoHead)),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok",
                Err(Malformed::CutBody),
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
                Err(Malformed::CutBody),
            ),
            ("HTTP/1.1 200 OK\r\n\r\nok", LAST),
        ] {
            let (_, mut reader) = read(&[answer.as_bytes()], &Method::GET);
            assert_eq!(reader.end(), end, "{answer:?}");
        }
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let mut reader = Reader::default();
        reader.begin(&Method::GET, false);
        let mut result = reader.feed(b"HTTP/1.1 200 OK\r\nx: ");
        let mut fed = 0;
        while result == Ok(Progress::More) {
            result = reader.feed(&[b'x'; 1024]);
            fed += 1024;
            assert!(fed <= LONGEST_HEAD, "{fed}");
        }
        assert_eq!((result, fed), (Err(Malformed::LongHead), LONGEST_HEAD));
    }

    #[test]
    fn one_answer_follows_another() {
        let mut reader = Reader::default();
        for _ in 0..3 {
            reader.begin(&Method::GET, false);
            assert_eq!(reader.status(), None);
            assert_eq!(reader.feed(b"HTTP/1.1 200 OK\r\nconte"), Ok(Progress::More));
            assert_eq!(reader.feed(b"nt-length: 2\r\n\r\nok"), REUSABLE);
            assert_eq!((reader.status(), reader.take_kept()), (Some(200), None));
        }
    }

    #[test]
    fn of_a_long_answer_the_begin_is_kept() {
        let mut reader = Reader::default();
        reader.begin(&Method::GET, true);
        let length = KEPT_BODY + 10;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nx-a: 1\r\n\r\n");
        assert_eq!(reader.feed(head.as_bytes()), Ok(Progress::More));
        assert_eq!(reader.feed(&vec![b'x'; length]), REUSABLE);
        let kept = reader.take_kept().expect("it was to be kept");
        assert_eq!(
            (kept.body.len(), &kept.headers["x-a"]),
            (KEPT_BODY, &HeaderValue::from_static("1"))
        );
    }

    #[test]
    fn heads() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        let text = |method, headers: &HeaderMap, body, keep_alive| {
            String::from_utf8(head(
                &method,
                "/a?b=c",
                "shop:5000",
                headers,
                body,
                keep_alive,
            ))
            .expect("UTF-8")
        };
        assert_eq!(
            text(Method::GET, &headers, 0, true),
            "GET /a?b=c HTTP/1.1\r\nhost: shop:5000\r\nx-a: 1\r\nx-a: 2\r\n"
        );
        assert_eq!(
            text(Method::POST, &HeaderMap::new(), 0, false),
            "POST /a?b=c HTTP/1.1\r\nhost: shop:5000\r\ncontent-length: 0\r\nconnection: close\r\n"
        );
        headers.clear();
        headers.insert(HOST, HeaderValue::from_static("other"));
        assert_eq!(
            text(Method::PUT, &headers, 12, true),
            "PUT /a?b=c HTTP/1.1\r\nhost: other\r\ncontent-length: 12\r\n"
        );
    }
}
