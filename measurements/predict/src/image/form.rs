//! How a manifest is written: open down to what is listed, and each thing in a list on one line. A list of thousands stays short,
//! and two manifests can be compared line by line.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{Formatter, PrettyFormatter};

use super::ImageParts;

/// The bytes, with a final newline.
pub(super) fn written(parts: &ImageParts) -> Vec<u8> {
    let mut bytes = Vec::new();
    let form = Form::default();
    let mut serializer = Serializer::with_formatter(&mut bytes, form);
    parts
        .serialize(&mut serializer)
        .expect("an image manifest has only strings, numbers and lists, which always serialise");
    bytes.push(b'\n');
    bytes
}

/// Open: the manifest, what its fields hold, and lists in those.
#[derive(Default)]
struct Form {
    pretty: PrettyFormatter<'static>,
    depth: usize,
    /// The depth of the outermost object that is on one line.
    closed_at: Option<usize>,
}

const OPEN_OBJECTS: usize = 2;

impl Form {
    fn is_closed(&self) -> bool {
        self.closed_at.is_some()
    }
}

impl Formatter for Form {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        match self.is_closed() {
            true => out.write_all(b"["),
            false => self.pretty.begin_array(out),
        }
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        match self.is_closed() {
            true => out.write_all(b"]"),
            false => self.pretty.end_array(out),
        }
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        match (self.is_closed(), first) {
            (false, _) => self.pretty.begin_array_value(out, first),
            (true, true) => Ok(()),
            (true, false) => out.write_all(b", "),
        }
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        match self.is_closed() {
            true => Ok(()),
            false => self.pretty.end_array_value(out),
        }
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        if !self.is_closed() && self.depth > OPEN_OBJECTS {
            self.closed_at = Some(self.depth);
        }
        match self.is_closed() {
            true => out.write_all(b"{"),
            false => self.pretty.begin_object(out),
        }
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        let closed = self.is_closed();
        if self.closed_at == Some(self.depth) {
            self.closed_at = None;
        }
        self.depth -= 1;
        match closed {
            true => out.write_all(b"}"),
            false => self.pretty.end_object(out),
        }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        match (self.is_closed(), first) {
            (false, _) => self.pretty.begin_object_key(out, first),
            (true, true) => Ok(()),
            (true, false) => out.write_all(b", "),
        }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        match self.is_closed() {
            true => Ok(()),
            false => self.pretty.end_object_value(out),
        }
    }
}
