//! The system calls that neither std nor rustix has: the only file with `unsafe`.
#![allow(unsafe_code, reason = "thin wrappers over libc")]
