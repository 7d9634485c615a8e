//! CPU time and memory of a process.

use anyhow::Context;

/// CPU time used so far.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    /// User and system time, in microseconds.
    pub micros: f64,
}

impl std::iter::Sum for Cpu {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        Self { micros: all.map(|cpu| cpu.micros).sum() }
    }
}

impl Cpu {
    /// Asks about this process.
    pub fn of_this_process() -> anyhow::Result<Self> {
        Self::read("/proc/self/stat")
    }

    /// Asks about another.
    pub fn of(process: u32) -> anyhow::Result<Self> {
        Self::read(&format!("/proc/{process}/stat"))
    }

    /// User and system time, which Linux counts in hundredths of a second.
    fn read(stat: &str) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(stat)?;
        let fields: Vec<_> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).context("no CPU time");
        Ok(Self { micros: (ticks(11)? + ticks(12)?) * 10_000.0 })
    }
}

/// Returns the most memory that a process ever used.
pub fn rss_mb(process: u32) -> anyhow::Result<f64> {
    memory_mb(process, "VmHWM:")
}

/// Returns the memory that a process uses now.
pub fn resident_mb(process: u32) -> anyhow::Result<f64> {
    memory_mb(process, "VmRSS:")
}

fn memory_mb(process: u32, what: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with(what)).context("no such line")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib / 1024.0)
}
