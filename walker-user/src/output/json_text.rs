//! JSON as it may stand in a terminal: names of other programs are whole in it, but what would act on
//! the terminal or turn the order of text is written as an escape (RFC 8259, section 7).
//!
//! JSON itself only wants that of the first 32 characters. What is written is the business of each
//! format.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::misleads;

/// Writes a value without spaces.
pub(super) fn write(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    Ok(value.serialize(&mut Serializer::with_formatter(out, Compact))?)
}

/// Writes a value in lines that are indented, and ends the last.
pub(crate) fn write_pretty(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    let formatter = Pretty(PrettyFormatter::new());
    value.serialize(&mut Serializer::with_formatter(&mut *out, formatter))?;
    writeln!(out)
}

fn write_fragment(out: &mut (impl Write + ?Sized), mut text: &str) -> io::Result<()> {
    while let Some((at, c)) = text.char_indices().find(|(_, c)| misleads(*c)) {
        out.write_all(&text.as_bytes()[..at])?;
        // All of them are in the first plane, and so one unit of UTF-16.
        write!(out, "\\u{:04x}", u32::from(c))?;
        text = &text[at + c.len_utf8()..];
    }
    out.write_all(text.as_bytes())
}

struct Compact;

impl Formatter for Compact {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        write_fragment(out, fragment)
    }
}

struct Pretty(PrettyFormatter<'static>);

impl Formatter for Pretty {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        write_fragment(out, fragment)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_value_is_the_same_and_its_text_harmless() {
        let name = "a\u{9b}31m \u{202e}b\u{1b}[0m \u{7f} \u{2028}\"é漢😀";
        let value = json!({ name: [name, 1, {}, []], "b": { "c": null } });
        let (mut compact, mut pretty) = (Vec::new(), Vec::new());
        write(&value, &mut compact).unwrap();
        write_pretty(&value, &mut pretty).unwrap();
        for text in [compact, pretty] {
            let text = String::from_utf8(text).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
            let harmless = |c: char| c == '\n' || !misleads(c);
            assert!(text.chars().all(harmless), "{text:?}");
            assert!(text.contains("é漢😀"), "{text}");
        }
    }

    #[test]
    fn lines_are_those_of_serde() {
        let value = json!({ "a": [1, 2, { "b": [] }], "c": {} });
        let mut pretty = Vec::new();
        write_pretty(&value, &mut pretty).unwrap();
        let expected = serde_json::to_string_pretty(&value).unwrap() + "\n";
        assert_eq!(String::from_utf8(pretty).unwrap(), expected);
    }
}
