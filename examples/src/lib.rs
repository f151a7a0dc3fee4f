//! The examples stand beside this file's folder: `cargo run --example listen`.
