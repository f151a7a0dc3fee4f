//! What a configuration changes of another one that isn't policy.

use super::{Config, Vm};

impl Config {
    /// The keys by which `other` differs and that hold until wlproxy ends: all but the VMs' policies. For people.
    pub fn fixed_differences(&self, other: &Self) -> Vec<String> {
        let mut keys = Vec::new();
        let mut differs = |key: &str, differs: bool| {
            if differs {
                keys.push(key.to_owned());
            }
        };
        differs("runtime_dir", self.runtime_dir != other.runtime_dir);
        differs("isolation", self.isolation != other.isolation);
        differs("metrics", self.metrics != other.metrics);
        differs("compositor", self.compositor != other.compositor);
        for vm in &self.vms {
            let name = &vm.name;
            let Some(Vm { side: _, name: _, socket, window, device, policy: _ }) = other.vm(name)
            else {
                differs(&format!("vm.{name} is gone"), true);
                continue;
            };
            differs(&format!("vm.{name}.socket"), vm.socket != *socket);
            differs(&format!("vm.{name}.window"), vm.window != *window);
            differs(&format!("vm.{name}.device"), vm.device != *device);
        }
        for vm in other.vms.iter().filter(|vm| self.vm(&vm.name).is_none()) {
            differs(&format!("vm.{} is new", vm.name), true);
        }
        keys
    }

    /// The VM of this name.
    pub fn vm(&self, name: &str) -> Option<&Vm> {
        self.vms.iter().find(|vm| vm.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parse(text: &str) -> Config {
        Config::parse(text, Path::new("f"), Some(Path::new("/run"))).unwrap()
    }

    #[test]
    fn what_is_not_policy_is_named() {
        let before = parse("[compositor]\nsocket = \"/x\"\n[vm.a]\n[vm.b]");
        let policy =
            parse("[compositor]\nsocket = \"/x\"\n[vm.a.globals]\ndeny = [\"wl_shell\"]\n[vm.b]");
        assert_ne!(before, policy);
        assert_eq!(before.fixed_differences(&policy), [""; 0]);
        let all = parse(
            "runtime_dir = \"/y\"\nisolation = \"none\"\nmetrics = \"/m\"\n[compositor]\nvm = \"gui\"\n\
             [vm.gui]\n[vm.b]\nwindow = \"16 MiB\"\ndevice = \"virtgpu\"",
        );
        let mut expected =
            vec!["runtime_dir", "isolation", "metrics", "compositor", "vm.a is gone"];
        expected.extend(["vm.b.socket", "vm.b.window", "vm.b.device", "vm.gui is new"]);
        assert_eq!(before.fixed_differences(&all), expected);
    }
}
