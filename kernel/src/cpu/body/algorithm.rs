//! How a convolution of spikes is computed: by lists of ones where they are few, as a dense product where they are
//! many.
//!
//! The choice is made for every sample from its own spikes, so it does not depend on the batch that the sample is in.

use super::super::geometry::Geometry;
use super::super::value::Counts;
use super::super::{winograd, winograd_grad};

/// Where the outputs of a sample come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// Rows of weights for ones.
    Lists,
    /// A dense product.
    Product,
    /// A dense product with Winograd's kernels.
    Winograd,
}

/// The spikes of a sample, counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Density {
    ones: u64,
    /// Words that are not empty.
    lists: u64,
    /// Input values.
    sites: u64,
}

/// Measured on a processor of the Zen 5 generation with `bench layer`, in cycles for 64 outputs: a row of weights that
/// is added, a list that is begun, an input value in a dense product; and how much less that is with Winograd's
/// kernels, forward and for the weight gradient.
const ROW: u64 = 3;
const LIST: u64 = 17;
const DENSE: u64 = 2;
const WINOGRAD: u64 = 3;
const WINOGRAD_GRAD: u64 = 2;

impl Density {
    pub(super) fn new(geometry: &Geometry, counts: &Counts, sample: usize) -> Self {
        let mut density =
            Self { ones: 0, lists: 0, sites: (geometry.frames * geometry.input_area() * geometry.rows) as u64 };
        for (plane, _) in counts.sample(sample) {
            for word in plane {
                density.ones += u64::from(word.count_ones());
                density.lists += u64::from(*word != 0);
            }
        }
        density
    }

    fn by_lists(&self) -> u64 {
        ROW * self.ones + LIST * self.lists
    }

    /// The algorithm of the forward pass.
    pub(super) fn forward_algorithm(&self, geometry: &Geometry) -> Algorithm {
        if geometry.flat {
            return Algorithm::Lists;
        }
        let can_winograd = geometry.winograd && geometry.rows >= winograd::FEWEST;
        match (self.by_lists(), DENSE * self.sites) {
            (lists, dense) if can_winograd && WINOGRAD * lists > dense => Algorithm::Winograd,
            (lists, dense) if !can_winograd && lists > dense => Algorithm::Product,
            _ => Algorithm::Lists,
        }
    }

    /// The algorithm of the weight gradient.
    pub(super) fn weight_grad_algorithm(&self, geometry: &Geometry) -> Algorithm {
        let can_winograd = geometry.winograd && winograd_grad::pays(geometry.rows);
        match (self.by_lists(), DENSE * self.sites) {
            _ if geometry.flat => Algorithm::Lists,
            (lists, dense) if can_winograd && WINOGRAD_GRAD * lists > dense => Algorithm::Winograd,
            (lists, dense) if lists > dense => Algorithm::Product,
            _ => Algorithm::Lists,
        }
    }
}
