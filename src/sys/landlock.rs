//! Landlock: what a process may reach, enforced by the kernel and without privileges. Makes the rules; a process takes
//! them on between its start and its program, see `confined`. Nothing here is best effort: what the kernel can't
//! do, it says so.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};
use rustix::fs::FileType;

/// The first version that can refuse everything that changes a file's bytes: without it, truncate(2) is free.
const FILES: i32 = 3;

/// The first version that knows connections.
const NETWORK: i32 = 4;

/// The first version that knows signals and abstract Unix sockets.
const SCOPES: i32 = 6;

/// What a sandbox needs of a kernel, and what this one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ability {
    /// Whatever was asked for.
    Enough,
    /// No Landlock at all: not built, or not enabled when the machine started.
    None,
    /// A version below the one that is needed, which came with this Linux.
    TooOld { has: i32, needed: i32, linux: &'static str },
}

/// Whether this kernel can confine a process; also its network, if that has to be denied.
pub fn ability(without_network: bool) -> Ability {
    let has = version();
    let least = [(FILES, "6.2"), (NETWORK, "6.7")];
    let (needed, linux) = least[usize::from(without_network)];
    match has {
        ..1 => Ability::None,
        has if has < needed => Ability::TooOld { has, needed, linux },
        _ => Ability::Enough,
    }
}

/// The version of Landlock's interface that the kernel has; 0 without one.
fn version() -> i32 {
    const VERSION: u32 = 1;
    // SAFETY: with this flag there is no pointer to follow; the answer is a number.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION)
    };
    i32::try_from(version).unwrap_or(0).max(0)
}

/// What is allowed beneath a folder, or with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// To read it, and to run it.
    Read,
    /// To list it, and no more.
    List,
    /// To read and to write what is there; nothing is made, and no device is controlled.
    Use,
    /// Everything but making and controlling devices.
    Write,
}

/// Rules on their way to the kernel. Whatever they don't allow is refused.
pub struct Rules {
    created: RulesetCreated,
    /// What this kernel knows of, and a sandbox therefore refuses.
    known: BitFlags<AccessFs>,
}

impl Rules {
    /// No file and no folder is allowed yet. The network is, unless it `is_cut_off`; signals to processes outside, and
    /// abstract sockets of theirs, are not, if the kernel can tell.
    ///
    /// # Errors
    /// If the kernel can't do it: see [`ability`].
    pub fn new(is_cut_off: bool) -> io::Result<Rules> {
        if ability(is_cut_off) != Ability::Enough {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let version = version();
        let abi = ABI::from(version);
        let known = AccessFs::from_all(abi);
        let hard = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let mut rules = hard.handle_access(known).map_err(as_io)?;
        if is_cut_off {
            rules = rules.handle_access(AccessNet::from_all(abi)).map_err(as_io)?;
        }
        if version >= SCOPES {
            rules = rules.scope(Scope::from_all(abi)).map_err(as_io)?;
        }
        Ok(Rules { created: rules.create().map_err(as_io)?, known })
    }

    /// Allows something beneath a folder, or with a file, that is open, if only by O_PATH.
    ///
    /// # Errors
    /// Those of fstat(2) and landlock_add_rule(2).
    pub fn allow(self, place: BorrowedFd<'_>, allowed: Allowed) -> io::Result<Rules> {
        let Rules { created, known } = self;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(place)?.st_mode);
        let wanted = match allowed {
            Allowed::Read => {
                // What may be read may be talked to, where that is a right of its own.
                AccessFs::from_read(ABI::V1) | (known & AccessFs::ResolveUnix)
            }
            Allowed::List => AccessFs::ReadDir.into(),
            Allowed::Use => make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate}),
            Allowed::Write => known & !make_bitflags!(AccessFs::{MakeChar | MakeBlock | IoctlDev}),
        };
        let of_files = make_bitflags!(AccessFs::{
            Execute | ReadFile | WriteFile | Truncate | IoctlDev | ResolveUnix
        });
        let wanted = if kind == FileType::Directory { wanted } else { wanted & of_files };
        if wanted.is_empty() {
            return Ok(Rules { created, known });
        }
        let created = created.add_rule(PathBeneath::new(place, wanted)).map_err(as_io)?;
        Ok(Rules { created, known })
    }

    /// The rules as a descriptor, close-on-exec, that any number of processes may take on.
    ///
    /// # Errors
    /// None that is known of.
    pub fn finish(self) -> io::Result<OwnedFd> {
        Option::from(self.created).ok_or_else(|| io::ErrorKind::Unsupported.into())
    }
}

/// What the system said, or what the crate did.
fn as_io(error: RulesetError) -> io::Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(one) = source {
        if let Some(code) = one.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(code);
        }
        source = one.source();
    }
    io::Error::other(error)
}
