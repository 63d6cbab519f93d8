//! The documents that the buttons of a message lead to, as pages.

use std::path::Path;

use maud::{Markup, PreEscaped, html};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd};

/// Every document, by its title.
pub(crate) fn index(dir: Option<&Path>) -> Markup {
    let mut documents: Vec<(String, String)> = dir
        .and_then(|dir| std::fs::read_dir(dir).ok())
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?.to_owned();
            let text = read(path.parent()?, &name)?;
            let title = text.lines().find_map(|line| line.strip_prefix("# "));
            Some((title.unwrap_or(&name).to_owned(), name))
        })
        .collect();
    documents.sort();
    html! {
        h1 { "Docs" }
        @if documents.is_empty() {
            p.empty { "There are no documents here; " code { "--docs DIR" } " names their directory." }
        }
        ul.documents {
            @for (title, name) in &documents {
                li { a href={ "/docs/" (name) } { (title) } }
            }
        }
    }
}

/// The text of a document, `None` when there is none of that name.
fn read(dir: &Path, name: &str) -> Option<String> {
    let plain = |it: char| it.is_ascii_alphanumeric() || it == '-';
    let stem = name.strip_suffix(".md")?;
    if stem.is_empty() || !stem.chars().all(plain) {
        return None;
    }
    std::fs::read_to_string(dir.join(name)).ok()
}

/// The page of a document, `None` when there is none of that name.
pub(crate) fn page(dir: &Path, name: &str) -> Option<Markup> {
    let text = read(dir, name)?;
    Some(html! { div.document { (PreEscaped(rendered(&text))) } })
}

fn rendered(text: &str) -> String {
    let options = Options::ENABLE_TABLES;
    let mut events: Vec<Event<'_>> = Parser::new_ext(text, options).collect();
    // Headings get the anchors that they have where the project is hosted: links name those.
    let mut open = None;
    let mut title = String::new();
    for at in 0..events.len() {
        match &events[at] {
            Event::Start(Tag::Heading { .. }) => {
                open = Some(at);
                title.clear();
            }
            Event::Text(text) | Event::Code(text) if open.is_some() => title.push_str(text),
            Event::End(TagEnd::Heading(_)) => {
                if let Some(Event::Start(Tag::Heading { id, .. })) =
                    open.take().map(|start| &mut events[start])
                {
                    *id = Some(CowStr::from(anchor(&title)));
                }
            }
            _ => {}
        }
    }
    let mut page = String::new();
    pulldown_cmark::html::push_html(&mut page, events.into_iter());
    // A column without a name is no heading to those who hear the page.
    page.replace("<th></th>", "<td></td>")
}

fn anchor(title: &str) -> String {
    let kept = title.chars().filter_map(|it| match it {
        ' ' => Some('-'),
        it if it.is_alphanumeric() || it == '-' || it == '_' => Some(it),
        _ => None,
    });
    kept.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_have_the_anchors_that_links_name() {
        let page = rendered(
            "## HighErrorRate\n\ntext\n\n### Is it `true`?\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
        );
        assert!(page.contains("<h2 id=\"higherrorrate\">"), "{page}");
        assert!(page.contains("<h3 id=\"is-it-true\">"), "{page}");
        assert!(page.contains("<td>1</td>"), "{page}");
    }

    #[test]
    fn only_documents_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let docs = dir.path().join("docs");
        std::fs::create_dir(&docs).unwrap();
        std::fs::write(docs.join("a-guide.md"), "# Guide").unwrap();
        std::fs::write(dir.path().join("secret.md"), "secret").unwrap();
        assert!(page(&docs, "a-guide.md").is_some());
        for name in [
            "../secret.md",
            "..",
            ".md",
            "a-guide",
            "b.md",
            "/etc/passwd",
            "a%2fb.md",
        ] {
            assert!(page(&docs, name).is_none(), "{name}");
        }
    }
}
