//! Temporary.
use bloctrain_shared::{ImageShape, spec::*};
use bloctrain_worker::{kernel::memory, snn::{block::*, trainer::*}};
use burn::{backend::{Autodiff, Flex}, tensor::{Tensor, TensorData}};
#[global_allocator]
static A: memory::CountingAllocator = memory::CountingAllocator;
type B = Autodiff<Flex>;
fn main() {
    for (joined, block) in [(true, 1), (false, 1), (false, 2), (false, 3)] {
        let mut spec = RunSpec::default();
        spec.network.preset = Some(std::env::args().nth(1).unwrap_or("resnet9".into()));
        spec.network.width = Some(std::env::args().nth(2).unwrap_or("16".into()).parse().unwrap());
        spec.run.end_to_end = joined;
        let image = if spec.network.preset.as_deref() == Some("small") { ImageShape::new(1, 28, 28) } else { ImageShape::new(3, 32, 32) };
        let config = BlockConfig::new(&spec, image, block, 10).unwrap();
        let device = Default::default();
        let geo = bloctrain_shared::geometry::trace(&config.network, image).unwrap();
        let mut t = Trainer::<B>::new(&config, &spec.train, &device).unwrap();
        let n = 32;
        let s = geo[config.index].input;
        let mk = || {
            let input = if block == 1 {
                let v: Vec<f32> = (0..n * image.len()).map(|i| ((i * 7919 % 1000) as f32) / 500.0 - 1.0).collect();
                BlockInput::Image(Tensor::from_data(TensorData::new(v, [n, image.channels, image.height, image.width]), &device))
            } else {
                let v: Vec<f32> = (0..4 * n * s.len()).map(|i| f32::from((i * 7919 % 1000) < 150)).collect();
                BlockInput::Spikes(Tensor::from_data(TensorData::new(v, [4, n, s.channels, s.height, s.width]), &device))
            };
            Ok::<_, ()>(Batch { input, labels: (0..n).map(|i| i % 10).collect() })
        };
        let mut times = vec![];
        let mut m = StepMetrics::default();
        for i in 0..8 {
            let start = std::time::Instant::now();
            m = t.step(std::iter::once(mk()), n, 1e-3, i, i == 7).unwrap();
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        println!("joined {joined} block {block}: {:.1} img/s, {:.1} MiB, {m:?}", n as f64 / times[4], m.working_bytes as f64 / 1048576.0);
    }
}
