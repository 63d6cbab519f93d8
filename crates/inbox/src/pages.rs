//! The inbox as people see it: each message as its provider would show it.

use maud::{Markup, html};
use serde_json::Value;

use crate::{
    Channel, Inbox, Message, Status,
    dead_mans_switch::{Report, State},
    server::Filter,
};

/// Newest first, and no more than anybody scrolls through.
const SHOWN: usize = 100;

pub(crate) fn inbox(inbox: &Inbox, filter: &Filter) -> Markup {
    let messages = inbox.store.messages();
    let counts = Channel::ALL.map(|channel| {
        let of = messages.iter().filter(|it| it.channel == channel);
        (channel, of.count())
    });
    let shown = messages.iter().rev().filter(|message| {
        filter.channel.is_none_or(|it| it == message.channel)
            && filter
                .receiver
                .as_ref()
                .is_none_or(|it| *it == message.receiver)
            && filter.status.is_none_or(|it| it == message.status)
            && filter
                .alert
                .as_ref()
                .is_none_or(|it| message.alerts.contains(it))
    });
    let shown: Vec<&Message> = shown.take(SHOWN).collect();
    let refusals = inbox.store.refusals();
    html! {
        h1 { "Inbox" }
        p { "What Alertmanager sent to the stand-ins of Slack, PagerDuty and a mail server. Nothing here leaves this machine." }
        (switch(&inbox.switch.report()))
        nav.channels aria-label="Channels" {
            a href="/inbox" aria-current=[filter.channel.is_none().then_some("page")] { "all " span { (messages.len()) } }
            @for (channel, count) in counts {
                a href={ "/inbox?channel=" (channel.name()) } aria-current=[(filter.channel == Some(channel)).then_some("page")] {
                    (channel.name()) " " span { (count) }
                    @if let Some((trouble, left)) = inbox.behaviour.of(channel) {
                        " " strong { (trouble.name()) " for " (left.as_secs()) " s" }
                    }
                }
            }
        }
        @if shown.is_empty() {
            p.empty { "No message yet. Provoke one: " code { "lab chaos start errors --probability 1 --for 6m" } }
        }
        @for message in &shown { (card(message)) }
        @if !refusals.is_empty() {
            h2 { "Refused" }
            p { "As the provider would have refused it; the sender was told so." }
            @for refusal in refusals.iter().rev().take(SHOWN) {
                article.message.refused {
                    p.meta {
                        (refusal.channel.name()) " "
                        @if let Some(receiver) = &refusal.receiver { strong { (receiver) } " " }
                        time { (refusal.received_at.strftime("%F %T")) }
                    }
                    p { @if refusal.answer != 0 { (refusal.answer) " " } code { (refusal.reason) } }
                    details { summary { "What was sent" } pre { (pretty(&refusal.payload)) } }
                }
            }
        }
    }
}

fn switch(report: &Report) -> Markup {
    let (class, text) = match report.state {
        State::Waiting => ("waiting", "waits for the first sign of life"),
        State::Alive => ("alive", "hears that alerting works"),
        State::Silent => (
            "silent",
            "hears nothing: Prometheus or Alertmanager is down",
        ),
    };
    html! {
        p.switch.(class) role="status" {
            "Dead man's switch " (text)
            @if let Some(last) = report.last_heard { ", last " time { (last.strftime("%T")) } " UTC" }
            "."
        }
    }
}

fn card(message: &Message) -> Markup {
    let status = match message.status {
        Status::Firing => "firing",
        Status::Resolved => "resolved",
    };
    html! {
        article.message.(message.channel.name()).(status) {
            p.meta {
                (message.channel.name()) " to "
                a href={ "/inbox?receiver=" (encoded(&message.receiver)) } { (message.receiver) }
                " " time datetime=(message.received_at) { (message.received_at.strftime("%F %T")) " UTC" }
                " " span.status { (status) }
            }
            @match message.channel {
                Channel::Slack => (slack(&message.payload)),
                Channel::Pagerduty => (pagerduty(&message.payload)),
                Channel::Email => (mail(message)),
                Channel::Webhook => p { (text(&message.payload, "text")) },
            }
            details { summary { "What was sent" } pre { (pretty(&message.payload)) } }
        }
    }
}

fn slack(payload: &Value) -> Markup {
    let attachments = payload["attachments"].as_array().into_iter().flatten();
    html! {
        @if let Some(text) = payload["text"].as_str() { p { (mrkdwn(text)) } }
        @for attachment in attachments {
            div.attachment {
                // Not a style, which the pages' policy lets nobody set.
                svg.colour aria-hidden="true" { rect width="100%" height="100%" fill=(colour(text(attachment, "color"))) {} }
                @if let Some(pretext) = attachment["pretext"].as_str() { p { (mrkdwn(pretext)) } }
                h2.title { (link(text(attachment, "title_link"), &unescaped(text(attachment, "title")))) }
                div.text { (mrkdwn(text(attachment, "text"))) }
                @for field in attachment["fields"].as_array().into_iter().flatten() {
                    p.field { strong { (unescaped(text(field, "title"))) } " " (mrkdwn(text(field, "value"))) }
                }
                p.actions {
                    @for action in attachment["actions"].as_array().into_iter().flatten() {
                        (link(text(action, "url"), text(action, "text")))
                    }
                }
                @if !text(attachment, "footer").is_empty() { p.footer { (unescaped(text(attachment, "footer"))) } }
            }
        }
    }
}

fn pagerduty(event: &Value) -> Markup {
    let payload = &event["payload"];
    html! {
        h2.title { (text(event, "event_action")) ": " (text(payload, "summary")) }
        p { span.severity { (text(payload, "severity")) } " at " (text(payload, "source")) ", incident " code { (text(event, "dedup_key").chars().take(12).collect::<String>()) } }
        @if let Some(details) = payload["custom_details"].as_object() {
            dl {
                @for (name, value) in details {
                    dt { (name) }
                    dd { pre { @match value { Value::String(text) => (text), other => (other) } } }
                }
            }
        }
        p.actions {
            @for it in event["links"].as_array().into_iter().flatten() { (link(text(it, "href"), text(it, "text"))) }
        }
    }
}

fn mail(message: &Message) -> Markup {
    let payload = &message.payload;
    let to = payload["to"].as_array().into_iter().flatten();
    let to: Vec<&str> = to.filter_map(Value::as_str).collect();
    html! {
        h2.title { (text(payload, "subject")) }
        p.meta { "from " (text(payload, "from")) " to " (to.join(", ")) }
        @if payload["html"].is_string() {
            // Loaded at once: who prints the page would get empty frames.
            iframe src={ "/inbox/mail/" (message.id) } sandbox="allow-popups" title={ "Mail: " (text(payload, "subject")) } {}
            details { summary { "Plain text" } pre { (text(payload, "text")) } }
        } @else {
            pre { (text(payload, "text")) }
        }
    }
}

fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field].as_str().unwrap_or_default()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Only addresses of the web become links: what is sent may say `javascript:`.
fn link(address: &str, text: &str) -> Markup {
    let safe = address.starts_with("http://") || address.starts_with("https://");
    html! {
        @if safe { a href=(address) rel="noreferrer" { (text) } " " } @else { (text) " " }
    }
}

fn colour(of: &str) -> &str {
    let hex = |text: &str| text.len() <= 6 && text.chars().all(|it| it.is_ascii_hexdigit());
    match of {
        "good" => "#2eb67d",
        "warning" => "#ecb22e",
        "danger" => "#e01e5a",
        of if of.strip_prefix('#').is_some_and(hex) => of,
        _ => "#888",
    }
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

/// Slack's markup, as far as the templates use it: `*bold*`, `<address|text>`, `&lt;`.
fn mrkdwn(text: &str) -> Markup {
    html! {
        @for line in text.lines() {
            @for (number, part) in line.split('*').enumerate() {
                @if number % 2 == 1 { strong { (links(part)) } } @else { (links(part)) }
            }
            br;
        }
    }
}

fn links(text: &str) -> Markup {
    html! {
        @for (number, part) in text.split('<').enumerate() {
            @match (number, part.split_once('>')) {
                (1.., Some((inside, after))) => {
                    @let (address, label) = inside.split_once('|').unwrap_or((inside, inside));
                    (link(address, &unescaped(label))) (unescaped(after))
                }
                _ => (unescaped(part)),
            }
        }
    }
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slacks_markup_is_shown_and_nothing_else() {
        let shown = mrkdwn("*a* &lt;b&gt; <http://c|d>\n<javascript:x|y> <b>").into_string();
        assert!(shown.contains("<strong>a</strong> &lt;b&gt; "), "{shown}");
        assert!(
            shown.contains(r#"<a href="http://c" rel="noreferrer">d</a>"#),
            "{shown}"
        );
        assert!(
            !shown.contains("javascript") && !shown.contains("<b>"),
            "{shown}"
        );
    }

    #[test]
    fn colours_cannot_carry_style() {
        assert_eq!(colour("good"), "#2eb67d");
        assert_eq!(colour("#a1b2c3"), "#a1b2c3");
        assert_eq!(colour("#fff;background:url(x)"), "#888");
        assert_eq!(colour("red"), "#888");
    }
}
