//! The accuracy-against-compute curve of a network, as JSON and as a picture.

use bloctrain_shared::exit::calibration::Calibration;
use bloctrain_shared::exit::{ExitRule, Gate, Outcome, evaluate};
use bloctrain_shared::record::Records;
use plotters::prelude::*;
use serde::{Deserialize, Serialize};

/// Colours that people with any colour vision tell apart (Okabe and Ito 2008).
const BLUE_LINE: RGBColor = RGBColor(0, 114, 178);
const ORANGE_LINE: RGBColor = RGBColor(213, 94, 0);
const GRID: RGBColor = RGBColor(220, 220, 220);

/// The curve: every point was found on validation data; the test figures are for information.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Index of the point that the package uses.
    pub chosen: usize,
    /// The points, cheapest first.
    pub points: Vec<CurvePoint>,
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
        Self { chosen: calibration.chosen, points: calibration.curve.iter().map(|found| point(&found.gates)).collect() }
    }

    /// The curve as an SVG picture: accuracy in percent over relative compute in percent.
    ///
    /// # Errors
    /// When the picture cannot be drawn.
    pub fn to_svg(&self) -> Result<String, String> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| format!("the curve cannot be drawn: {error}"))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error + '_>> {
        let root = SVGBackend::with_string(svg, (720, 480)).into_drawing_area();
        root.fill(&WHITE)?;
        let series = |pick: fn(&CurvePoint) -> &CurveFigures| -> Vec<(f64, f64)> {
            self.points.iter().map(pick).map(|at| (100.0 * at.relative_compute, 100.0 * at.accuracy)).collect()
        };
        let (validation, test) = (series(|point| &point.validation), series(|point| &point.test));
        let all = || validation.iter().chain(&test);
        let low = |pick: fn(&(f64, f64)) -> f64| all().map(pick).fold(f64::INFINITY, f64::min);
        let high = |pick: fn(&(f64, f64)) -> f64| all().map(pick).fold(f64::NEG_INFINITY, f64::max);
        let range = |from: f64, to: f64| (from - 0.05 * (to - from) - 0.5)..(to + 0.05 * (to - from) + 0.5);
        let (x, y) = (range(low(|p| p.0), high(|p| p.0)), range(low(|p| p.1), high(|p| p.1)));
        let mut chart = ChartBuilder::on(&root)
            .caption("accuracy against compute", ("sans-serif", 20))
            .margin(16)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(x, y)?;
        let (x_desc, y_desc) = ("mean compute per input, % of the full network", "accuracy, %");
        chart.configure_mesh().x_desc(x_desc).y_desc(y_desc).light_line_style(TRANSPARENT).bold_line_style(GRID).draw()?;
        for (points, colour, name) in [(&validation, BLUE_LINE, "validation"), (&test, ORANGE_LINE, "test")] {
            let line = chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3))?;
            line.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        }
        let chosen = validation.get(self.chosen).into_iter().chain(test.get(self.chosen));
        let circles = chart.draw_series(chosen.map(|&at| Circle::new(at, 7, BLACK)))?;
        circles.label("chosen").legend(|(x, y)| Circle::new((x + 8, y), 5, BLACK));
        let labels = &mut chart.configure_series_labels();
        labels.position(SeriesLabelPosition::LowerRight).background_style(WHITE).border_style(GRID).draw()?;
        root.present()?;
        drop(chart);
        drop(root);
        Ok(())
    }
}
