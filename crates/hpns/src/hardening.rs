//! Process hardening: no core dumps, private files, and panics that say where and not what.

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};
use tracing::error;

/// Makes every file that the process writes its owner's alone.
pub(crate) fn private_files() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// Takes as many open files as the machine allows: containers often begin with 1,024, and every caller holds one.
pub(crate) fn raise_open_files() {
    let allowed = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: allowed.maximum, maximum: allowed.maximum });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_the_open_files_that_it_may_have() {
        let before = getrlimit(Resource::Nofile);
        let low = Rlimit { current: Some(before.current.unwrap_or(4096) - 1), maximum: before.maximum };
        setrlimit(Resource::Nofile, low).unwrap();

        raise_open_files();

        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    }
}
