//! A process: tasks that are killed, suspended and resumed together.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::task::{AbortHandle, JoinHandle};

#[derive(Default)]
struct State {
    is_suspended: bool,
    is_dead: bool,
    tasks: Vec<AbortHandle>,
    sleepers: Vec<Waker>,
}

/// A process. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Process(Arc<Mutex<State>>);

impl Process {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a task of this process; in a dead one it never runs.
    pub(crate) fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let handle = tokio::spawn(Suspended { process: self.clone(), task: Box::pin(task) });
        let mut state = self.state();
        if state.is_dead {
            handle.abort();
        }
        if state.tasks.len() > 64 {
            state.tasks.retain(|task| !task.is_finished());
        }
        state.tasks.push(handle.abort_handle());
        handle
    }

    /// Ends the process without warning, as SIGKILL does.
    pub(crate) fn kill(&self) {
        let mut state = self.state();
        state.is_dead = true;
        state.tasks.drain(..).for_each(|task| task.abort());
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state().is_dead
    }

    /// Stops the process where it is, as SIGSTOP does.
    pub(crate) fn suspend(&self) {
        self.state().is_suspended = true;
    }

    /// Lets it go on, as SIGCONT does.
    pub(crate) fn resume(&self) {
        let sleepers = {
            let mut state = self.state();
            state.is_suspended = false;
            std::mem::take(&mut state.sleepers)
        };
        sleepers.into_iter().for_each(Waker::wake);
    }
}

/// A task that stands still while its process does.
struct Suspended<T> {
    process: Process,
    task: Pin<Box<dyn Future<Output = T> + Send>>,
}

impl<T> Future for Suspended<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        {
            let mut state = self.process.state();
            if state.is_suspended {
                state.sleepers.push(context.waker().clone());
                return Poll::Pending;
            }
        }
        self.task.as_mut().poll(context)
    }
}
