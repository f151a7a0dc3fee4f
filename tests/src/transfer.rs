//! A transfer goes and ends as it does on one machine, however far its two ends are from each other.

use crate::{Bystander, Display, Flood, Party, Paste, Selection};
use anyhow::{Context, Result, ensure};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Much more than all pipes, sockets and rings on the way take.
const MUCH: usize = 4 << 20;

/// What all of them take at most: a transfer that nobody reads has moved no more than that. Between two VMs there are six
/// kernel pipes of 64 KiB, and as much as two quarters of a ring of 1 MiB.
const IN_BETWEEN: usize = 2 << 20;

const KIND: &str = "application/x-test";

/// Somebody who copies and somebody who pastes, and both ends of a pipe between them.
#[derive(Debug)]
pub struct Transfer {
    /// Who copies.
    pub source: Party,
    /// Who pastes.
    pub destination: Party,
    /// Where the source writes.
    pub writer: Paste,
    /// Where the destination reads.
    pub reader: Paste,
    selection: Selection,
}

impl Transfer {
    /// A source at `from` has copied something, and a destination at `to` has asked for it. Nothing is written yet.
    pub fn new(selection: Selection, from: &Display, to: &Display) -> Result<Self> {
        let (mut source, mut destination) = (Party::connect(from)?, Party::connect(to)?);
        source.copy(selection, KIND)?;
        let reader = destination.paste(selection, KIND)?;
        let writer = source.asked(KIND)?;
        Ok(Self { source, destination, writer, reader, selection })
    }

    /// Another paste of the same.
    fn again(&mut self) -> Result<(Paste, Paste)> {
        let reader = self.destination.paste(self.selection, KIND)?;
        Ok((self.source.asked(KIND)?, reader))
    }

    /// Nobody was disconnected.
    fn served(&mut self) -> Result<()> {
        self.source.client.roundtrip().context("the source")?;
        self.destination.client.roundtrip().context("the destination")
    }
}

/// What happens to a transfer, beside others that are served meanwhile.
pub type Scenario = fn(&[Display], Transfer) -> Result<()>;

/// What has to be the same in every direction.
pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("a short read is not an end", a_short_read_is_not_an_end),
    ("the end comes after the bytes", the_end_comes_after_the_bytes),
    ("nothing at all", nothing_at_all),
    ("a reader that leaves a silent writer", a_reader_that_leaves_a_silent_writer),
    ("a reader that leaves early", a_reader_that_leaves_early),
    ("a full pipe", a_full_pipe),
    ("a copy that is replaced", a_copy_that_is_replaced),
    ("a source that dies", a_source_that_dies),
    ("a destination that dies", a_destination_that_dies),
];

fn a_short_read_is_not_an_end(_: &[Display], mut transfer: Transfer) -> Result<()> {
    for size in [1, 1, 3, 4096, 1] {
        let bytes = Flood::new(size as u64).take(size);
        transfer.writer.write(&bytes)?;
        // The writer goes on only when the reader has it.
        ensure!(transfer.reader.read(size)? == bytes, "other bytes arrived");
        transfer.served()?;
    }
    drop(transfer.writer);
    ensure!(transfer.reader.read_to_end()?.is_empty(), "more arrived than was written");
    Ok(())
}

fn the_end_comes_after_the_bytes(_: &[Display], mut transfer: Transfer) -> Result<()> {
    let (writer, reader) = transfer.again()?;
    cross(transfer.writer, &transfer.reader, &Flood::new(1).take(MUCH))?;
    // In small pieces too.
    cross(writer, &reader, b"0")
}

/// `bytes` are written, and read to their end.
pub fn cross(writer: Paste, reader: &Paste, bytes: &[u8]) -> Result<()> {
    thread::scope(|scope| {
        let written = scope.spawn(move || {
            let written = writer.write(bytes);
            drop(writer);
            written
        });
        ensure!(reader.read_to_end()? == bytes, "other bytes arrived");
        Ok(written.join().expect("writing doesn't panic")?)
    })
}

fn nothing_at_all(_: &[Display], transfer: Transfer) -> Result<()> {
    drop(transfer.writer);
    ensure!(transfer.reader.read_to_end()?.is_empty(), "something arrived");
    Ok(())
}

fn a_reader_that_leaves_a_silent_writer(_: &[Display], mut transfer: Transfer) -> Result<()> {
    drop(transfer.reader);
    transfer.writer.unread()?;
    let error = transfer.writer.write(b"?").err().map(|error| error.kind());
    ensure!(error == Some(ErrorKind::BrokenPipe), "{error:?}");
    transfer.source.client.roundtrip()?;
    transfer.destination.client.roundtrip()
}

fn a_reader_that_leaves_early(_: &[Display], mut transfer: Transfer) -> Result<()> {
    transfer.writer.write(b"first")?;
    transfer.reader.read(1)?;
    let Transfer { writer, reader, .. } = &transfer;
    let sent = writer.write_some(&[7; 1 << 16])?;
    ensure!(reader.read(1)?.len() == 1 && sent > 0);
    drop(transfer.reader);
    broken(&transfer.writer)?;
    transfer.source.client.roundtrip()?;
    transfer.destination.client.roundtrip()
}

/// The writer is told that nobody reads, before it has written more than fits in between.
fn broken(writer: &Paste) -> Result<()> {
    let (mut written, piece) = (0, [1; 4096]);
    loop {
        match writer.write_some(&piece) {
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        ensure!(written < IN_BETWEEN, "{written} bytes went nowhere");
    }
}

/// Nobody reads: the writer waits, nothing is lost, and nobody else waits.
fn a_full_pipe(others: &[Display], mut transfer: Transfer) -> Result<()> {
    let bystanders: Vec<Bystander> = others.iter().map(Bystander::start).collect();
    let bytes = Flood::new(2).take(MUCH);
    let written = AtomicUsize::new(0);
    let (second_writer, second_reader) = transfer.again()?;
    let Transfer { mut source, mut destination, writer, reader, .. } = transfer;
    thread::scope(|scope| {
        let writing = scope.spawn(|| -> Result<()> {
            for piece in bytes.chunks(4096) {
                writer.write(piece)?;
                written.fetch_add(piece.len(), Ordering::Relaxed);
            }
            drop(writer);
            Ok(())
        });
        // Another pipe of the same two clients goes on; by its end the first one has long been full.
        cross(second_writer, &second_reader, &Flood::new(3).take(MUCH))?;
        bystanders.iter().for_each(Bystander::check);
        source.client.roundtrip()?;
        destination.client.roundtrip()?;
        let on_the_way = written.load(Ordering::Relaxed);
        ensure!(on_the_way <= IN_BETWEEN, "{on_the_way} bytes are on their way");
        ensure!(!writing.is_finished(), "the writer was cut off");
        ensure!(reader.read_to_end()? == bytes, "other bytes arrived");
        writing.join().expect("writing doesn't panic")
    })
}

fn a_copy_that_is_replaced(_: &[Display], mut transfer: Transfer) -> Result<()> {
    let bytes = Flood::new(4).take(300_000);
    let (first, rest) = bytes.split_at(5);
    transfer.writer.write(first)?;
    ensure!(transfer.reader.read(5)? == first, "other bytes arrived");
    transfer.destination.copy(transfer.selection, "application/x-other")?;
    transfer.source.client.until("a cancelled source", |state| state.exchange.cancelled == 1)?;
    // Whoever is in the middle of it may finish.
    let Transfer { writer, reader, .. } = &transfer;
    thread::scope(|scope| {
        let written = scope.spawn(|| writer.write(rest));
        ensure!(reader.read(rest.len())? == rest, "other bytes arrived");
        written.join().expect("writing doesn't panic")?;
        Ok(())
    })?;
    drop(transfer.writer);
    ensure!(transfer.reader.read_to_end()?.is_empty(), "more arrived than was written");
    Ok(())
}

fn a_source_that_dies(_: &[Display], transfer: Transfer) -> Result<()> {
    let Transfer { source, mut destination, writer, reader, .. } = transfer;
    writer.write(b"last words")?;
    drop(source);
    drop(writer);
    ensure!(reader.read_to_end()? == b"last words", "other bytes arrived");
    destination.client.roundtrip()
}

fn a_destination_that_dies(_: &[Display], transfer: Transfer) -> Result<()> {
    let Transfer { mut source, destination, writer, reader, .. } = transfer;
    writer.write(b"for nobody")?;
    drop(destination);
    drop(reader);
    broken(&writer)?;
    source.client.roundtrip()
}
