//! Calls of tools in what a model says: the same however it is cut, and no text is lost.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::text::tools::{Format, Parser, Piece};

fuzz_target!(|input: (u8, u8, &str)| {
    let (format, cut, text) = input;
    let format = [Format::Hermes, Format::Llama3, Format::Mistral][usize::from(format) % 3];
    let chars: Vec<char> = text.chars().collect();
    let parsed = |step: usize| {
        let (mut parser, mut said, mut calls) = (Parser::new(format), String::new(), Vec::new());
        let mut take = |pieces: Vec<Piece>| {
            for piece in pieces {
                match piece {
                    Piece::Text(text) => said += &text,
                    Piece::Call(call) => calls.push(call),
                }
            }
        };
        for chunk in chars.chunks(step) {
            take(parser.push(&chunk.iter().collect::<String>()));
        }
        take(parser.finish());
        (said, calls)
    };
    let whole = parsed(chars.len().max(1));
    assert_eq!(parsed(usize::from(cut).max(1)), whole);
    if whole.1.is_empty() {
        assert_eq!(whole.0, text);
    }
});
