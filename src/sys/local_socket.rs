//! Unix sockets that lie in a folder, however long its path: the kernel takes no more than 108 bytes of one. A number of
//! a descriptor is a short name of any folder.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Listens at that name in a folder, where nothing may be yet.
///
/// # Errors
/// Those of bind(2); and where the file system has no sockets.
pub fn listen(folder: &Path, name: &str) -> io::Result<UnixListener> {
    let folder = File::open(folder)?;
    UnixListener::bind(short(&folder, name))
}

/// Connects to who listens there.
///
/// # Errors
/// Those of connect(2).
pub fn connect(folder: &Path, name: &str) -> io::Result<UnixStream> {
    let folder = File::open(folder)?;
    UnixStream::connect(short(&folder, name))
}

/// As long as the folder is open.
fn short(folder: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn a_socket_may_lie_deep() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        assert!(connect(&deep, "s").is_err());
        let listener = listen(&deep, "s").unwrap();
        assert!(listen(&deep, "s").is_err());
        let mut here = connect(&deep, "s").unwrap();
        let (mut there, _) = listener.accept().unwrap();
        here.write_all(b"x").unwrap();
        drop(here);
        let mut heard = String::new();
        there.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "x");
    }
}
