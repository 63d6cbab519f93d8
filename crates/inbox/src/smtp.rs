//! A mail server that keeps every mail and forwards none (RFC 5321).

use std::{slice::Iter, sync::Arc, time::Duration};

use serde_json::{Value, json};
use smtp_proto::{
    Error as Mistake, Request,
    request::receiver::{DataReceiver, RequestReceiver},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::{Channel, Inbox, Trouble, behaviour, mail};

/// Bytes of a mail at most.
const MAIL: usize = 10 * 1024 * 1024;
/// As RFC 5321, section 4.5.3.2.7 has it.
const PATIENCE: Duration = Duration::from_secs(300);
const GREETING: &str = "220 inbox ESMTP keeps every mail and forwards none\r\n";

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, inbox: Arc<Inbox>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let inbox = Arc::clone(&inbox);
                // What goes wrong in a session is the client's affair.
                tokio::spawn(async move { drop(session(stream, &inbox).await) });
            }
            // Out of files, most likely: those that have one will end.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

#[derive(Default)]
struct Envelope {
    greeted: bool,
    from: Option<String>,
    to: Vec<String>,
}

async fn session(mut stream: TcpStream, inbox: &Inbox) -> std::io::Result<()> {
    if refused_all(inbox) {
        return Ok(());
    }
    stream.write_all(GREETING.as_bytes()).await?;
    let mut envelope = Envelope::default();
    let mut requests = RequestReceiver::default();
    let mut mail: Option<(DataReceiver, Vec<u8>)> = None;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read) = timeout(PATIENCE, stream.read(&mut buffer)).await else {
            return stream.write_all(b"421 4.4.2 timed out\r\n").await;
        };
        let read = read?;
        if read == 0 {
            return Ok(());
        }
        let mut bytes: Iter<'_, u8> = buffer[..read].iter();
        loop {
            if let Some((receiver, data)) = &mut mail {
                if !receiver.ingest(&mut bytes, data) {
                    // What is too long is read to its end, or the client would not see the answer.
                    data.truncate(MAIL + 1);
                    break;
                }
                let answer = take(inbox, &envelope, data).await;
                mail = None;
                envelope.from = None;
                envelope.to.clear();
                let Some(answer) = answer else {
                    return Ok(());
                };
                stream.write_all(answer.as_bytes()).await?;
                continue;
            }
            let answer = match requests.ingest(&mut bytes) {
                Err(Mistake::NeedsMoreData { .. }) => break,
                Ok(Request::Quit) => {
                    return stream.write_all(b"221 2.0.0 bye\r\n").await;
                }
                Ok(Request::Data) if envelope.from.is_some() && !envelope.to.is_empty() => {
                    mail = Some((DataReceiver::new(), Vec::new()));
                    "354 end with a dot on a line of its own\r\n".into()
                }
                Ok(request) => envelope.answer(request),
                Err(mistake) => of_mistake(&mistake).into(),
            };
            stream.write_all(answer.as_bytes()).await?;
        }
    }
}

fn refused_all(inbox: &Inbox) -> bool {
    let down = matches!(inbox.behaviour.of(Channel::Email), Some((Trouble::Down, _)));
    if down {
        inbox.refused(Channel::Email, None, (0, "connection cut"), Value::Null);
    }
    down
}

impl Envelope {
    fn answer(&mut self, request: Request<std::borrow::Cow<'_, str>>) -> String {
        let answer = match request {
            Request::Ehlo { host } => {
                *self = Self {
                    greeted: true,
                    ..Self::default()
                };
                return format!(
                    "250-inbox greets {host}\r\n250-SIZE {MAIL}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n"
                );
            }
            Request::Helo { .. } => {
                *self = Self {
                    greeted: true,
                    ..Self::default()
                };
                "250 inbox"
            }
            Request::Mail { .. } if !self.greeted => "503 5.5.1 say EHLO first",
            Request::Mail { .. } if self.from.is_some() => "503 5.5.1 there is a sender already",
            Request::Mail { from } if from.size > MAIL => "552 5.3.4 larger than SIZE says",
            Request::Mail { from } => {
                self.from = Some(from.address.into_owned());
                "250 2.1.0 sender ok"
            }
            Request::Rcpt { .. } if self.from.is_none() => "503 5.5.1 say MAIL first",
            // RFC 5321, section 4.5.3.1.8: at least a hundred.
            Request::Rcpt { .. } if self.to.len() == 100 => "452 4.5.3 too many recipients",
            Request::Rcpt { to } => {
                self.to.push(to.address.into_owned());
                "250 2.1.5 recipient ok"
            }
            Request::Data => "503 5.5.1 say MAIL and RCPT first",
            Request::Rset => {
                self.from = None;
                self.to.clear();
                "250 2.0.0 ok"
            }
            Request::Noop { .. } => "250 2.0.0 ok",
            Request::Vrfy { .. } => "252 2.5.2 cannot tell, but takes every mail",
            _ => "502 5.5.1 not implemented",
        };
        format!("{answer}\r\n")
    }
}

fn of_mistake(mistake: &Mistake) -> &'static str {
    match mistake {
        Mistake::InvalidSenderAddress => "501 5.1.7 no address of a sender\r\n",
        Mistake::InvalidRecipientAddress => "501 5.1.3 no address of a recipient\r\n",
        Mistake::UnsupportedParameter { .. } => "555 5.5.4 parameter not implemented\r\n",
        Mistake::SyntaxError { .. } | Mistake::InvalidParameter { .. } => {
            "501 5.5.4 syntax error\r\n"
        }
        Mistake::ResponseTooLong => "500 5.5.6 line too long\r\n",
        _ => "500 5.5.1 command unknown\r\n",
    }
}

/// The answer to a whole mail; `None` cuts the connection.
async fn take(inbox: &Inbox, envelope: &Envelope, data: &[u8]) -> Option<String> {
    let from = envelope.from.as_deref().unwrap_or_default();
    let summary = || json!({ "from": from, "to": envelope.to, "bytes": data.len() });
    let refuse = |answer: (u16, &str), enhanced: &str| {
        inbox.refused(Channel::Email, None, answer, summary());
        Some(format!("{} {enhanced} {}\r\n", answer.0, answer.1))
    };
    match inbox
        .behaviour
        .of(Channel::Email)
        .map(|(trouble, _)| trouble)
    {
        Some(Trouble::Down) => {
            inbox.refused(Channel::Email, None, (0, "connection cut"), summary());
            return None;
        }
        Some(Trouble::TooMany) => return refuse((450, "rate limited, try again later"), "4.7.1"),
        Some(Trouble::Broken) => return refuse((451, "local error in processing"), "4.3.0"),
        Some(Trouble::Slow) => sleep(behaviour::SLOW).await,
        None => {}
    }
    if data.len() > MAIL {
        return refuse((552, "larger than SIZE says"), "5.3.4");
    }
    match mail::read(from, &envelope.to, data) {
        Err(missing) => refuse(
            (550, &format!("not a mail of RFC 5322: {missing}")),
            "5.6.0",
        ),
        Ok(notification) => match inbox.taken(Channel::Email, notification) {
            Ok(()) => Some("250 2.0.0 kept\r\n".into()),
            Err(_) => Some("452 4.3.1 cannot be stored\r\n".into()),
        },
    }
}
