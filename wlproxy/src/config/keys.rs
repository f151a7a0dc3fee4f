//! The keys of the file.

/// What stands behind a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// An array of strings.
    Texts,
    /// A whole number.
    Number,
    /// A table.
    Table,
}

/// One key of the file.
#[derive(Debug)]
pub struct Key {
    /// Its whole name, with `NAME` for the name of a VM and `INTERFACE` for that of a Wayland interface.
    pub name: &'static str,
    /// What stands behind it.
    pub kind: Kind,
    /// A line that is right.
    pub example: &'static str,
}

const fn text(name: &'static str, example: &'static str) -> Key {
    Key { name, kind: Kind::Text, example }
}

const fn texts(name: &'static str, example: &'static str) -> Key {
    Key { name, kind: Kind::Texts, example }
}

const fn number(name: &'static str, example: &'static str) -> Key {
    Key { name, kind: Kind::Number, example }
}

const fn table(name: &'static str, example: &'static str) -> Key {
    Key { name, kind: Kind::Table, example }
}

/// Every key there is. A table stands before what is in it.
pub const KEYS: &[Key] = &[
    text("runtime_dir", "runtime_dir = \"/run/wlproxy\""),
    text("isolation", "isolation = \"process\""),
    text("metrics", "metrics = \"/run/wlproxy/metrics.sock\""),
    table("compositor", "[compositor]"),
    text("compositor.vm", "vm = \"gui\""),
    text("compositor.socket", "socket = \"/run/user/1000/wayland-0\""),
    table("vm", "[vm.work]"),
    table("vm.NAME", "[vm.work]"),
    text("vm.NAME.socket", "socket = \"/run/wlproxy/work.sock\""),
    text("vm.NAME.window", "window = \"8 GiB\""),
    text("vm.NAME.device", "device = \"virtgpu\""),
    text("vm.NAME.title_prefix", "title_prefix = \"[work] \""),
    text("vm.NAME.app_id_prefix", "app_id_prefix = \"work.\""),
    table("vm.NAME.globals", "[vm.work.globals]"),
    texts("vm.NAME.globals.allow", "allow = [\"zwlr_layer_shell_v1\"]"),
    texts("vm.NAME.globals.deny", "deny = [\"zwp_idle_inhibit_manager_v1\"]"),
    table("vm.NAME.globals.max_version", "max_version = { wl_output = 3 }"),
    number("vm.NAME.globals.max_version.INTERFACE", "max_version = { wl_output = 3 }"),
    table("vm.NAME.quota", "[vm.work.quota]"),
    number("vm.NAME.quota.objects", "objects = 65536"),
    number("vm.NAME.quota.binds", "binds = 2000"),
    number("vm.NAME.quota.surfaces", "surfaces = 2000"),
    number("vm.NAME.quota.nesting", "nesting = 32"),
    number("vm.NAME.quota.windows", "windows = 500"),
    number("vm.NAME.quota.buffers", "buffers = 1000"),
    number("vm.NAME.quota.commits", "commits = 4096"),
    number("vm.NAME.quota.buffer_side", "buffer_side = 16384"),
    number("vm.NAME.quota.rectangles", "rectangles = 4096"),
    number("vm.NAME.quota.damage", "damage = 4096"),
    number("vm.NAME.quota.types", "types = 250"),
    number("vm.NAME.quota.connections", "connections = 1024"),
    number("vm.NAME.quota.connections_per_second", "connections_per_second = 1000"),
    number("vm.NAME.quota.vfds", "vfds = 4096"),
    number("vm.NAME.quota.memory_mib", "memory_mib = 8192"),
    number("vm.NAME.quota.requests_kib", "requests_kib = 1024"),
    number("vm.NAME.quota.events_kib", "events_kib = 256"),
    number("vm.NAME.quota.messages_per_second", "messages_per_second = 400000"),
    number("vm.NAME.quota.client_messages_per_second", "client_messages_per_second = 100000"),
    table("vm.NAME.selections", "[vm.work.selections]"),
    texts("vm.NAME.selections.give", "give = [\"clipboard\", \"primary\", \"drag\"]"),
    texts("vm.NAME.selections.take", "take = [\"clipboard\", \"primary\", \"drag\"]"),
    texts("vm.NAME.selections.types", "types = [\"text/*\", \"image/png\"]"),
    text("vm.NAME.selections.bytes", "bytes = \"1 GiB\""),
    number("vm.NAME.selections.rate", "rate = 600"),
];

/// Whether what stands here in a key's name is any name.
pub(super) fn is_any(word: &str) -> bool {
    matches!(word, "NAME" | "INTERFACE")
}

/// The key of this whole name, with a VM's own name in it.
pub(super) fn find(path: &[&str]) -> Option<&'static Key> {
    let same = |(known, &word): (&str, &&str)| is_any(known) || known == word;
    KEYS.iter().find(|key| {
        key.name.split('.').count() == path.len() && key.name.split('.').zip(path).all(same)
    })
}
