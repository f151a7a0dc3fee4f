//! What stands before the names of a VM's windows.

use super::error::Place;
use super::{Error, Vm};
use crate::device::Side;
use crate::policy::{Identity, PrefixError};
use toml::Spanned;

/// The prefixes of a VM: what is given, or what follows from its name.
pub(super) fn identity(
    place: &Place<'_>,
    vm: &str,
    title: Option<&Spanned<String>>,
    app_id: Option<&Spanned<String>>,
) -> Result<Identity, Error> {
    let default = Identity::of(vm);
    let text = |given: Option<&Spanned<String>>, default: &str| {
        given.map_or_else(|| default.to_owned(), |given| given.get_ref().clone())
    };
    let (title_text, app_id_text) = (text(title, default.title()), text(app_id, default.app_id()));
    let wrong = |key: &str, given: Option<&Spanned<String>>, error: PrefixError| {
        let span = given.map_or(0..0, Spanned::span);
        place.error(span, format!("vm.{vm}.{key}: {error}; choose another, or \"\" for none"))
    };
    Identity::new(title_text.clone(), String::new())
        .map_err(|error| wrong("title_prefix", title, error))?;
    Identity::new(title_text, app_id_text).map_err(|error| wrong("app_id_prefix", app_id, error))
}

/// Checks that no client VM's prefix begins with another's: a client could write the rest of it. `names` are the VMs' in the
/// file.
pub(super) fn apart(place: &Place<'_>, vms: &[Vm], names: &[Spanned<String>]) -> Result<(), Error> {
    apart_by(place, "title_prefix", Identity::title, vms, names)?;
    apart_by(place, "app_id_prefix", Identity::app_id, vms, names)
}

fn apart_by(
    place: &Place<'_>,
    key: &str,
    prefix: fn(&Identity) -> &str,
    vms: &[Vm],
    names: &[Spanned<String>],
) -> Result<(), Error> {
    let of_clients = || {
        let all = vms.iter().zip(names).filter(|(vm, _)| vm.side == Side::Client);
        let all = all.map(|(vm, name)| (vm, name, prefix(&vm.policy.identity)));
        all.filter(|(_, _, prefix)| !prefix.is_empty())
    };
    for (vm, name, own) in of_clients() {
        let begins = |(other, _, of): &(&Vm, _, &str)| other.name != vm.name && own.starts_with(of);
        if let Some((other, _, of)) = of_clients().find(begins) {
            let (vm, other) = (&vm.name, &other.name);
            let why = format!("{own:?} begins with {of:?}, that of VM {other}");
            return Err(place.error(
                name.span(),
                format!(
                    "vm.{vm}.{key}: {why}, whose windows could pass for this VM's; \
                         give one of them another {key}"
                ),
            ));
        }
    }
    Ok(())
}
