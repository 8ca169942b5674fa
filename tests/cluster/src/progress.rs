//! What a person sees while something takes its time.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Told about every step, from several threads at once.
pub trait Progress: Sync {
    /// A step begins.
    fn started(&self, step: &str);
    /// What the step is at now.
    fn detail(&self, step: &str, detail: &str);
    /// The step is over; `outcome` is a few words, empty when the step's name says it all.
    fn finished(&self, step: &str, outcome: &str, took: Duration, succeeded: bool);
}

/// Runs `work` as one step; its `Ok` value is turned into the outcome's words by `outcome`.
///
/// # Errors
/// Those of `work`.
pub fn step<T, E>(
    progress: &dyn Progress,
    name: &str,
    outcome: impl FnOnce(&T) -> String,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let begun = Instant::now();
    progress.started(name);
    let result = work();
    let words = result.as_ref().map_or_else(|_| "failed".to_owned(), outcome);
    progress.finished(name, &words, begun.elapsed(), result.is_ok());
    result
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn started(&self, _: &str) {}
    fn detail(&self, _: &str, _: &str) {}
    fn finished(&self, _: &str, _: &str, _: Duration, _: bool) {}
}

/// Writes to standard error: one line for each finished step with its time, and for what is still running a live
/// line on a terminal, or a line every fifteen seconds elsewhere. Colours only on a terminal and without `NO_COLOR`.
pub struct Console {
    shared: Arc<Shared>,
    ticker: Option<JoinHandle<()>>,
}

struct Shared {
    running: Mutex<Running>,
    ended: AtomicBool,
    terminal: bool,
    colour: bool,
}

#[derive(Default)]
struct Running {
    steps: BTreeMap<String, (Instant, String)>,
    live_line: bool,
    last_told: Option<Instant>,
}

const TICK: Duration = Duration::from_millis(200);
const STILL_RUNNING: Duration = Duration::from_secs(15);

impl Console {
    /// A console on standard error.
    #[must_use]
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let shared = Arc::new(Shared {
            running: Mutex::default(),
            ended: AtomicBool::new(false),
            terminal,
            colour,
        });
        let ticking = Arc::clone(&shared);
        let ticker = std::thread::spawn(move || {
            while !ticking.ended.load(Ordering::Relaxed) {
                std::thread::park_timeout(TICK);
                ticking.tick();
            }
        });
        Self {
            shared,
            ticker: Some(ticker),
        }
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            drop(ticker.join());
        }
        self.shared.with(|running, out| clear(running, out));
    }
}

impl Progress for Console {
    fn started(&self, step: &str) {
        self.shared.with(|running, _| {
            running
                .steps
                .insert(step.to_owned(), (Instant::now(), String::new()));
        });
    }

    fn detail(&self, step: &str, detail: &str) {
        self.shared.with(|running, _| {
            if let Some((_, known)) = running.steps.get_mut(step) {
                detail.clone_into(known);
            }
        });
    }

    fn finished(&self, step: &str, outcome: &str, took: Duration, succeeded: bool) {
        let (sign, tint) = if succeeded {
            ("✓", "\x1b[32m")
        } else {
            ("✗", "\x1b[31m")
        };
        let (tint, faint, plain) = if self.shared.colour {
            (tint, "\x1b[2m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        let gap = if outcome.is_empty() { "" } else { "  " };
        self.shared.with(|running, out| {
            running.steps.remove(step);
            clear(running, out);
            let seconds = took.as_secs_f64();
            _ = writeln!(
                out,
                "  {tint}{sign}{plain} {step:<26}{seconds:>7.1} s{gap}{faint}{outcome}{plain}"
            );
        });
    }
}

impl Shared {
    /// A progress display that cannot be written must not fail the work, so errors of `out` go nowhere.
    fn with(&self, work: impl FnOnce(&mut Running, &mut dyn Write)) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = std::io::stderr().lock();
        work(&mut running, &mut out);
        _ = out.flush();
    }

    fn tick(&self) {
        self.with(|running, out| {
            let Some(line) = live_line(&running.steps) else {
                return;
            };
            if self.terminal {
                running.live_line = true;
                let width = terminal_width();
                let line: String = line.chars().take(width).collect();
                _ = write!(out, "\r\x1b[2K{line}");
                return;
            }
            let oldest = running.steps.values().map(|(since, _)| *since).min();
            let since = oldest.max(running.last_told);
            if since.is_some_and(|since| since.elapsed() >= STILL_RUNNING) {
                running.last_told = Some(Instant::now());
                _ = writeln!(out, "{line}");
            }
        });
    }
}

/// All running steps on one line: the oldest first.
fn live_line(steps: &BTreeMap<String, (Instant, String)>) -> Option<String> {
    let mut steps: Vec<_> = steps.iter().collect();
    steps.sort_by_key(|(_, (since, _))| *since);
    let parts: Vec<String> = steps
        .into_iter()
        .map(|(name, (since, detail))| {
            let gap = if detail.is_empty() { "" } else { ", " };
            format!("{name} {} s{gap}{detail}", since.elapsed().as_secs())
        })
        .collect();
    (!parts.is_empty()).then(|| format!("  … {}", parts.join(" · ")))
}

fn clear(running: &mut Running, out: &mut dyn Write) {
    if running.live_line {
        running.live_line = false;
        _ = write!(out, "\r\x1b[2K");
    }
}

/// `COLUMNS`, or what every terminal has.
fn terminal_width() -> usize {
    std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok())
        .unwrap_or(80_usize)
        .saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_line_names_every_running_step_with_what_it_is_at() {
        let now = Instant::now();
        let mut steps = BTreeMap::new();
        assert_eq!(live_line(&steps), None);
        steps.insert("etcd".to_owned(), (now, String::new()));
        assert_eq!(live_line(&steps).as_deref(), Some("  … etcd 0 s"));
        let detail = "kubelet".to_owned();
        steps.insert(
            "build".to_owned(),
            (now.checked_sub(Duration::from_secs(5)).unwrap(), detail),
        );
        assert_eq!(
            live_line(&steps).as_deref(),
            Some("  … build 5 s, kubelet · etcd 0 s")
        );
    }
}
