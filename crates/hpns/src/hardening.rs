//! Process hardening: no core dumps, private files, and panics that say where and not what.

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask};
use tracing::error;

/// Makes every file that the process writes its owner's alone.
pub(crate) fn private_files() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// Forbids core files, and makes panics say where and not what: a message may hold content.
///
/// The limit alone does not hold where the kernel pipes cores to a program, hence both.
pub(crate) fn harden() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        metrics::counter!("panics_total").increment(1);
        error!(place, "a part of the program panicked");
    }));
}
