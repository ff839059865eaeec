//! What people see; coloured on a terminal alone.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use super::Demonstrated;
use crate::platform::Platform;

/// Longest line of explanations, in characters.
const WIDTH: usize = 110;

pub struct Screen {
    coloured: bool,
}

impl Screen {
    pub fn new() -> Self {
        let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { coloured }
    }

    /// One of the six lines, with its explanation below it.
    pub fn step(&self, number: u8, what: &str, took: Option<Duration>, explanation: &str) {
        let took = took.map(|took| milliseconds(took.as_secs_f64() * 1000.0)).unwrap_or_default();
        let head = format!("{number}. {what:<42} {took:>9}");
        self.line(&self.bold(head.trim_end()));
        for line in explanation.lines().flat_map(|line| wrap(line, WIDTH)) {
            self.line(&format!("   {line}"));
        }
    }

    /// What is running, how to log in, how to stop it.
    pub fn farewell(&self, platform: &Platform, owner: &Demonstrated) {
        let url = platform.provisioner_url();
        let body = r#"{\"email\":\"$OWNER_EMAIL\",\"password\":\"$OWNER_PASSWORD\"}"#;
        let lines = [
            String::new(),
            self.bold("It is running:"),
            format!("  API         {url}"),
            format!("  gate        {}", platform.webhook_url()),
            format!("  Kubernetes  {}", from_here(&platform.kubeconfig()).display()),
            format!("  tenant      {} ({}), owner {}", owner.namespace, owner.tenant_id, owner.owner_email),
            String::new(),
            ". .local/env     # KUBECONFIG, PROVISIONER_URL, OWNER_EMAIL, OWNER_PASSWORD, ...".to_owned(),
            format!(
                "curl -s $PROVISIONER_URL/api/auth/login -H 'content-type: application/json' -d \"{body}\""
            ),
            "make down        # ends it and leaves nothing behind".to_owned(),
        ];
        for line in lines {
            self.line(&line);
        }
    }

    fn bold(&self, text: &str) -> String {
        if self.coloured { format!("\x1b[1;32m{text}\x1b[0m") } else { text.to_owned() }
    }

    #[expect(clippy::unused_self, reason = "all output goes through the screen")]
    fn line(&self, text: &str) {
        // Nobody looks at a closed standard output.
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}

/// A path as the caller would write it: relative to the folder it stands in, where it is below that.
fn from_here(path: &Path) -> &Path {
    std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path)
}

/// `0.42 ms`, `12 ms` or `1.9 s`.
pub fn milliseconds(value: f64) -> String {
    match value {
        small if small < 10.0 => format!("{small:.1} ms"),
        middle if middle < 1000.0 => format!("{middle:.0} ms"),
        large => format!("{:.1} s", large / 1000.0),
    }
}

/// Breaks a line between words.
fn wrap(line: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split_whitespace() {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
            continue;
        }
        if !lines[last].is_empty() {
            lines[last].push(' ');
        }
        lines[last].push_str(word);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_lose_none() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("longword b", 3), ["longword", "b"]);
    }

    #[test]
    fn times_have_the_figures_that_matter() {
        assert_eq!(
            [milliseconds(0.42), milliseconds(12.3), milliseconds(1900.0)],
            ["0.4 ms", "12 ms", "1.9 s"]
        );
    }
}
