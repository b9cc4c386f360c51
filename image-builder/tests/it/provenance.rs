//! The provenance of an image: what they say, that they are the same for the same image, and what is made of hostile ones.

mod made_image;
mod program;
mod published;
mod readers;
mod release;
mod written;
