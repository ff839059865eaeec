//! What pods of the platform and of the tests run: one static program with a few plain deeds.
//!
//! `probe pause` holds a pod's namespaces; `probe sleep` waits for its end; `probe get URL` prints the body of an
//! answer (status 200, or exit code 1); `probe get --timed URL` prints `asked` when the request is sent, and before the
//! body the moment it was read, in microseconds since 1970.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, waitpid};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["pause" | "sleep"] => wait(),
        ["get", url] => match get(url, false) {
            Ok((200, body)) => print(&body),
            Ok((status, body)) => complain(&format!("status {status}: {body}")),
            Err(error) => complain(&error.to_string()),
        },
        ["get", "--timed", url] => match get(url, true) {
            Ok((200, body)) => print(&format!("{}\n{body}", microseconds())),
            Ok((status, body)) => complain(&format!("status {status}: {body}")),
            Err(error) => complain(&error.to_string()),
        },
        _ => complain("usage: probe pause | sleep | get [--timed] http://HOST[:PORT]/PATH"),
    }
}

/// Waits for SIGTERM or SIGINT; takes leave of orphans meanwhile, as the first process of a pod must.
fn wait() -> ExitCode {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD].into_iter().collect();
    if signals.thread_block().is_err() {
        return complain("cannot block signals");
    }
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|s| s.pid().is_some()) {}
            }
            Ok(_) => return ExitCode::SUCCESS,
            Err(error) => return complain(&error.to_string()),
        }
    }
}

/// A plain HTTP/1.0 request: status and body.
fn get(url: &str, announced: bool) -> std::io::Result<(u16, String)> {
    let bad = || std::io::Error::other("only http://HOST[:PORT]/PATH");
    let rest = url.strip_prefix("http://").ok_or_else(bad)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let mut stream = TcpStream::connect(address)?;
    // Above the longest poll anybody asks for.
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {authority}\r\nAccept: */*\r\n\r\n")?;
    if announced {
        let mut output = std::io::stdout();
        writeln!(output, "asked").and_then(|()| output.flush())?;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("no HTTP answer"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| std::io::Error::other("no status"))?, body.to_owned()))
}

fn microseconds() -> u128 {
    UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_micros())
}

fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn complain(text: &str) -> ExitCode {
    // Nothing can be done about a closed standard error.
    let _ = writeln!(std::io::stderr(), "probe: {text}");
    ExitCode::FAILURE
}
