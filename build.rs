//! Builds the object that a fork server preloads (`src/step/fork_server/preload.c`), and links the unwinder in, where the C
//! compiler has it as an archive: libgcc_s would be the one shared library beside libc's that the binary needs. Takes
//! what is only for its readers out of the report's script and style sheet.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CC");
    build_preload();
    for name in ["script.js", "style.css"] {
        shorten(name);
    }
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

/// Without indentation, empty lines, and those that are a comment: each page carries these files, and so does the binary.
fn shorten(name: &str) {
    let path = format!("src/report/{name}");
    println!("cargo:rerun-if-changed={path}");
    let text = std::fs::read_to_string(&path).expect("a part of the report can be read");
    let lines = text.lines().map(str::trim);
    let lines: Vec<&str> =
        lines.filter(|line| !line.is_empty() && !line.starts_with("//")).collect();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join(name);
    std::fs::write(out, lines.join("\n")).expect("OUT_DIR can be written to");
}

/// Where there is no such object, the file is empty, and every script is started in the plain way.
fn build_preload() {
    const SOURCE: &str = "src/step/fork_server/preload.c";
    println!("cargo:rerun-if-changed={SOURCE}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("preload.so");
    let target = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let is_linux = std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux");
    let is_known = is_linux && matches!(target.as_str(), "x86_64" | "aarch64");
    // It is no part of this program but of others: not linked, not built for debugging, and small.
    let built = is_known
        && cc::Build::new()
            .cargo_metadata(false)
            .opt_level_str("s")
            .debug(false)
            .get_compiler()
            .to_command()
            .args(["-shared", "-fPIC", "-nostdlib", "-ffreestanding", "-fno-builtin", "-s", "-o"])
            .arg(&out)
            .args([
                "-fno-stack-protector",
                "-fno-tree-loop-distribute-patterns",
                "-fvisibility=hidden",
            ])
            .args([
                "-Wl,-z,noseparate-code",
                "-Wl,-z,norelro",
                // Before any constructor of the interpreter's own libraries.
                "-Wl,-z,initfirst",
                "-Wl,-z,noexecstack",
                "-Wl,--build-id=none",
                SOURCE,
            ])
            .status()
            .is_ok_and(|status| status.success());
    if !built {
        if is_known {
            println!(
                "cargo:warning={SOURCE} can't be built: scripts will be started in the plain way"
            );
        }
        std::fs::write(&out, b"").expect("OUT_DIR can be written to");
    }
}
