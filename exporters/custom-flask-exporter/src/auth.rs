//! Who may look: HTTP basic authentication against bcrypt hashes.
//!
//! bcrypt is slow on purpose, 50 ms and more. A scrape would pay that every few seconds, so a
//! password that was right once is remembered: not itself, but under a hash with a key that only
//! this process has and that ends with it.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::HttpResponse;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use actix_web::middleware::Next;
use actix_web::web::Data;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bcrypt::HashParts;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use uuid::Uuid;

const CHALLENGE: HeaderValue =
    HeaderValue::from_static("Basic realm=\"custom-flask-exporter\", charset=\"UTF-8\"");

/// Costs of a hash that are accepted. Each step doubles the time: 4 takes a millisecond, 10 some
/// fifty, 16 several seconds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=15;

/// Why a hash cannot be used. The hash is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadHash {
    /// Something else, or the password itself.
    #[error("not a bcrypt hash: make one with `htpasswd -nBC 10 \"\"`")]
    NotBcrypt,
    /// A cost that would keep the exporter busy for longer than a scrape may take.
    #[error("the hash has cost {0}, accepted are 4 to 15: make one with `htpasswd -nBC 10 \"\"`")]
    Cost(u32),
}

/// A keyed digest of a name and a password.
type Fingerprint = [u8; 32];

/// Those who are let in.
#[derive(Debug)]
pub struct Users {
    hashes: BTreeMap<String, String>,
    /// Checked for a name that does not exist, so that the time taken does not tell.
    decoy: String,
    key: [u8; 16],
    /// By name, what was right once: one entry per user at most.
    verified: Mutex<HashMap<String, Fingerprint>>,
    /// Guessing takes one core at most.
    one_at_a_time: Semaphore,
}

impl Users {
    /// Names with their hashes.
    ///
    /// # Errors
    /// The first name whose hash cannot be used.
    pub fn new(hashes: BTreeMap<String, String>) -> Result<Self, (String, BadHash)> {
        let mut highest = *COSTS.start();
        for (user, hash) in &hashes {
            let cost = HashParts::from_str(hash)
                .map_err(|_| (user.clone(), BadHash::NotBcrypt))?
                .get_cost();
            if !COSTS.contains(&cost) {
                return Err((user.clone(), BadHash::Cost(cost)));
            }
            highest = highest.max(cost);
        }
        Ok(Self {
            hashes,
            // Well formed, and nobody knows a password for it.
            decoy: format!("$2b${highest:02}${}", ".".repeat(53)),
            key: Uuid::new_v4().into_bytes(),
            verified: Mutex::default(),
            one_at_a_time: Semaphore::new(1),
        })
    }

    /// Whether this is the password of this user.
    async fn admit(&self, user: &str, password: &str) -> bool {
        let fingerprint = self.fingerprint(user, password);
        if self.is_verified(user, &fingerprint) {
            return true;
        }
        let Ok(_turn) = self.one_at_a_time.acquire().await else {
            return false;
        };
        // The one before may have been the same.
        if self.is_verified(user, &fingerprint) {
            return true;
        }
        let known = self.hashes.get(user);
        let hash = known.unwrap_or(&self.decoy).clone();
        let password = password.to_owned();
        let right =
            tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false))
                .await
                .unwrap_or(false);
        let admitted = right && known.is_some();
        if admitted {
            self.verified
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(user.to_owned(), fingerprint);
        }
        admitted
    }

    fn fingerprint(&self, user: &str, password: &str) -> Fingerprint {
        let mut digest = Sha256::new_with_prefix(self.key);
        // A name holds no colon, so this is read in one way only.
        digest.update(user);
        digest.update(b":");
        digest.update(password);
        digest.finalize().into()
    }

    fn is_verified(&self, user: &str, fingerprint: &Fingerprint) -> bool {
        self.verified
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(user)
            .is_some_and(|verified| verified.ct_eq(fingerprint).into())
    }
}

/// Lets a request through when nobody is asked for a password, or when it has one that is right.
///
/// `/healthz` is open: it tells nothing, and a kubelet has no password.
pub async fn guard<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<impl MessageBody + use<B>>, actix_web::Error> {
    let users = request
        .app_data::<Data<Option<Users>>>()
        .map(|data| Arc::clone(data));
    if let Some(Some(users)) = users.as_deref()
        && request.path() != "/healthz"
    {
        let admitted = match credentials(request.headers().get(AUTHORIZATION)) {
            Some((user, password)) => users.admit(&user, &password).await,
            None => false,
        };
        if !admitted {
            let refused = HttpResponse::Unauthorized()
                .insert_header((WWW_AUTHENTICATE, CHALLENGE))
                .body("a user name and a password are needed\n");
            return Ok(request.into_response(refused).map_into_right_body());
        }
    }
    Ok(next.call(request).await?.map_into_left_body())
}

/// Name and password out of an `Authorization` header of the basic kind.
fn credentials(header: Option<&HeaderValue>) -> Option<(String, String)> {
    let (scheme, encoded) = header?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(hash: &str) -> Result<Users, (String, BadHash)> {
        Users::new(BTreeMap::from([("anna".to_owned(), hash.to_owned())]))
    }

    #[test]
    fn only_hashes_that_can_be_checked_in_time_are_accepted() {
        let digest = "L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u";
        for cost in ["04", "10", "15"] {
            assert!(users(&format!("$2y${cost}${digest}")).is_ok(), "{cost}");
        }
        for (hash, error) in [
            ("secret".to_owned(), BadHash::NotBcrypt),
            (String::new(), BadHash::NotBcrypt),
            (format!("$2y$10${}", &digest[1..]), BadHash::NotBcrypt),
            (format!("$2y$16${digest}"), BadHash::Cost(16)),
            (format!("$2y$31${digest}"), BadHash::Cost(31)),
        ] {
            let refused = users(&hash).expect_err(&hash);
            assert_eq!(refused, ("anna".to_owned(), error));
        }
    }

    #[tokio::test]
    async fn a_password_is_remembered_only_once_it_was_right() {
        let users = users(&bcrypt::hash("right", 4).expect("hashed")).expect("valid");
        for (user, password) in [("anna", "wrong"), ("anna", ""), ("bert", "right")] {
            assert!(!users.admit(user, password).await, "{user} {password}");
        }
        assert!(users.verified.lock().expect("whole").is_empty());

        assert!(users.admit("anna", "right").await);
        assert!(users.is_verified("anna", &users.fingerprint("anna", "right")));
        assert!(users.admit("anna", "right").await);
        assert!(!users.admit("anna", "wrong").await);
        assert!(!users.admit("bert", "right").await);
    }

    #[tokio::test]
    async fn the_decoy_is_a_hash_like_any_other() {
        let users = users(&bcrypt::hash("right", 5).expect("hashed")).expect("valid");
        let decoy = HashParts::from_str(&users.decoy).expect("well formed");
        assert_eq!(decoy.get_cost(), 5, "it takes as long as the others");
        assert!(!bcrypt::verify("anything", &users.decoy).expect("checkable"));
    }

    #[test]
    fn credentials_are_of_the_basic_kind() {
        let read = |text: &str| credentials(Some(&HeaderValue::from_str(text).expect(text)));
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(read("Basic YTpi"), pair("a", "b"));
        assert_eq!(read("basic YTpi"), pair("a", "b"));
        assert_eq!(read("Basic YTpiOmM="), pair("a", "b:c"));
        for wrong in [
            "",
            "Basic",
            "Basic !",
            "Basic YWI=",
            "Bearer YTpi",
            "Basic /w==",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(credentials(None), None);
    }
}
