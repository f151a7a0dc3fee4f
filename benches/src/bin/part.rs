//! A process beside those that are measured. See `wlproxy_benches::part`.

fn main() -> anyhow::Result<()> {
    wlproxy_benches::part::main()
}
