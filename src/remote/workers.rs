//! What `--on` asks for: `local:4`, `ssh:host1,host2`, `slurm:8`.

use std::str::FromStr;

/// Most slots in all, as with `-j`.
const MOST: usize = 4096;

/// How workers are started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartedBy {
    /// As processes of this machine.
    Local,
    /// By ssh, each on one of these hosts, as ssh knows them.
    Ssh(Vec<String>),
    /// As jobs of Slurm.
    Slurm,
}

/// Where a run has its workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    pub by: StartedBy,
    /// Of each worker: scripts at once.
    pub slots: Vec<usize>,
}

impl Workers {
    /// Scripts at once on all of them together.
    pub fn all_slots(&self) -> usize {
        self.slots.iter().sum()
    }

    /// Scripts at once of the largest of them.
    pub fn most_slots(&self) -> usize {
        self.slots.iter().copied().max().unwrap_or(0)
    }

    /// How many workers there are.
    pub fn count(&self) -> usize {
        self.slots.len()
    }
}

impl FromStr for Workers {
    type Err = String;

    fn from_str(word: &str) -> Result<Workers, String> {
        let (kind, rest) = word.split_once(':').unwrap_or((word, ""));
        let workers = match kind {
            "local" => Workers { by: StartedBy::Local, slots: counted(kind, rest)? },
            "slurm" => Workers { by: StartedBy::Slurm, slots: counted(kind, rest)? },
            "ssh" => {
                let (hosts, slots) = hosts(rest)?;
                Workers { by: StartedBy::Ssh(hosts), slots }
            }
            _ => return Err("must be local:N, ssh:HOST,… or slurm:N".to_owned()),
        };
        match workers.all_slots() {
            0 => Err("needs one worker at least, with one slot".to_owned()),
            all if all > MOST => Err(format!("asks for {all} slots, and {MOST} are the most")),
            _ => Ok(workers),
        }
    }
}

/// `4` or `4x2`
fn counted(kind: &str, text: &str) -> Result<Vec<usize>, String> {
    let (count, slots) = text.split_once('x').unwrap_or((text, "1"));
    let both = number(count).zip(number(slots));
    let (count, slots) = both.ok_or_else(|| {
        format!("must be {kind}: and the number of workers, such as {kind}:4, or {kind}:4x2 for two slots each")
    })?;
    if count > MOST || slots > MOST {
        return Err(format!("asks for more than {MOST} slots"));
    }
    Ok(if slots == 0 { Vec::new() } else { vec![slots; count] })
}

/// `host1,4/host2`, the number of slots before the host, as GNU parallel has it.
fn hosts(text: &str) -> Result<(Vec<String>, Vec<usize>), String> {
    let mut all = (Vec::new(), Vec::new());
    for word in text.split(',') {
        let (slots, host) = match word.split_once('/') {
            Some((slots, host)) => (number(slots), host),
            None => (Some(1), word),
        };
        // ssh would take it for an option.
        let is_host =
            !host.is_empty() && !host.starts_with('-') && !host.contains(char::is_whitespace);
        let slots = slots.filter(|slots| is_host && (1..=MOST).contains(slots)).ok_or_else(|| {
            "must be ssh: and hosts with commas between them, such as ssh:host1,4/host2 for four slots on the second"
                .to_owned()
        })?;
        all.0.push(host.to_owned());
        all.1.push(slots);
    }
    Ok(all)
}

fn number(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_counted_and_what_is_no_count_is_refused() {
        let read = |word: &str| word.parse::<Workers>().map(|on| (on.by, on.slots));
        assert_eq!(read("local:4"), Ok((StartedBy::Local, vec![1; 4])));
        assert_eq!(read("slurm:4x2"), Ok((StartedBy::Slurm, vec![2; 4])));
        let hosts = ["a.b", "me@c"].map(str::to_owned).to_vec();
        assert_eq!(read("ssh:a.b,4/me@c"), Ok((StartedBy::Ssh(hosts), vec![1, 4])));
        for wrong in [
            "",
            "local",
            "local:",
            "local:0",
            "local:4x0",
            "local:x",
            "local:4x",
            "local:-1",
            "local:99999",
            "local:3000x3000",
            "pbs:4",
            "ssh:",
            "ssh:a,",
            "ssh:-oProxyCommand=x",
            "ssh:0/a",
            "ssh:a b",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
