//! Which interpreters can be forked: dynamic programs of this machine's kind, without rights of their own.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::io::Errno;

use super::Variables;

/// Program headers that are looked at; no linker makes as many.
const MOST_HEADERS: u16 = 64;

/// Type of the program header that names a loader (elf(5)).
const PT_INTERP: u32 = 3;

/// Bits of set-user-ID and set-group-ID.
const SET_ID: u32 = 0o6000;

/// Variables that make a loader load or say something for each program, or change its environment (glibc up to 2.38 copies
/// its tunables).
const LOADERS: [&str; 8] = [
    "LD_PRELOAD",
    "LD_AUDIT",
    "LD_DEBUG",
    "LD_PROFILE",
    "LD_SHOW_AUXV",
    "LD_TRACE_LOADED_OBJECTS",
    "LD_VERBOSE",
    "GLIBC_TUNABLES",
];

/// Says why an interpreter can't be forked with these variables, as far as its file tells. Whether its loader takes
/// the object is seen by a probe.
pub(super) fn check(program: &Path, variables: &Variables<'_>) -> Result<(), String> {
    for name in LOADERS {
        if variables.contains_key(OsStr::new(name)) {
            return Err(format!("{name} is set"));
        }
    }
    let why = |what: &str| format!("its interpreter {what}");
    let stat =
        rustix::fs::stat(program).map_err(|err| why(&format!("can't be looked at: {err}")))?;
    if stat.st_mode & SET_ID != 0 || has_capabilities(program) {
        return Err(why("has rights of its own"));
    }
    match is_dynamic(program) {
        Ok(Some(true)) => Ok(()),
        Ok(Some(false)) => Err(why("is statically linked")),
        Ok(None) => Err(why("is no program of this machine's kind")),
        Err(err) => Err(why(&format!("can't be read: {err}"))),
    }
}

fn has_capabilities(program: &Path) -> bool {
    let mut none: [u8; 0] = [];
    match rustix::fs::getxattr(program, "security.capability", &mut none) {
        Ok(bytes) => bytes > 0,
        Err(Errno::NODATA | Errno::OPNOTSUPP) => false,
        Err(_) => true,
    }
}

/// Whether a program names a loader; `None` if it is no ELF file of this build's class, byte order and machine.
fn is_dynamic(program: &Path) -> std::io::Result<Option<bool>> {
    let file = File::open(program)?;
    // What this very program is: a build for another machine would not run.
    let own = Head::read(&File::open(crate::sys::proc::own_program())?)?;
    let (Some(head), Some(own)) = (Head::read(&file)?, own) else { return Ok(None) };
    if head.kind != own.kind {
        return Ok(None);
    }
    for n in 0..head.headers.min(MOST_HEADERS) {
        let mut kind = [0; 4];
        file.read_exact_at(&mut kind, head.offset + u64::from(n) * u64::from(head.size))?;
        if u32::from_ne_bytes(kind) == PT_INTERP {
            return Ok(Some(true));
        }
    }
    Ok(Some(false))
}

/// The beginning of a 64-bit ELF file.
struct Head {
    /// Class, byte order, and machine.
    kind: ([u8; 2], u16),
    /// Place, size and number of the program headers.
    offset: u64,
    size: u16,
    headers: u16,
}

impl Head {
    fn read(file: &File) -> std::io::Result<Option<Head>> {
        let mut head = [0; 64];
        if file.read_at(&mut head, 0)? < head.len() || !head.starts_with(b"\x7fELF") {
            return Ok(None);
        }
        let half = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
        let mut offset = [0; 8];
        offset.copy_from_slice(&head[32..40]);
        Ok(Some(Head {
            kind: ([head[4], head[5]], half(18)),
            offset: u64::from_ne_bytes(offset),
            size: half(54),
            headers: half(56),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_no_dynamic_program_without_rights_of_its_own_is_not_forked() {
        let dir = tempfile::tempdir().unwrap();
        let shell = std::fs::canonicalize("/bin/sh").unwrap();
        let none = Variables::new();
        assert_eq!(check(&shell, &none), Ok(()));
        let preloaded = Variables::from([(OsStr::new("LD_PRELOAD"), OsStr::new("x.so"))]);
        assert!(check(&shell, &preloaded).unwrap_err().contains("LD_PRELOAD"));
        let copy = dir.path().join("sh");
        std::fs::copy(&shell, &copy).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755)).unwrap();
        assert!(check(&copy, &none).unwrap_err().contains("rights"));
        let mut bytes = std::fs::read(&shell).unwrap();
        // Of another class.
        bytes[4] = 3 - bytes[4];
        std::fs::write(&copy, &bytes).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(check(&copy, &none).unwrap_err().contains("kind"));
        // Without program headers.
        bytes[4] = 3 - bytes[4];
        bytes[56..58].fill(0);
        std::fs::write(&copy, &bytes).unwrap();
        assert!(check(&copy, &none).unwrap_err().contains("statically"));
        std::fs::write(&copy, "#!/bin/sh\n").unwrap();
        assert!(check(&copy, &none).unwrap_err().contains("kind"));
        assert!(check(&dir.path().join("none"), &none).is_err());
    }
}
