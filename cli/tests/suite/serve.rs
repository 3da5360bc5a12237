//! `gatefold serve` as an operator runs it: a process that listens, ends with a signal, and continues.
#![cfg(unix)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Stdio};
use std::time::Duration;

use crate::support::{Folder, command, json, refusal, repository};

struct Server {
    child: Child,
    stderr: BufReader<ChildStderr>,
    address: String,
    /// What it said when it began.
    line: String,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let mut all = vec!["serve", "--listen", "127.0.0.1:0", "--device", "cpu"];
        all.extend(args);
        let mut child = command(all).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).unwrap_or_else(|| panic!("{line}")).split(',').next().unwrap();
        Self { child, stderr, address: address.to_owned(), line }
    }

    /// Status and body.
    fn ask(&self, method: &str, path: &str, header: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}Content-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// A step of tokens of the sentiment model in a sequence.
    fn step(&self, tokens: &[u32], start: bool) -> Vec<f64> {
        let request = serde_json::json!({
            "inputs": [{ "name": "input", "datatype": "INT64", "shape": [1, tokens.len()], "data": tokens }],
            "parameters": { "sequence_id": 7, "sequence_start": start },
        });
        let (status, body) = self.ask("POST", "/v2/models/sentiment/infer", "", &request.to_string());
        assert_eq!(status, 200, "{body}");
        json(&body)["outputs"][0]["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    }

    /// Sends a signal: the exit code, and what it said at the end.
    fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let sent = std::process::Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where a test came to its end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_ends_with_a_signal_and_continues() {
    let folder = Folder::fresh("serve_continues");
    let state = folder.path("state");
    let server = Server::start(&["--state", &state]);
    assert!(server.line.starts_with("gatefold: serving `sentiment` on http://127.0.0.1:"), "{}", server.line);
    let whole = {
        server.step(&[12, 7, 104], true);
        server.step(&[42, 3], false)
    };
    server.step(&[12, 7, 104], true);
    let (code, said) = server.end("-TERM");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 sequence stored in"), "{said}");
    let server = Server::start(&["--state", &state]);
    assert!(server.line.contains("1 sequence continued"), "{}", server.line);
    assert_eq!(server.step(&[42, 3], false), whole);
    assert_ne!(server.step(&[42, 3], true), whole, "from the beginning it is another");
    let (code, said) = server.end("-INT");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn models_have_names_and_files() {
    let folder = Folder::fresh("serve_names");
    let model = std::fs::read(repository("models/sentiment/sentiment.safetensors")).unwrap();
    let path = folder.file("my model.safetensors", &model);
    let named = format!("other={path}");
    let server = Server::start(&[&path, &named]);
    assert!(server.line.contains("serving `my-model`, `other` on"), "{}", server.line);
    let facts = |name: &str| json(&server.ask("GET", &format!("/v2/models/{name}"), "", "").1);
    assert_eq!(facts("my-model")["parameters"]["changed_on_disk"], false);
    // A file that changes under the server: the loaded model stays, and the metadata say so.
    std::fs::write(&path, b"no model").unwrap();
    assert_eq!(facts("other")["parameters"]["changed_on_disk"], true);
    let text = r#"{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":["a warm, funny film"]}],
        "outputs":[{"name":"output","parameters":{"classification":1}}]}"#;
    let (status, body) = server.ask("POST", "/v2/models/my-model/infer", "", text);
    assert_eq!(status, 200);
    assert!(body.contains(":positive\""), "{body}");
    assert_eq!(server.end("-TERM").0, Some(0));
}

#[test]
fn a_token_protects_it() {
    let folder = Folder::fresh("serve_token");
    let token = folder.file("token", "0123456789abcdef0123\n");
    let server = Server::start(&["--token-file", &token]);
    assert_eq!(server.ask("GET", "/v2", "", "").0, 401);
    assert_eq!(server.ask("GET", "/v2", "Authorization: Bearer 0123456789abcdef0123\r\n", "").0, 200);
    assert_eq!(server.ask("GET", "/v2/health/ready", "", "").0, 200);
    assert_eq!(server.end("-TERM").0, Some(0));
    // Without one it warns where others can reach it.
    let mut child =
        command(["serve", "--listen", "0.0.0.0:0", "--device", "cpu"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    let warning = lines.next().unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(warning.contains("warning") && warning.contains("--token-file"), "{warning}");
}

#[test]
fn mistakes_are_one_line() {
    let folder = Folder::fresh("serve_mistakes");
    let short = folder.file("short", "abc");
    refusal(["serve", "--listen", "here"], &["--listen"]);
    refusal(["serve", "none.safetensors"], &["none.safetensors"]);
    refusal(["serve", "--max-sequence-idle", "0"], &["seconds above 0"]);
    refusal(["serve", "--device", "cpu", "--token-file", "none"], &["none"]);
    refusal(["serve", "--device", "cpu", "--token-file", &short, "--listen", "127.0.0.1:0"], &["token", "16"]);
    refusal(["serve", "--device", "cpu", "--max-batch", "0", "--listen", "127.0.0.1:0"], &["max_batch"]);
    // The token is read before the models, so that a server which accepts it has another mistake to report.
    let output = command(["serve", "none.safetensors"]).env("GATEFOLD_TOKEN", " ").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("GATEFOLD_TOKEN") && said.lines().count() == 1, "{said}");
    let server = Server::start(&[]);
    refusal(["serve", "--device", "cpu", "--listen", &server.address], &[&server.address]);
    let model = repository("models/sentiment/sentiment.safetensors");
    refusal(["serve", "--device", "cpu", "--listen", "127.0.0.1:0", &model, &model], &["`sentiment` twice"]);
}

/// The commands in fenced blocks of `sh`: those that use curl.
fn snippets(text: &str) -> Vec<String> {
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("```"));
    blocks.map(|(block, _)| block.to_owned()).filter(|block| block.contains("curl")).collect()
}

#[test]
fn the_snippets_of_the_documentation_run() {
    let text = std::fs::read_to_string(repository("docs/serving.md")).unwrap();
    let (folder, model) = (Folder::fresh("serve_snippets"), repository("models/sentiment/sentiment.safetensors"));
    let server = Server::start(&[&format!("words={model}")]);
    let run = |snippet: &str| {
        // `-f` makes an answer with an error a failure.
        let snippet = snippet.replace("127.0.0.1:8000", &server.address).replace("curl -s", "curl -sSf");
        let mut shell = std::process::Command::new("sh");
        let output = shell.args(["-ec", &snippet]).current_dir(folder.path("")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("not found"), "NOT RUN, this test needs curl: {said}");
        (output.status.success(), String::from_utf8(output.stdout).unwrap(), said)
    };
    let snippets = snippets(&text);
    assert!(snippets.len() >= 6, "{snippets:?}");
    let mut all = String::new();
    for snippet in &snippets {
        let (good, answers, said) = run(snippet);
        assert!(good, "{snippet}: {said}");
        all += &answers;
    }
    for word in [":positive", "talk-9", "\"closed\":\"talk-7\"", "gatefold_infer_seconds_bucket"] {
        assert!(all.contains(word), "{word} in {all}");
    }
    let (good, ..) = run(&snippets[1].replace("/words", "/none"));
    assert!(!good, "the check can fail");
}
