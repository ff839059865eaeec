//! Log lines leave the process from a thread of their own: whoever reads stderr slowly costs lines, never answers.

use std::{
    io::{self, Write},
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that may wait to be written, beside as many that are being written.
const WAITING_BYTES_MAX: usize = 512 * 1024;
/// Capacity that the buffers keep while little is logged.
const KEPT_BYTES: usize = 16 * 1024;
/// How long the end of the program waits for the last lines.
const END_TIME_MAX: Duration = Duration::from_secs(1);

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines that this process has thrown away because stderr was not read fast enough.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Bytes and flag are valid after any panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes whole lines and returns at once.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

/// Ends the thread when it is dropped, once the waiting lines are written.
pub struct Ending {
    shared: Arc<Shared>,
    done: mpsc::Receiver<()>,
}

/// Starts the thread that writes to `out`.
pub fn start(out: impl Write + Send + 'static) -> io::Result<(Lines, Ending)> {
    let shared = Arc::<Shared>::default();
    let (sender, done) = mpsc::channel();
    let lines = Lines(Arc::clone(&shared));
    let reader = Arc::clone(&shared);
    thread::Builder::new().name("log".to_owned()).stack_size(64 * 1024).spawn(move || {
        write_all(&reader, out);
        // Nobody waits any more where the end took too long.
        let _ = sender.send(());
    })?;
    Ok((lines, Ending { shared, done }))
}

fn write_all(shared: &Shared, mut out: impl Write) {
    let mut chunk = Vec::new();
    loop {
        let mut waiting = shared.lock();
        while waiting.bytes.is_empty() {
            if waiting.ended {
                return;
            }
            waiting = shared.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        mem::swap(&mut waiting.bytes, &mut chunk);
        drop(waiting);
        // There is no other place to complain about a closed stderr.
        let _ = out.write_all(&chunk);
        chunk.clear();
        chunk.shrink_to(KEPT_BYTES);
    }
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.lock();
        if waiting.bytes.len() + line.len() > WAITING_BYTES_MAX {
            DROPPED.fetch_add(1, Ordering::Relaxed);
            return Ok(line.len());
        }
        let idle = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if idle {
            self.0.wake.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.wake.notify_one();
        let _ = self.done.recv_timeout(END_TIME_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks until it is let go, then keeps what is written.
    struct Slow(mpsc::Receiver<()>, mpsc::Sender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_costs_whole_lines_and_no_time() {
        let (go, blocked) = mpsc::channel();
        let (sender, written) = mpsc::channel();
        let (lines, ending) = start(Slow(blocked, sender)).unwrap();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let (before, started) = (dropped(), std::time::Instant::now());
        for _ in 0..4096 {
            (&lines).write_all(&line).unwrap();
        }
        assert!(started.elapsed() < Duration::from_secs(2));
        let lost = usize::try_from(dropped() - before).unwrap();
        assert!((3000..4096).contains(&lost), "{lost}");
        drop(go);
        drop(ending);
        let text: Vec<u8> = written.try_iter().flatten().collect();
        assert_eq!(text.len(), (4096 - lost) * line.len());
        assert!(text.chunks(line.len()).all(|chunk| chunk == line));
    }

    #[test]
    fn the_last_lines_are_written_before_the_end() {
        let (go, open) = mpsc::channel();
        let (sender, written) = mpsc::channel();
        drop(go);
        let (lines, ending) = start(Slow(open, sender)).unwrap();
        (&lines).write_all(b"first\n").unwrap();
        (&lines).write_all(b"last\n").unwrap();
        drop(ending);
        let text: Vec<u8> = written.try_iter().flatten().collect();
        assert_eq!(text, b"first\nlast\n");
    }
}
