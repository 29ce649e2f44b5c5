//! A document before it has a form.

/// A document: sections one after another.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub(crate) title: String,
    pub(crate) sections: Vec<Section>,
}

/// A part of a document under a heading.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) parts: Vec<Part>,
}

/// What a section is made of. All texts are plain; a form escapes them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    Text(String),
    Table(Table),
    /// A picture in SVG, which escapes what it holds itself, and what it shows in words.
    Picture {
        svg: String,
        caption: String,
    },
    /// Small images, each with what there is to say of it.
    Images(Vec<Image>),
    /// Lines as they are.
    Code(String),
}

/// A small image.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Image {
    /// PNG in Base64.
    pub(crate) png: String,
    /// What it shows.
    pub(crate) title: String,
    /// What was said about it.
    pub(crate) lines: Vec<String>,
    /// Whether that is right.
    pub(crate) is_right: bool,
}

/// A table whose first column names its rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Table {
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    /// Whether the columns after the first are numbers, which are set to the right.
    pub(crate) is_numeric: bool,
}

impl Table {
    pub(crate) fn numbers(head: &[&str]) -> Self {
        Self { head: head.iter().map(|&name| name.to_owned()).collect(), rows: Vec::new(), is_numeric: true }
    }

    pub(crate) fn words(head: &[&str]) -> Self {
        Self { is_numeric: false, ..Self::numbers(head) }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl Document {
    pub(crate) fn new(title: String) -> Self {
        Self { title, sections: Vec::new() }
    }

    /// Begins a section.
    pub(crate) fn section(&mut self, title: impl Into<String>) -> &mut Section {
        self.sections.push(Section { title: title.into(), parts: Vec::new() });
        let last = self.sections.len() - 1;
        &mut self.sections[last]
    }
}

impl Section {
    pub(crate) fn text(&mut self, text: impl Into<String>) {
        self.parts.push(Part::Text(text.into()));
    }

    pub(crate) fn table(&mut self, table: Table) {
        self.parts.push(Part::Table(table));
    }

    pub(crate) fn picture(&mut self, svg: String, caption: impl Into<String>) {
        self.parts.push(Part::Picture { svg, caption: caption.into() });
    }

    pub(crate) fn images(&mut self, images: Vec<Image>) {
        self.parts.push(Part::Images(images));
    }

    pub(crate) fn code(&mut self, text: impl Into<String>) {
        self.parts.push(Part::Code(text.into()));
    }
}
