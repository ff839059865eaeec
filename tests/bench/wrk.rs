//! Load by wrk, beside the server on the same machine, over TLS on loopback.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How often servers that are held against each other have their turn.
const ROUNDS: usize = 5;

/// What wrk measured.
pub struct Load {
    /// Requests answered per second.
    pub requests_per_second: f64,
    /// Median latency.
    pub p50: Duration,
    /// 99th percentile of latency.
    pub p99: Duration,
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} requests/s, p50 {:?}, p99 {:?}", self.requests_per_second, self.p50, self.p99)
    }
}

/// Loads servers that are held against each other in turns, so that a minute in which the machine is slower is not one
/// server's alone: each server's median round, `seconds` in all for each of them.
pub fn in_turns<const N: usize>(
    urls: [&str; N],
    bodies: &Path,
    connections: u32,
    seconds: u32,
) -> Result<[Load; N]> {
    let mut rounds: [Vec<Load>; N] = std::array::from_fn(|_| Vec::new());
    let each = seconds.div_ceil(u32::try_from(ROUNDS)?);
    for _ in 0..ROUNDS {
        for (url, loads) in urls.iter().zip(&mut rounds) {
            loads.push(post(url, bodies, connections, each)?);
        }
    }
    Ok(rounds.map(|mut loads| {
        loads.sort_by(|a, b| a.requests_per_second.total_cmp(&b.requests_per_second));
        loads.swap_remove(ROUNDS / 2)
    }))
}

/// Posts the lines of `bodies` (a file with JSON texts), in turns, to `url` over `connections` for `seconds`.
pub fn post(url: &str, bodies: &Path, connections: u32, seconds: u32) -> Result<Load> {
    let script = bodies.with_extension("lua");
    std::fs::write(
        &script,
        format!(
            "wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\nlocal requests, at = {{}}, 0\n\
             init = function()\n  for line in io.lines({:?}) do\n    requests[#requests + 1] = wrk.format(nil, nil, nil, line)\n\
             \x20 end\nend\nrequest = function()\n  at = at % #requests + 1\n  return requests[at]\nend\n",
            bodies.display().to_string()
        ),
    )?;
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--latency", "-s"])
        .arg(&script)
        .arg(url)
        .output()
        .context("wrk is not installed (Debian package wrk)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.contains("Non-2xx") || text.contains("Socket errors") {
        bail!("wrk saw errors at {url}:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    }
    parse(&text).with_context(|| format!("wrk printed something else:\n{text}"))
}

fn parse(text: &str) -> Option<Load> {
    let after = |label: &str| {
        text.lines().find_map(|line| line.trim().strip_prefix(label)).map(|rest| rest.trim().to_owned())
    };
    Some(Load {
        requests_per_second: after("Requests/sec:")?.parse().ok()?,
        p50: duration(&after("50%")?)?,
        p99: duration(&after("99%")?)?,
    })
}

/// wrk writes `12.34us`, `1.20ms`, `1.05s`.
fn duration(text: &str) -> Option<Duration> {
    let (number, scale) = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)]
        .into_iter()
        .find_map(|(unit, scale)| text.strip_suffix(unit).map(|number| (number, scale)))?;
    Some(Duration::from_secs_f64(number.parse::<f64>().ok()? * scale))
}
