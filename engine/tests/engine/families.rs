//! Every family against `transformers`, with random weights.

use engine::{Chat, weights};

use crate::checkpoint::Reference;

/// Scores within 1e-4, in 32-bit floats.
fn check(name: &str) {
    let reference = Reference::decoder(name);
    let directory = reference.directory();
    let files = weights::read(directory.path()).expect("the checkpoint is whole");
    let chat = Chat::load(&files).expect("the model loads");
    for scores in chat.scores(&reference.prompt).expect("scores") {
        let rows = reference.rows.iter().map(|row| &scores[*row]);
        for (row, wanted) in rows.zip(reference.scores()) {
            let worst = row.iter().zip(&wanted).map(|(a, b)| (a - b).abs());
            let worst = worst.fold(0.0, f32::max);
            assert!(
                row.len() == wanted.len() && worst <= 1e-4,
                "{name}: {worst:e}"
            );
        }
    }
}

#[test]
fn llama_scores_are_those_of_transformers() {
    check("llama2");
    check("smollm2");
}
