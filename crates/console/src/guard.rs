//! Who may change something: a form of a page that this process made, sent from a page of this console.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, Uri, header},
};
use maud::{Markup, html};
use subtle::ConstantTimeEq as _;

use crate::page::{Page, Place};

/// The name of the form's field.
pub(crate) const FIELD: &str = "token";

/// The secret of this process' forms. A page of another site can send a form here, and cannot know it.
pub(crate) struct FormToken(String);

impl std::fmt::Debug for FormToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FormToken")
    }
}

impl FormToken {
    pub(crate) fn new() -> Self {
        let parts = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
        Self(parts.map(|part| part.simple().to_string()).concat())
    }

    /// What a form has to carry.
    pub(crate) fn field(&self) -> Markup {
        html! { input type="hidden" name=(FIELD) value=(self.0); }
    }

    /// What is answered to a form that is not ours; none to one that may go on.
    pub(crate) fn refusal(
        &self,
        request: &HttpRequest,
        shown: Option<&str>,
    ) -> Option<HttpResponse> {
        if !is_from_here(request) {
            return Some(refused(
                "The form was not sent from a page of this console.",
            ));
        }
        let known =
            shown.is_some_and(|shown| bool::from(shown.as_bytes().ct_eq(self.0.as_bytes())));
        (!known).then(|| {
            refused(
                "The page that the form is of is not of this console as it runs now: load it again.",
            )
        })
    }
}

/// Whether the browser says that a page of this very address sent it. Every browser says so of a form.
fn is_from_here(request: &HttpRequest) -> bool {
    let text = |name| request.headers().get(name)?.to_str().ok();
    let (Some(origin), Some(host)) = (text(header::ORIGIN), text(header::HOST)) else {
        return false;
    };
    origin.parse::<Uri>().is_ok_and(|origin| {
        origin.scheme_str() == Some("http")
            && origin.authority().is_some_and(|it| it.as_str() == host)
    })
}

fn refused(why: &str) -> HttpResponse {
    let main = html! {
        h1 { "Refused" }
        p { (why) }
        p { a href="/break" { "Break things" } }
    };
    Page::new(Place::Break, "Refused", main)
        .with_status(StatusCode::FORBIDDEN)
        .respond()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn status(token: &FormToken, origin: Option<&str>, shown: Option<&str>) -> u16 {
        let request = TestRequest::post().insert_header((header::HOST, "127.0.0.1:8000"));
        let request = match origin {
            Some(origin) => request.insert_header((header::ORIGIN, origin)),
            None => request,
        };
        let refusal = token.refusal(&request.to_http_request(), shown);
        refusal.map_or(200, |answer| answer.status().as_u16())
    }

    #[test]
    fn only_a_form_of_this_process_from_this_address_goes_on() {
        let token = FormToken::new();
        let good = Some(token.0.as_str());
        let here = Some("http://127.0.0.1:8000");
        assert_eq!(status(&token, here, good), 200);
        for origin in [
            None,
            Some("null"),
            Some("http://127.0.0.1:8001"),
            Some("http://localhost:8000"),
            Some("https://127.0.0.1:8000"),
            Some("http://127.0.0.1:8000.evil.invalid"),
        ] {
            assert_eq!(status(&token, origin, good), 403, "{origin:?}");
        }
        let other = FormToken::new();
        for shown in [None, Some(""), Some(other.0.as_str()), Some(&token.0[1..])] {
            assert_eq!(status(&token, here, shown), 403, "{shown:?}");
        }
    }
}
