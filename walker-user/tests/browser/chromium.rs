//! A headless Chromium with one page, driven through the DevTools protocol over a pipe: real input,
//! and all that the page says on its console.
//!
//! The protocol is <https://chromedevtools.github.io/devtools-protocol/>; over a pipe, messages are
//! JSON texts that end with a zero byte.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use tempfile::TempDir;

/// No answer takes this long, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(120);
/// The size of the window in pixels.
pub(crate) const WIDTH: u32 = 1280;
pub(crate) const HEIGHT: u32 = 900;

/// The program, if there is one. A test may be told which with `CHROMIUM`.
pub(crate) fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|program| program.is_file())
}

/// A browser that shows one page. It ends when this is dropped.
pub(crate) struct Page {
    browser: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    last_id: u64,
    /// What the page complained about: errors, warnings and exceptions, as they were reported.
    complaints: Vec<String>,
    _folder: TempDir,
}

impl Page {
    /// A page in the size of [`WIDTH`] and [`HEIGHT`], still empty.
    pub(crate) fn new() -> Self {
        let program = program().expect("the tests are ignored without a browser");
        let folder = tempfile::tempdir().unwrap();
        // The browser talks on descriptors 3 and 4, which a shell can put there.
        let mut browser = Command::new("sh")
            .args([
                "-c",
                "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1",
                "sh",
            ])
            .arg(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu"])
            .args(["--no-first-run", "--disable-extensions"])
            .arg(format!("--user-data-dir={}", folder.path().display()))
            .arg("--remote-debugging-pipe")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = browser.stdin.take().unwrap();
        let output = BufReader::new(browser.stdout.take().unwrap());
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            for message in output.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).unwrap();
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut page = Self {
            browser,
            commands,
            messages,
            session: None,
            last_id: 0,
            complaints: Vec::new(),
            _folder: folder,
        };
        let target = page.call("Target.createTarget", json!({ "url": "about:blank" }));
        let target = target["targetId"].clone();
        let attach = json!({ "targetId": target, "flatten": true });
        let session = page.call("Target.attachToTarget", attach);
        page.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.call(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": false }),
        );
        page
    }

    /// Sends a command and waits for what it returns.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.commands.write_all(&bytes).unwrap();
        loop {
            let message = self.message(method);
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    /// The next message, whatever it is.
    fn message(&mut self, waiting_for: &str) -> Value {
        let message = self.messages.recv_timeout(LIMIT);
        let message = message.unwrap_or_else(|_| panic!("the browser is silent: {waiting_for}"));
        let parameters = &message["params"];
        let kind = parameters["type"].as_str();
        let complains = match message["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Log.entryAdded") => true,
            Some("Runtime.consoleAPICalled") => kind != Some("log"),
            _ => false,
        };
        if complains {
            let exception = &parameters["exceptionDetails"]["exception"]["description"];
            let said = match exception.as_str() {
                Some(exception) => exception.to_owned(),
                None => parameters.to_string(),
            };
            self.complaints.push(said);
        }
        message
    }

    /// Opens a file and waits until it was drawn for the first time.
    pub(crate) fn open(&mut self, file: &Path) {
        self.open_url(&format!("file://{}", file.display()));
    }

    /// The same for any address.
    pub(crate) fn open_url(&mut self, url: &str) {
        self.complaints.clear();
        self.call("Page.navigate", json!({ "url": url }));
        while self.message("load")["method"] != "Page.loadEventFired" {}
        self.evaluate(
            "new Promise(done => {
                const look = () => performance.getEntriesByName('painted').length > 0
                    || !document.getElementById('failure').hidden
                    ? done() : setTimeout(look, 5);
                look();
            })",
        );
    }

    /// What an expression is; of a promise, what it resolves to.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.call(
            "Runtime.evaluate",
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true }),
        );
        let failed = &answer["exceptionDetails"];
        assert!(failed.is_null(), "{expression}: {failed}");
        answer["result"]["value"].clone()
    }

    /// The text of the element with this `id`.
    pub(crate) fn text(&mut self, id: &str) -> String {
        let text = self.evaluate(&format!("document.getElementById('{id}').textContent"));
        text.as_str().unwrap().to_owned()
    }

    /// Waits until all that was changed is drawn.
    pub(crate) fn settle(&mut self) {
        self.evaluate(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))",
        );
    }

    /// Presses a key, such as `a`, `Enter` or `ArrowUp`, with modifiers (2: Ctrl, 8: Shift).
    pub(crate) fn key(&mut self, key: &str, modifiers: u32) {
        let code = match key {
            "Enter" => 13,
            "Tab" => 9,
            "Backspace" => 8,
            "Escape" => 27,
            "Home" => 36,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            _ => 0,
        };
        let mut down = json!({ "type": "keyDown", "key": key, "modifiers": modifiers,
            "windowsVirtualKeyCode": code });
        if key.len() == 1 && modifiers & 2 == 0 {
            down["text"] = key.into();
        }
        self.call("Input.dispatchKeyEvent", down);
        let up = json!({ "type": "keyUp", "key": key, "modifiers": modifiers,
            "windowsVirtualKeyCode": code });
        self.call("Input.dispatchKeyEvent", up);
        self.settle();
    }

    /// Types text where the focus is.
    pub(crate) fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
        self.settle();
    }

    fn mouse(&mut self, kind: &str, (x, y): (f64, f64), buttons: u32) {
        let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": buttons,
            "clickCount": 1 });
        self.call("Input.dispatchMouseEvent", event);
    }

    /// Clicks at a place of the window, in pixels.
    pub(crate) fn click(&mut self, place: (f64, f64)) {
        self.drag(place, place);
    }

    /// Presses the button at a place, and releases it at another.
    pub(crate) fn drag(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.mouse("mouseMoved", from, 0);
        self.mouse("mousePressed", from, 1);
        if from != to {
            self.mouse("mouseMoved", to, 1);
        }
        self.mouse("mouseReleased", to, 0);
        self.settle();
    }

    /// Moves the pointer to a place.
    pub(crate) fn hover(&mut self, place: (f64, f64)) {
        self.mouse("mouseMoved", place, 0);
        self.settle();
    }

    /// The middle of the element with this `id`.
    pub(crate) fn middle(&mut self, id: &str) -> (f64, f64) {
        let place = self.evaluate(&format!(
            "(() => {{ const r = document.getElementById('{id}').getBoundingClientRect();
                return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ));
        (place[0].as_f64().unwrap(), place[1].as_f64().unwrap())
    }

    /// Clicks the element with this `id`.
    pub(crate) fn press(&mut self, id: &str) {
        let place = self.middle(id);
        self.click(place);
    }

    /// Chooses an option of a list.
    pub(crate) fn select(&mut self, id: &str, value: &str) {
        self.evaluate(&format!(
            "(() => {{ const list = document.getElementById('{id}');
                list.value = '{value}'; list.dispatchEvent(new Event('change')); }})()"
        ));
        self.settle();
    }

    /// Which theme the system of the reader has.
    pub(crate) fn prefer(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        );
        self.settle();
    }

    /// What the page complained about since it was opened.
    pub(crate) fn complaints(&mut self) -> &[String] {
        // All that came before an answer has been read with it.
        self.evaluate("0");
        &self.complaints
    }

    /// Keeps a picture of the window in the folder that `STACKWALK_SCREENSHOTS` names, for people
    /// to look at.
    pub(crate) fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("STACKWALK_SCREENSHOTS") else {
            return;
        };
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let png = BASE64_STANDARD
            .decode(answer["data"].as_str().unwrap())
            .unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), png).unwrap();
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // Its children go with it when it is asked, so it is not killed at once.
        let close = b"{\"id\":0,\"method\":\"Browser.close\"}\0";
        if self.commands.write_all(close).is_err() {
            let _ = self.browser.kill();
        }
        while self.messages.recv_timeout(Duration::from_secs(10)).is_ok() {}
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}
