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
    Some(rendered(&text, "docs"))
}

/// A text in Markdown as a part of a page. Its links are those of a file in this folder of the project: they lead to the pages of
/// what is shown here, and the words of others are no links.
#[must_use]
pub fn rendered(text: &str, folder: &str) -> Markup {
    html! { div.document { (PreEscaped(html_of(text, folder))) } }
}

/// Where a link of a file in a folder leads among the pages.
fn page_of(link: &str, folder: &str) -> Option<String> {
    if link.starts_with('#') || link.contains("://") {
        return Some(link.to_owned());
    }
    let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()?),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    let page = match parts[..] {
        ["docs", name] if name.ends_with(".md") => format!("/docs/{name}"),
        ["docs", "dashboard-screenshots", "README.md"] | ["grafana", "dashboards"] => {
            "/dashboards".to_owned()
        }
        ["labs", "README.md"] => "/labs".to_owned(),
        ["labs", name, "README.md"] => format!("/labs/{name}"),
        _ => return None,
    };
    Some(match fragment {
        "" => page,
        fragment => format!("{page}#{fragment}"),
    })
}

fn html_of(text: &str, folder: &str) -> String {
    let options = Options::ENABLE_TABLES;
    let mut kept = Vec::new();
    let linked = Parser::new_ext(text, options).filter_map(|mut event| {
        match &mut event {
            Event::Start(Tag::Link { dest_url, .. }) => {
                let page = page_of(dest_url, folder);
                kept.push(page.is_some());
                *dest_url = page?.into();
            }
            Event::End(TagEnd::Link) if !kept.pop()? => return None,
            _ => {}
        }
        Some(event)
    });
    let mut events: Vec<Event<'_>> = linked.collect();
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
    let page = page.replace("<th></th>", "<td></td>");
    // What is wider than the page is moved by those who have no mouse, too.
    page.replace("<pre>", "<pre tabindex=\"0\">")
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
        let page = html_of(
            "## HighErrorRate\n\ntext\n\n### Is it `true`?\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
            "docs",
        );
        assert!(page.contains("<h2 id=\"higherrorrate\">"), "{page}");
        assert!(page.contains("<h3 id=\"is-it-true\">"), "{page}");
        assert!(page.contains("<td>1</td>"), "{page}");
    }

    #[test]
    fn links_lead_to_pages_or_are_words() {
        for (link, folder, page) in [
            ("slo.md", "docs", Some("/docs/slo.md")),
            ("#top", "docs", Some("#top")),
            ("https://sre.google/", "docs", Some("https://sre.google/")),
            ("../elk/README.md", "docs", None),
            ("../../../etc/passwd", "docs", None),
            (
                "../../docs/traces.md#sampling",
                "labs/01-a",
                Some("/docs/traces.md#sampling"),
            ),
            ("../README.md", "labs/01-a", Some("/labs")),
            ("../02-b/README.md", "labs/01-a", Some("/labs/02-b")),
        ] {
            assert_eq!(page_of(link, folder).as_deref(), page, "{link} in {folder}");
        }
        let page = html_of("[a](../x.rs) and [b](b.md)\n\n```sh\nls\n```\n", "docs");
        assert!(
            page.contains("<p>a and <a href=\"/docs/b.md\">b</a></p>"),
            "{page}"
        );
        assert!(page.contains("<pre tabindex=\"0\">"), "{page}");
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
