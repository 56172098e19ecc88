//! `verify`: does every row have its object, and is every object what its name says?

use crate::db::{self, Db};
use crate::error::{Error, Result};
use crate::object::ObjectHash;
use crate::store::Store;
use crate::text::shown;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Depth {
    /// Existence and size.
    Sizes,
    /// The bytes of about this share of the objects, from 0 to 1, and the sizes of all.
    Data(f64),
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `None`: the database itself.
    pub object: Option<ObjectHash>,
    pub why: String,
    pub remedy: Remedy,
}

/// What `repair` can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// It has to be made again.
    MakeAgain,
    /// Its bytes may be as good as ever, but anybody could write to it, or nobody can read it.
    MakeReadOnly,
    /// The disk doesn't give its bytes, or the database is damaged: people have to look.
    Nothing,
}

/// What was looked at, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Verified {
    pub objects: u64,
    pub bytes: u64,
    /// Of these, hashed.
    pub hashed: u64,
    pub findings: Vec<Finding>,
}

/// Checks the database and the store. Doesn't stop at the first finding; needs no lock.
///
/// # Errors
/// Only what keeps it from looking on.
pub fn verify(db: &Db, store: &Store, depth: Depth) -> Result<Verified> {
    let mut verified = Verified::default();
    let mut all = Vec::new();
    let data_too = depth != Depth::Sizes;
    db.read(|reader| {
        for why in db::check_database(reader, data_too)? {
            verified.findings.push(Finding { object: None, why, remedy: Remedy::Nothing });
        }
        for object in db::unproven_objects(reader)? {
            let why = "a live step refers to it, but it is not kept".to_owned();
            let remedy = Remedy::MakeAgain;
            verified.findings.push(Finding { object: Some(object), why, remedy });
        }
        db::each_object(reader, &mut |hash, size| {
            all.push((hash, size));
            Ok(())
        })
    })?;
    let mut chance = Sample::new();
    for (hash, size) in all {
        let data = match depth {
            Depth::Sizes => false,
            Depth::Data(share) => chance.is_drawn(share),
        };
        if let Some((why, remedy)) = look(store, &hash, size, data)? {
            // The row may have gone since (gc), and the file with it: that is no damage.
            if db.read(|reader| db::known_object(reader, &hash))?.is_some() {
                verified.findings.push(Finding { object: Some(hash), why, remedy });
            }
        }
        verified.objects += 1;
        verified.bytes += size;
        verified.hashed += u64::from(data);
    }
    Ok(verified)
}

/// What is wrong with an object, if anything is.
pub(super) fn look(
    store: &Store,
    hash: &ObjectHash,
    size: u64,
    data: bool,
) -> Result<Option<(String, Remedy)>> {
    let unreadable = match store.check(hash, Some(size), data) {
        Ok(Ok(())) => None,
        Ok(Err(why)) => return Ok(Some((why, Remedy::MakeAgain))),
        Err(Error::Io { path, source, .. }) if is_its_own(&source) => {
            Some(format!("it can't be read (`{}`): {source}", shown(&path)))
        }
        Err(err) => return Err(err),
    };
    if let Some(mode) = store.wrong_mode(hash)? {
        return Ok(Some((format!("its mode is {mode:04o} instead of 0444"), Remedy::MakeReadOnly)));
    }
    Ok(unreadable.map(|why| (why, Remedy::Nothing)))
}

/// True for errors that say something of one file; the next one may be good.
fn is_its_own(error: &std::io::Error) -> bool {
    let own = [libc::EACCES, libc::EPERM, libc::EIO, libc::EUCLEAN, libc::ENODATA, libc::EBADMSG];
    error.raw_os_error().is_some_and(|code| own.contains(&code))
}

/// Draws another sample in every run, so that many runs see everything.
struct Sample(u64);

impl Sample {
    fn new() -> Sample {
        let seed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |since| since.as_nanos() as u64);
        Sample(seed | 1)
    }

    fn is_drawn(&mut self, share: f64) -> bool {
        // xorshift64: any spread will do.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        share >= 1.0 || ((self.0 >> 11) as f64 / (1u64 << 53) as f64) < share
    }
}
