//! `verify`: is every row proved by an object, and every object what its name says?

use crate::db::{self, Db};
use crate::error::Result;
use crate::object::ObjectHash;
use crate::store::Store;

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

/// Looks through database and store. Stops at nothing; needs no lock.
///
/// # Errors
/// Only what keeps it from looking on.
pub fn verify(db: &Db, store: &Store, depth: Depth) -> Result<Verified> {
    let mut verified = Verified::default();
    let mut all = Vec::new();
    {
        let conn = db.lock();
        for why in db::check_database(&conn)? {
            verified.findings.push(Finding { object: None, why });
        }
        for object in db::unproven_objects(&conn)? {
            let why = "a live step refers to it, but it is not kept".to_owned();
            verified.findings.push(Finding { object: Some(object), why });
        }
        db::each_object(&conn, &mut |hash, size| {
            all.push((hash, size));
            Ok(())
        })?;
    }
    let mut chance = Sample::new();
    for (hash, size) in all {
        let data = match depth {
            Depth::Sizes => false,
            Depth::Data(share) => chance.is_drawn(share),
        };
        if let Err(why) = store.check(&hash, Some(size), data)? {
            // The row may have gone since (gc), and the file with it: that is no damage.
            if db::known_object(&db.lock(), &hash)?.is_some() {
                verified.findings.push(Finding { object: Some(hash), why });
            }
        }
        verified.objects += 1;
        verified.bytes += size;
        verified.hashed += u64::from(data);
    }
    Ok(verified)
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
