//! A real Chromium for tests: started by them, gone with them.
//!
//! `lab install chromium axe-core` gets it and what judges accessibility. [`Browser::start`] gives a window;
//! [`Browser::complaints`], [`Browser::requests`] and [`Browser::barriers`] say what a person would have run into there.
//!
//! It speaks WebDriver itself, the few commands that are needed: of the crates that do, `thirtyfour` switches on
//! `serde_json/preserve_order` for the whole workspace, so that tests would not run what ships, and `fantoccini` brings code
//! under the MPL.
#![expect(
    clippy::unwrap_used,
    reason = "only tests use this: they may fail anywhere"
)]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use stack::{Group, Guise, Installed, Installer, Layout};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

/// No machine is this slow: whoever waits so long has found a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Widths that pages have to be usable at: a phone's and a desk's.
pub const WIDTHS: [u32; 2] = [390, 1400];

/// Light or dark, as a person's system asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// A window of Chromium. It ends when it is dropped, at the latest with the thread that started it.
pub struct Browser {
    http: reqwest::Client,
    /// Base URL of the WebDriver session.
    session: String,
    /// chromedriver. It holds the pipe without which Chromium ends.
    _group: Group,
    axe: String,
    /// Profile and font cache.
    _dir: TempDir,
}

impl std::fmt::Debug for Browser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Browser")
    }
}

impl Browser {
    /// Opens a window, or none where Chromium is not installed. In CI (`CI` is set) it has to be.
    pub async fn start() -> Option<Self> {
        let (Some(chromium), Some(axe)) = (installed("chromium"), installed("axe-core")) else {
            let text = "Chromium is not installed: `lab install chromium axe-core`";
            assert!(std::env::var_os("CI").is_none(), "{text}");
            // Not a print macro: the harness would keep its output from those who should read it.
            let mut terminal = std::io::stderr();
            writeln!(terminal, "SKIPPED, {text}").unwrap();
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(chromium.home.join("usr/bin/chromedriver"));
        command
            .arg("--port=0")
            .env("LD_LIBRARY_PATH", libraries(&chromium.home))
            .env("FONTCONFIG_FILE", fonts(&chromium.home, dir.path()))
            .env("HOME", dir.path())
            // There is no session bus, and nobody is to look for one.
            .env("DBUS_SESSION_BUS_ADDRESS", "disabled:")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut group = Group::spawn(&mut command, &Guise::PLAIN).unwrap();
        let port = tokio::time::timeout(PATIENCE, port_of(&mut group))
            .await
            .expect("chromedriver says its port");
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let mut browser = Self {
            http,
            session: format!("http://127.0.0.1:{port}/session"),
            _group: group,
            axe: std::fs::read_to_string(axe.program).unwrap(),
            _dir: dir,
        };
        let capabilities = capabilities(&chromium.program, browser._dir.path());
        let session = browser.command("", capabilities).await;
        let id = session["sessionId"].as_str().unwrap();
        browser.session = format!("{}/{id}", browser.session);
        browser.look(WIDTHS[1], Scheme::Light).await;
        browser.open("about:blank").await;
        // What the browser's own first page asked for.
        browser.requests().await;
        Some(browser)
    }

    /// A command of WebDriver, and its value.
    async fn command(&self, path: &str, body: Value) -> Value {
        let answer = self.try_command(path, &body).await;
        answer.unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }

    /// The same, or what WebDriver says is wrong.
    async fn try_command(&self, path: &str, body: &Value) -> Result<Value, Value> {
        let url = format!("{}{path}", self.session);
        let answer = self.http.post(url).json(body).send().await.unwrap();
        let status = answer.status();
        let value = answer.json::<Value>().await.unwrap()["value"].take();
        if status.is_success() {
            Ok(value)
        } else {
            Err(value)
        }
    }

    /// Opens an address and waits until all of it is there.
    pub async fn open(&self, address: &str) {
        self.command("/url", json!({ "url": address })).await;
    }

    /// Clicks, as a person would, what a CSS selector names: what is hidden or covered cannot be clicked.
    ///
    /// # Panics
    /// When it cannot, or is replaced with every attempt.
    pub async fn click(&self, selector: &str) {
        for _ in 0..10 {
            let path = format!("/element/{}/click", self.element(selector).await);
            match self.try_command(&path, &json!({})).await {
                Ok(_) => return,
                // The page brought itself up to date meanwhile: a person clicks on what is there now.
                Err(error) if error["error"] == "stale element reference" => {}
                Err(error) => panic!("{selector}: {error}"),
            }
        }
        panic!("{selector} never stays long enough to be clicked");
    }

    /// Types into what a CSS selector names, in place of what is in it.
    pub async fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.command(&format!("/element/{element}/clear"), json!({}))
            .await;
        self.command(
            &format!("/element/{element}/value"),
            json!({ "text": text }),
        )
        .await;
    }

    /// Presses a key wherever the focus is: a letter, or a code of WebDriver such as `\u{E004}` for the tabulator.
    pub async fn press(&self, key: char) {
        let actions = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": [
            { "type": "keyDown", "value": key }, { "type": "keyUp", "value": key },
        ] }] });
        self.command("/actions", actions).await;
    }

    async fn element(&self, selector: &str) -> String {
        let by = json!({ "using": "css selector", "value": selector });
        let found = self.command("/element", by).await;
        // The one member has a name that the standard fixes.
        let id = found.as_object().unwrap().values().next().unwrap();
        id.as_str().unwrap().to_owned()
    }

    /// Gives the page another width and another scheme.
    pub async fn look(&self, width: u32, scheme: Scheme) {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size)
            .await;
        let value = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// A command of the Chrome DevTools Protocol.
    pub async fn devtools(&self, method: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": method, "params": parameters });
        self.command("/goog/cdp/execute", body).await
    }

    /// What a JavaScript expression is in the page.
    pub async fn value(&self, expression: &str) -> Value {
        self.script("sync", &format!("return ({expression});"))
            .await
    }

    async fn script(&self, how: &str, script: &str) -> Value {
        let body = json!({ "script": script, "args": [] });
        self.command(&format!("/execute/{how}"), body).await
    }

    /// Waits until a JavaScript expression holds in the page.
    ///
    /// # Panics
    /// When it does not within `patience`.
    pub async fn wait(&self, what: &str, expression: &str, patience: Duration) {
        let until = std::time::Instant::now() + patience;
        while self.value(expression).await != Value::Bool(true) {
            let text = self.value("document.body.innerText").await;
            assert!(
                std::time::Instant::now() < until,
                "{what}; the page shows: {text}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What the browser complained about since the last call: errors of scripts, refused and failed loads.
    pub async fn complaints(&self) -> Vec<String> {
        let entries = self.log("browser").await;
        entries
            .iter()
            .filter(|entry| entry["level"] == "WARNING" || entry["level"] == "SEVERE")
            .map(|entry| entry["message"].to_string())
            .collect()
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.command("/se/log", json!({ "type": kind })).await;
        entries.as_array().unwrap().clone()
    }

    /// The addresses of all that pages asked for since the last call.
    pub async fn requests(&self) -> Vec<String> {
        let entries = self.log("performance").await;
        entries
            .into_iter()
            .filter_map(|entry| {
                let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
                let event = &event["message"];
                (event["method"] == "Network.requestWillBeSent").then(|| {
                    event["params"]["request"]["url"]
                        .as_str()
                        .map(str::to_owned)
                })?
            })
            .filter(|address| !address.starts_with("data:"))
            .collect()
    }

    /// What keeps people from reading or using the page, as axe-core finds it at WCAG 2.2 AA: contrast, names, landmarks.
    pub async fn barriers(&self) -> Vec<String> {
        self.script("sync", &self.axe).await;
        let script = r#"
            const done = arguments[arguments.length - 1];
            const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
            axe.run(document, { runOnly: tags, resultTypes: ["violations"] })
               .then((it) => done(it.violations), (error) => done([{ id: "axe", help: String(error), nodes: [] }]));
        "#;
        let found = self.script("async", script).await;
        let found = found.as_array().unwrap().iter();
        found
            .map(|it| {
                let first = &it["nodes"][0];
                format!(
                    "{}: {} ({} times), first {} {}",
                    it["id"].as_str().unwrap_or_default(),
                    it["help"].as_str().unwrap_or_default(),
                    it["nodes"].as_array().map_or(0, Vec::len),
                    first["html"].as_str().unwrap_or_default(),
                    first["failureSummary"].as_str().unwrap_or_default(),
                )
            })
            .collect()
    }

    /// By how many pixels the page is wider than its window.
    pub async fn overflow(&self) -> i64 {
        let wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        self.value(wide).await.as_i64().unwrap()
    }
}

/// A component of the user's cache.
fn installed(name: &str) -> Option<Installed> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let layout = Layout::new(&project, &project, &cache.join("three-pillars")).unwrap();
    let component = stack::table::find(name).unwrap();
    Installer::new(layout).find(component).unwrap()
}

/// Where the libraries lie that were unpacked with Chromium.
fn libraries(home: &Path) -> String {
    let mut dirs = Vec::new();
    for lib in ["usr/lib", "lib"] {
        let entries = std::fs::read_dir(home.join(lib)).into_iter().flatten();
        for dir in entries.flatten().map(|entry| entry.path()) {
            if dir.to_string_lossy().ends_with("-linux-gnu") {
                dirs.push(dir.join("pulseaudio").display().to_string());
                dirs.push(dir.display().to_string());
            }
        }
    }
    dirs.join(":")
}

/// Fonts of the tree alone: a page looks the same on every machine.
fn fonts(home: &Path, dir: &Path) -> PathBuf {
    let file = dir.join("fonts.conf");
    let text = format!(
        "<?xml version=\"1.0\"?>\n<!DOCTYPE fontconfig SYSTEM \"fonts.dtd\">\n<fontconfig><dir>{}</dir><cachedir>{}</cachedir></fontconfig>\n",
        home.join("usr/share/fonts").display(),
        dir.join("fonts").display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// Reads the port that chromedriver chose.
async fn port_of(group: &mut Group) -> u16 {
    let (output, _) = group.take_output();
    let mut lines = BufReader::new(output.unwrap()).lines();
    loop {
        let line = lines.next_line().await.unwrap();
        let line = line.expect("chromedriver ended; does it lack a library?");
        let port = line.split_once("successfully on port ");
        if let Some(port) = port.and_then(|(_, rest)| rest.trim_end_matches('.').parse().ok()) {
            // Whatever else it says is read and forgotten, or it would wait for a reader.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return port;
        }
    }
}

fn capabilities(program: &Path, dir: &Path) -> Value {
    let arguments = [
        "--headless=new",
        // CI runs as root, where Chromium's sandbox does not; it sees the console's pages and no others.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        // Ends with chromedriver, whatever ends that.
        "--remote-debugging-pipe",
        // Nothing of its own to the network, and no name is looked up.
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--hide-scrollbars",
        &format!("--user-data-dir={}", dir.join("profile").display()),
    ];
    json!({ "capabilities": { "alwaysMatch": {
        "goog:chromeOptions": { "binary": program, "args": arguments },
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
    } } })
}
