//! The tests of the builder: one module for each thing that it makes or reads.

mod build_image;
mod build_parts;
mod compile;
mod cubins;
mod debian;
mod disk;
mod dump_acpi;
mod erofs_image;
mod fetch;
#[path = "../../../engine/model/tests/model/text_gguf.rs"]
mod gguf_of_texts;
mod h100;
mod h100_boot;
mod host;
mod host_sandbox;
mod mirror;
mod model;
mod model_erofs;
mod model_gguf;
mod model_whole;
#[path = "../../../measurements/predict/tests/it/made.rs"]
mod parts;
mod provenance;
mod repro;
mod root_stream;
mod sandbox;
mod templates;
mod uki;
mod userland;
mod vocabularies;
