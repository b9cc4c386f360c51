//! The text side of a GGUF: an error, or files that are read again.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use model::gguf::Header;
use model::text::Text;
use model::text::gguf::text_files;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = Header::read(bytes.len() as u64, bytes) else {
        return;
    };
    if let Ok(files) = text_files(&header, || Ok(Cursor::new(bytes))) {
        let again = text_files(&header, || Ok(Cursor::new(bytes)));
        assert_eq!(again.as_ref(), Ok(&files));
        let _ = Text::of(&files.tokenizer, Some(&files.tokenizer_config[..]), 1 << 16);
    }
});
