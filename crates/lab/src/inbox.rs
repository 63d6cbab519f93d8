//! `lab inbox`: what Alertmanager sent, and bad days for those whom it sends to.

use std::{process::ExitCode, time::Duration};

use ::inbox::{Channel, Message, Refusal, Status, Trouble};
use anyhow::{Context, bail};
use clap::Subcommand;
use comfy_table::{ContentArrangement, Table, presets};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use stack::{HOST, State};
use terminal::style;

use crate::place::{Place, Usage};

/// Show what Alertmanager sent to the stand-ins of Slack, PagerDuty and the mail server.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lab inbox                               every message, oldest first
  lab inbox --channel pagerduty --json | jq '.messages[].payload.payload.summary'
  lab inbox --alert HighErrorRate --status resolved
  lab inbox break slack down --for 5m     every connection is cut; nothing may be lost
  lab inbox mend                          all channels answer as they should
  lab inbox clear

The same as a page: http://127.0.0.1:8000/inbox")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Only this way of telling
    #[arg(long, value_enum, value_name = "CHANNEL")]
    channel: Option<Channel>,
    /// Only this receiver of alertmanager.yml
    #[arg(long, value_name = "NAME")]
    receiver: Option<String>,
    /// Only messages about this alert
    #[arg(long, value_name = "NAME")]
    alert: Option<String>,
    /// Only of problems, or only of their ends
    #[arg(long, value_enum, value_name = "STATUS")]
    status: Option<Status>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Give a channel a bad day, for a while
    Break {
        /// Which channel
        #[arg(value_enum)]
        channel: Channel,
        /// What is wrong with it
        #[arg(value_enum)]
        trouble: Trouble,
        /// How long: 30s, 5m; an hour at most
        #[arg(long = "for", value_name = "TIME", default_value = "1m", value_parser = time)]
        time: Duration,
    },
    /// End a channel's bad day, or all of them
    Mend {
        /// Only this channel
        #[arg(value_enum)]
        channel: Option<Channel>,
    },
    /// Forget every message
    Clear,
}

fn time(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "not a time; write 30s or 5m".to_owned())?;
    match Duration::try_from(span) {
        Ok(time) if time >= Duration::from_secs(1) && time <= ::inbox::LONGEST => Ok(time),
        _ => Err("a second at least, an hour at most".into()),
    }
}

/// What `GET /inbox/api/messages` answers.
#[derive(Debug, Deserialize)]
struct Found {
    messages: Vec<Message>,
    refused: Vec<Refusal>,
    dead_mans_switch: Value,
}

pub(crate) fn inbox(place: &Place, args: &Args) -> anyhow::Result<ExitCode> {
    let filters = [
        args.channel.is_some(),
        args.receiver.is_some(),
        args.alert.is_some(),
        args.status.is_some(),
        args.json,
    ];
    if args.action.is_some() && filters.contains(&true) {
        return Err(Usage("--channel, --receiver, --alert, --status and --json choose what is shown; `break`, `mend` and `clear` show nothing".into()).into());
    }
    let api = Api::of(place)?;
    match &args.action {
        None => show(&api, args),
        Some(Action::Clear) => {
            api.ask(Method::DELETE, "messages", &[], None)?;
            println!("the inbox is empty");
            Ok(ExitCode::SUCCESS)
        }
        Some(Action::Break {
            channel,
            trouble,
            time,
        }) => {
            let seconds = time.as_secs();
            let body = json!({ "channel": channel, "trouble": trouble, "for_seconds": seconds });
            api.ask(Method::PUT, "behaviour", &[], Some(body))?;
            println!(
                "{} is {} for {seconds} s; `lab inbox mend` ends it before",
                channel.name(),
                trouble.name()
            );
            Ok(ExitCode::SUCCESS)
        }
        Some(Action::Mend { channel }) => {
            for channel in channel.map_or(Channel::ALL.to_vec(), |it| vec![it]) {
                let body = json!({ "channel": channel, "trouble": null });
                api.ask(Method::PUT, "behaviour", &[], Some(body))?;
                println!("{} answers as it should", channel.name());
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn show(api: &Api, args: &Args) -> anyhow::Result<ExitCode> {
    let status = args.status.map(|it| match it {
        Status::Firing => "firing",
        Status::Resolved => "resolved",
    });
    let wanted = [
        ("channel", args.channel.map(Channel::name)),
        ("receiver", args.receiver.as_deref()),
        ("alert", args.alert.as_deref()),
        ("status", status),
    ];
    let query: Vec<(&str, &str)> = wanted
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let answer = api.ask(Method::GET, "messages", &query, None)?;
    if args.json {
        println!("{answer:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let found: Found = serde_json::from_value(answer)
        .context("the inbox answers something else; is it another version?")?;
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["RECEIVED", "CHANNEL", "RECEIVER", "STATUS", "ALERTS"]);
    for message in &found.messages {
        table.add_row([
            message.received_at.strftime("%F %T").to_string(),
            message.channel.name().into(),
            message.receiver.clone(),
            match message.status {
                Status::Firing => style("firing").red().to_string(),
                Status::Resolved => style("resolved").green().to_string(),
            },
            message.alerts.join(" "),
        ]);
    }
    if found.messages.is_empty() {
        println!("no message; `lab chaos start errors --probability 1 --for 6m` brings one");
    } else {
        println!("{table}");
    }
    for refusal in &found.refused {
        println!(
            "{} {} refused {} {}",
            refusal.received_at.strftime("%F %T"),
            refusal.channel.name(),
            refusal.answer,
            refusal.reason
        );
    }
    let switch = &found.dead_mans_switch;
    println!(
        "\ndead man's switch: {}, last heard {}",
        switch["state"].as_str().unwrap_or("?"),
        switch["last_heard"].as_str().unwrap_or("never")
    );
    Ok(ExitCode::SUCCESS)
}

/// The inbox of a running lab.
struct Api {
    base: String,
    http: reqwest::Client,
}

impl Api {
    fn of(place: &Place) -> anyhow::Result<Self> {
        let board = place.running()?;
        let Some(console) = board.get("console") else {
            return Err(Usage(
                "the lab that runs here has no console; start it without `--without console`"
                    .into(),
            )
            .into());
        };
        if console.state != State::Ready {
            bail!("the console is {}; `lab status` tells why", console.state);
        }
        let port = console.ports["http"];
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self {
            base: format!("http://{HOST}:{port}/inbox/api"),
            http,
        })
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let mut request = self
            .http
            .request(method, format!("{}/{path}", self.base))
            .query(query);
        if let Some(body) = body {
            request = request.json(&body);
        }
        crate::block_on(async {
            let answer = request.send().await.context("the inbox does not answer")?;
            match answer.status() {
                StatusCode::NO_CONTENT => Ok(Value::Null),
                status if status.is_success() => Ok(answer.json().await?),
                status => bail!(
                    "the inbox answers {status}: {}",
                    answer.text().await?.trim()
                ),
            }
        })?
    }
}
