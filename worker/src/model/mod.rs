//! Trained networks: all blocks together on a backend, where packages are, the accuracy-against-compute curve.

pub mod curve;
pub mod network;
pub mod place;

use bloctrain_data::Dataset;
use bloctrain_infer::Predictor;
use bloctrain_shared::record::Records;

/// What every block of a network says about every test image.
pub fn test_records(predictor: &Predictor, dataset: &Dataset) -> Records {
    let test = &dataset.test;
    let ids: Vec<u32> = (0..test.len() as u32).collect();
    let images: Vec<&[u8]> = (0..test.len()).map(|sample| test.image(sample)).collect();
    predictor.records(&ids, test.labels(), &images)
}
