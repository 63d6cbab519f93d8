//! Whether anybody answers at an address at all. One that takes requests and says nothing holds up the first page that asks it, and
//! not for long; until it answers again, the others know at once.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::{Either, select};
use jiff::Timestamp;
use reqwest::Client;
use tokio::time::timeout;

/// What takes longer may be a hard question, or a sign of silence: it is looked which.
const SOON: Duration = Duration::from_millis(500);
/// Whoever is well answers the easiest question in that time, if only to refuse it.
const LOOK: Duration = Duration::from_secs(1);

/// An address, and since when it is silent.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) url: String,
    http: Client,
    silent: Arc<Mutex<Option<Timestamp>>>,
}

/// Since when nothing is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Silent(Timestamp);

impl std::fmt::Display for Silent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no answer since {} UTC", self.0.strftime("%T"))
    }
}

impl Address {
    pub(crate) fn new(http: &Client, url: &str) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            http: http.clone(),
            silent: Arc::default(),
        }
    }

    /// Waits for what was asked of it, as long as somebody is there.
    pub(crate) async fn answer<T>(&self, asked: impl Future<Output = T>) -> Result<T, Silent> {
        if let Some(since) = *self.silent() {
            return Err(Silent(since));
        }
        let started = Timestamp::now();
        let mut asked = pin!(asked);
        if let Ok(answer) = timeout(SOON, &mut asked).await {
            return Ok(answer);
        }
        match select(asked, pin!(self.is_silent())).await {
            Either::Left((answer, _)) => Ok(answer),
            Either::Right((false, asked)) => Ok(asked.await),
            Either::Right((true, _)) => Err(self.remember(started)),
        }
    }

    /// Asks the easiest question; any answer will do, and so will nobody being there.
    async fn is_silent(&self) -> bool {
        let look = self.http.get(&self.url).timeout(LOOK).send().await;
        look.is_err_and(|error| error.is_timeout())
    }

    /// Remembers the earliest, until a look is answered.
    fn remember(&self, started: Timestamp) -> Silent {
        let mut silent = self.silent();
        if let Some(since) = *silent {
            return Silent(since);
        }
        *silent = Some(started);
        let it = self.clone();
        actix_web::rt::spawn(async move {
            while it.is_silent().await {}
            *it.silent() = None;
        });
        Silent(started)
    }

    fn silent(&self) -> std::sync::MutexGuard<'_, Option<Timestamp>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use futures::FutureExt as _;
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

    use super::*;

    async fn asked(it: &Address) -> Result<String, Silent> {
        let asked = async {
            let answer = it.http.get(format!("{}/it", it.url)).send().await;
            answer.unwrap().text().await.unwrap()
        };
        it.answer(asked).await
    }

    fn address(url: &str) -> Address {
        Address::new(&crate::backend::client().unwrap(), url)
    }

    #[actix_web::test]
    async fn the_first_waits_and_the_others_know_at_once_until_it_answers() {
        // The system takes connections for it, and nobody reads them.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let it = address(&format!("http://{}", listener.local_addr().unwrap()));
        let before = Timestamp::now();
        let silent = asked(&it).await.unwrap_err();
        assert!(silent.0 >= before);
        assert!(
            silent.to_string().starts_with("no answer since "),
            "{silent}"
        );
        assert_eq!(asked(&it).now_or_never(), Some(Err(silent)));

        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nback",
                );
            }
        });
        loop {
            match asked(&it).await {
                Ok(answer) => break assert_eq!(answer, "back"),
                Err(still) => assert_eq!(still, silent),
            }
            actix_web::rt::task::yield_now().await;
        }
    }

    #[actix_web::test]
    async fn a_hard_question_is_waited_for() {
        let server = MockServer::start().await;
        let late = ResponseTemplate::new(200).set_body_string("found");
        Mock::given(path("/it"))
            .respond_with(late.set_delay(SOON + LOOK + LOOK))
            .mount(&server)
            .await;
        assert_eq!(asked(&address(&server.uri())).await.unwrap(), "found");
    }
}
