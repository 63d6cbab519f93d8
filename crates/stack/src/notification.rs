//! Where Alertmanager's messages go: its configuration with a lab's addresses, and the files that let it in.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use crate::{
    Error, Layout,
    layout::{files_in, link, make_dir, write_atomically, write_secret},
};

/// What the files of `alertmanager/` name: a lab on its usual ports.
const USUAL: Addresses<&str> = Addresses {
    console: "127.0.0.1:8000",
    smtp: "127.0.0.1:1025",
    dashboards: "localhost:3000",
};

/// Where messages go, and where they lead to: `host:port`.
#[derive(Debug)]
pub struct Addresses<Address = String> {
    /// The stand-ins of Slack, PagerDuty and the dead man's switch, and the documents.
    pub console: Address,
    /// The stand-in of a mail server.
    pub smtp: Address,
    /// Grafana, or what draws its dashboards at the same paths.
    pub dashboards: Address,
}

impl Addresses {
    /// A file of `alertmanager/` with these addresses in it.
    #[must_use]
    pub fn addressed(&self, text: &str) -> String {
        text.replace(USUAL.console, &self.console)
            .replace(USUAL.smtp, &self.smtp)
            .replace(USUAL.dashboards, &self.dashboards)
    }
}

/// Puts configuration, templates and secrets into `run`.
///
/// They are the project's own files, for a learner to edit and reload; of those that name an address which is another in this lab it
/// has copies.
pub(crate) fn configure(layout: &Layout, run: &Path, addresses: &Addresses) -> Result<(), Error> {
    make_dir(&run.join("templates"))?;
    let mut files = files_in(&layout.config("alertmanager/templates"), "tmpl")?;
    files.push(layout.config("alertmanager/alertmanager.yml"));
    for file in files {
        let to = match file.extension() {
            Some(ending) if ending == "tmpl" => run.join("templates"),
            _ => run.into(),
        };
        let to = to.join(file.file_name().unwrap_or_default());
        let text = read(&file)?;
        let moved = addresses.addressed(&text);
        if moved == text {
            link(&file, &to)?;
        } else {
            write_atomically(&to, moved.as_bytes())?;
        }
    }
    link(
        &make_secrets(layout, &addresses.console)?,
        &run.join("secrets"),
    )
}

/// Makes the secret files that `alertmanager.yml` names. What is missing is made up and lets in at the lab's own stand-ins; what
/// somebody has put there for a real provider stays.
pub(crate) fn make_secrets(layout: &Layout, console: &str) -> Result<PathBuf, Error> {
    const WEBHOOKS: &str = "/inbox/slack/services/";
    let dir = layout.secrets();
    make_dir(&dir)?;
    let config = read(&layout.config("alertmanager/alertmanager.yml"))?;
    for name in secret_names(&config) {
        let file = dir.join(name);
        let there = std::fs::read_to_string(&file).unwrap_or_default();
        let random = uuid::Uuid::new_v4().simple();
        if name.starts_with("slack-") {
            let ours = format!("http://{console}{WEBHOOKS}");
            // Of this lab when it was on other ports.
            let former = there.starts_with("http://127.0.0.1:") && there.contains(WEBHOOKS);
            if there.trim().is_empty() || (former && !there.starts_with(&ours)) {
                write_secret(&file, &format!("{ours}LAB/{name}/{random}"))?;
            }
        } else if there.trim().is_empty() {
            write_secret(&file, &random.to_string())?;
        }
    }
    Ok(dir)
}

fn secret_names(config: &str) -> BTreeSet<&str> {
    let lines = config.lines().map(str::trim_start);
    let files = lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once("_file: secrets/"));
    files.map(|(_, name)| name.trim()).collect()
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Io {
        doing: "read",
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn project() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    fn addresses(offset: u16) -> Addresses {
        Addresses {
            console: console(offset),
            smtp: format!("127.0.0.1:{}", 1025 + offset),
            dashboards: format!("localhost:{}", 3000 + offset),
        }
    }

    fn console(offset: u16) -> String {
        format!("127.0.0.1:{}", 8000 + offset)
    }

    #[test]
    fn a_lab_on_its_usual_ports_reads_the_projects_files_and_others_have_copies() {
        let data = tempfile::tempdir().unwrap();
        let layout = Layout::new(&project(), data.path(), data.path()).unwrap();
        let run = layout.run_dir("alertmanager");
        let config = run.join("alertmanager.yml");
        for _ in 0..2 {
            configure(&layout, &run, &addresses(0)).unwrap();
            assert!(config.is_symlink());
            configure(&layout, &run, &addresses(7)).unwrap();
            assert!(!config.is_symlink());
            for file in files_in(&run.join("templates"), "tmpl")
                .unwrap()
                .into_iter()
                .chain([config.clone()])
            {
                let text = read(&file).unwrap();
                assert!(
                    [USUAL.console, USUAL.smtp, USUAL.dashboards]
                        .iter()
                        .all(|it| !text.contains(it)),
                    "{}",
                    file.display()
                );
            }
            assert!(read(&config).unwrap().contains("127.0.0.1:1032"));
        }
        let original = read(&layout.config("alertmanager/alertmanager.yml")).unwrap();
        assert!(original.contains(USUAL.console) && original.contains(USUAL.smtp));
    }

    #[test]
    fn without_grafana_one_file_alone_is_a_copy() {
        let data = tempfile::tempdir().unwrap();
        let layout = Layout::new(&project(), data.path(), data.path()).unwrap();
        let run = layout.run_dir("alertmanager");
        let without = Addresses {
            dashboards: console(0),
            ..addresses(0)
        };
        configure(&layout, &run, &without).unwrap();
        let mut files = files_in(&run.join("templates"), "tmpl").unwrap();
        files.push(run.join("alertmanager.yml"));
        files.retain(|file| !file.is_symlink());
        assert_eq!(files, [run.join("templates/addresses.tmpl")]);
        assert_eq!(
            read(&files[0])
                .unwrap()
                .matches("http://127.0.0.1:8000")
                .count(),
            2
        );
    }

    #[test]
    fn secrets_are_private_stay_and_follow_the_lab_to_other_ports() {
        let data = tempfile::tempdir().unwrap();
        let layout = Layout::new(&project(), data.path(), data.path()).unwrap();
        let dir = make_secrets(&layout, &console(0)).unwrap();
        let (page, shop, platform) = (
            dir.join("pagerduty-oncall-first"),
            dir.join("slack-shop"),
            dir.join("slack-platform"),
        );
        let key = read(&page).unwrap();
        assert_eq!(key.trim().len(), 32);
        assert_eq!(page.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let real = "https://hooks.slack.example/services/T/B/X";
        std::fs::write(&platform, real).unwrap();
        let before = read(&shop).unwrap();
        make_secrets(&layout, &console(0)).unwrap();
        assert_eq!(read(&shop).unwrap(), before);
        make_secrets(&layout, &console(7)).unwrap();
        assert!(
            read(&shop)
                .unwrap()
                .starts_with("http://127.0.0.1:8007/inbox/slack/services/LAB/slack-shop/")
        );
        assert_eq!(read(&platform).unwrap(), real);
        assert_eq!(read(&page).unwrap(), key);
    }
}
