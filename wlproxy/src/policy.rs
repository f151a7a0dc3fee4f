//! What the clients of a VM may do, as the configuration has it. Pure: the relay carries it out.
//!
//! wlproxy sends it to the VM's worker ahead of every link that is to have it. A link keeps the policy with which it began,
//! since what its client was offered can't be taken back. The compositor VM's worker is sent one, too: what may wait there.

mod identity;
mod selections;

pub use identity::{Identity, MAX_NAME, MAX_PREFIX, PrefixError};

pub use selections::{
    Direction, Kind, MAX_PATTERN, MAX_PATTERNS, Pattern, PatternError, Selections,
};

#[cfg(test)]
use crate::device::Side;
use crate::pace::Crowd;
use crate::quota::vm::VmQuota;
use crate::quota::{Census, Quota};
use crate::rate::Rates;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use wlproxy_protocol::wayland::Offer;

/// The policy of one VM. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Form", try_from = "Form")]
pub struct Policy {
    /// Which globals its clients are offered.
    pub offer: Arc<Offer>,
    /// What stands before the names of their windows.
    pub identity: Arc<Identity>,
    /// What each of them may have at once.
    pub quota: Quota,
    /// What all of them may have together, and how fast they may be. This is the VM's: it holds from when it comes.
    pub vm_quota: VmQuota,
    /// What they may copy to others, and paste from them.
    pub selections: Arc<Selections>,
}

impl Policy {
    /// What holds for a VM of which the configuration says nothing.
    pub fn of(vm: &str) -> Self {
        Self {
            offer: Arc::new(Offer::safe()),
            identity: Arc::new(Identity::of(vm)),
            quota: Quota::default(),
            vm_quota: VmQuota::default(),
            selections: Arc::default(),
        }
    }

    /// What holds for the compositor VM.
    pub fn of_compositor() -> Self {
        Self { vm_quota: VmQuota::of_compositor(), ..Self::nothing() }
    }

    /// What holds for a VM of tests.
    #[cfg(test)]
    pub(crate) fn of_test(side: Side) -> Self {
        match side {
            Side::Client => Self::of("test"),
            Side::Compositor => Self::of_compositor(),
        }
    }

    /// Everything that crosses is offered, no window is renamed, and nobody waits: what is compared byte for byte has this one.
    pub fn unchanging() -> Self {
        let selections = Selections { bytes: u64::MAX, rate: u32::MAX, ..Selections::default() };
        let vm_quota = VmQuota {
            messages_per_second: u32::MAX,
            client_messages_per_second: u32::MAX,
            ..VmQuota::default()
        };
        let (offer, selections) = (Offer::everything(), Arc::new(selections));
        Self { offer, selections, vm_quota, ..Self::nothing() }
    }

    /// What holds before there is one: nothing is offered.
    pub fn nothing() -> Self {
        Self {
            offer: Arc::new(Offer::nothing()),
            identity: Arc::default(),
            quota: Quota::default(),
            vm_quota: VmQuota::default(),
            selections: Arc::default(),
        }
    }
}

/// How it looks on the control socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    /// The highest version of each interface.
    globals: BTreeMap<String, u32>,
    title_prefix: String,
    app_id_prefix: String,
    quota: Quota,
    vm_quota: VmQuota,
    selections: Selections,
}

impl From<Policy> for Form {
    fn from(policy: Policy) -> Self {
        let globals = policy.offer.iter().map(|(name, version)| (name.to_owned(), version));
        Self {
            globals: globals.collect(),
            title_prefix: policy.identity.title().to_owned(),
            app_id_prefix: policy.identity.app_id().to_owned(),
            quota: policy.quota,
            vm_quota: policy.vm_quota,
            selections: Arc::unwrap_or_clone(policy.selections),
        }
    }
}

impl TryFrom<Form> for Policy {
    type Error = String;

    fn try_from(form: Form) -> Result<Self, String> {
        let mut offer = Offer::nothing();
        for (interface, version) in &form.globals {
            let added = offer.add(interface, Some(*version));
            added.map_err(|error| format!("{interface:?}, version {version}: {error}"))?;
        }
        let identity = Identity::new(form.title_prefix, form.app_id_prefix)
            .map_err(|error| format!("a prefix: {error}"))?;
        Ok(Self {
            offer: Arc::new(offer),
            identity: Arc::new(identity),
            quota: form.quota,
            vm_quota: form.vm_quota,
            selections: Arc::new(form.selections),
        })
    }
}

/// The policy for links that begin from now on.
#[derive(Debug)]
pub struct Current {
    policy: Mutex<Policy>,
    rates: Arc<Rates>,
    crowd: Arc<Crowd>,
    census: Arc<Census>,
}

impl Current {
    /// This one at first.
    pub fn new(policy: Policy) -> Self {
        let crowd = Crowd::new(policy.vm_quota.speed());
        Self { policy: Mutex::new(policy), rates: Arc::default(), crowd, census: Arc::default() }
    }

    /// Another one from now on.
    pub fn set(&self, policy: Policy) {
        self.crowd.set(policy.vm_quota.speed());
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// What the VM may have now.
    pub fn vm_quota(&self) -> VmQuota {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).vm_quota
    }

    /// The one that holds now.
    pub fn get(&self) -> Policy {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the VM's clients send together.
    pub fn crowd(&self) -> Arc<Crowd> {
        self.crowd.clone()
    }

    /// What the VM's clients begin together.
    pub fn rates(&self) -> Arc<Rates> {
        self.rates.clone()
    }

    /// What they have together.
    pub fn census(&self) -> Arc<Census> {
        self.census.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_arrives_as_it_was_sent() {
        let mut offer = Offer::safe();
        offer.add("zwlr_layer_shell_v1", Some(2)).unwrap();
        offer.remove("wl_output");
        let policy = Policy { offer: Arc::new(offer), ..Policy::of("work") };
        for policy in [policy, Policy::of("work"), Policy::nothing()] {
            let text = serde_json::to_string(&policy).unwrap();
            assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy);
        }
    }

    /// What stands behind the fields that a test is about.
    const REST: &str = r#","quota":{"objects":1,"binds":1,"surfaces":1,"nesting":1,"windows":1,"buffers":1,"commits":1,"buffer_side":1,"rectangles":1,"damage":1,"types":1},"vm_quota":{"connections":1,"connections_per_second":1,"vfds":1,"memory_mib":1,"requests_kib":1,"events_kib":1,"messages_per_second":1,"client_messages_per_second":1},"selections":{"give":[],"take":[],"types":null,"bytes":1,"rate":1}}"#;

    #[test]
    fn what_no_policy_can_have_is_refused() {
        for (text, why) in [
            (r#"{"globals":{"wl_drm":1}"#, "no such interface"),
            (r#"{"globals":{"wl_shm":0}"#, "its versions are 1 to"),
            (r#"{"globals":{"zwp_linux_dmabuf_v1":1}"#, "dmabufs don't cross"),
            (r#"{"globals":{},"more":1"#, "unknown field"),
            (r#"{"title_prefix":"twice""#, "duplicate field"),
        ] {
            let text = format!("{text},\"title_prefix\":\"\",\"app_id_prefix\":\"\"{REST}");
            let error = serde_json::from_str::<Policy>(&text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_prefix_that_is_none_is_refused() {
        for (prefix, why) in [("\\u001b", "U+001B"), (&"x".repeat(81), "may have 80")] {
            let text = format!(
                "{{\"globals\":{{}},\"title_prefix\":\"\",\"app_id_prefix\":\"{prefix}\"{REST}"
            );
            let error = serde_json::from_str::<Policy>(&text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_longest_fits_into_a_packet() {
        let prefix = "\"".repeat(MAX_PREFIX);
        let identity = Identity::new(prefix.clone(), prefix).unwrap();
        let identity = Arc::new(identity);
        let pattern: Pattern = "x".repeat(MAX_PATTERN).try_into().unwrap();
        let types = Some(vec![pattern; MAX_PATTERNS]);
        let (bytes, rate) = (u64::MAX, u32::MAX);
        let selections = Selections { types, bytes, rate, ..Selections::default() }.into();
        let offer = Offer::everything();
        let everything = Policy { offer, identity, selections, ..Policy::nothing() };
        let length = serde_json::to_vec(&everything).unwrap().len();
        assert!(length < crate::packet::MAX_PACKET / 2, "{length} bytes");
    }
}
