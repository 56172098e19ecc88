//! Links the unwinder in, where the C compiler has it as an archive: libgcc_s would be the one shared
//! library beside libc's that the binary needs.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CC");
    if std::env::var("CARGO_CFG_TARGET_ENV").as_deref() != Ok("gnu") {
        return;
    }
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let Ok(answer) = Command::new(compiler).arg("-print-file-name=libgcc_eh.a").output() else {
        return;
    };
    // A compiler that has none prints the bare name. Then libgcc_s it is.
    let answer = String::from_utf8_lossy(&answer.stdout);
    let path = Path::new(answer.trim());
    if let Some(folder) = path.parent().filter(|_| path.is_absolute()) {
        println!("cargo:rustc-link-search=native={}", folder.display());
        println!("cargo:rustc-link-lib=static=gcc_eh");
    }
}
