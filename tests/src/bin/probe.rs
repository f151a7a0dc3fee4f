//! See `wlproxy_tests::probe`.

fn main() -> anyhow::Result<()> {
    wlproxy_tests::probe::main()
}
