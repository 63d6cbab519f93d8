//! Where the console finds what it shows.

use std::{collections::BTreeMap, path::PathBuf};

use stack::Layout;

/// The pages people look at, with the inbox of what Alertmanager sends.
///
/// A back end that is not named is shown as not being a part of this stack.
#[derive(Debug, Clone, clap::Args)]
// The inbox has a group of the name that it would have.
#[group(id = "console")]
pub struct Args {
    /// The inbox beside the pages, on the same port
    #[command(flatten)]
    pub inbox: inbox::Args,
    /// Base URL of Prometheus
    #[arg(long, env = "CONSOLE_PROMETHEUS", value_name = "URL")]
    pub prometheus: Option<String>,
    /// Base URL of Alertmanager
    #[arg(long, env = "CONSOLE_ALERTMANAGER", value_name = "URL")]
    pub alertmanager: Option<String>,
    /// Base URL of Jaeger's query service
    #[arg(long, env = "CONSOLE_JAEGER", value_name = "URL")]
    pub jaeger: Option<String>,
    /// Base URL of Elasticsearch
    #[arg(long, env = "CONSOLE_ELASTICSEARCH", value_name = "URL")]
    pub elasticsearch: Option<String>,
    /// Admin port of a replica that can be broken; once for each
    #[arg(long = "admin", env = "CONSOLE_ADMIN", value_name = "NAME=URL", value_delimiter = ',', value_parser = name_and_url)]
    pub admin: Vec<(String, String)>,
    /// File with the secret that lets faults be started
    #[arg(long, env = "CONSOLE_CHAOS_TOKEN_FILE", value_name = "FILE")]
    pub chaos_token_file: Option<PathBuf>,
    /// The clone whose dashboards, objectives and rotation are shown
    #[arg(long, env = "CONSOLE_PROJECT", value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// Data directory of the lab that this is a part of
    #[arg(
        long,
        env = "CONSOLE_DATA_DIR",
        value_name = "DIR",
        requires = "project"
    )]
    pub data_dir: Option<PathBuf>,
    /// Directory of the lab's installed components [default: the data directory]
    #[arg(long, env = "CONSOLE_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// The program that carries drills out and checks labs [default: this one]
    #[arg(long, env = "CONSOLE_LAB", value_name = "FILE")]
    pub lab_program: Option<PathBuf>,
}

fn name_and_url(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, url)) if url.starts_with("http://") || url.starts_with("https://") => {
            Ok((name.to_owned(), url.trim_end_matches('/').to_owned()))
        }
        _ => Err(format!(
            "{text} is not NAME=URL, for example payments=http://127.0.0.1:5110"
        )),
    }
}

impl Args {
    /// The place of the lab that this is a part of.
    pub(crate) fn lab(&self) -> Result<Option<Layout>, stack::Error> {
        let (Some(project), Some(data)) = (&self.project, &self.data_dir) else {
            return Ok(None);
        };
        Layout::new(project, data, self.cache_dir.as_ref().unwrap_or(data)).map(Some)
    }

    /// Admin ports by the names of their replicas.
    pub(crate) fn admin_ports(&self) -> BTreeMap<String, String> {
        self.admin.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_port_is_a_name_and_an_address() {
        let read = name_and_url("payments=http://127.0.0.1:5110/").unwrap();
        assert_eq!(
            read,
            ("payments".to_owned(), "http://127.0.0.1:5110".to_owned())
        );
        for wrong in ["payments", "payments=127.0.0.1:5110", ""] {
            assert!(name_and_url(wrong).unwrap_err().contains("NAME=URL"));
        }
    }
}
