//! SVG elements, written as they are drawn. All text goes through quick-xml, which escapes it.

use std::fmt::Display;
use std::io::{self, Write};

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use super::super::clean::printable;

/// A page that is being drawn. Lengths are px, counted from the top left.
pub(super) struct Canvas<W: Write> {
    xml: Writer<W>,
}

/// A rectangle.
#[derive(Clone, Copy)]
pub(super) struct Area {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl<W: Write> Canvas<W> {
    /// A white page with a title and a style sheet.
    pub(super) fn new(out: W, width: f64, height: f64, title: &str, style: &str) -> io::Result<Self> {
        let mut xml = Writer::new_with_indent(out, b' ', 1);
        xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        let (wide, high) = (number(width), number(height));
        xml.write_event(Event::Start(BytesStart::new("svg").with_attributes([
            ("xmlns", "http://www.w3.org/2000/svg"),
            ("viewBox", format!("0 0 {wide} {high}").as_str()),
            ("width", &wide),
            ("height", &high),
            ("role", "img"),
        ])))?;
        let mut canvas = Self { xml };
        canvas.element("title", &[], Some(title))?;
        canvas.element("style", &[], Some(style))?;
        canvas.area("page", Area { x: 0.0, y: 0.0, width, height }, None)?;
        Ok(canvas)
    }

    /// Ends the page.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.xml.write_event(Event::End(BytesEnd::new("svg")))?;
        self.xml.into_inner().write_all(b"\n")
    }

    /// A rectangle of a class, with a title that a browser shows when the pointer is over it.
    pub(super) fn area(&mut self, class: &str, area: Area, hover: Option<&str>) -> io::Result<()> {
        let [x, y, width, height] = [area.x, area.y, area.width, area.height].map(number);
        let attributes = [("class", class), ("x", &x), ("y", &y), ("width", &width), ("height", &height)];
        self.titled("rect", &attributes, hover)
    }

    /// An outline of a class, given as SVG path data around (0, 0), with a title.
    pub(super) fn shape(&mut self, class: &str, path: &str, (x, y): (f64, f64), hover: Option<&str>) -> io::Result<()> {
        let at = format!("translate({},{})", number(x), number(y));
        self.titled("path", &[("class", class), ("transform", &at), ("d", path)], hover)
    }

    /// A straight line.
    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) -> io::Result<()> {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(number);
        self.element("line", &[("class", class), ("x1", &x1), ("y1", &y1), ("x2", &x2), ("y2", &y2)], None)
    }

    /// A line of text, whose class says which end of it stands at `x`.
    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), text: &str) -> io::Result<()> {
        self.element("text", &[("class", class), ("x", &number(x)), ("y", &number(y))], Some(text))
    }

    fn titled(&mut self, name: &str, attributes: &[(&str, &str)], title: Option<&str>) -> io::Result<()> {
        let Some(title) = title else { return self.element(name, attributes, None) };
        self.xml.write_event(Event::Start(BytesStart::new(name).with_attributes(attributes.iter().copied())))?;
        self.element("title", &[], Some(title))?;
        self.xml.write_event(Event::End(BytesEnd::new(name)))
    }

    fn element(&mut self, name: &str, attributes: &[(&str, &str)], text: Option<&str>) -> io::Result<()> {
        let element = self.xml.create_element(name).with_attributes(attributes.iter().copied());
        match text {
            Some(text) => element.write_text_content(BytesText::new(&printable(text))).map(drop),
            None => element.write_empty().map(drop),
        }
    }
}

/// To a tenth of a px: nobody sees more, and files stay small.
fn number(value: impl Display + Into<f64>) -> String {
    let text = format!("{:.1}", value.into());
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}
