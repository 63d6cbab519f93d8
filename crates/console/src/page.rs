//! What all pages have around them.

use std::time::Duration;

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
};
use maud::{DOCTYPE, Markup, html};

use crate::assets;

/// Everything comes from this server, nothing stands in the page itself: text that slipped through unescaped could not run.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

/// A part of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Overview,
    Dashboards,
    Explore,
    Break,
    Labs,
    Inbox,
    Docs,
}

impl Place {
    const ALL: [Self; 7] = [
        Self::Overview,
        Self::Dashboards,
        Self::Explore,
        Self::Break,
        Self::Labs,
        Self::Inbox,
        Self::Docs,
    ];

    pub(crate) fn of(area: inbox::Area) -> Self {
        match area {
            inbox::Area::Inbox => Self::Inbox,
            inbox::Area::Docs => Self::Docs,
        }
    }

    fn link(self) -> (&'static str, &'static str) {
        match self {
            Self::Overview => ("/", "Overview"),
            Self::Dashboards => ("/dashboards", "Dashboards"),
            Self::Explore => ("/explore", "Explore"),
            Self::Break => ("/break", "Break things"),
            Self::Labs => ("/labs", "Labs"),
            Self::Inbox => ("/inbox", "Inbox"),
            Self::Docs => ("/docs", "Docs"),
        }
    }
}

/// A page: where it belongs, what it is called, what stands on it.
///
/// Elements with an `id` and the attribute `data-live` are kept up to date by `console.js`, which loads the page again every
/// few seconds and replaces what is inside them, unless somebody is typing there.
#[derive(Debug)]
pub(crate) struct Page {
    place: Place,
    title: String,
    main: Markup,
    status: StatusCode,
    wide: bool,
    refresh: Option<Duration>,
}

impl Page {
    pub(crate) fn new(place: Place, title: impl Into<String>, main: Markup) -> Self {
        Self {
            place,
            title: title.into(),
            main,
            status: StatusCode::OK,
            wide: false,
            refresh: None,
        }
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Uses the whole width of the window.
    pub(crate) fn wide(mut self) -> Self {
        self.wide = true;
        self
    }

    /// What is live on it is drawn anew so often: by `console.js`, or by the browser where there are no scripts.
    pub(crate) fn refreshed(mut self, every: Option<Duration>) -> Self {
        self.refresh = every;
        self
    }

    pub(crate) fn respond(self) -> HttpResponse {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · Three Pillars" }
                    link rel="icon" href=(assets::ICON) type="image/svg+xml";
                    link rel="stylesheet" href=(assets::STYLE);
                    link rel="stylesheet" href=(assets::PICTURES);
                    script src=(assets::SCRIPT) defer {}
                    @if let Some(every) = self.refresh { noscript { meta http-equiv="refresh" content=(every.as_secs()); } }
                }
                body {
                    a.skip href="#main" { "Skip to the page" }
                    header.top {
                        a.brand href="/" { "Three Pillars" }
                        nav aria-label="Pages" {
                            @for place in Place::ALL {
                                @let (href, name) = place.link();
                                a href=(href) aria-current=[(place == self.place).then_some("page")] { (name) }
                            }
                        }
                    }
                    main #main tabindex="-1" .wide[self.wide] data-every=[self.refresh.map(|it| it.as_millis())] { (self.main) }
                }
            }
        };
        HttpResponse::build(self.status)
            .content_type("text/html; charset=utf-8")
            .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            // Not `no-referrer`: browsers then say of a form that it comes from nowhere.
            .insert_header((header::REFERRER_POLICY, "same-origin"))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .body(page.into_string())
    }
}

/// Seconds as people read them.
pub(crate) fn seconds(seconds: f64) -> String {
    match seconds {
        it if it < 120.0 => format!("{it:.0} s"),
        it => format!("{:.0} min", it / 60.0),
    }
}

/// The page of an address that has none.
pub(crate) async fn not_found() -> HttpResponse {
    let main = html! {
        h1 { "There is no such page" }
        p { a href="/" { "Overview" } }
    };
    Page::new(Place::Overview, "No such page", main)
        .with_status(StatusCode::NOT_FOUND)
        .respond()
}
