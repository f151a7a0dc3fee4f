//! The host's memory in a virtgpu: it is made, and mapped, so that its file is known; it is sent, and it comes.

use super::{RESOURCES, Target, blob, resource};
use crate::device::Told;
use crate::input::Input;
use bytemuck::bytes_of;
use wlproxy_protocol::cross_domain::{Identifier, identifier};
use wlproxy_protocol::virtio_gpu::{CreateBlob, Header, MapBlob, OfResource, blob_mem, message};

/// Each resource that a driver mostly uses has so much of the window, in bytes: more than the largest image needs.
const ROOM: u64 = 1 << 20;

/// The resource that memory becomes which has come, until its file is known.
const CAME: u32 = RESOURCES + 1;

impl Target {
    /// Makes memory for an image, or for what there is none for, and mostly maps it.
    pub(super) fn allocate(&mut self, input: &mut Input<'_>, context: u32) {
        if self.images.is_empty() {
            self.image(input, context);
        }
        let (id, size) = match self.images.len() {
            0 => (input.number(), u64::from(input.number())),
            count => self.images[input.below(256) % count],
        };
        let resource = resource(input);
        let told = self.host_blob(input, context, resource, id, size);
        if told.code() == message::RESP_OK_NODATA && !input.one_in(4) {
            self.map(input, resource, ROOM * u64::from(resource % CAME));
        }
    }

    fn host_blob(
        &mut self,
        input: &mut Input<'_>,
        context: u32,
        resource: u32,
        id: u32,
        size: u64,
    ) -> Told {
        let memory = blob_mem::HOST3D;
        let made = CreateBlob { memory, resource, blob_id: id.into(), size, ..blob() };
        self.blob(input, context, made, &[])
    }

    /// Maps a resource there.
    pub(super) fn map(&mut self, input: &mut Input<'_>, resource: u32, offset: u64) {
        let header = Header { kind: message::RESOURCE_MAP_BLOB, ..Default::default() };
        let map = MapBlob { header, resource, padding: 0, offset };
        if self.vm.command(input, bytes_of(&map)).code() == message::RESP_OK_MAP_INFO
            && let Some(file) = self.vm.device.file_at(offset)
        {
            self.files.insert(resource, file);
        }
    }

    /// The driver is done with a resource.
    pub(super) fn unref(&mut self, input: &mut Input<'_>, resource: u32) {
        let header = Header { kind: message::RESOURCE_UNREF, ..Default::default() };
        let told = self.vm.command(input, bytes_of(&OfResource { header, resource, padding: 0 }));
        if told.code() == message::RESP_OK_NODATA {
            self.files.remove(&resource);
        }
    }

    /// Something to send: most often memory whose file is known, if there is any.
    pub(super) fn identifier(&self, input: &mut Input<'_>) -> Identifier {
        let known = self.files.len();
        match input.below(16) {
            0 => Identifier { id: super::pipe(input), kind: identifier::READ_PIPE, size: 0 },
            1 => Identifier { id: super::pipe(input), kind: identifier::WRITE_PIPE, size: 0 },
            2 => Identifier { id: resource(input), kind: identifier::BLOB, size: 0 },
            3 => Identifier { id: input.number(), kind: input.number(), size: input.number() },
            _ if known == 0 => {
                Identifier { id: super::pipe(input), kind: identifier::READ_PIPE, size: 0 }
            }
            _ => {
                let id = self.files.keys().nth(input.below(256) % known).copied();
                Identifier { id: id.unwrap_or(0), kind: identifier::BLOB, size: 0 }
            }
        }
    }

    /// The file of what is sent so, where it is known.
    pub(super) fn file(&self, id: &Identifier) -> Option<u64> {
        self.files.get(&id.id).copied().filter(|_| id.kind == identifier::BLOB)
    }

    /// The file of memory that has come to a context. It is let go again.
    pub(super) fn came(&mut self, context: u32, id: &Identifier) -> Option<u64> {
        if id.kind != identifier::BLOB {
            return None;
        }
        // What was said is used up, so these commands stand as simply as any.
        let input = &mut Input::new(&[]);
        let told = self.host_blob(input, context, CAME, id.id, id.size.into());
        if told.code() != message::RESP_OK_NODATA {
            return None;
        }
        self.map(input, CAME, ROOM * u64::from(CAME));
        let file = self.files.get(&CAME).copied();
        self.unref(input, CAME);
        file
    }
}
