//! Requests that two servers in a row could read differently: refused, and the connection closed.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Running, start};

/// What an attacker wants to be taken for a request of its own.
const HIDDEN: &str = "GET /items/7 HTTP/1.1\r\nHost: a\r\n\r\n";

/// Everything the server answers to these bytes, until it closes the connection or has sent two answers.
async fn answers(service: &Running, bytes: &[u8]) -> String {
    let mut connection = TcpStream::connect(service.address).await.unwrap();
    // It may refuse and close before all is sent.
    let _ = connection.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let read = async {
        while let Ok(read) = connection.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..read]);
            if read == 0 {
                return true;
            }
        }
        true
    };
    let closed = tokio::time::timeout(std::time::Duration::from_secs(20), read)
        .await
        .unwrap_or(false);
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        closed,
        "the connection stays open after {:?}: {text}",
        String::from_utf8_lossy(bytes)
    );
    text
}

/// A request to `POST /items` with these further header lines and this body, and one hidden behind it.
fn post(lines: &str, body: &str) -> Vec<u8> {
    format!("POST /items HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{lines}\r\n\r\n{body}{HIDDEN}").into_bytes()
}

fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let chunked = "0\r\n\r\n";
    let json = r#"{"name":"x"}"#;
    let te = |lines: &str| post(lines, chunked);
    let head = |text: &str| format!("{text}{HIDDEN}").into_bytes();
    vec![
        // CL.TE and TE.CL: both lengths, in either order.
        ("CL.TE", te("Content-Length: 5\r\nTransfer-Encoding: chunked")),
        ("TE.CL", te("Transfer-Encoding: chunked\r\nContent-Length: 5")),
        ("CL.TE, length 0", te("Content-Length: 0\r\nTransfer-Encoding: chunked")),
        // TE.TE: an encoding that only one of two servers recognises.
        ("TE.TE twice", te("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
        ("TE.TE identity", te("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity")),
        ("TE.TE cow", te("Transfer-Encoding: chunked\r\nTransfer-Encoding: cow")),
        ("xchunked", te("Transfer-Encoding: xchunked")),
        ("chunked in a list", te("Transfer-Encoding: identity, chunked")),
        ("chunked, then more", te("Transfer-Encoding: chunked, identity")),
        ("gzip, chunked", te("Transfer-Encoding: gzip, chunked")),
        ("chunked in quotes", te("Transfer-Encoding: \"chunked\"")),
        ("identity alone", te("Transfer-Encoding: identity")),
        ("empty", te("Transfer-Encoding:")),
        ("vertical tab", te("Transfer-Encoding:\x0bchunked")),
        ("form feed", te("Transfer-Encoding: chunked\x0c")),
        ("NUL in the value", te("Transfer-Encoding: chunked\0")),
        ("NUL in the name", te("Transfer-Encoding\0: chunked")),
        ("space before the colon", te("Transfer-Encoding : chunked")),
        ("tab before the colon", te("Transfer-Encoding\t: chunked")),
        ("space before the name", te(" Transfer-Encoding: chunked")),
        ("folded value", te("Transfer-Encoding:\r\n chunked")),
        ("folded header", te("X: y\r\n Transfer-Encoding: chunked")),
        ("bare CR", te("X: y\rTransfer-Encoding: chunked")),
        ("underscore", te("Transfer_Encoding: chunked")),
        ("underscore, and nothing between",post("Transfer_Encoding: chunked","")),("no colon", te("Transfer-Encoding chunked")),
        ("in HTTP/1.0", format!("POST /items HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}{HIDDEN}").into_bytes()),
        // Lengths.
        ("two lengths", post("Content-Length: 12\r\nContent-Length: 0", json)),
        ("the same length twice", post("Content-Length: 12\r\nContent-Length: 12", json)),
        ("a list of lengths", post("Content-Length: 12, 12", json)),
        ("plus", post("Content-Length: +12", json)),
        ("minus", post("Content-Length: -12", json)),
        ("hexadecimal", post("Content-Length: 0xc", json)),
        ("fraction", post("Content-Length: 12.0", json)),
        ("words", post("Content-Length: twelve", json)),
        ("empty length", post("Content-Length:", json)),
        ("overflow", post("Content-Length: 18446744073709551628", json)),
        ("space before the colon of the length", post("Content-Length : 12", json)),
        ("underscore in the length", post("Content_Length: 12", json)),
        ("space inside", post("Content-Length: 1 2", json)),
        // Chunks.
        ("size that is no number", post("Transfer-Encoding: chunked", "zz\r\n")),
        ("size with 0x", post("Transfer-Encoding: chunked", "0xc\r\n{\"name\":\"x\"}\r\n0\r\n\r\n")),
        ("negative size", post("Transfer-Encoding: chunked", "-1\r\n\r\n0\r\n\r\n")),
        ("size overflow", post("Transfer-Encoding: chunked", "10000000000000000c\r\n{\"name\":\"x\"}\r\n0\r\n\r\n")),
        ("chunk longer than its size", post("Transfer-Encoding: chunked", "1\r\n{\"name\":\"x\"}\r\n0\r\n\r\n")),
        ("LF after the size", post("Transfer-Encoding: chunked", "c\n{\"name\":\"x\"}\r\n0\r\n\r\n")),
        ("LF after the chunk", post("Transfer-Encoding: chunked", "c\r\n{\"name\":\"x\"}\n0\r\n\r\n")),
        ("LF in an extension", post("Transfer-Encoding: chunked", "c;a\nb\r\n{\"name\":\"x\"}\r\n0\r\n\r\n")),
        ("space before the size", post("Transfer-Encoding: chunked", " c\r\n{\"name\":\"x\"}\r\n0\r\n\r\n")),
        // Heads.
        ("no host", head("GET /items HTTP/1.1\r\n\r\n")),
        ("two hosts", head("GET /items HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")),
        ("space in the target", head("GET /items /x HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("two spaces", head("GET  /items HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("tab", head("GET\t/items\tHTTP/1.1\r\nHost: a\r\n\r\n")),
        ("HTTP/0.9", head("GET /items\r\n\r\n")),
        ("HTTP/1.2", head("GET /items HTTP/1.2\r\nHost: a\r\n\r\n")),
        ("HTTP/2.0", head("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
        ("lower case version", head("GET /items http/1.1\r\nHost: a\r\n\r\n")),
        ("method with a colon", head("GE:T /items HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("control character in a name", head("GET /items HTTP/1.1\r\nHost: a\r\nX\x01: y\r\n\r\n")),
        ("empty name", head("GET /items HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n")),
        ("non-ASCII name", head("GET /items HTTP/1.1\r\nHost: a\r\nÄ: y\r\n\r\n")),
        ("a tunnel by upgrade", head("GET /items HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n")),
        ("a tunnel by connect", head("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
    ]
}

#[actix_web::test]
async fn what_can_be_read_in_two_ways_is_refused_and_the_connection_closed() {
    let service = start();
    let mut wrong = Vec::new();
    for (name, bytes) in corpus() {
        let text = answers(&service, &bytes).await;
        // What was read along with it is refused as well.
        let refused = text.matches("HTTP/1.1 400 ").count();
        if refused == 0 || refused != text.matches("HTTP/1.1 ").count() {
            wrong.push(format!("{name}: {text}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let hidden = r#"test_requests_total{method="GET",route="/items/{id}",status="200"}"#;
    assert_eq!(
        service.metric(hidden).await,
        0.0,
        "no hidden request was served"
    );
}
