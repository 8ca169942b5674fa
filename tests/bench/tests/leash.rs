//! What the bench starts ends with it, also when it is killed.
#![allow(clippy::unwrap_used, reason = "a test ends where it finds something wrong")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_leashed_program_ends_when_its_parent_is_killed() {
    // The shell starts it, says its id, and becomes a program that waits: the same process, so still its parent.
    let script = r#""$0" leash --parent $$ -- sleep 600 & echo $!; exec cat"#;
    let mut parent = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_bench")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pid = String::new();
    BufReader::new(parent.stdout.take().unwrap())
        .read_line(&mut pid)
        .unwrap();
    let process = Path::new("/proc").join(pid.trim());
    // One that has ended may be left as a zombie, where nobody takes in orphans.
    let runs = |name: &str| {
        let now = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
        now.contains(&format!("({name})")) && !now.contains(") Z ")
    };
    let until = |what: &str, done: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !done() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "not {what} after a minute"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    until("started", &|| runs("sleep"));
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("ended", &|| !runs("sleep"));
}
