//! What the inbox is a part of: the pages around its own.

use std::{fmt, sync::Arc};

use actix_web::{HttpResponse, web};
use maud::Markup;

/// The pages around those of the inbox.
#[derive(Clone)]
pub struct Site {
    /// Makes a page of a part: the same head and navigation for all of them.
    pub frame: fn(Part) -> HttpResponse,
    /// Registers the other pages.
    pub routes: Arc<dyn Fn(&mut web::ServiceConfig) + Send + Sync>,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").finish_non_exhaustive()
    }
}

/// What the inbox has to say on a page.
#[derive(Debug)]
pub struct Part {
    /// What the page is called.
    pub title: String,
    /// Where it belongs.
    pub area: Area,
    /// What stands on it.
    pub main: Markup,
}

/// A part of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// What was received.
    Inbox,
    /// The documents that messages link to.
    Docs,
}
