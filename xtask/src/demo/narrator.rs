//! What the demo says: numbered steps, the commands a person could type, real output, times.

use std::io::{IsTerminal as _, Write as _};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use e2e::Kubectl;

/// Speaks to the terminal, in colour where that is wanted (`NO_COLOR`, not a terminal: plain).
pub(super) struct Narrator {
    colour: bool,
    begun: Instant,
    steps: Vec<Step>,
    total: usize,
}

/// A step that was shown.
pub(super) struct Step {
    pub(super) title: String,
    begun: Instant,
    pub(super) took: Duration,
    pub(super) writes: Option<usize>,
    pub(super) changing_ms: Option<u64>,
}

impl Narrator {
    pub(super) fn new(total: usize) -> Self {
        let colour =
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self {
            colour,
            begun: Instant::now(),
            steps: Vec::new(),
            total,
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Begins a step: its number, its title, and why it is shown.
    pub(super) fn step(&mut self, title: &str, why: &str) {
        self.end_step();
        let number = format!("[{}/{}]", self.steps.len() + 1, self.total);
        println!("\n{} {}", self.paint("1;36", &number), self.paint("1", title));
        for line in why.lines() {
            println!("      {}", self.paint("2", line.trim()));
        }
        self.steps.push(Step {
            title: title.to_owned(),
            begun: Instant::now(),
            took: Duration::ZERO,
            writes: None,
            changing_ms: None,
        });
    }

    /// Ends the step under way, if there is one, and says how long it took.
    pub(super) fn end_step(&mut self) {
        let Some(step) = self.steps.last_mut().filter(|s| s.took == Duration::ZERO) else {
            return;
        };
        step.took = step.begun.elapsed();
        let text = format!("      {}", seconds(step.took));
        println!("{}", self.paint("2", &text));
    }

    /// Notes what AWS saw during the step under way.
    pub(super) fn note_writes(&mut self, writes: usize, changing_ms: u64) {
        if let Some(step) = self.steps.last_mut() {
            step.writes = Some(writes);
            step.changing_ms = Some(changing_ms);
        }
    }

    /// A sentence.
    #[allow(
        clippy::unused_self,
        reason = "everything the demo prints goes through the narrator"
    )]
    pub(super) fn say(&self, text: &str) {
        println!("      {text}");
    }

    /// What was shown worked.
    pub(super) fn good(&self, text: &str) {
        println!("    {} {text}", self.paint("32", "✓"));
    }

    /// A command as it could be typed.
    pub(super) fn command(&self, text: &str) {
        println!("    {} {}", self.paint("33", "$"), self.paint("33", text));
    }

    /// Output of a command, indented.
    #[allow(
        clippy::unused_self,
        reason = "everything the demo prints goes through the narrator"
    )]
    pub(super) fn output(&self, text: &str) {
        for line in text.trim_end().lines() {
            println!("      {line}");
        }
    }

    /// Shows a `kubectl` command and what it prints.
    pub(super) fn kubectl(&self, kubectl: &Kubectl, args: &[&str]) -> Result<String> {
        self.command(&format!("kubectl {}", shell_words(args)));
        let text = kubectl.run(args)?;
        self.output(&text);
        Ok(text)
    }

    /// Runs something that takes a while, with the seconds counted on a terminal.
    pub(super) fn waiting<T>(&self, what: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T>
    where
        T: Send,
    {
        let begun = Instant::now();
        let terminal = std::io::stdout().is_terminal();
        let result = std::thread::scope(|scope| {
            let worker = scope.spawn(work);
            if !terminal {
                println!("      {what} …");
            }
            while !worker.is_finished() {
                if terminal {
                    print!("\r      {what} … {} s", begun.elapsed().as_secs());
                    let _ = std::io::stdout().flush();
                }
                std::thread::park_timeout(Duration::from_millis(200));
            }
            if terminal {
                print!("\r\x1b[K");
                // What comes next may be an error, on the other stream.
                let _ = std::io::stdout().flush();
            }
            worker.join()
        });
        match result {
            Ok(Ok(value)) => {
                self.good(&format!("{what}: {}", seconds(begun.elapsed())));
                Ok(value)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => bail!("{what}: ended by a panic"),
        }
    }

    /// The steps with their times and what AWS saw.
    pub(super) fn summary(&mut self) {
        self.end_step();
        println!("\n{}", self.paint("1", "What it took"));
        println!(
            "      {:<52} {:>9}  {:>10}  {:>13}",
            "step", "time", "AWS writes", "AWS changing"
        );
        for (i, step) in self.steps.iter().enumerate() {
            let writes = step.writes.map_or_else(|| "-".to_owned(), |n| n.to_string());
            let changing = step
                .changing_ms
                .map_or_else(|| "-".to_owned(), |ms| seconds(Duration::from_millis(ms)));
            let title = format!("{:>2}. {}", i + 1, step.title);
            println!(
                "      {title:<52} {:>9}  {writes:>10}  {changing:>13}",
                seconds(step.took)
            );
        }
        println!("      {:<52} {:>9}", "all", seconds(self.begun.elapsed()));
    }
}

/// `3.2 s`
pub(super) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn shell_words(args: &[&str]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@".contains(c);
    args.iter()
        .map(|a| {
            if a.chars().all(plain) {
                (*a).to_owned()
            } else {
                format!("'{a}'")
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Shows a program's own output as it comes.
pub(super) fn passthrough(mut command: Command) -> Result<()> {
    let status = command.status()?;
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().display());
    }
    Ok(())
}
