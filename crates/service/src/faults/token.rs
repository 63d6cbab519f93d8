//! The secret that allows to break things.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use subtle::ConstantTimeEq as _;

use crate::Error;

/// Fewer characters can be guessed by trying.
const SHORTEST: usize = 16;
/// A file that is larger is not a token file.
const LONGEST: usize = 1024;

/// What has to be shown to start a fault. It is compared in constant time and never printed.
#[derive(Clone)]
pub struct Token(Box<[u8]>);

impl Token {
    /// Reads a token file: one line of at least 16 visible ASCII characters.
    ///
    /// # Errors
    /// [`Error::Usage`] with the cause and the cure; the content is not repeated.
    pub fn read(file: &Path) -> Result<Self, Error> {
        Self::check(file).map_err(|reason| {
            Error::Usage(format!(
                "the token file {} of --chaos-token-file (CHAOS_TOKEN_FILE) {reason}",
                file.display()
            ))
        })
    }

    /// As [`Token::read`], with the reason alone.
    pub(crate) fn check(file: &Path) -> Result<Self, String> {
        let unreadable = |error: io::Error| format!("cannot be read: {error}");
        let mut text = Vec::new();
        // No more than that, whatever the file is: /dev/zero has no end.
        File::open(file)
            .and_then(|file| file.take(LONGEST as u64 + 1).read_to_end(&mut text))
            .map_err(unreadable)?;
        if text.len() > LONGEST {
            return Err(format!(
                "has more than {LONGEST} bytes, which is too much for a token"
            ));
        }
        let token = text.trim_ascii();
        if token.len() < SHORTEST || !token.iter().all(u8::is_ascii_graphic) {
            return Err(format!(
                "has to hold one line of {SHORTEST} to {LONGEST} visible ASCII characters without spaces; \
                 make one with: (umask 077; head -c 32 /dev/urandom | base64 > FILE)"
            ));
        }
        Ok(Self(token.into()))
    }

    /// A token that is not in a file, for tests within one process.
    pub fn new(token: &str) -> Self {
        Self(token.as_bytes().into())
    }

    pub(super) fn is(&self, shown: &[u8]) -> bool {
        self.0.ct_eq(shown).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = Token::new("0123456789abcdef");
        assert!(token.is(b"0123456789abcdef"));
        for wrong in [
            "",
            "0",
            "0123456789abcdeF",
            "0123456789abcdef0",
            " 0123456789abcdef",
        ] {
            assert!(!token.is(wrong.as_bytes()), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
}
