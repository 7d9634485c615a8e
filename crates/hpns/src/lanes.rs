//! Lane set-up: the lanes that the configuration names, and the keys under which pushes travel on them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use data_encoding::HEXLOWER;
use dispatch_stream::{BoardKeys, KeyRing, Lane, LaneFault, RedisGateway, RedisWorker};
use push_domain::Clock;
use tracing::warn;

use crate::config::Config;
use crate::secret_file;

/// The lanes of a process, and the keys to them.
pub(crate) struct Lanes {
    pub(crate) all: Vec<Lane>,
    /// For what this process and the others tell each other.
    pub(crate) peer_keys: BoardKeys,
    /// For pushes; a process that neither takes nor sends them needs none.
    ring: Option<Arc<KeyRing>>,
}

impl Lanes {
    /// Reads the settings; `None` where there are no lanes. Refuses a lane that keeps or drops pushes; one
    /// that cannot be reached may come later.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Option<Self>> {
        let dispatch = &config.dispatch;
        if dispatch.lanes.is_empty() {
            return Ok(None);
        }
        let path = config.path(&dispatch.key_ring_file);
        let (peer_keys, ring) = read_keys(&path)
            .with_context(|| format!("dispatch.key_ring_file: {} is no key ring", path.display()))?;
        let authority = dispatch.lanes_ca_file.as_ref().map(|file| std::fs::read(config.path(file)));
        let authority = authority.transpose().context("dispatch.lanes_ca_file cannot be read")?;
        let mut lanes = Vec::new();
        for (number, address) in (1..).zip(&dispatch.lanes) {
            let name = format!("lane{number}");
            let lane =
                Lane::new(&name, address, &dispatch.key_prefix, dispatch.check_lanes, authority.clone());
            let lane = lane.with_context(|| format!("dispatch.lanes, number {number}"))?;
            match lane.check().await {
                Ok(()) => {}
                Err(LaneFault::Unreachable(error)) => warn!(lane = name, error, "a lane cannot be reached"),
                Err(LaneFault::Unsafe(fault)) => {
                    bail!("dispatch.lanes, number {number}: the Redis may not be used: {fault}")
                }
            }
            lanes.push(lane);
        }
        Ok(Some(Self { all: lanes, peer_keys, ring: ring.map(Arc::new) }))
    }

    /// Makes the gateway's end of a process that takes pushes.
    pub(crate) fn gateway(&self, process: &str, config: &Config) -> anyhow::Result<RedisGateway> {
        let (dispatch, ring) = (&config.dispatch, self.ring()?);
        let capacity = dispatch.capacity.saturating_mul(config.threads());
        Ok(RedisGateway::new(process.to_owned(), &self.all, ring, capacity, dispatch.queue_capacity))
    }

    /// Makes the worker's end of a process that delivers them.
    pub(crate) fn worker(
        &self,
        process: &str,
        config: &Config,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<RedisWorker> {
        Ok(RedisWorker::new(process, &self.all, &self.ring()?, config.threads(), clock))
    }

    fn ring(&self) -> anyhow::Result<Arc<KeyRing>> {
        self.ring.clone().context(
            "dispatch.key_ring_file holds the keys of the board alone; who takes or sends pushes needs the ring itself",
        )
    }
}

/// Reads a key ring, or the keys of the board alone.
fn read_keys(path: &Path) -> anyhow::Result<(BoardKeys, Option<KeyRing>)> {
    let bytes = secret_file::read_key(path)?;
    let text = std::str::from_utf8(&bytes)?;
    Ok((BoardKeys::parse(text)?, KeyRing::parse(text).ok()))
}

/// What `hpns new-key` may be told.
#[derive(Debug, clap::Args)]
pub(crate) struct NewKeyOptions {
    /// Prints the keys of the board that belong to this key ring, instead of a new key: for `hpns admin`, which reads what
    /// the other processes tell and opens no push.
    #[arg(long, value_name = "KEY_RING_FILE")]
    board_of: Option<PathBuf>,
    /// Writes a new file, which only its owner may read, instead of printing.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Makes a key, or derives those of the board.
pub(crate) fn print_key(options: &NewKeyOptions) -> anyhow::Result<()> {
    let text = match &options.board_of {
        Some(ring) => {
            let keys = read_keys(ring).with_context(|| format!("{} is no key ring", ring.display()))?;
            keys.0.lines()
        }
        None => new_key()? + "\n",
    };
    match &options.output {
        Some(path) => {
            secret_file::write(path, &text).with_context(|| format!("{} cannot be written", path.display()))
        }
        None => Ok(std::io::stdout().write_all(text.as_bytes())?),
    }
}

/// Makes a line for a key ring: a kid and a key, in hexadecimal.
fn new_key() -> anyhow::Result<String> {
    let (mut kid, mut key) = ([0; 8], [0; 32]);
    for bytes in [&mut kid[..], &mut key[..]] {
        aws_lc_rs::rand::fill(bytes).map_err(|_| anyhow::anyhow!("no random bytes"))?;
    }
    Ok(format!("{} {}", HEXLOWER.encode(&kid), HEXLOWER.encode(&key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_a_key_ring() {
        assert!(KeyRing::parse(&new_key().unwrap()).is_ok());
    }
}
