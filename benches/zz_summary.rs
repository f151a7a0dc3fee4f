//! Prints what all benchmarks say together. cargo runs them in the order of their names, and this is the last.

use anyhow::Result;
use wlproxy_benches::bench::Bench;

fn main() -> Result<()> {
    let bench = Bench::new("summary");
    // Who only lists benchmarks finds none here.
    if std::env::args().any(|arg| arg == "--list") {
        return Ok(());
    }
    let text = bench.refresh()?;
    if !bench.is_test() {
        println!("\n{text}");
    }
    bench.say(&format!("written to {}", bench.folder().join("summary.md").display()));
    Ok(())
}
