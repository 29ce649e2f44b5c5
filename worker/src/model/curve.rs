//! The accuracy-against-compute curve of a network as a picture.

use bloctrain_shared::curve::{Curve, CurveFigures, CurvePoint};
use plotters::prelude::*;

/// Colours that people with any colour vision tell apart (Okabe and Ito 2008).
const BLUE_LINE: RGBColor = RGBColor(0, 114, 178);
const ORANGE_LINE: RGBColor = RGBColor(213, 94, 0);
const GRID: RGBColor = RGBColor(220, 220, 220);

/// The curve as an SVG picture: accuracy in percent over relative compute in percent.
///
/// # Errors
/// When the picture cannot be drawn.
pub fn to_svg(curve: &Curve) -> Result<String, String> {
    let mut svg = String::new();
    draw(curve, &mut svg).map_err(|error| format!("the curve cannot be drawn: {error}"))?;
    Ok(svg)
}

fn draw<'s>(curve: &Curve, svg: &'s mut String) -> Result<(), Box<dyn std::error::Error + 's>> {
    let root = SVGBackend::with_string(svg, (720, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let series = |pick: fn(&CurvePoint) -> &CurveFigures| -> Vec<(f64, f64)> {
        curve.points.iter().map(pick).map(|at| (100.0 * at.relative_compute, 100.0 * at.accuracy)).collect()
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
    let chosen = validation.get(curve.chosen).into_iter().chain(test.get(curve.chosen));
    let circles = chart.draw_series(chosen.map(|&at| Circle::new(at, 7, BLACK)))?;
    circles.label("chosen").legend(|(x, y)| Circle::new((x + 8, y), 5, BLACK));
    let labels = &mut chart.configure_series_labels();
    labels.position(SeriesLabelPosition::LowerRight).background_style(WHITE).border_style(GRID).draw()?;
    root.present()?;
    drop(chart);
    drop(root);
    Ok(())
}
