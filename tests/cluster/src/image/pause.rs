//! The program that holds a pod's namespaces: it waits for ever, in one page of memory.

use super::oci::{File, Image};

/// The image's name, as containerd is told it.
pub(crate) const PAUSE_IMAGE: &str = "radius-mfa.local/pause:1";

const BASE: u64 = 0x40_0000;
const HEADERS: u16 = 64 + 56;

/// `again: mov eax, 34; syscall; jmp again`. 34 is pause(2). containerd ends a sandbox by SIGKILL, so no signal needs an
/// answer.
const CODE: [u8; 9] = [0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];

/// The image.
pub(crate) fn pause() -> Image {
    Image {
        reference: PAUSE_IMAGE.into(),
        entrypoint: "/pause".into(),
        user: 65535,
        labels: Vec::new(),
        files: vec![File {
            path: "pause".into(),
            mode: 0o755,
            content: program(),
        }],
    }
}

/// A whole ELF program (System V ABI, x86-64): header, one loaded segment, code.
fn program() -> Vec<u8> {
    let size = u64::from(HEADERS) + CODE.len() as u64;
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"); // 64 bits, little endian
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]); // executable, x86-64, version 1
    elf.extend((BASE + u64::from(HEADERS)).to_le_bytes()); // entry
    elf.extend(64_u64.to_le_bytes()); // program headers
    elf.extend(0_u64.to_le_bytes()); // no section headers
    elf.extend(0_u32.to_le_bytes()); // flags
    for value in [64_u16, 56, 1, 64, 0, 0] {
        elf.extend(value.to_le_bytes()); // sizes and counts of the headers
    }
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]); // load, read and execute
    for value in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(value.to_le_bytes()); // offset, addresses, sizes, alignment
    }
    elf.extend(CODE);
    elf
}

#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn the_program_runs_until_it_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let written = folder.path().join("written");
        std::fs::write(&written, program()).unwrap();
        // Copied by another process: a child that a neighbouring test forks meanwhile could hold the written file open,
        // and a file that is open for writing cannot be executed.
        let path = folder.path().join("pause");
        let mode = ["-m", "755"].map(Into::into);
        crate::command::run(
            "install",
            &[&mode[..], &[written.into_os_string(), path.clone().into()]].concat(),
        )
        .unwrap();
        let mut child = std::process::Command::new(&path).spawn().unwrap();
        let sleeps = crate::process::wait_until(std::time::Duration::from_secs(20), || {
            let wchan = std::fs::read_to_string(format!("/proc/{}/syscall", child.id())).unwrap_or_default();
            wchan.starts_with("34 ")
        });
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert!(sleeps, "it never reached pause(2)");
    }
}
