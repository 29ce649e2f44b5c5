//! The thread that computes: one executor on one device, fed with one task at a time.

use crate::device::{Device, failure};
use crate::session::client::{Done, Engine, Job, failure_of_panic};
use crate::session::control::Stop;
use crate::snn::trainer::TrainingBackend;
use crate::stage::io::Io;
use crate::stage::prepared::Datasets;
use crate::stage::{Executor, Stopwatch};
use bloctrain_shared::task::Failure;
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Starts a computing thread on a device (after [`Device::resolve`]).
///
/// # Errors
/// When the system cannot make a thread.
pub fn start(device: Device, io: Io, datasets: Datasets, stopwatch: Stopwatch) -> std::io::Result<Engine> {
    let backend = device.backend();
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(number) => {
            let device = burn_cuda::CudaDevice::new(number);
            spawn(move || Executor::<Autodiff<burn_cuda::Cuda>>::new(io, device, datasets, stopwatch, backend))
        }
        #[cfg(feature = "wgpu")]
        Device::Wgpu => spawn(move || {
            Executor::<Autodiff<burn_wgpu::Wgpu>>::new(io, Default::default(), datasets, stopwatch, backend)
        }),
        _ => spawn(move || Executor::<Autodiff<Flex>>::new(io, Default::default(), datasets, stopwatch, backend)),
    }
}

fn spawn<B: TrainingBackend>(build: impl FnOnce() -> Executor<B> + Send + 'static) -> std::io::Result<Engine> {
    let (jobs, mut inbox) = tokio::sync::mpsc::unbounded_channel::<Job>();
    let (outbox, done) = tokio::sync::mpsc::channel(1);
    std::thread::Builder::new().name("compute".into()).spawn(move || {
        let mut executor = build();
        while let Some(job) = inbox.blocking_recv() {
            let begun = executor.seconds();
            let result = catch_unwind(AssertUnwindSafe(|| executor.run(&job.task, &job.control)));
            let result = result.unwrap_or_else(|panic| Err(Stop::Failed(failure_of_panic(panic.as_ref()))));
            // What was computed on a device that failed meanwhile is not to be believed, whatever came of it.
            let result = match failure::take() {
                Some(message) => Err(Stop::Failed(Failure::Transient { message })),
                None => result,
            };
            let seconds = executor.seconds() - begun;
            if outbox.blocking_send(Done { result, seconds }).is_err() {
                return;
            }
        }
    })?;
    Ok(Engine { jobs, done })
}
