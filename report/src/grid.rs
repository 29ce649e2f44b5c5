//! Numbers between 0 and 1 as a grid of cells, in SVG.

use crate::html::escaped;
use std::fmt::Write;

/// Height of a row.
const ROW: f64 = 18.0;

/// Most characters of a name.
const NAME: usize = 18;

/// A cell: how strongly it is coloured, in [0, 1], and what it says.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) shade: f64,
    pub(crate) text: String,
    /// Whether it has a frame.
    pub(crate) is_marked: bool,
}

/// Rows of cells under named columns; a cell may be missing.
#[derive(Debug, Clone)]
pub(crate) struct Grid<'a> {
    pub(crate) what: &'a str,
    pub(crate) rows: Vec<(String, Vec<Option<Cell>>)>,
    pub(crate) columns: Vec<String>,
    /// Width of a column.
    pub(crate) width: f64,
    /// Index of the colour.
    pub(crate) colour: usize,
}

fn short(name: &str) -> String {
    let mut cut: String = name.chars().take(NAME).collect();
    if name.chars().count() > NAME {
        cut.push('…');
    }
    escaped(&cut)
}

/// Characters of the longest of some names, as they are shown.
fn longest<'a>(names: impl Iterator<Item = &'a String>) -> f64 {
    names.map(|name| name.chars().count()).max().unwrap_or(0).min(NAME + 1) as f64
}

impl Grid<'_> {
    pub(crate) fn to_svg(&self) -> String {
        let left = 12.0 + 7.0 * longest(self.rows.iter().map(|(name, _)| name));
        let is_slanted = longest(self.columns.iter()) * 7.0 > self.width;
        let above = if is_slanted { 14.0 + 5.2 * longest(self.columns.iter()) } else { 22.0 };
        let beyond = if is_slanted { 5.2 * longest(self.columns.iter()) } else { 0.0 };
        let (width, height) =
            (left + self.width * self.columns.len() as f64 + beyond + 4.0, above + ROW * self.rows.len() as f64 + 4.0);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" \
            aria-label=\"{}\">",
            escaped(self.what)
        );
        // Writing into a text does not fail.
        for (number, name) in self.columns.iter().enumerate() {
            let (x, y) = (left + self.width * (number as f64 + 0.5), above - 6.0);
            let turn = if is_slanted { format!(" transform=\"rotate(-45 {x:.1} {y:.1})\"") } else { String::new() };
            let anchor = if is_slanted { "start" } else { "middle" };
            let _ = write!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{turn} fill=\"currentColor\">{}</text>",
                short(name)
            );
        }
        for (number, (name, cells)) in self.rows.iter().enumerate() {
            let y = above + ROW * number as f64;
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"currentColor\">{}</text>",
                left - 6.0,
                y + 13.0,
                short(name)
            );
            for (column, cell) in cells.iter().enumerate() {
                let Some(cell) = cell else { continue };
                let x = left + self.width * column as f64;
                let frame = if cell.is_marked { " stroke=\"currentColor\" stroke-width=\"1.5\"" } else { "" };
                let _ = write!(
                    svg,
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"var(--s{})\" \
                    fill-opacity=\"{:.2}\"{frame}/>",
                    x + 1.0,
                    y + 1.0,
                    self.width - 2.0,
                    ROW - 2.0,
                    self.colour,
                    0.75 * cell.shade.clamp(0.0, 1.0),
                );
                let _ = write!(
                    svg,
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"currentColor\" \
                    font-size=\"11\">{}</text>",
                    x + self.width / 2.0,
                    y + 13.0,
                    escaped(&cell.text)
                );
            }
        }
        svg.push_str("</svg>");
        svg
    }
}
