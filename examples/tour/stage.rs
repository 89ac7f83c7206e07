//! The output of the tour, and its checks.

use std::{
    error::Error,
    fmt,
    io::{self, Stdout, Write},
    time::Duration,
};

use anstream::AutoStream;
use clap::builder::styling::{AnsiColor, Style};

/// The maximum width of the output, in characters.
const WIDTH: usize = 100;
const MARGIN: &str = "   ";
/// Between two columns of a table.
const GAP: usize = 3;

const STRONG: Style = Style::new().bold();
const QUIET: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const CODE: Style = AnsiColor::Cyan.on_default();

/// The error that ends the tour early: a text that `main` prints unchanged.
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Ends the tour if a check fails.
pub(crate) fn check<T: Copy + PartialEq + fmt::Display>(what: &str, found: T, promised: T) -> Result<(), Failure> {
    if found == promised {
        return Ok(());
    }
    Err(Failure(format!("a promise is not kept: {what}: {found}, where {promised} was promised")))
}

/// Standard output, in colour on a terminal that supports it, and the notes of the scenes for the end.
pub(crate) struct Stage {
    out: AutoStream<Stdout>,
    scenes: usize,
    deeds: Vec<(&'static str, String)>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self { out: anstream::stdout(), scenes: 0, deeds: Vec::new() }
    }

    /// Greets.
    pub(crate) fn open(&mut self, title: &str, about: &str) -> io::Result<()> {
        writeln!(self.out, "{STRONG}{title}{STRONG:#}\n")?;
        self.paragraph("", Style::new(), about)
    }

    /// Begins a scene: prints its title and an introduction.
    pub(crate) fn scene(&mut self, title: &str, about: &str) -> io::Result<()> {
        self.scenes += 1;
        self.act(&format!("{}. {title}", self.scenes))?;
        self.say(about)
    }

    /// Draws a line across, with a title on it.
    pub(crate) fn act(&mut self, title: &str) -> io::Result<()> {
        let rest = "─".repeat(WIDTH - title.chars().count() - 4);
        writeln!(self.out, "\n{QUIET}──{QUIET:#} {STRONG}{title}{STRONG:#} {QUIET}{rest}{QUIET:#}\n")
    }

    /// Prints the statements of `source` with this beginning: the printed code is the code that runs.
    pub(crate) fn code<const N: usize>(&mut self, source: &str, beginnings: [&str; N]) -> Result<(), Failure> {
        for beginning in beginnings {
            let lines = statement(source, beginning);
            if lines.is_empty() {
                return Err(Failure(format!("no statement begins with `{beginning}`")));
            }
            for line in lines {
                writeln!(self.out, "{MARGIN}{QUIET}│{QUIET:#} {CODE}{line}{CODE:#}")?;
            }
        }
        Ok(writeln!(self.out)?)
    }

    /// Prints a remark.
    pub(crate) fn say(&mut self, sentence: &str) -> io::Result<()> {
        self.paragraph(MARGIN, Style::new(), sentence)?;
        writeln!(self.out)
    }

    /// Prints an expression, and its result below.
    pub(crate) fn refused(&mut self, code: &str, error: &str) -> io::Result<()> {
        writeln!(self.out, "{MARGIN}{QUIET}│{QUIET:#} {CODE}{code}{CODE:#}")?;
        self.paragraph("     ", BAD, error)?;
        writeln!(self.out)
    }

    /// Shows a table.
    pub(crate) fn table<const N: usize>(&mut self, table: &Table<N>) -> io::Result<()> {
        let widths: [usize; N] =
            std::array::from_fn(|column| table.rows.iter().map(|row| row[column].width()).max().unwrap_or_default());
        for row in &table.rows {
            let mut line = String::new();
            let mut owed = 0;
            for (cell, width) in row.iter().zip(widths) {
                let missing = width - cell.width();
                if cell.width() == 0 {
                    owed += missing + GAP;
                    continue;
                }
                let (before, after) = if cell.right { (missing, 0) } else { (0, missing) };
                line.push_str(&" ".repeat(owed + before));
                line.push_str(&cell.to_string());
                // Printed only before another cell: no line ends with spaces.
                owed = after + GAP;
            }
            writeln!(self.out, "{MARGIN}{line}")?;
        }
        writeln!(self.out)
    }

    /// Prints the conclusion of a scene.
    pub(crate) fn conclude(&mut self, sentence: &str) -> io::Result<()> {
        write!(self.out, "{GOOD}➜{GOOD:#}")?;
        let mut indent = "  ";
        for line in wrapped(sentence, WIDTH - MARGIN.len()) {
            writeln!(self.out, "{indent}{STRONG}{line}{STRONG:#}")?;
            indent = MARGIN;
        }
        Ok(())
    }

    /// Records a layer's work for the summary.
    pub(crate) fn note(&mut self, layer: &'static str, deed: impl Into<String>) {
        self.deeds.push((layer, deed.into()));
    }

    pub(crate) fn deeds_of(&self, layer: &str) -> Vec<String> {
        self.deeds.iter().filter(|(of, _)| *of == layer).map(|(_, deed)| deed.clone()).collect()
    }

    fn paragraph(&mut self, margin: &str, style: Style, text: &str) -> io::Result<()> {
        for line in wrapped(text, WIDTH - margin.len()) {
            writeln!(self.out, "{margin}{style}{line}{style:#}")?;
        }
        Ok(())
    }
}

/// Rows under a row of headings.
pub(crate) struct Table<const N: usize> {
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(|heading| text(heading).styled(QUIET))] }
    }

    /// Adds a row. The first row decides the alignment of the headings.
    pub(crate) fn row(mut self, cells: [Cell; N]) -> Self {
        if let [headings] = &mut self.rows[..] {
            for (heading, cell) in headings.iter_mut().zip(&cells) {
                heading.right = cell.right;
            }
        }
        self.rows.push(cells);
        self
    }
}

/// A text whose parts have their colours.
#[derive(Default)]
pub(crate) struct Cell {
    parts: Vec<(Style, String)>,
    right: bool,
}

impl Cell {
    pub(crate) fn strong(self) -> Self {
        self.styled(STRONG)
    }

    pub(crate) fn quiet(self) -> Self {
        self.styled(QUIET)
    }

    pub(crate) fn good(self) -> Self {
        self.styled(GOOD)
    }

    pub(crate) fn bad(self) -> Self {
        self.styled(BAD)
    }

    pub(crate) fn code(self) -> Self {
        self.styled(CODE)
    }

    pub(crate) fn coloured(self, colour: AnsiColor) -> Self {
        self.styled(colour.on_default())
    }

    fn styled(mut self, style: Style) -> Self {
        for (of, _) in &mut self.parts {
            *of = style;
        }
        self
    }

    fn width(&self) -> usize {
        self.parts.iter().map(|(_, text)| text.chars().count()).sum()
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|(style, text)| write!(f, "{style}{text}{style:#}"))
    }
}

/// Joins cells into one.
impl FromIterator<Cell> for Cell {
    fn from_iter<I: IntoIterator<Item = Cell>>(cells: I) -> Self {
        Self { parts: cells.into_iter().flat_map(|cell| cell.parts).collect(), right: false }
    }
}

pub(crate) fn text(text: impl Into<String>) -> Cell {
    Cell { parts: vec![(Style::new(), text.into())], right: false }
}

pub(crate) fn number(number: impl TryInto<u64>) -> Cell {
    let number = number.try_into().unwrap_or(u64::MAX);
    Cell { right: true, ..text(thousands(number)) }
}

pub(crate) fn time(time: Duration) -> Cell {
    Cell { right: true, ..text(human(time)) }
}

/// A bar of this many blocks, scaled down if `longest` would not fit.
pub(crate) fn bar(length: usize, longest: usize) -> Cell {
    const ROOM: usize = 50;
    let blocks = if longest <= ROOM { length } else { (length * ROOM).div_ceil(longest) };
    text("█".repeat(blocks)).good()
}

/// Writes a number with a comma for every thousand.
pub(crate) fn thousands(number: u64) -> String {
    match number / 1000 {
        0 => number.to_string(),
        rest => format!("{},{:03}", thousands(rest), number % 1000),
    }
}

/// Writes a duration in a fitting unit, joined by a non-breaking space.
pub(crate) fn human(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        ..1e3 => format!("{micros:.0}\u{a0}µs"),
        ..1e4 => format!("{:.1}\u{a0}ms", micros / 1e3),
        ..1e6 => format!("{:.0}\u{a0}ms", micros / 1e3),
        _ => format!("{:.1}\u{a0}s", micros / 1e6),
    }
}

/// The statement of `source` with this beginning, up to its last line, without its indentation.
fn statement<'a>(source: &'a str, beginning: &str) -> Vec<&'a str> {
    let mut lines = source.lines().skip_while(|line| !line.trim_start().starts_with(beginning)).peekable();
    let indent = lines.peek().map_or(0, |line| line.len() - line.trim_start().len());
    let mut statement = Vec::new();
    for line in lines {
        let line = line.get(indent..).unwrap_or_default();
        statement.push(line);
        if line.ends_with(';') {
            break;
        }
    }
    statement
}

/// Breaks a text into lines, between its words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut();
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
