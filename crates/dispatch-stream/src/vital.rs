//! Critical tasks: a spawner that reports when one of them panics.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawner of critical tasks, without which a process would do nothing: when one of them panics, all is lost,
/// and whoever runs the process is told.
#[derive(Debug, Clone)]
pub struct VitalTasks {
    tasks: TaskTracker,
    lost: CancellationToken,
}

/// Drop guard that cancels the token when a panic drops it.
struct PanicGuard(CancellationToken);

impl VitalTasks {
    /// Spawns on `tasks`; cancels `lost` when a task panics.
    #[must_use]
    pub const fn new(tasks: TaskTracker, lost: CancellationToken) -> Self {
        Self { tasks, lost }
    }

    /// Spawns a task, on the runtime of this thread.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let watch = PanicGuard(self.lost.clone());
        self.tasks.spawn(async move {
            task.await;
            drop(watch);
        });
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_and_a_good_end_is_not() {
        let (tasks, lost) = (TaskTracker::new(), CancellationToken::new());
        let vital = VitalTasks::new(tasks.clone(), lost.clone());
        vital.spawn(async {});
        vital.spawn(std::future::pending());
        tasks.close();
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), lost.cancelled()).await.is_err());

        vital.spawn(async { panic!("as it happens") });

        lost.cancelled().await;
    }
}
