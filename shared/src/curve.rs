//! The accuracy-against-compute curve of a network: what every setting of its exits does.

use crate::exit::calibration::Calibration;
use crate::exit::{ExitRule, Gate, Outcome, evaluate};
use crate::record::Records;
use serde::{Deserialize, Serialize};

/// The curve: every point was found on validation data; the test figures are for information.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Index of the point that the package uses.
    pub chosen: usize,
    /// The points, cheapest first.
    pub points: Vec<CurvePoint>,
    /// What is answered when every input goes through all blocks; absent in runs of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_exits: Option<CurvePoint>,
}

/// One setting of the exits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// One gate for every block but the last.
    pub gates: Vec<Gate>,
    /// On validation data.
    pub validation: CurveFigures,
    /// On test data.
    pub test: CurveFigures,
}

/// What a setting does to one set of samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurveFigures {
    /// Fraction of right answers in [0, 1].
    pub accuracy: f64,
    /// Mean compute per sample as a fraction of the full network's.
    pub relative_compute: f64,
    /// Fraction of the samples that exit at each block.
    pub exit_fraction: Vec<f64>,
    /// Expected calibration error in [0, 1]; see [`Outcome::calibration_error`].
    #[serde(default)]
    pub calibration_error: f64,
}

impl CurveFigures {
    fn new(outcome: &Outcome) -> Self {
        let relative_compute = 1.0 / outcome.compute_efficiency();
        Self {
            accuracy: outcome.accuracy,
            relative_compute,
            exit_fraction: outcome.exit_fraction.clone(),
            calibration_error: outcome.calibration_error,
        }
    }
}

impl Curve {
    /// Evaluates every point of a calibration on validation and test records over `classes` classes.
    pub fn new(calibration: &Calibration, validation: &Records, test: &Records, classes: usize) -> Self {
        let figures = |records: &Records, gates: &[Gate]| {
            let rule = ExitRule { gates: gates.to_vec(), ..calibration.rule.clone() };
            CurveFigures::new(&evaluate(records, &rule, classes))
        };
        let point = |gates: &Vec<Gate>| CurvePoint {
            gates: gates.clone(),
            validation: figures(validation, gates),
            test: figures(test, gates),
        };
        let points: Vec<CurvePoint> = calibration.curve.iter().map(|found| point(&found.gates)).collect();
        Self { chosen: calibration.chosen, points, without_exits: Some(point(&calibration.rule.without_exits().gates)) }
    }
}
