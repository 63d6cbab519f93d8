//! Which field of a request is wrong, and how.

use std::fmt::Write as _;

use actix_web::http::StatusCode;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use serde_path_to_error::{Path, Segment};

use crate::Problem;

/// Characters of a name or a message that are repeated to whoever sent them.
const LONGEST: usize = 200;

/// A field of a request that cannot be accepted: one of the `errors` of a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Name of a parameter or header, or path in the body, for example `items[0].quantity`.
    pub field: String,
    /// The same place in the body as a JSON pointer in a URI fragment (RFC 6901, 6): `#/items/0/quantity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// What is wrong with it.
    pub message: String,
}

impl FieldError {
    /// A parameter in the path or behind the question mark, or a header.
    pub fn parameter(name: &str, message: impl Into<String>) -> Self {
        Self {
            field: cut(name),
            pointer: None,
            message: message.into(),
        }
    }

    /// A place in the body, as `items[0].quantity`: names without special characters, and indices.
    pub fn body(path: &str, message: impl Into<String>) -> Self {
        let mut pointer = String::from("#");
        for segment in path.split(['.', '[']).filter(|segment| !segment.is_empty()) {
            pointer.push('/');
            pointer.push_str(segment.trim_end_matches(']'));
        }
        Self {
            field: cut(path),
            pointer: Some(pointer),
            message: message.into(),
        }
    }

    /// A place in the body that may have names of the client's own choice.
    fn at(path: &Path, message: &str) -> Self {
        let (mut field, mut pointer) = (String::new(), String::from("#"));
        for segment in path {
            match segment {
                Segment::Seq { index } => {
                    let _ = write!(field, "[{index}]");
                    let _ = write!(pointer, "/{index}");
                }
                Segment::Map { key } | Segment::Enum { variant: key } => {
                    if !field.is_empty() {
                        field.push('.');
                    }
                    field.push_str(key);
                    pointer.push('/');
                    pointer.push_str(&escaped(key));
                }
                Segment::Unknown => {}
            }
        }
        Self {
            field: cut(&field),
            pointer: Some(cut(&pointer)),
            message: cut(message),
        }
    }
}

/// A key in a JSON pointer in a URI fragment.
fn escaped(key: &str) -> String {
    let mut escaped = String::with_capacity(key.len());
    for byte in key.replace('~', "~0").replace('/', "~1").bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                escaped.push(char::from(byte));
            }
            other => drop(write!(escaped, "%{other:02X}")),
        }
    }
    escaped
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Reads a value out of a JSON body that is well-formed (`web::Json<Box<RawValue>>`).
///
/// # Errors
/// A 400 that names the first field that is missing, unknown or of another type.
pub fn read_json<T: DeserializeOwned>(body: &RawValue) -> Result<T, Problem> {
    let mut text = serde_json::Deserializer::from_str(body.get());
    serde_path_to_error::deserialize(&mut text).map_err(|error| {
        // Where in the text it was found says less than the path does.
        let reason = error.inner().to_string();
        let reason = reason.split(" at line ").next().unwrap_or_default();
        let error = FieldError::at(error.path(), reason);
        let detail = match error.field.as_str() {
            "" => format!("the body is not as expected: {}", error.message),
            field => format!("{field} is not as expected: {}", error.message),
        };
        Problem::new(StatusCode::BAD_REQUEST)
            .kind("invalid-body")
            .detail(detail)
            .with("errors", [error])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_body_is_a_pointer_too() {
        for (path, pointer) in [
            ("", "#"),
            ("items", "#/items"),
            ("items[0].quantity", "#/items/0/quantity"),
            ("a.b[12]", "#/a/b/12"),
        ] {
            let error = FieldError::body(path, "no");
            assert_eq!(error.pointer.as_deref(), Some(pointer));
        }
    }

    #[test]
    fn whatever_a_client_calls_a_field_stays_a_pointer_of_bounded_length() {
        assert_eq!(escaped("a/b~c d\u{e9}"), "a~1b~0c%20d%C3%A9");
        assert_eq!(cut(&"\u{e9}".repeat(500)).chars().count(), LONGEST + 3);
    }
}
