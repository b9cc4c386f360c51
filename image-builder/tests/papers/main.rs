//! The papers of an image: what they say, that they are the same for the same image, and what is made of hostile ones.

#[path = "../../../measurements/predict/tests/it/made.rs"]
mod common;
mod inside;
mod made;
mod program;
mod published;
mod release;
mod written;
