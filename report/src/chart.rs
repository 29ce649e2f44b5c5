//! Lines over an axis, in SVG.

use crate::html::escaped;
use crate::number::tick;
use bloctrain_shared::math::double as math;
use std::fmt::Write;

/// Width and height of a picture.
const SIZE: (f64, f64) = (680.0, 300.0);

/// Space left, right, above and below of where lines are drawn.
const MARGIN: (f64, f64, f64, f64) = (64.0, 16.0, 28.0, 44.0);

/// Series in colours that differ.
const COLOURS: usize = 6;

/// Most points of a line that are marked by a dot.
const DOTS: usize = 60;

/// A line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// Whether it is drawn with gaps.
    pub(crate) is_dashed: bool,
    /// Points with a ring around them.
    pub(crate) marked: Vec<usize>,
}

/// Lines with what their axes mean.
#[derive(Debug, Clone)]
pub(crate) struct Chart<'a> {
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    pub(crate) series: Vec<Series>,
}

/// An axis: its ends, and the distance of its marks.
struct Axis {
    from: f64,
    to: f64,
    step: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let span = if high > low { high - low } else { f64::max(high.abs(), 1.0) };
        // The smallest of 1, 2 and 5 times a power of ten that gives six marks at most.
        let power = math::pow(10.0, math::log10(span / 6.0).floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| span / step <= 6.0);
        let step = step.unwrap_or(span);
        Self {
            from: (low / step).floor() * step,
            to: ((high / step).ceil() * step).max((low / step).floor() * step + step),
            step,
        }
    }

    fn marks(&self) -> impl Iterator<Item = f64> + '_ {
        let count = ((self.to - self.from) / self.step).round() as usize;
        (0..=count.min(20)).map(|number| self.from + number as f64 * self.step)
    }

    fn share(&self, value: f64) -> f64 {
        (value - self.from) / (self.to - self.from)
    }
}

impl Chart<'_> {
    /// The picture. Points that are no numbers are left out.
    pub(crate) fn to_svg(&self) -> String {
        let (width, height) = SIZE;
        let (left, right, above, below) = MARGIN;
        let points =
            || self.series.iter().flat_map(|series| &series.points).filter(|(x, y)| x.is_finite() && y.is_finite());
        let (mut x, y) = (Axis::over(points().map(|point| point.0)), Axis::over(points().map(|point| point.1)));
        if x.step < 1.0 && points().all(|point| point.0.fract() == 0.0) {
            // Between two epochs there is nothing.
            x = Axis { from: x.from.floor(), to: x.to.ceil(), step: 1.0 };
        }
        let across = |value: f64| left + x.share(value) * (width - left - right);
        let up = |value: f64| height - below - y.share(value) * (height - above - below);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{} \
            over {}\">",
            escaped(self.y),
            escaped(self.x)
        );
        // Writing into a text does not fail.
        for mark in y.marks() {
            let (at, text) = (up(mark), tick(mark, y.step));
            let _ = write!(
                svg,
                "<path d=\"M{left} {at:.1}H{:.1}\" stroke=\"var(--line)\"/><text x=\"{:.1}\" y=\"{:.1}\" \
                text-anchor=\"end\" fill=\"currentColor\">{text}</text>",
                width - right,
                left - 6.0,
                at + 4.0
            );
        }
        for mark in x.marks() {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"currentColor\">{}</text>",
                across(mark),
                height - below + 16.0,
                tick(mark, x.step)
            );
        }
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"currentColor\">{}</text><text x=\"14\" \
            y=\"{:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {:.1})\" fill=\"currentColor\">{}</text>",
            (left + width - right) / 2.0,
            height - 8.0,
            escaped(self.x),
            height / 2.0,
            height / 2.0,
            escaped(self.y)
        );
        let mut legend = left;
        for (number, series) in self.series.iter().enumerate() {
            let colour = format!("var(--s{})", number % COLOURS);
            let finite: Vec<(usize, f64, f64)> = (0..)
                .zip(&series.points)
                .filter(|(_, (x, y))| x.is_finite() && y.is_finite())
                .map(|(index, (x, y))| (index, across(*x), up(*y)))
                .collect();
            let line: Vec<String> = finite.iter().map(|(_, x, y)| format!("{x:.1},{y:.1}")).collect();
            let dashes = if series.is_dashed { " stroke-dasharray=\"5 4\"" } else { "" };
            let _ = write!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
                line.join(" ")
            );
            for (index, x, y) in &finite {
                if finite.len() <= DOTS {
                    let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>");
                }
                if series.marked.contains(index) {
                    let _ = write!(
                        svg,
                        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"7\" fill=\"none\" stroke=\"currentColor\" \
                        stroke-width=\"2\"/>"
                    );
                }
            }
            let name: String = series.name.chars().take(40).collect();
            let _ = write!(
                svg,
                "<path d=\"M{legend:.1} 12h18\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/><text x=\"{:.1}\" \
                y=\"16\" fill=\"currentColor\">{}</text>",
                legend + 23.0,
                escaped(&name)
            );
            legend += 38.0 + 7.0 * name.chars().count() as f64;
        }
        svg.push_str("</svg>");
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_marks() {
        let marks = |values: &[f64]| {
            let axis = Axis::over(values.iter().copied());
            axis.marks().map(|mark| tick(mark, axis.step)).collect::<Vec<_>>()
        };
        assert_eq!(marks(&[0.3, 1.1]), ["0.2", "0.4", "0.6", "0.8", "1.0", "1.2"]);
        assert_eq!(marks(&[1.0, 15.0]), ["0", "5", "10", "15"]);
        assert_eq!(marks(&[]), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert!(marks(&[5.0]).len() > 1, "one value has an axis");
    }

    #[test]
    fn pictures_show_names_as_they_are_and_no_nan() {
        let points = vec![(1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0)];
        let series = vec![Series { name: "<b>".into(), points, marked: vec![2], ..Series::default() }];
        let svg = Chart { x: "epoch", y: "loss & more", series }.to_svg();
        assert!(svg.contains("&lt;b&gt;") && !svg.contains("<b>") && svg.contains("loss &amp; more"), "{svg}");
        assert!(!svg.contains("NaN") && svg.contains("r=\"7\""), "{svg}");
    }
}
