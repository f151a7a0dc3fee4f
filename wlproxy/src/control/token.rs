//! How a token looks in JSON: as the name that virtio_wl opens it by.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};
use wlproxy_protocol::accept::Token;
use wlproxy_protocol::limits::CONTEXT_NAME;

pub(super) fn serialize<S: Serializer>(token: &Token, to: S) -> Result<S::Ok, S::Error> {
    let name = token.to_name();
    let text = name.split(|&b| b == 0).next().and_then(|text| str::from_utf8(text).ok());
    to.serialize_str(text.expect("base64 is ASCII"))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Token, D::Error> {
    let text = String::deserialize(from)?;
    let mut name = [0; CONTEXT_NAME];
    let valid = name.get_mut(..text.len()).map(|start| start.copy_from_slice(text.as_bytes()));
    valid.and_then(|()| Token::from_name(&name)).ok_or_else(|| D::Error::custom("not a token"))
}
